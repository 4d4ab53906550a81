"""Log densities against closed forms, the exact target, and samplers pushed forward in NumPy."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from flowjax.densities import likelihood
from tests.solver.random_checks import FALSE_ALARM, assert_mean, assert_near, key_of, keys_of

METHODS = ("exact", "hutchinson", "discrete")
every_method = pytest.mark.parametrize("method", METHODS)

# Uneven, with a repeated time.
GRID = np.array([0.0, 0.1, 0.35, 0.35, 0.6, 1.3])
H = np.diff(GRID)
A = np.array([[0.9, -0.7, 0.2], [0.4, -0.3, 0.5], [-0.6, 0.1, 0.2]])
B = np.array([0.3, -0.8, 0.5])
X = np.array([0.7, -1.1, 0.4])


def normal_log_prob(x):
    """N(0, I), for any pytree of JAX or NumPy arrays."""
    return sum(-(leaf**2).sum() / 2 - leaf.size * math.log(2 * math.pi) / 2 for leaf in parts(x))


def parts(x):
    return jax.tree.leaves(x)


def linear(t, x, matrix):
    return matrix @ x


class Coupled(eqx.Module):
    """Elements that act on each other, in time: `tanh(W x + t args)`."""

    weight: jax.Array

    def __call__(self, t, x, args):
        return jnp.tanh(self.weight @ x + t * args)


def density_of(method, field, ts, name="probes", init_log_prob=normal_log_prob, **options):
    """`(x, args) -> log density` by one method, with a key where it takes one."""
    if method == "hutchinson":
        options.setdefault("key", key_of(name))
    return lambda x, args=None: fj.log_likelihood(
        x, field, init_log_prob, ts, args=args, method=method, **options
    )


# --- a linear field: closed forms ----------------------------------------------------------------


def stability(step, z):
    """What one step does to a linear field: the Taylor polynomial of exp(z) of its order."""
    order = {"euler": 1, "heun": 2, "rk4": 4}[step]
    terms = [np.eye(len(z))]
    for k in range(1, order + 1):
        terms.append(terms[-1] @ z / k)
    return sum(terms)


def solved_backward(step, matrix, x):
    for h in H[::-1]:
        x = stability(step, -h * matrix) @ x
    return x


@pytest.mark.parametrize("step", ["euler", "heun", "rk4", None])
def test_exact_is_the_closed_form_of_its_step_on_a_linear_field(step, x64):
    options = {} if step is None else {"step": getattr(fj, step)}
    got = density_of("exact", linear, GRID, **options)(X, A)
    expected = normal_log_prob(solved_backward(step or "rk4", A, X)) - H.sum() * np.trace(A)
    assert abs(float(got) - expected) < 1e-10


def euler_map():
    matrix = np.eye(3)
    for h in H:
        matrix = (np.eye(3) + h * A) @ matrix
    return matrix


def test_discrete_is_the_density_of_the_product_of_euler_maps(x64):
    got = density_of("discrete", linear, GRID)(X, A)
    matrix = euler_map()
    expected = normal_log_prob(np.linalg.solve(matrix, X)) - np.linalg.slogdet(matrix)[1]
    assert abs(float(got) - expected) < 1e-10


def test_second_derivatives_of_discrete_are_exact_too(x64):
    inverse = np.linalg.inv(euler_map())
    hessian = jax.jit(jax.hessian(density_of("discrete", linear, GRID)))(X, A)
    np.testing.assert_allclose(hessian, -inverse.T @ inverse, rtol=0, atol=1e-10)


def test_more_elements_than_are_handled_at_once(x64):
    d = 2 * likelihood._AT_ONCE + 3
    matrix = np.random.default_rng(0).normal(size=(d, d)) / d
    x = np.linspace(-1, 1, d)
    ts = np.array([0.0, 0.5])
    diagonal = np.diag(np.diagonal(matrix))
    for method, used, options in [("exact", matrix, {}), ("hutchinson", diagonal, {"probes": d})]:
        got = density_of(method, linear, ts, step=fj.euler, **options)(x, used)
        expected = normal_log_prob(x - used @ x / 2) - np.trace(used) / 2
        assert abs(float(got) - expected) < 1e-10


# --- pytrees and dtypes --------------------------------------------------------------------------


@every_method
def test_a_pytree_has_the_density_of_its_elements_in_a_row(method, x64):
    field = Coupled(jnp.asarray(A))

    def on_tree(t, x, args):
        flat = field(t, jnp.concatenate([x["a"].ravel(), x["b"][None]]), args)
        return {"a": flat[:2].reshape(2, 1), "b": flat[2]}

    tree = {"a": X[:2].reshape(2, 1), "b": X[2]}
    flat = density_of(method, field, GRID)(X, B)
    assert float(density_of(method, on_tree, GRID)(tree, B)) == pytest.approx(
        float(flat), abs=1e-13
    )


@every_method
@pytest.mark.parametrize(
    ("state", "result"),
    [
        ({"a": "bfloat16"}, "float32"),
        ({"a": "float16", "b": "float64"}, "float64"),
    ],
)
def test_the_log_density_is_computed_in_at_least_float32(method, state, result, x64):
    """All numbers of the path are exact in 8 bits, and the sum of logarithms is not."""
    x = {name: jnp.full((2,), 1.5, dtype) for name, dtype in state.items()}

    def half(t, x, args):
        return jax.tree.map(lambda leaf: leaf / 2, x)

    def log_prob(x):
        return normal_log_prob(jax.tree.map(lambda leaf: leaf.astype(result), x))

    options = {} if method == "discrete" else {"step": fj.euler}
    ts = jnp.array([0.0, 1.0], "float32")
    got = density_of(method, half, ts, init_log_prob=log_prob, **options)(x)
    # Each element goes back to 1.5 / 1.5 by the inverse of its step, to 1.5 - 0.75 by a step back.
    back, log_volume = (1.0, math.log(1.5)) if method == "discrete" else (0.75, 0.5)
    d = 2 * len(state)
    assert got.dtype == result
    assert got.shape == ()
    expected = normal_log_prob(np.full(d, back)) - d * log_volume
    assert float(got) == pytest.approx(expected, rel=4 * float(jnp.finfo(result).eps))


# --- a mixture: the density of the flow, and that of its sampler ----------------------------------

WEIGHTS, MEANS, STD = np.array([0.3, 0.7]), np.array([-2.0, 2.0]), 0.5
LINE = np.linspace(-6, 6, 401)


def mixture():
    """In the precision of the moment."""
    return fj.GaussianMixture(WEIGHTS, MEANS, np.full(2, STD))


def numpy_velocity(t, x):
    """The mixture's velocity under CondOT, of real or complex x (n,)."""
    variance = (t * STD) ** 2 + (1 - t) ** 2
    shifted = x[:, None] - t * MEANS
    responsibility = WEIGHTS * np.exp(-(shifted**2) / (2 * variance))
    responsibility = responsibility / responsibility.sum(1, keepdims=True)
    return (responsibility * (MEANS + (t * STD**2 - (1 - t)) / variance * shifted)).sum(1)


