"""Adams's pairs against a NumPy loop, their published coefficients, and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

import flowjax as fj
from flowjax.samplers.adams import _integrals
from tests.samplers import oracles
from tests.samplers.test_use import calls

TS = np.array([0.0, 0.02, 0.1, 0.15, 0.3, 0.5, 0.75, 0.9, 1.0])


def loop(field, x, ts, order):
    """Predictor and corrector as polynomials that are fitted and integrated by NumPy."""

    def integral(nodes, values, t0, t1):
        # Over the step, in a variable in which it is [0, 1].
        fitted = np.polyfit((np.array(nodes) - t0) / (t1 - t0), np.array(values), len(nodes) - 1)
        return (t1 - t0) * np.array([np.polyval(np.polyint(column), 1.0) for column in fitted.T])

    corrected, times, velocities = x, [], []
    for i in range(len(ts) - 1):
        velocity = field(ts[i], x)
        if i > 0:
            nodes, values = [ts[i], *times[:order]], [velocity, *velocities[:order]]
            corrected = corrected + integral(nodes, values, ts[i - 1], ts[i])
        times, velocities = [ts[i], *times], [velocity, *velocities]
        x = corrected + integral(times[:order], velocities[:order], ts[i], ts[i + 1])
    return x


def bent(t, x, args=None):
    """A field that is nonlinear in the state and in time, for JAX's arrays and for NumPy's."""
    return 1 - x * x * (1 + t) + t * t * x


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_a_solve_is_the_numpy_loop(order, x64):
    x0 = np.array([-0.3, 0.2, 0.9])
    # Forward, and part of the way backward.
    for ts in (TS[1:], TS[::-1][1:]):
        got = fj.solve(bent, jnp.asarray(x0), jnp.asarray(ts), step=fj.adams(order))
        np.testing.assert_allclose(got, loop(bent, x0, ts, order), rtol=1e-9)


COEFFICIENTS = {  # Hairer, Norsett, Wanner (1993), section III.1, the latest velocity first
    "Bashforth 1": [1],
    "Bashforth 2": [3 / 2, -1 / 2],
    "Bashforth 3": [23 / 12, -16 / 12, 5 / 12],
    "Bashforth 4": [55 / 24, -59 / 24, 37 / 24, -9 / 24],
    "Moulton 2": [1 / 2, 1 / 2],
    "Moulton 3": [5 / 12, 8 / 12, -1 / 12],
    "Moulton 4": [9 / 24, 19 / 24, -5 / 24, 1 / 24],
    "Moulton 5": [251 / 720, 646 / 720, -264 / 720, 106 / 720, -19 / 720],
}


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_at_equal_steps_the_weights_are_the_published_coefficients(name, dtype):
    h, count = 0.125, len(COEFFICIENTS[name])
    latest = 0.5 + h * ("Moulton" in name)
    times = jnp.asarray(latest - h * np.arange(count), dtype)
    present = jnp.ones(count, bool)
    got = jax.jit(_integrals)(jnp.asarray(0.5, dtype), jnp.asarray(0.5 + h, dtype), times, present)
    expected = h * np.array(COEFFICIENTS[name])
    np.testing.assert_allclose(got, expected, rtol=0, atol=16 * jnp.finfo(dtype).eps * h)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_error_is_of_one_order_more_than_the_predictor(order, x64):
    """On x' = cos(t) x with x = exp(sin t); the first steps are short, so theirs is no matter."""

    def error(n):
        ts = 2 * fj.beta_grid(n, 0.5, 1.0)
        end = fj.solve(lambda t, x, args: jnp.cos(t) * x, 1.0, ts, step=fj.adams(order))
        return abs(end - np.exp(np.sin(2.0)))

    measured = np.log2(error(80) / error(160))
    assert order + 0.7 < measured < order + 1.5


def test_a_step_calls_the_field_once():
    assert calls(fj.adams(3), TS[:-1].astype(np.float32)) == [len(TS) - 2]


@pytest.mark.parametrize("order", [1, 4])
def test_a_step_of_no_length_corrects_the_state(order, x64):
    """It ends with the corrector of the step before, so that two grids differ by it alone."""
    ends = []
    for ts in (TS[:-1], np.append(TS[:-1], TS[-2])):
        ends.append(fj.solve(bent, 0.4, jnp.asarray(ts), step=fj.adams(order)))
    # The corrector of the NumPy loop shows where a step of next to no length begins.
    tiny = np.append(TS[:-1], TS[-2] + 1e-12)
    np.testing.assert_allclose(ends[1], loop(bent, np.array([0.4]), tiny, order)[0], rtol=1e-9)
    assert abs(ends[1] - ends[0]) > 1e-6


