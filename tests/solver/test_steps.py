"""Every step is its formula: independent NumPy loops, and numbers that are known exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from tests.solver.oracles import (
    NUMPY_STEPS,
    PROBLEMS,
    array_problem,
    as_float64,
    assert_close,
    assert_same_bits,
    cast,
    leafwise,
    numpy_increments,
    numpy_trajectory,
    uneven_grid,
)


def adams_bashforth_step(field, t0, t1, x, args, dw=None, previous=None):
    slope = field(t0, x, args)
    h = jnp.asarray(t1 - t0, jax.tree.leaves(x)[0].dtype)
    return leafwise(lambda x, s, p: x + h * (3 * s - p) / 2, x, slope, previous), slope


ADAMS_BASHFORTH = fj.Stepper(lambda field, t0, x0, args: field(t0, x0, args), adams_bashforth_step)
ODE_STEPS = {
    "euler": fj.euler,
    "heun": fj.heun,
    "midpoint": fj.midpoint,
    "rk4": fj.rk4,
    "adams_bashforth": ADAMS_BASHFORTH,
}
SDE_STEPS = {
    "euler_maruyama": fj.euler_maruyama,
    "milstein": fj.milstein,
    "stochastic_heun": fj.stochastic_heun,
}
STEPS = ODE_STEPS | SDE_STEPS
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}


def check_against_numpy(step, method, state, dtype, n=300):
    """The whole trajectory of `step` is that of the NumPy loop of `method`, on one set of numbers.

    The grid is uneven and starts before zero. Both sides read the same rounded numbers.
    """
    problem = PROBLEMS[state](jnp)
    ts = jnp.asarray(uneven_grid(n), dtype)
    x0, args = cast(problem.x0, dtype), cast(problem.args, dtype)
    increments = None
    equation = problem.drift
    if method in SDE_STEPS:
        equation = problem.sde
        increments = cast(numpy_increments(as_float64(ts), problem.x0), dtype)
    got = fj.trajectory(equation, x0, ts, args, step=step, increments=increments)
    expected = numpy_trajectory(method, PROBLEMS[state](np), x0, ts, args, increments)
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(got))
    assert_close(got, expected, TOLERANCE[dtype.name])


@pytest.mark.parametrize("state", PROBLEMS)
@pytest.mark.parametrize("method", NUMPY_STEPS)
def test_every_step_is_the_numpy_loop_of_its_formula(method, state, dtype):
    check_against_numpy(STEPS[method], method, state, dtype)


# Wrong methods, each of which the check above has to catch.


def euler_at_the_right_end(field, t0, t1, x, args, dw=None):
    return x + (t1 - t0) * field(t1, x, args)


def heun_without_its_half(field, t0, t1, x, args, dw=None):
    h = t1 - t0
    k1 = field(t0, x, args)
    return x + h * (k1 + field(t1, x + h * k1, args))


def midpoint_with_a_whole_step_inside(field, t0, t1, x, args, dw=None):
    h = t1 - t0
    return x + h * field(t0 + h / 2, x + h * field(t0, x, args), args)


def rk4_with_equal_weights(field, t0, t1, x, args, dw=None):
    h = t1 - t0
    k1 = field(t0, x, args)
    k2 = field(t0 + h / 2, x + h / 2 * k1, args)
    k3 = field(t0 + h / 2, x + h / 2 * k2, args)
    return x + h * (k1 + k2 + k3 + field(t1, x + h * k3, args)) / 4


def euler_maruyama_with_sqrt_h_for_h(sde, t0, t1, x, args, dw):
    return x + jnp.sqrt(t1 - t0) * sde.drift(t0, x, args) + sde.diffusion(t0, x, args) * dw


def euler_maruyama_with_noise_times_sqrt_h(sde, t0, t1, x, args, dw):
    h = t1 - t0
    return x + h * sde.drift(t0, x, args) + jnp.sqrt(h) * sde.diffusion(t0, x, args) * dw


def euler_maruyama_with_the_stratonovich_drift(sde, t0, t1, x, args, dw):
    g = sde.diffusion(t0, x, args)
    _, g_dg = jax.jvp(lambda x: sde.diffusion(t0, x, args), (x,), (g,))
    return x + (t1 - t0) * (sde.drift(t0, x, args) + g_dg / 2) + g * dw


def milstein_without_minus_h(sde, t0, t1, x, args, dw):
    g = sde.diffusion(t0, x, args)
    _, g_dg = jax.jvp(lambda x: sde.diffusion(t0, x, args), (x,), (g,))
    return x + (t1 - t0) * sde.drift(t0, x, args) + g * dw + g_dg * dw * dw / 2


def stochastic_heun_with_the_left_diffusion(sde, t0, t1, x, args, dw):
    h = t1 - t0
    f, g = sde.drift(t0, x, args), sde.diffusion(t0, x, args)
    return x + h / 2 * (f + sde.drift(t1, x + h * f + g * dw, args)) + g * dw


PLANTED = {
    "euler": [euler_at_the_right_end],
    "heun": [heun_without_its_half],
    "midpoint": [midpoint_with_a_whole_step_inside],
    "rk4": [rk4_with_equal_weights],
    "euler_maruyama": [
        euler_maruyama_with_sqrt_h_for_h,
        euler_maruyama_with_noise_times_sqrt_h,
        euler_maruyama_with_the_stratonovich_drift,
    ],
    "milstein": [milstein_without_minus_h],
    "stochastic_heun": [stochastic_heun_with_the_left_diffusion],
}


@pytest.mark.parametrize(
    ("method", "planted"),
    [(method, step) for method, steps in PLANTED.items() for step in steps],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_the_numpy_check_catches_the_planted_bug(method, planted, x64):
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_against_numpy(planted, method, "array", jnp.dtype("float64"), n=20)


DIFFUSIONS = {
    "one_python_float": lambda xp: lambda t, x, args: 0.7,
    "one_scalar": lambda xp: lambda t, x, args: args["push"] * (1 - t * t),
    "a_scalar_for_each_leaf": lambda xp: (
        lambda t, x, args: {"position": 0.3, "rest": (args["push"] * (1 - t * t), args["rate"])}
    ),
    "scalars_and_full_shapes": lambda xp: (
        lambda t, x, args: {
            "position": args["push"] + 0 * x["position"],
            "rest": ((1 - t * t), args["rate"]),
        }
    ),
}


@pytest.mark.parametrize("kind", DIFFUSIONS)
@pytest.mark.parametrize("method", SDE_STEPS)
@pytest.mark.thin(3)
def test_a_diffusion_may_be_a_scalar_a_scalar_per_leaf_or_of_full_shape(method, kind, x64):
    dtype = jnp.dtype("float64")
    ts = jnp.asarray(uneven_grid(40), dtype)
    tree = PROBLEMS["pytree"](jnp)._replace(diffusion=DIFFUSIONS[kind](jnp))
    x0, args = cast(tree.x0, dtype), cast(tree.args, dtype)
    increments = cast(numpy_increments(as_float64(ts), tree.x0), dtype)
    got = fj.trajectory(tree.sde, x0, ts, args, step=STEPS[method], increments=increments)

    def in_full(t, x, args):
        g = DIFFUSIONS[kind](np)(t, x, args)
        if not isinstance(g, dict):
            return leafwise(lambda leaf: g * np.ones_like(leaf), x)
        return leafwise(lambda g, leaf: g * np.ones_like(leaf), g, x)

    reference = PROBLEMS["pytree"](np)._replace(
        diffusion=in_full, slope=lambda t, x, args: leafwise(np.zeros_like, x)
    )
    expected = numpy_trajectory(method, reference, x0, ts, args, increments)
    assert_close(got, expected, TOLERANCE[dtype.name])


def test_the_default_step_is_euler_for_a_field_and_euler_maruyama_for_an_sde():
    problem = array_problem(jnp)
    x0, args = cast(problem.x0, jnp.float32), cast(problem.args, jnp.float32)
    ts = fj.uniform_grid(7)
    increments = cast(numpy_increments(as_float64(ts), problem.x0), jnp.float32)
    assert_same_bits(
        fj.trajectory(problem.drift, x0, ts, args),
        fj.trajectory(problem.drift, x0, ts, args, step=fj.euler),
    )
    path, expected = (
        fj.trajectory(problem.sde, x0, ts, args, increments=increments, step=step)
        for step in (None, fj.euler_maruyama)
    )
    assert_same_bits(path, expected)


# Numbers that are known exactly.

AMPLIFICATION = {
    "euler": lambda z: 1 + z,
    "heun": lambda z: 1 + z + z**2 / 2,
    "midpoint": lambda z: 1 + z + z**2 / 2,
    "rk4": lambda z: 1 + z + z**2 / 2 + z**3 / 6 + z**4 / 24,
}


def check_amplification(step, method):
    """On x' = Ax, n steps are the n-th power of the method's polynomial in hA."""
    matrix = np.array([[-0.3, 1.1, 0.2], [-0.7, 0.1, 0.5], [0.4, -0.6, -0.9]])
    x0, n = np.array([1.0, -2.0, 0.5]), 37
    power = lambda k: np.linalg.matrix_power(matrix * 2.0 / n, k)  # noqa: E731
    coefficients = [1, 1, 1 / 2, 1 / 6, 1 / 24][: {"euler": 2, "rk4": 5}.get(method, 3)]
    one_step = sum(c * power(k) for k, c in enumerate(coefficients))
    got = fj.solve(
        lambda t, x, args: args @ x,
        jnp.asarray(x0),
        fj.uniform_grid(n, 0.0, 2.0),
        jnp.asarray(matrix),
        step=step,
    )
    assert_close(got, np.linalg.matrix_power(one_step, n) @ x0, 1e-13)


@pytest.mark.parametrize("method", AMPLIFICATION)
def test_a_linear_field_is_amplified_by_the_methods_polynomial(method, x64):
    check_amplification(STEPS[method], method)


def test_the_amplification_check_catches_a_missing_half_of_h(x64):
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_amplification(heun_without_its_half, "heun")


def test_euler_on_a_rotation_grows_the_norm_by_its_exact_factor(x64):
    omega, n, t1 = 3.0, 250, 2.0
    rotation = lambda t, x, args: args * jnp.stack([-x[1], x[0]])  # noqa: E731
    path = fj.trajectory(rotation, jnp.array([0.6, 0.8]), fj.uniform_grid(n, 0.0, t1), omega)
    expected = (1 + (omega * t1 / n) ** 2) ** (np.arange(n + 1) / 2)
    np.testing.assert_allclose(np.linalg.norm(path, axis=1), expected, rtol=1e-13)


@pytest.mark.parametrize("method", ODE_STEPS)
def test_a_straight_line_is_solved_exactly(method, x64):
    a, b = np.array([0.7, -1.3]), np.array([0.2, 0.9])

    def field(t, x, args):
        return jnp.asarray(a) + (x - (a * t + b)) ** 5

    ts = jnp.asarray(uneven_grid(50))
    path = fj.trajectory(field, jnp.asarray(a * float(ts[0]) + b), ts, step=STEPS[method])
    assert_close(path, np.asarray(ts)[:, None] * a + b, 1e-14)


def check_quadrature(step, expected):
    """On x' = 3 t^2, ten steps give the sum that the method's nodes and weights make."""
    got = fj.solve(lambda t, x, args: 3 * t * t, 0.0, fj.uniform_grid(10), step=step)
    np.testing.assert_allclose(float(got), expected, rtol=0, atol=1e-14)


def test_euler_uses_the_left_end_point(x64):
    check_quadrature(fj.euler, 0.855)


def test_the_right_end_point_is_caught(x64):
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_quadrature(euler_at_the_right_end, 0.855)


@pytest.mark.parametrize(
    ("method", "expected"), [("heun", 1.005), ("midpoint", 0.9975), ("rk4", 1.0)]
)
def test_steps_are_the_trapezoidal_the_midpoint_and_simpsons_rule(method, expected, x64):
    check_quadrature(STEPS[method], expected)


def test_rk4_integrates_a_cubic_in_time_exactly(x64):
    cubic = np.array([0.3, -1.2, 2.0, 0.7])  # 0.3 - 1.2 t + 2 t^2 + 0.7 t^3
    field = lambda t, x, args: jnp.polyval(args, t)  # noqa: E731
    ts = jnp.asarray(uneven_grid(9, -1.0, 2.0))
    path = fj.trajectory(field, 0.5, ts, jnp.asarray(cubic[::-1]), step=fj.rk4)
    primitive = np.polynomial.polynomial.polyint(cubic)
    value = lambda t: np.polynomial.polynomial.polyval(t, primitive)  # noqa: E731
    assert_close(path, 0.5 + value(np.asarray(ts)) - value(-1.0), 1e-14)


@pytest.mark.parametrize("method", ["heun", "rk4"])
def test_an_ode_runs_backward_on_a_decreasing_grid(method, x64):
    """Forward and back again is the identity up to the method's error, which is tiny here."""
    problem = array_problem(jnp)
    x0, args = cast(problem.x0, float), cast(problem.args, float)
    ts = fj.uniform_grid(400)
    there = fj.solve(problem.drift, x0, ts, args, step=STEPS[method])
    back = fj.trajectory(problem.drift, there, ts[::-1], args, step=STEPS[method])
    assert_close(back[-1], problem.x0, 1e-5)
    expected = numpy_trajectory(method, array_problem(np), there, ts[::-1], args)
    assert_close(back, expected, 1e-12)