def log_densities(method, n, points, **options):
    density = density_of(method, mixture().velocity(fj.CondOT()), fj.uniform_grid(n), **options)
    return np.asarray(jax.jit(jax.vmap(density))(jnp.asarray(points)), np.float64)


# Euler's error is of order h: MATH.md's figure. That of rk4 is of rounding in float32.
@pytest.mark.parametrize(("step", "error"), [(fj.euler, 0.06), (fj.rk4, 1e-4)])
def test_exact_is_the_density_of_a_mixture_when_steps_are_many(step, error):
    density = np.exp(log_densities("exact", 200, LINE, step=step))
    true = np.exp(jax.vmap(mixture().log_prob)(jnp.asarray(LINE)))
    assert np.max(np.abs(density - true)) < error
    assert abs(np.trapezoid(density, LINE) - 1) < 0.01


def test_with_five_steps_discrete_is_a_density_and_the_continuous_number_is_not(x64):
    """They integrate to 1.0000 and to 1.2302."""
    discrete = np.trapezoid(np.exp(log_densities("discrete", 5, LINE)), LINE)
    continuous = np.trapezoid(np.exp(log_densities("exact", 5, LINE, step=fj.euler)), LINE)
    print(f"discrete {discrete:.4f}, continuous {continuous:.4f}")
    assert abs(discrete - 1) < 1e-6
    assert continuous > 1.2


