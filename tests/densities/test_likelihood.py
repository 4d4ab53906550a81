"""Log densities of a flow against closed forms and its target, and what all have in common."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from flowjax.densities import likelihood
from tests.densities.problems import (
    GRID,
    LINE,
    A,
    B,
    Coupled,
    H,
    X,
    density_of,
    every_density,
    linear,
    log_densities,
    mixture,
    normal_log_prob,
)
from tests.solver.random_checks import FALSE_ALARM, assert_mean, assert_near, keys_of

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


def test_more_elements_than_are_handled_at_once(x64):
    d = 2 * likelihood._AT_ONCE + 3
    matrix = np.random.default_rng(0).normal(size=(d, d)) / d
    x = np.linspace(-1, 1, d)
    ts = np.array([0.0, 0.5])
    diagonal = np.diag(np.diagonal(matrix))
    for kind, used, options in [("exact", matrix, {}), ("hutchinson", diagonal, {"probes": d})]:
        got = density_of(kind, linear, ts, step=fj.euler, **options)(x, used)
        expected = normal_log_prob(x - used @ x / 2) - np.trace(used) / 2
        assert abs(float(got) - expected) < 1e-10


# --- pytrees and dtypes --------------------------------------------------------------------------


@jax.tree_util.register_pytree_node_class
class Node:
    """A pytree node that JAX does not know by itself."""

    def __init__(self, *parts):
        self.parts = parts

    def tree_flatten(self):
        return self.parts, None

    @classmethod
    def tree_unflatten(cls, _, parts):
        return cls(*parts)


@every_density
def test_a_pytree_has_the_density_of_its_elements_in_a_row(kind, x64):
    """Among them a scalar, an array without elements, None, and a node of the user's own."""
    field = Coupled(jnp.asarray(A))

    def on_tree(t, x, args):
        whole, (part, _) = x["a"], x["b"].parts
        u = field(t, jnp.concatenate([whole.ravel(), part[None]]), args)
        return {"a": u[:2].reshape(2, 1), "b": Node(u[2], None), "c": [x["c"][0], ()]}

    tree = {"a": X[:2].reshape(2, 1), "b": Node(X[2], None), "c": [np.zeros((0, 3)), ()]}
    flat = density_of(kind, field, GRID)(X, B)
    assert float(density_of(kind, on_tree, GRID)(tree, B)) == pytest.approx(float(flat), abs=1e-13)


@every_density
@pytest.mark.parametrize(
    ("state", "result"),
    [
        ({"a": "bfloat16"}, "float32"),
        ({"a": "float16", "b": "float64"}, "float64"),
    ],
)
def test_the_log_density_is_computed_in_at_least_float32(kind, state, result, x64):
    """All numbers of the path are exact in 8 bits, and the sum of logarithms is not."""
    x = {name: jnp.full((2,), 1.5, dtype) for name, dtype in state.items()}

    def half(t, x, args):
        return jax.tree.map(lambda leaf: leaf / 2, x)

    def log_prob(x):
        return normal_log_prob(jax.tree.map(lambda leaf: leaf.astype(result), x))

    options = {} if kind == "euler" else {"step": fj.euler}
    ts = jnp.array([0.0, 1.0], "float32")
    got = density_of(kind, half, ts, init_log_prob=log_prob, **options)(x)
    # Each element goes back to 1.5 / 1.5 by the inverse of its step, to 1.5 - 0.75 by a step back.
    back, log_volume = (1.0, math.log(1.5)) if kind == "euler" else (0.75, 0.5)
    d = 2 * len(state)
    assert got.dtype == result
    assert got.shape == ()
    expected = normal_log_prob(np.full(d, back)) - d * log_volume
    assert float(got) == pytest.approx(expected, rel=4 * float(jnp.finfo(result).eps))


# --- a mixture: the density of the flow -----------------------------------------------------------


# Euler's error is of order h. That of rk4 is of rounding in float32.
@pytest.mark.parametrize(("step", "error"), [(fj.euler, 0.06), (fj.rk4, 1e-4)])
def test_exact_is_the_density_of_a_mixture_when_steps_are_many(step, error):
    density = np.exp(log_densities("exact", 200, LINE, step=step))
    true = np.exp(jax.vmap(mixture().log_prob)(jnp.asarray(LINE)))
    assert np.max(np.abs(density - true)) < error
    assert abs(np.trapezoid(density, LINE) - 1) < 0.01


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


def probes_of(change):
    """`likelihood._probes` with a bug in it."""
    right = likelihood._probes
    return lambda *arguments: change(right(*arguments))


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
    monkeypatch.setattr(likelihood, "_probes", probes_of(change))
    with pytest.raises(AssertionError, match="standard errors"):
        check_unbiased(probes=4)