def test_a_repeated_time_leaves_values_and_gradients_finite(x64):
    ts = jnp.array([0.0, 0.0, 0.1, 0.3, 0.3, 0.3, 0.6, 1.0, 1.0])

    def end(x, ts):
        return fj.solve(bent, x, ts, step=fj.adams(4), adjoint=fj.Direct())

    derive = jax.jit(jax.value_and_grad(end, argnums=(0, 1)))
    x, (of_x, of_ts) = derive(0.4, ts)
    after, before = (derive(0.4 + shift, ts)[0] for shift in (1e-6, -1e-6))
    np.testing.assert_allclose(of_x, (after - before) / 2e-6, rtol=1e-6)
    assert np.isfinite(x)
    assert np.all(np.isfinite(of_ts))


def test_gradients_with_respect_to_the_times_are_those_of_finite_differences(x64):
    derive = jax.jit(jax.value_and_grad(lambda ts: fj.solve(bent, 0.4, ts, step=fj.adams(3))))
    _, got = derive(TS)
    for i in range(len(TS)):
        shift = 1e-6 * np.eye(len(TS))[i]
        expected = (derive(TS + shift)[0] - derive(TS - shift)[0]) / 2e-6
        np.testing.assert_allclose(got[i], expected, rtol=1e-5, atol=1e-8)


def test_a_pytree_of_several_dtypes_keeps_them():
    x0 = {"a": jnp.ones(3, jnp.bfloat16), "b": jnp.full((2,), 2.0)}
    ts, step = fj.beta_grid(10), fj.adams(3)
    end = fj.solve(lambda t, x, args: jax.tree.map(jnp.negative, x), x0, ts, step=step)
    assert (end["a"].dtype, end["b"].dtype) == (jnp.bfloat16, jnp.float32)
    exact = loop(lambda t, x: -x, np.array([1.0, 2.0]), np.float64(ts), 3)
    # Each of ten steps rounds the state and its correction.
    np.testing.assert_allclose(end["a"].astype(jnp.float32), exact[0], rtol=20 * 2**-9)
    np.testing.assert_allclose(end["b"], exact[1], rtol=20 * 2**-24)


def test_the_default_beats_unipc_and_dpm_solver_on_the_flow_of_a_mixture(x64):
    """By ten times at twenty steps, at the points of a grid of quantiles, started alike."""
    schedule, ts = fj.CondOT(), fj.beta_grid(20)
    field = oracles.field_of(oracles.MIXTURE, schedule)
    x0 = special.ndtri((np.arange(50) + 0.5) / 50)
    exact = oracles.exact_map(oracles.MIXTURE, schedule, 0.0, 1.0)(x0)

    def error(step):
        ends = jax.vmap(lambda x: fj.solve(field, x, ts, step=step))(jnp.asarray(x0))
        return np.mean(np.abs(ends - exact))

    assert error(fj.adams()) < min(error(fj.unipc), error(fj.dpmpp_2m)) / 10


@pytest.mark.parametrize(("order", "error"), [(0, ValueError), (2.0, TypeError), (True, TypeError)])
def test_a_wrong_order_is_refused(order, error, unchecked):
    with pytest.raises(error, match="order must be a static positive int"):
        fj.adams(order)


def test_an_sde_is_refused():
    sde = fj.ornstein_uhlenbeck(1.0, 1.0)
    with pytest.raises(TypeError, match="is for an ODE"):
        fj.solve(sde, 0.0, fj.uniform_grid(3), step=fj.adams(), key=jax.random.key(0))


# --- its grid -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("alpha", "beta"), [(0.7, 0.6), (0.3, 2.0), (1.0, 1.0)])
def test_the_beta_grid_is_the_quantiles_of_the_distribution(alpha, beta, x64):
    ts = fj.beta_grid(17, alpha, beta)
    np.testing.assert_allclose(special.betainc(alpha, beta, ts), np.arange(18) / 17, atol=1e-12)


def test_the_beta_grid_of_one_half_is_chebyshevs(dtype):
    ts = fj.beta_grid(12, 0.5, 0.5)
    assert ts.dtype == dtype
    expected = (1 - np.cos(np.pi * np.arange(13) / 12)) / 2
    np.testing.assert_allclose(ts, expected, atol=4 * jnp.finfo(dtype).eps)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0,), ValueError, "n must be"),
        ((2.5,), TypeError, "n must be"),
        ((4, 0.0), ValueError, "alpha and beta must be positive finite numbers, got 0.0 and 0.6"),
        ((4, 0.7, np.inf), ValueError, "alpha and beta must be positive finite numbers"),
        ((50, 0.7, 0.05), ValueError, "the times must increase"),
    ],
)
def test_bad_input_to_the_beta_grid_is_refused(arguments, error, message, unchecked):
    with pytest.raises(error, match=message):
        fj.beta_grid(*arguments)