def test_discrete_is_the_change_of_variables_of_the_sampler_pushed_forward(x64):
    """The derivative of the pushed-forward map comes from a step into the complex plane."""
    x0 = np.linspace(-4, 4, LINE.size)
    x = x0 + 1e-30j
    for i in range(5):
        x = x + numpy_velocity(i / 5, x) / 5
    expected = -(x0**2) / 2 - math.log(2 * math.pi) / 2 - np.log(x.imag / 1e-30)
    np.testing.assert_allclose(log_densities("discrete", 5, x.real), expected, rtol=0, atol=1e-9)


def test_discrete_is_the_change_of_variables_in_many_dimensions(x64):
    x0, columns = np.array([0.4, -0.2, 1.1]), []
    for direction in np.eye(3):
        x = x0 + 1e-30j * direction
        for t, h in zip(GRID[:-1], H, strict=True):
            x = x + h * np.tanh(A @ x + t * B)
        columns.append(x.imag / 1e-30)
    expected = normal_log_prob(x0) - np.linalg.slogdet(np.stack(columns, 1))[1]
    got = density_of("discrete", Coupled(jnp.asarray(A)), GRID)(x.real, B)
    assert float(got) == pytest.approx(expected, abs=1e-12)


# --- an Euler map that is hard or impossible to invert --------------------------------------------


def test_a_step_is_inverted_where_plain_newton_goes_round_in_circles(x64):
    """y + 2 tanh(5 y) is steep between two flat parts, and a full Newton step jumps over it."""
    y = jnp.linspace(-3, 3, 201)
    x = y + 2 * jnp.tanh(5 * y)
    density = density_of("discrete", lambda t, x, args: 2 * jnp.tanh(5 * x), np.array([0.0, 1.0]))
    expected = jax.vmap(normal_log_prob)(y) - jnp.log(1 + 10 / jnp.cosh(5 * y) ** 2)
    np.testing.assert_allclose(jax.vmap(density)(x), expected, rtol=0, atol=1e-9)


def quadratic(t, x, args):
    a, b, c = args
    return a + b * x + c * x * x


@pytest.mark.parametrize(
    ("why", "coefficients"),
    [
        ("no solution", (2.0, 0.0, 1.0)),  # y + y^2 + 2 = x has none at x = 1
        ("turned over", (0.0, -3.0, 0.0)),  # y -> -2 y
        ("flattened", (1.0, -1.0, 0.0)),  # all to one point
        ("flattened but for rounding", (1.0, -1.0 + 1e-7, 0.0)),
        ("not a number", (math.nan, 0.0, 0.0)),
    ],
)
def test_without_an_inverse_discrete_and_its_gradient_are_nan(why, coefficients):
    density = density_of("discrete", quadratic, np.array([0.0, 1.0], np.float32))
    # The second sample has an inverse in the first problem, and is not drawn into the failure.
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(density), (0, None)))(
        jnp.array([1.0, 4.0]), coefficients
    )
    assert np.isnan(values[0])
    assert np.isnan(slopes[0])
    if why == "no solution":
        y = 1.0
        assert float(values[1]) == pytest.approx(normal_log_prob(np.array(y)) - math.log(3))
        # The derivative of -y^2 / 2 - log(1 + 2 y), times dy/dx = 1/3.
        assert float(slopes[1]) == pytest.approx((-y - 2 / 3) / 3, rel=1e-5)


