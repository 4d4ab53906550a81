"""Every sampler of a flow from and to both ends of every schedule, against the exact map.

The flow of N(mu, c^2) is affine at every time: it keeps the distance of the state from alpha mu in
units of the marginal's standard deviation. What a model of any of the five predicts is written
down in closed form too.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from tests.samplers.schedules import SCHEDULES, at_times

MEAN, STD = 0.3, 0.7
FIRST, LAST = 20, 320
STEPS = {
    "ddim": fj.ddim,
    "dpmpp_2m": fj.dpmpp_2m,
    "unipc": fj.unipc,
    "edm_heun": fj.edm_heun(),
    "adams": fj.adams(2),
}
# From end to end, and from and to where sigma or alpha is nearly zero.
WAYS = [(0.0, 1.0), (1.0, 0.0), (0.005, 0.995), (0.995, 0.005)]
DISTANCES = np.array([-1.0, 0.5])

every_step = pytest.mark.parametrize("name", STEPS)


def law(schedule, t):
    """Mean and standard deviation of the path."""
    alpha, sigma = (float(level) for level in schedule(t))
    return alpha * MEAN, np.hypot(alpha * STD, sigma)


def grid(n, t0, t1):
    """N steps after some of no length, so that one compiled program serves any n."""
    return t0 + (t1 - t0) * np.maximum(np.arange(LAST + 1) - (LAST - n), 0) / n


@functools.cache
def errors(name):
    """The largest error of each schedule, way and number of steps, in standard deviations."""
    cases = [(s, way, n) for s in SCHEDULES for way in WAYS for n in (FIRST, LAST)]
    x0, expected = [], []
    for schedule, way, _ in cases:
        for t, states in zip(way, (x0, expected), strict=True):
            mean, std = law(SCHEDULES[schedule], t)
            states.append(mean + std * DISTANCES)

    @jax.jit
    def ends(cases):
        def end(case):
            schedule, x0, ts = case
            v = fj.Gaussian(MEAN, STD).velocity(schedule)
            return jax.vmap(lambda x0: fj.solve(v, x0, ts, step=STEPS[name]))(x0)

        return jax.lax.map(end, cases)

    grids = np.stack([grid(n, *way) for _, way, n in cases])
    tables = at_times([(SCHEDULES[case[0]], ts) for case, ts in zip(cases, grids, strict=True)])
    off = np.max(np.abs(ends((tables, np.stack(x0), grids)) - np.stack(expected)), axis=1)
    return {
        case: error / law(SCHEDULES[case[0]], case[1][1])[1]
        for case, error in zip(cases, off, strict=True)
    }


def least_gain(name, schedule, way):
    """By what 320 steps divide the error of 20 steps of ddim, at least.

    An order of 1 divides it by 16, and one of 2 divides that of 20 steps of the method itself, a
    part of ddim's, by 256. Where sigma falls like a square root, the step that ends or begins at
    sigma = 0 has a length like the root of 1/n in sigma / alpha. So what is of order 1 in such a
    step errs by 1/n: that of dpmpp_2m, and forward all; and ddim by log(n)/n.
    """
    if name == "adams":  # of order 3, in time
        return 10_000
    rooted = schedule == "SquareRoot" and (way == (0.0, 1.0) or way == (1.0, 0.0))
    if name == "ddim":
        return 11 if rooted else 14
    return 20 if rooted and (way[1] == 1 or name == "dpmpp_2m") else 100


@every_step
@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_sampler_goes_the_exact_way(name, way, schedule, x64):
    error, of_ddim = errors(name), errors("ddim")[schedule, way, FIRST]
    assert error[schedule, way, LAST] < of_ddim / least_gain(name, schedule, way)
    # And few steps of it are as good as those of ddim.
    assert error[schedule, way, FIRST] <= of_ddim


# --- what the model predicts ----------------------------------------------------------------------


PREDICTIONS = ("velocity", "data", "noise", "score", "v")
BY_MODELS = {
    "unipc": fj.unipc,
    "edm_heun": fj.edm_heun(),
    "dpmpp_2m_sde": fj.dpmpp_2m_sde,
}


def by_model(v, predicts):
    """The velocity of a model that predicts one of the five, where all are known."""

    def model(t, x, args):
        alpha, sigma = v.schedule(t)
        data, noise = v.data_and_noise(t, x, args)
        # At sigma = 0 the noise is independent of the state.
        score = -jnp.where(sigma == 0, (x - MEAN) / STD**2, noise / jnp.where(sigma == 0, 1, sigma))
        of = {"data": data, "noise": noise, "score": score, "v": alpha * noise - sigma * data}
        return v(t, x, args) if predicts == "velocity" else of[predicts]

    return fj.velocity(model, v.schedule, predicts)


@functools.cache
def ends_by_models(name):
    """The ends of the target's own velocity and of each model's, of each schedule and way."""
    cases = [(s, way) for s in SCHEDULES for way in WAYS if name != "dpmpp_2m_sde" or way[1] > 0.9]
    dw = np.random.default_rng(0).normal(size=10) if name == "dpmpp_2m_sde" else None

    @jax.jit
    def ends(cases):
        def end(case):
            schedule, x0, ts = case
            v = fj.Gaussian(MEAN, STD).velocity(schedule)
            fields = [v, *(by_model(v, predicts) for predicts in PREDICTIONS)]
            given = {"step": BY_MODELS[name], "increments": dw, "adjoint": fj.Direct()}
            return [fj.solve(field, x0, ts, **given) for field in fields]

        return jax.lax.map(end, cases)

    x0 = np.array([sum(law(SCHEDULES[schedule], way[0])) for schedule, way in cases])
    grids = np.array([np.linspace(*way, 11) for _, way in cases])
    tables = at_times([(SCHEDULES[case[0]], ts) for case, ts in zip(cases, grids, strict=True)])
    return cases, np.stack(ends((tables, x0, grids)), axis=1)


def determined(schedule, way, predicts):
    """Whether the prediction determines data and noise where the way begins."""
    alpha, _ = SCHEDULES[schedule](way[0])
    stands_still = schedule == "Polynomial" and predicts == "velocity"
    return alpha > 0 or not (stands_still or predicts in ("noise", "score"))


@pytest.mark.parametrize("name", BY_MODELS)
@pytest.mark.thin(1)
def test_a_sampler_goes_the_same_way_by_whatever_the_model_predicts(name, x64):
    for (schedule, way), (expected, *got) in zip(*ends_by_models(name), strict=True):
        for predicts, end in zip(PREDICTIONS, got, strict=True):
            if determined(schedule, way, predicts):
                np.testing.assert_allclose(end, expected, rtol=1e-9, err_msg=f"{schedule} {way}")
            else:
                assert np.isnan(end), f"{schedule} {way}: a {predicts} says nothing at the start"
