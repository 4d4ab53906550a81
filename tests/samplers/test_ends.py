"""Every step under every schedule, from end to end, with its gradients.

The target is N(mu, 0.4^2), where a step is affine in the state, in mu and in the increments. So a
solve has exact discrete moments, and a difference of two solves is its exact derivative.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from tests.samplers.schedules import SCHEDULES, OneOf

STD = 0.4
COARSE, FINE = 6, 96
# One compiled program serves both: the grid of few steps ends with steps of no length.
GRIDS = np.stack([np.minimum(np.arange(FINE + 1) / n, 1.0) for n in (COARSE, FINE)])


STEPS = {
    "ddim": fj.ddim,
    "dpmpp_2m": fj.dpmpp_2m,
    "unipc": fj.unipc,
    "edm_heun": fj.edm_heun(churn=0.1),
    "ancestral": fj.ancestral,
    "stochastic_ddim": fj.stochastic_ddim(0.5),
    "dpmpp_2m_sde": fj.dpmpp_2m_sde,
    "exponential_euler": fj.exponential_euler,
    "adams": fj.adams(2),
}
QUIET = {"ddim", "dpmpp_2m", "unipc", "adams"}


@functools.cache
def solved(method):
    """Values and gradients at some points, under every schedule and on both grids."""

    def run(x0, mu, dw, schedule, ts):
        field = fj.Gaussian(mu, STD).velocity(schedule)
        if method == "exponential_euler":
            field = fj.with_noise(field, lambda t: 0.8 * schedule(t)[1])
        return fj.solve(
            *(field, x0, ts),
            step=STEPS[method],
            increments=None if method in QUIET else dw,
            adjoint=fj.Direct(),
        )

    def one(case):
        index, ts = case
        x0, mu = jnp.array([0.0, 1.0, 0.0, 0.3]), jnp.array([0.0, 0.0, 1.0, -0.6])
        dw = jnp.zeros((4, FINE)).at[3, 3].set(1.0)
        derive = jax.value_and_grad(run, argnums=(0, 1, 2))
        return jax.vmap(lambda *point: derive(*point, OneOf(index), ts))(x0, mu, dw)

    cases = np.repeat(np.arange(len(SCHEDULES)), 2), np.tile(GRIDS, (len(SCHEDULES), 1))
    return jax.tree.map(np.asarray, jax.jit(lambda cases: jax.lax.map(one, cases))(cases))


def results_of(method, name):
    """(values, gradients) on the coarse grid, and on the fine one."""
    first = 2 * list(SCHEDULES).index(name)
    return [jax.tree.map(lambda leaf, i=i: leaf[i], solved(method)) for i in (first, first + 1)]


def spread(name, t):
    """The standard deviation of the state at t."""
    alpha, sigma = (float(level) for level in SCHEDULES[name](t))
    return np.hypot(alpha * STD, sigma)


def error(name, gradients, ts):
    """Of the standard deviation that the discrete solve ends with, in parts of the exact one."""
    of_x0, _, of_dw = (gradient[0] for gradient in gradients)
    end = np.sqrt((of_x0 * spread(name, 0.0)) ** 2 + np.sum(of_dw**2 * np.diff(ts)))
    return abs(end / spread(name, 1.0) - 1)


every_step = pytest.mark.parametrize("method", STEPS)
every_schedule = pytest.mark.parametrize("name", SCHEDULES)


@every_step
@every_schedule
@pytest.mark.thin(13)
def test_gradients_from_end_to_end_are_the_exact_slopes(method, name, x64):
    for values, (of_x0, of_mu, of_dw) in results_of(method, name):
        np.testing.assert_allclose(values[0], 0, atol=1e-12)
        np.testing.assert_allclose(of_x0, np.full(4, values[1]), rtol=1e-9)
        np.testing.assert_allclose(of_mu, np.full(4, values[2]), rtol=1e-9)
        np.testing.assert_allclose(of_dw, np.broadcast_to(of_dw[0], of_dw.shape), rtol=1e-9)
        expected = 0.3 * values[1] - 0.6 * values[2] + of_dw[0, 3]
        np.testing.assert_allclose(values[3], expected, rtol=1e-9, atol=1e-12)


@every_step
@every_schedule
def test_the_spread_of_the_data_is_reached_with_more_steps(method, name, x64):
    """Sixteen times as many: order 1 divides the error by 16, the least measured is 5.3."""
    (_, coarse), (_, fine) = results_of(method, name)
    assert error(name, fine, GRIDS[1]) < error(name, coarse, GRIDS[0]) / 5


@pytest.mark.parametrize("method", [method for method in STEPS if method != "adams"])
@every_schedule
def test_the_mean_of_the_data_is_reached_exactly(method, name, x64):
    """At the mean the data are expected where they are, so that a step has nothing to err in.

    But for a path that stands still at t = 0, whose velocity says nothing of the data there: what
    the first step takes for them is zero, and weighs alpha at its end.
    """
    alpha, _ = SCHEDULES[name](0.0)
    for (values, _), n in zip(results_of(method, name), (COARSE, FINE), strict=True):
        tolerance = 1 / n**2 if name == "Polynomial" else 1e-12
        np.testing.assert_allclose(alpha * values[1] + values[2], 1, atol=tolerance)


@every_schedule
def test_adams_which_knows_no_schedule_reaches_the_mean_with_more_steps(name, x64):
    alpha, _ = SCHEDULES[name](0.0)
    coarse, fine = (abs(alpha * end[1] + end[2] - 1) for end, _ in results_of("adams", name))
    assert fine < max(coarse / 5, 1e-12)