def test_the_estimate_on_a_curved_path_is_unbiased_for_the_exact_method(x64):
    """One number: a false alarm in 6e-7 of seeds."""
    field = Coupled(jnp.asarray(A))
    exact = density_of("exact", field, GRID)(X, B)
    keys = keys_of("curved", 5_000)
    estimates = jax.vmap(lambda key: density_of("hutchinson", field, GRID, key=key)(X, B))(keys)
    assert_mean(estimates, float(exact), "log density")


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_the_probe_of_a_key_does_not_depend_on_the_batch(impl):
    """A record made for each key is mapped, too."""
    x, matrix = jnp.asarray(X, jnp.float32), jnp.asarray(A, jnp.float32)

    def density(divergence):
        return fj.log_likelihood(
            x, linear, normal_log_prob, GRID, args=matrix, divergence=divergence
        )

    keys = jax.random.split(jax.random.key(0, impl=impl), 5)
    alone = [density(fj.Hutchinson(key, probes=2)) for key in keys]
    records = jax.vmap(lambda key: fj.Hutchinson(key, probes=2))(keys)
    of_records = jax.jit(jax.vmap(density))(records)
    np.testing.assert_allclose(of_records, alone, rtol=1e-6)
    assert len(np.unique(of_records)) > 1


# --- gradients ------------------------------------------------------------------------------------


def test_the_gradient_of_the_exact_density_is_the_score(x64):
    target = fj.Gaussian(np.array([1.0, -0.5]), np.array([[0.5, 0.2], [0.2, 0.3]]))
    density = density_of("exact", target.velocity(fj.CondOT()), fj.uniform_grid(100))
    x = jnp.array([0.4, 0.3])
    value, gradient = jax.jit(jax.value_and_grad(density))(x)
    assert float(value) == pytest.approx(float(target.log_prob(x)), abs=1e-6)
    np.testing.assert_allclose(gradient, target.score(x), rtol=0, atol=1e-6)


@every_density
def test_gradients_agree_with_finite_differences(kind, x64):
    """With respect to x, the field's own arrays, args and the times; forward and reverse."""
    inputs = (X, Coupled(A), B, GRID)

    def density(x, field, args, ts):
        return density_of(kind, field, ts)(x, args)

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
        pairs = zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
        reverse = sum(np.sum(np.asarray(a) * b) for a, b in pairs)
        assert abs(difference) > 1e-3
        assert float(reverse) == pytest.approx(difference, abs=1e-6)
        assert float(slope) == pytest.approx(difference, abs=1e-6)


# --- jit, vmap, tracers ---------------------------------------------------------------------------


@every_density
def test_it_is_the_same_number_under_jit_and_vmap(kind, x64):
    density = density_of(kind, Coupled(jnp.asarray(A)), GRID)
    xs = jnp.asarray(X + np.linspace(-1, 1, 4)[:, None])
    one_by_one = [float(density(x, B)) for x in xs]
    batch = jax.jit(jax.vmap(density, in_axes=(0, None)))(xs, B)
    np.testing.assert_allclose(batch, one_by_one, rtol=0, atol=1e-12)


@every_density
def test_no_tracer_leaks_from_a_gradient_of_a_field_that_closes_over_one(kind, small_heap, x64):
    def loss(matrix, x):
        return density_of(kind, lambda t, x, args: matrix @ x, GRID)(x)

    with jax.checking_leaks():
        jax.eval_shape(jax.jit(jax.grad(loss)), A, X)


@every_density
def test_a_second_call_traces_nothing(kind):
    calls = []

    def field(t, x, args):
        calls.append(t)
        return args * x

    density = density_of(kind, field, jnp.linspace(0.0, 1.0, 4))
    density(jnp.ones(2), jnp.float32(0.5))
    traced = len(calls)
    density(jnp.zeros(2), jnp.float32(0.7))
    assert 0 < traced == len(calls)


@every_density
def test_the_program_does_not_grow_with_the_number_of_steps(kind):
    def size(n):
        density = density_of(kind, fj.linear_field, fj.uniform_grid(n))
        return len(str(jax.make_jaxpr(density)(jnp.ones(2), jnp.float32(1.0))).splitlines())

    assert size(16) == size(64)


def test_the_adjoint_is_the_one_of_the_solve(x64):
    density = density_of("exact", linear, GRID, adjoint=fj.Truncated(1), step=fj.euler)
    assert np.all(jax.grad(density)(X, A) == 0)  # the state before the last step is a constant
