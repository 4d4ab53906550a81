"""A diffusion that is a matrix, or an operator, and noise of any shape.

Random checks are at five standard errors on each number: a false alarm in 1.7 million.
"""

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest

import flowjax as fj
from tests.solver.random_checks import assert_near, keys_of

pytestmark = pytest.mark.usefixtures("x64", "standard_promotion")

A = np.array([[-0.8, 0.5, 0.0], [-0.3, -0.4, 0.2], [0.1, 0.6, -1.1]])
G = np.array([[0.7, 0.0], [0.3, -0.5], [-0.2, 0.9]])
TS = np.array([0.0, 0.1, 0.25, 0.5, 0.55, 0.8, 1.0])
STEPS = {
    "euler_maruyama": fj.euler_maruyama,
    "stochastic_heun": fj.stochastic_heun,
    "reversible_heun": fj.reversible_heun,
}


def linear(t, x, matrices):
    return matrices[0] @ x


def by_matrix(t, x, matrices):
    return matrices[1]


LINEAR = fj.SDE(linear, by_matrix, noise=(2,))


def discrete_covariance():
    """Of Euler-Maruyama from a point, exactly: Lyapunov's recursion."""
    covariance = np.zeros((3, 3))
    for h in np.diff(TS):
        step = np.eye(3) + h * A
        covariance = step @ covariance @ step.T + h * G @ G.T
    return covariance


def check_covariance(ends):
    """Of n Gaussian samples: the variance of a product of two is c_ii c_jj + c_ij^2."""
    expected, n = discrete_covariance(), len(ends)
    variance = np.outer(np.diag(expected), np.diag(expected)) + expected**2
    assert_near(ends.T @ ends / n, expected, np.sqrt(variance / n), "covariance")


def ends(diffusion, shape=(2,), n=20_000):
    sde, keys = fj.SDE(linear, diffusion, noise=shape), keys_of("matrix noise", n)

    def one(key):
        return fj.solve(sde, jnp.zeros(3), jnp.asarray(TS), (A, G), key=key)

    return np.asarray(jax.jit(jax.vmap(one))(keys))


def test_the_covariance_of_a_linear_sde_is_that_of_lyapunovs_recursion():
    check_covariance(ends(by_matrix))


def test_a_wrong_matrix_is_caught():
    """Its signs are lost."""
    with pytest.raises(AssertionError, match="covariance"):
        check_covariance(ends(lambda t, x, matrices: jnp.abs(matrices[1])))


def increments(shape=(2,), seed=0):
    h = np.diff(TS).reshape(-1, *[1] * len(shape))
    return np.sqrt(h) * np.random.default_rng(seed).normal(size=(len(TS) - 1, *shape))


def mixing(t, x, matrices):
    """A matrix that depends on the state and on the time."""
    return matrices[1] * jnp.cos(x)[:, None] * (1 + t)


@pytest.mark.parametrize("name", STEPS)
def test_an_operator_is_its_matrix_and_a_diagonal_matrix_is_elementwise(name):
    step, dw, x0 = STEPS[name], increments(), jnp.array([0.5, -1.0, 0.2])

    def solve(diffusion, noise, dw):
        sde = fj.SDE(linear, diffusion, noise=noise)
        return fj.solve(sde, x0, jnp.asarray(TS), (A, G), step=step, increments=dw)

    def operator(t, x, matrices):
        return lineax.MatrixLinearOperator(mixing(t, x, matrices))

    np.testing.assert_allclose(
        solve(operator, (2,), dw), solve(mixing, (2,), dw), rtol=1e-13, atol=1e-14
    )

    def function(t, x, matrices):
        g = mixing(t, x, matrices)
        like = jax.ShapeDtypeStruct((2,), x.dtype)
        return lineax.FunctionLinearOperator(lambda w: g @ w, like)

    np.testing.assert_allclose(
        solve(function, (2,), dw), solve(mixing, (2,), dw), rtol=1e-13, atol=1e-14
    )
    dw = increments((3,))
    elementwise = solve(lambda t, x, m: jnp.cos(x), None, dw)
    as_matrix = solve(lambda t, x, m: jnp.diag(jnp.cos(x)), (3,), dw)
    np.testing.assert_allclose(as_matrix, elementwise, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("adjoint", [fj.Checkpointed(), fj.Checkpointed(2), fj.Reversible()])
def test_every_adjoint_has_the_gradient_of_direct(adjoint):
    x0, dw = jnp.array([0.5, -1.0, 0.2]), increments()
    sde = fj.SDE(linear, mixing, noise=(2,))

    def gradient(adjoint):
        def loss(x0, matrices):
            how = {"step": fj.reversible_heun, "increments": dw, "adjoint": adjoint}
            return jnp.sum(fj.solve(sde, x0, jnp.asarray(TS), matrices, **how) ** 3)

        return jax.jit(jax.grad(loss, (0, 1)))(x0, (A, G))

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12),
        *(gradient(adjoint), gradient(fj.Direct())),
    )


# --- the shapes of the noise ----------------------------------------------------------------------