def test_the_field_to_be_inverted_is_evaluated_in_full_precision():
    """On accelerators whose default is to round the factors of a product, Newton would stall."""
    seen = []

    def field(t, x, args):
        seen.append(jax.config.jax_default_matmul_precision)
        return -x / 2

    density_of("discrete", field, np.array([0.0, 1.0], np.float32))(jnp.ones(2))
    assert set(seen) == {"highest"}


# --- Hutchinson's estimate ------------------------------------------------------------------------


def test_hutchinson_is_exact_where_the_jacobian_is_diagonal(x64):

    def field(t, x, args):
        return jnp.sin(args * x) + t

    exact = density_of("exact", field, GRID)(X, B)
    for probes in (1, 3):
        got = density_of("hutchinson", field, GRID, probes=probes)(X, B)
        assert float(got) == pytest.approx(float(exact), abs=1e-13)


def estimates(name, count, **options):
    """Of T tr(A), one for each of `count` keys."""
    x = normal_log_prob(solved_backward("euler", A, X))

    def estimate(key):
        options.update(step=fj.euler, key=key)
        return x - density_of("hutchinson", linear, GRID, **options)(X, A)

    return np.asarray(jax.jit(jax.vmap(estimate))(keys_of(name, count)))


def test_one_probe_of_signs_is_kept_along_the_path(x64):
    """On a linear field, each estimate is T v^T A v of one v of signs; all such values occur."""
    signs = np.array([[1, b, c] for b in (-1, 1) for c in (-1, 1)])
    possible = H.sum() * np.einsum("vi,ij,vj->v", signs, A, signs)
    distance = np.abs(estimates("kept", 100)[:, None] - possible)
    assert np.max(np.min(distance, axis=1)) < 1e-10
    # Each of the four is missed by 100 fair probes with probability 3e-13.
    assert set(np.argmin(distance, axis=1)) == {0, 1, 2, 3}
    # A new probe for each step would give averages over steps, which are none of these.
    average = possible[[0, 3]].mean()
    assert np.min(np.abs(average - possible)) > 0.1


def check_unbiased(probes=1):
    """Mean and variance of the estimates. Two numbers: a false alarm in 1e-6 of seeds."""
    samples = estimates(f"unbiased {probes}", 20_000, probes=probes)
    assert_mean(samples, H.sum() * np.trace(A), "the divergence integral")
    symmetric = A + A.T
    variance = H.sum() ** 2 * np.sum(np.triu(symmetric, 1) ** 2) / probes
    deviation = (samples - H.sum() * np.trace(A)) ** 2
    assert_near(deviation.mean(), variance, deviation.std() / np.sqrt(samples.size), "variance")


@pytest.mark.parametrize("probes", [1, 4])
def test_hutchinson_is_unbiased_with_the_variance_of_signs(probes, x64):
    assert 2 * FALSE_ALARM < 2e-6
    check_unbiased(probes)


def signs_of(change):
    """`likelihood._signs` with a bug in it."""
    right = likelihood._signs
    return lambda key, probes, x, dtype: change(right(key, probes, x, dtype))


@pytest.mark.parametrize(
    "change",
    [
        lambda v: 1.02 * v,  # of a wrong variance
        lambda v: v.at[:, 1].set(v[:, 0]),  # of signs that are not independent
        lambda v: v[:1] * jnp.ones_like(v),  # one probe for all
    ],
    ids=["variance", "dependent", "the same"],
)
def test_probes_that_are_wrong_are_caught(change, monkeypatch, x64):
    monkeypatch.setattr(likelihood, "_signs", signs_of(change))
    with pytest.raises(AssertionError, match="standard errors"):
        check_unbiased(probes=4)