# Methods of the user's own: nothing is registered.


def ralston(field, t0, t1, x, args, dw=None):
    h = t1 - t0
    k1 = field(t0, x, args)
    k2 = field(t0 + 2 * h / 3, x + 2 * h / 3 * k1, args)
    return x + h * (k1 + 3 * k2) / 4


def test_a_users_step_gains_jit_vmap_and_exact_gradients(x64):
    """On x' = ax Ralston's method is 1 + z + z^2/2, whose derivatives are known."""
    n, a, x0s = 30, 0.7, jnp.array([0.5, 1.0, -2.0])
    field = lambda t, x, args: args * x  # noqa: E731
    end = lambda x0, a: fj.solve(field, x0, fj.uniform_grid(n), a, step=ralston)  # noqa: E731
    values, (by_x0, by_a) = jax.jit(
        jax.vmap(jax.value_and_grad(end, argnums=(0, 1)), in_axes=(0, None))
    )(x0s, a)
    h = 1 / n
    factor = 1 + h * a + (h * a) ** 2 / 2
    np.testing.assert_allclose(values, x0s * factor**n, rtol=1e-13)
    np.testing.assert_allclose(by_x0, np.full(3, factor**n), rtol=1e-13)
    np.testing.assert_allclose(by_a, x0s * n * factor ** (n - 1) * (h + h * h * a), rtol=1e-12)