STATE = {"atoms": np.zeros((4, 3)), "box": np.zeros(())}
SHAPES = {
    "one motion for all": ((), lambda x: {"atoms": jnp.ones((4, 3)), "box": jnp.full((), 2.0)}),
    "a leaf without noise": ((4, 3), lambda x: {"atoms": jnp.ones((4, 3, 4, 3)), "box": None}),
    "a motion shared by the leaves": (
        (2,),
        lambda x: {"atoms": jnp.ones((4, 3, 2)), "box": jnp.array([1.0, -1.0])},
    ),
    "two motions": (
        {"w": (2,), "v": ()},
        lambda x: {
            "atoms": {"w": jnp.ones((4, 3, 2)), "v": None},
            "box": {"w": None, "v": jnp.ones(())},
        },
    ),
}


def still(t, x, args):
    return jax.tree.map(jnp.zeros_like, x)


def numpy_end(name, dw):
    """The sum of the products, leaf by leaf, by einsum."""
    g, total = SHAPES[name][1](STATE), {}
    dws = dw if isinstance(dw, dict) else {"": dw}
    for leaf, rows in g.items():
        parts = rows if isinstance(rows, dict) else {"": rows}
        value = np.zeros(STATE[leaf].shape)
        for motion, matrix in parts.items():
            if matrix is not None:
                summed = np.asarray(dws[motion]).sum(axis=0)
                flat = np.asarray(matrix).reshape(*STATE[leaf].shape, -1)
                value = value + np.einsum("...j,j->...", flat, summed.reshape(-1))
        total[leaf] = value
    return total


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.thin(2)
def test_noise_of_any_shape_is_contracted_and_named_by_its_key(name):
    """A solve by a key is that by the increments that the key names, bit for bit."""
    shapes, g = SHAPES[name]
    sde, key = fj.SDE(still, lambda t, x, args: g(x), noise=shapes), jax.random.key(3)
    like = jax.tree.map(
        lambda shape: jnp.zeros(shape), shapes, is_leaf=lambda s: isinstance(s, tuple)
    )
    dw = fj.brownian_increments(key, jnp.asarray(TS), like)
    by_key = fj.solve(sde, STATE, jnp.asarray(TS), key=key)
    by_increments = fj.solve(sde, STATE, jnp.asarray(TS), increments=dw)
    jax.tree.map(np.testing.assert_array_equal, by_key, by_increments)
    expected = numpy_end(name, dw)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13), by_key, expected
    )


@pytest.mark.parametrize("name", SHAPES)
def test_the_bits_of_the_noise_are_the_same_in_any_batch(name):
    shapes, g = SHAPES[name]
    sde, keys = fj.SDE(still, lambda t, x, args: g(x), noise=shapes), keys_of("batch", 5)
    solve = lambda key: fj.solve(sde, STATE, jnp.asarray(TS), key=key)  # noqa: E731
    batch = jax.jit(jax.vmap(solve))(keys)
    for i in (0, 4):
        one = solve(keys[i])
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-14), batch, one)


def test_projected_noise_keeps_the_centre_of_mass():
    """Of a molecule: what moves all its atoms alike is taken out of the noise."""
    masses = np.array([1.0, 12.0, 16.0, 1.0])
    out = np.eye(4) - np.ones((4, 1)) * masses / masses.sum()
    projection = jnp.asarray(np.einsum("ij,kl->ikjl", out, np.eye(3)))
    sde = fj.SDE(lambda t, x, args: 0 * x, lambda t, x, args: projection, noise=(4, 3))
    ts, x0 = fj.uniform_grid(200), jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)))
    path = np.asarray(fj.trajectory(sde, x0, ts, key=jax.random.key(1)))
    centres = np.einsum("i,tij->tj", masses, path) / masses.sum()
    np.testing.assert_allclose(centres, np.broadcast_to(centres[0], centres.shape), atol=1e-13)
    assert np.std(path[-1] - path[0]) > 0.3


# --- orders ---------------------------------------------------------------------------------------