def test_the_estimate_on_a_curved_path_is_unbiased_for_the_exact_method(x64):
    """One number: a false alarm in 6e-7 of seeds."""
    field = Coupled(jnp.asarray(A))
    exact = density_of("exact", field, GRID)(X, B)
    keys = keys_of("curved", 5_000)
    estimates = jax.vmap(lambda key: density_of("hutchinson", field, GRID, key=key)(X, B))(keys)
    assert_mean(estimates, float(exact), "log density")


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_the_probe_of_a_key_does_not_depend_on_the_batch(kind):
    x, matrix = jnp.asarray(X, jnp.float32), jnp.asarray(A, jnp.float32)

    def one(key):
        return density_of("hutchinson", linear, GRID, key=key)(x, matrix)

    keys = jax.random.split(jax.random.key(0, impl=kind), 5)
    np.testing.assert_allclose(jax.vmap(one)(keys), [one(key) for key in keys], rtol=1e-6)


# --- gradients ------------------------------------------------------------------------------------


def test_the_gradient_of_the_exact_density_is_the_score(x64):
    target = fj.Gaussian(np.array([1.0, -0.5]), np.array([[0.5, 0.2], [0.2, 0.3]]))
    density = density_of("exact", target.velocity(fj.CondOT()), fj.uniform_grid(100))
    x = jnp.array([0.4, 0.3])
    value, gradient = jax.jit(jax.value_and_grad(density))(x)
    assert float(value) == pytest.approx(float(target.log_prob(x)), abs=1e-6)
    np.testing.assert_allclose(gradient, target.score(x), rtol=0, atol=1e-6)


@every_method
def test_gradients_agree_with_finite_differences(method, x64):
    """With respect to x, the field's own arrays, args and the times; forward and reverse."""
    inputs = (X, Coupled(A), B, GRID)

    def density(x, field, args, ts):
        return density_of(method, field, ts)(x, args)

    @jax.jit
    def derive(inputs, direction):
        """The value, the gradient, and the slope along a direction, in one program."""
        value, gradient = jax.value_and_grad(density, argnums=(0, 1, 2, 3))(*inputs)
        return value, gradient, jax.jvp(density, inputs, direction)[1]

    generator = np.random.default_rng(1)
    for i in range(4):
        # Along a direction in one of the inputs.
        drawn = jax.tree.map(lambda leaf: generator.normal(size=leaf.shape), inputs)
        none = jax.tree.map(np.zeros_like, inputs)
        direction = tuple(drawn[j] if j == i else none[j] for j in range(4))
        _, gradient, slope = derive(inputs, direction)
        ahead, behind = (
            derive(jax.tree.map(lambda a, b, h=h: a + h * b, inputs, direction), direction)[0]
            for h in (1e-5, -1e-5)
        )
        difference = (float(ahead) - float(behind)) / 2e-5
        pairs = zip(parts(gradient), parts(direction), strict=True)
        reverse = sum(np.sum(np.asarray(a) * b) for a, b in pairs)
        assert abs(difference) > 1e-3
        assert float(reverse) == pytest.approx(difference, abs=1e-6)
        assert float(slope) == pytest.approx(difference, abs=1e-6)


# --- jit, vmap, tracers ---------------------------------------------------------------------------


@every_method
def test_it_is_the_same_number_under_jit_and_vmap(method, x64):
    density = density_of(method, Coupled(jnp.asarray(A)), GRID)
    xs = jnp.asarray(X + np.linspace(-1, 1, 4)[:, None])
    one_by_one = [float(density(x, B)) for x in xs]
    batch = jax.jit(jax.vmap(density, in_axes=(0, None)))(xs, B)
    np.testing.assert_allclose(batch, one_by_one, rtol=0, atol=1e-12)


@every_method
def test_no_tracer_leaks_from_a_gradient_of_a_field_that_closes_over_one(method, small_heap, x64):
    def loss(matrix, x):
        return density_of(method, lambda t, x, args: matrix @ x, GRID)(x)

    with jax.checking_leaks():
        jax.eval_shape(jax.jit(jax.grad(loss)), A, X)


@every_method
def test_a_second_call_traces_nothing(method):
    calls = []

    def field(t, x, args):
        calls.append(t)
        return args * x

    density = density_of(method, field, jnp.linspace(0.0, 1.0, 4))
    density(jnp.ones(2), jnp.float32(0.5))
    traced = len(calls)
    density(jnp.zeros(2), jnp.float32(0.7))
    assert 0 < traced == len(calls)