def test_a_users_sde_step_gains_the_noise_of_the_key():
    """A step that asks for dw is given the increments that the key names, one after another."""

    def only_noise(sde, t0, t1, x, args, dw):
        return leafwise(jnp.add, x, dw)

    x0 = {"a": jnp.zeros(3), "b": jnp.zeros(())}
    ts = jnp.asarray(uneven_grid(20), jnp.float32)
    sde = fj.SDE(lambda t, x, args: x, lambda t, x, args: 1.0)
    keys = jax.random.split(jax.random.key(3), 4)
    paths = jax.vmap(lambda key: fj.trajectory(sde, x0, ts, key=key, step=only_noise))(keys)
    brownian_path = jax.jit(lambda key: fj.brownian_path(key, ts, x0))
    for i, key in enumerate(keys):
        expected = brownian_path(key)
        assert_close(leafwise(lambda path, i=i: path[i], paths), as_float64(expected), 1e-6)


def test_a_users_stepper_keeps_its_memory_and_may_ask_for_noise(x64):
    """The memory counts the steps and sums the noise: n and W at the end of the grid."""

    def init(sde, t0, x0, args):
        return jnp.zeros((), jnp.int32), jnp.zeros_like(x0)

    def step(sde, t0, t1, x, args, dw, memory):
        count, total = memory
        total = total + dw
        return (count + 1) + total, (count + 1, total)

    sde = fj.SDE(lambda t, x, args: x, lambda t, x, args: 1.0)
    ts, x0 = uneven_grid(17), jnp.zeros(3)
    increments = numpy_increments(ts, np.zeros(3))
    with jax.numpy_dtype_promotion("standard"):
        path = fj.trajectory(sde, x0, ts, increments=increments, step=fj.Stepper(init, step))
    walk = np.concatenate([np.zeros((1, 3)), np.cumsum(increments, axis=0)])
    assert_close(path, np.arange(18)[:, None] + walk, 1e-14)


def test_a_field_is_given_the_time_in_the_precision_of_the_state(x64):
    x1 = fj.solve(lambda t, x, args: x * (1 - t), jnp.ones(2, jnp.float32), fj.uniform_grid(4))
    # The product of 1 + (1 - t)/4 over t = 0, 1/4, 1/2, 3/4.
    assert x1.dtype == jnp.float32
    np.testing.assert_allclose(x1, 1.25 * 1.1875 * 1.125 * 1.0625, rtol=1e-6)