def errors(step, diffusion, noise, ns=(16, 64, 256)):
    """Root mean square errors against a fine solve on the same path, over 400 paths."""
    finest = 4096
    ts, sde = np.linspace(0, 1, finest + 1), fj.SDE(linear, diffusion, noise=noise)
    x0, keys = jnp.array([0.5, -1.0, 0.2]), keys_of("orders", 400)

    def one(key):
        fine = fj.brownian_increments(key, jnp.asarray(ts), jnp.zeros(noise))

        def end(n):
            dw = fj.coarsen(fine, finest // n)
            grid = jnp.asarray(ts[:: finest // n])
            return fj.solve(sde, x0, grid, (A, G), step=step, increments=dw)

        exact = end(finest)
        return [jnp.sum((end(n) - exact) ** 2) for n in ns]

    squares = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=100))(keys)
    return [np.sqrt(np.mean(np.asarray(square))) for square in squares]


def commuting(t, x, matrices):
    """One motion: its fields commute with themselves."""
    return jnp.cos(x)


@pytest.mark.parametrize(
    ("step", "diffusion", "noise", "order"),
    [
        (fj.euler_maruyama, mixing, (2,), 0.5),
        (fj.stochastic_heun, commuting, (), 1.0),
    ],
)
def test_the_strong_order_is_that_of_the_theory(step, diffusion, noise, order):
    """The slope over a factor of sixteen; its own noise is some 0.05 with 400 paths."""
    found = errors(step, diffusion, noise)
    slope = np.log(found[0] / found[-1]) / np.log(16)
    assert abs(slope - order) < 0.15


def test_an_operator_has_the_gradient_of_its_matrix_backward_in_constant_memory():
    def gradient(wrap):
        def diffusion(t, x, matrices):
            return wrap(mixing(t, x, matrices))

        def loss(x0, matrices):
            sde, how = fj.SDE(linear, diffusion, noise=(2,)), {"increments": increments()}
            how |= {"step": fj.reversible_heun, "adjoint": fj.Reversible()}
            return jnp.sum(fj.solve(sde, x0, jnp.asarray(TS), matrices, **how) ** 3)

        return jax.jit(jax.grad(loss, (0, 1)))(jnp.array([0.5, -1.0, 0.2]), (A, G))

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12),
        *(gradient(wrap) for wrap in (lineax.MatrixLinearOperator, lambda g: g)),
    )


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_an_operator_takes_states_of_half_precision(dtype):
    """It has the dtype of the state that it is shown, and is that of float32 to rounding."""

    def end(dtype, step):
        def off_the_mean(t, x, args):
            like = jax.ShapeDtypeStruct(x.shape, x.dtype)
            return lineax.FunctionLinearOperator(lambda w: w - jnp.mean(w), like)

        sde = fj.SDE(lambda t, x, args: -x, off_the_mean, noise=(3,))
        ts = jnp.asarray(TS, jnp.float32)
        return fj.solve(sde, jnp.ones(3, dtype), ts, key=jax.random.key(0), step=step)

    for step in (fj.euler_maruyama, fj.stochastic_heun, fj.reversible_heun):
        got, expected = end(dtype, step), end(jnp.float32, step)
        assert got.dtype == dtype
        rounding = 8 * float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(got.astype(jnp.float32), expected, atol=rounding * 2)


def test_a_step_of_ones_own_takes_any_noise():
    """Heun's method written by `contract` is stochastic_heun."""

    def heun(sde, t0, t1, x, args, dw):
        f, g = sde.drift(t0, x, args), sde.contract(t0, x, args, dw)
        y = fj.plus(x, (t1 - t0, f), (1, g))
        f1, g1 = sde.drift(t1, y, args), sde.contract(t1, y, args, dw)
        return fj.plus(x, ((t1 - t0) / 2, f), ((t1 - t0) / 2, f1), (0.5, g), (0.5, g1))

    for shapes, g in SHAPES.values():
        sde = fj.SDE(lambda t, x, args: jax.tree.map(jnp.sin, x), lambda t, x, a, g=g: g(x), shapes)
        ends = [
            fj.solve(sde, STATE, jnp.asarray(TS), key=jax.random.key(3), step=step)
            for step in (heun, fj.stochastic_heun)
        ]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13), *ends)


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("diffusion", "noise", "how", "words"),
    [
        (by_matrix, None, {}, r"for a matrix give fj.SDE the shape of the noise, noise=\.\.\."),
        (lambda t, x, m: m[1].T, (2,), {}, r"must have shape \(3, 2\), of the state \(3,\)"),
        (lambda t, x, m: m[1], (3,), {}, r"must have shape \(3, 3\)"),
        (lambda t, x, m: (m[1], m[1]), (2,), {}, r"must have shape \(3, 2\), of the state"),
        (by_matrix, {"w": (2,)}, {}, "with that of the noise"),
        (
            lambda t, x, m: lineax.MatrixLinearOperator(m[1]),
            None,
            {},
            r"for an operator give it the shape of the noise, noise=\.\.\.",
        ),
        (
            lambda t, x, m: lineax.MatrixLinearOperator(m[1].T),
            (2,),
            {},
            r"must take the noise, of shape \(2,\), to the state, got an operator from \(3,\)",
        ),
        (by_matrix, (2,), {"increments": np.zeros((6, 3))}, r"shape \(6, 2\).*like the noise"),
        (by_matrix, (2,), {"step": fj.milstein}, "milstein needs diagonal noise"),
    ],
)
def test_noise_that_does_not_fit_is_refused(unchecked, diffusion, noise, how, words):
    how = {"key": jax.random.key(0)} | how
    if "increments" in how:
        del how["key"]
    sde = fj.SDE(linear, diffusion, noise=noise)
    with pytest.raises(ValueError, match=words):
        fj.solve(sde, jnp.zeros(3), jnp.asarray(TS), (A, G), **how)


@pytest.mark.parametrize("noise", [2, "2", (2.0,), (-1,), {}, [2], jnp.zeros(2), {"w": 2}])
def test_what_is_no_shape_is_refused(unchecked, noise):
    with pytest.raises(TypeError, match="noise must be the shape of the Brownian motion"):
        fj.SDE(linear, by_matrix, noise=noise)