@every_method
def test_the_program_does_not_grow_with_the_number_of_steps(method):
    def size(n):
        density = density_of(method, fj.linear_field, fj.uniform_grid(n))
        return len(str(jax.make_jaxpr(density)(jnp.ones(2), jnp.float32(1.0))).splitlines())

    assert size(16) == size(64)


def test_the_adjoint_is_the_one_of_the_solve(x64):
    density = density_of("exact", linear, GRID, adjoint=fj.Truncated(1), step=fj.euler)
    assert np.all(jax.grad(density)(X, A) == 0)  # the state before the last step is a constant


# --- bad input ------------------------------------------------------------------------------------

KEY = jax.random.key(0)
SDE = fj.ornstein_uhlenbeck(1.0, 1.0)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"method": "trace"}, ValueError, "'exact', 'hutchinson' or 'discrete', got 'trace'"),
        ({"method": "hutchinson"}, ValueError, "give key"),
        ({"key": KEY}, ValueError, "key was given, but method 'exact'"),
        ({"key": KEY, "method": "discrete"}, ValueError, "key was given, but method 'discrete'"),
        ({"probes": 2}, ValueError, "probes was given, but method 'exact'"),
        ({"method": "hutchinson", "key": 0}, TypeError, "key must be one JAX key"),
        (
            {"method": "hutchinson", "key": jax.random.split(KEY)},
            ValueError,
            "key must be one JAX key.*vmap",
        ),
        ({"method": "hutchinson", "key": KEY, "probes": 0}, ValueError, "probes.*got 0"),
        ({"method": "hutchinson", "key": KEY, "probes": 2.0}, TypeError, "probes.*got 2.0"),
        ({"method": "discrete", "step": fj.heun}, ValueError, "step must be left out"),
        ({"step": fj.euler_maruyama}, TypeError, "Brownian increments"),
        ({"field": SDE}, TypeError, "field must be a plain field.*SDE"),
        ({"field": 1.0}, TypeError, "field must be callable, got 1.0"),
        ({"field": lambda t, x, args: x[0]}, ValueError, r"field output must have shape \(2,\)"),
        (
            {"field": lambda t, x, args: x[0], "method": "discrete"},
            ValueError,
            r"field output must have shape \(2,\)",
        ),
        ({"init_log_prob": 0.0}, TypeError, "init_log_prob must be callable, got 0.0"),
        ({"init_log_prob": lambda x: x}, ValueError, r"must return a scalar, got shape \(2,\)"),
        ({"init_log_prob": lambda x: 1}, TypeError, "must return a real floating scalar"),
        ({"ts": np.array([1.0, 0.5, 0.0])}, ValueError, "ts must be the sampler's own grid"),
        ({"ts": np.array([1.0])}, ValueError, "ts must be a 1-D floating array"),
        ({"x": jnp.arange(2)}, TypeError, "x must be a real floating array, got dtype int32"),
    ],
)
def test_what_is_refused(change, error, words):
    arguments = {
        "x": jnp.ones(2),
        "field": lambda t, x, args: -x,
        "init_log_prob": normal_log_prob,
        "ts": np.array([0.0, 0.5, 1.0]),
    } | change
    with pytest.raises(error, match=words):
        fj.log_likelihood(**arguments)


def test_a_grid_in_halves_that_decreases_is_refused_under_jit_too():
    ts = jnp.array([1.0, 0.5, 0.0], jnp.bfloat16)
    density = jax.jit(lambda x: fj.log_likelihood(x, lambda t, x, args: -x, normal_log_prob, ts))
    with pytest.raises(ValueError, match="ts must be the sampler's own grid"):
        density(jnp.ones(2))


def test_an_euler_step_is_what_discrete_is_about(x64):
    """So it may be named."""
    named = density_of("discrete", linear, GRID, step=fj.euler)(X, A)
    assert float(named) == float(density_of("discrete", linear, GRID)(X, A))
