"""Steps that draw noise, on a Gaussian: against the exact moments of the discrete scheme.

There every step is affine in the state and in the noise, so the papers' NumPy loops, fed with
units, give the moments without any sampling.
"""

import functools

import jax
import numpy as np
import pytest

import flowjax as fj
from tests.samplers import oracles
from tests.solver.random_checks import SEED, assert_near, keys_of

SCHEDULE = fj.CondOT()
MEAN, STD = oracles.GAUSSIAN[1][0], oracles.GAUSSIAN[2][0]
FIELD = fj.Gaussian(float(MEAN), float(STD)).velocity(SCHEDULE)
SAMPLES = 2**15


def diffusion(t):
    return 1.5 - t


def kappa(ts):
    """g^2 over the memoryless 2 (1 - t) / t."""
    t = ts[:-1]
    return diffusion(t) ** 2 * t / (2 * (1 - t))


def exponential_euler(data, a, s, x, xi):
    return oracles.exponential_euler(data, a, s, x, xi, kappa(a))


CASES = {
    "ancestral": (FIELD, fj.ancestral, oracles.ancestral),
    "stochastic_ddim": (
        FIELD,
        fj.stochastic_ddim(0.6),
        functools.partial(oracles.ancestral, eta=0.6),
    ),
    "dpmpp_2m_sde": (FIELD, fj.dpmpp_2m_sde, oracles.dpmpp_2m_sde),
    "exponential_euler": (
        fj.with_noise(FIELD, diffusion),
        fj.exponential_euler,
        exponential_euler,
    ),
    "edm_heun": (
        FIELD,
        fj.edm_heun(churn=0.3),
        functools.partial(oracles.edm_heun, churn=0.3),
    ),
}
every_case = pytest.mark.parametrize("name", CASES)


def law_at(t):
    """Mean and variance of the path."""
    a, s = oracles.levels(SCHEDULE, t)
    return a * MEAN, (a * STD) ** 2 + s**2


def discrete_law(end, ts):
    """Mean and variance at ts[-1] from the law of the path at ts[0], for an affine `end(x0, xi)`.

    It is given states, and standard normal numbers of shape (states, steps).
    """
    n = len(ts) - 1
    units = np.concatenate([np.zeros((1, n + 1)), np.eye(n + 1)])
    values = end(units[:, 0], units[:, 1:])
    slopes = values[1:] - values[0]
    mean, variance = law_at(ts[0])
    return values[0] + slopes[0] * mean, slopes[0] ** 2 * variance + np.sum(slopes[1:] ** 2)


def of_loop(loop, ts):
    """`end` of a paper's loop."""
    a, s = oracles.levels(SCHEDULE, ts)
    return lambda x0, xi: loop(oracles.denoiser(oracles.GAUSSIAN), a, s, x0, xi.T)


TIMES = np.array([0.1, 0.2, 0.4, 0.5, 0.8, 0.95])


def check(name, step):
    """Mean and variance of many samples. Two numbers: a false alarm in 1e-6 of runs."""
    field, _, loop = CASES[name]
    mean, variance = (float(value) for value in law_at(TIMES[0]))

    x0 = np.random.default_rng([SEED, *name.encode()]).normal(mean, np.sqrt(variance), SAMPLES)
    ts = TIMES.astype(np.float32)
    solve = jax.vmap(lambda x, key: fj.solve(field, x, ts, step=step, key=key))
    x = np.asarray(solve(x0.astype(np.float32), keys_of(name, SAMPLES)), np.float64)
    ts = ts.astype(np.float64)
    mean, variance = discrete_law(of_loop(loop, ts), ts)
    assert_near(x.mean(), mean, np.sqrt(variance / SAMPLES), f"{name}: mean")
    error = variance * np.sqrt(2 / SAMPLES)
    assert_near(np.mean((x - mean) ** 2), variance, error, f"{name}: variance")


def more_noise(step):
    """The step, given increments that are five percent too large."""
    function = step.step if isinstance(step, fj.Stepper) else step

    def alone(field, t0, t1, x, args, dw):
        return function(field, t0, t1, x, args, 1.05 * dw)

    def remembering(field, t0, t1, x, args, dw, memory):
        return function(field, t0, t1, x, args, 1.05 * dw, memory)

    return fj.Stepper(step.init, remembering) if isinstance(step, fj.Stepper) else alone


@every_case
def test_samples_have_the_moments_of_the_discrete_scheme(name):
    check(name, CASES[name][1])


@pytest.mark.parametrize("name", ["ancestral", "dpmpp_2m_sde"])
def test_five_percent_more_noise_is_caught(name):
    with pytest.raises(AssertionError, match="variance"):
        check(name, more_noise(CASES[name][1]))


def test_the_last_step_of_dpmpp_2m_sde_to_where_sigma_is_nearly_0_does_not_overshoot(x64):
    """By a last step of order 2 the standard deviation after ten steps is 0.57 for 0.4."""
    ts = np.linspace(0.02, 0.995, 11)

    @jax.vmap
    def end(x0, xi):
        return fj.solve(FIELD, x0, ts, step=fj.dpmpp_2m_sde, increments=xi * np.sqrt(np.diff(ts)))

    _, variance = discrete_law(lambda x0, xi: np.asarray(end(x0, xi)), ts)
    _, of_order_2 = discrete_law(of_loop(oracles.dpmpp_2m_sde, ts), ts)
    assert np.sqrt(law_at(0.995)[1]) == pytest.approx(np.sqrt(variance), rel=0.03)
    assert np.sqrt(of_order_2) > 1.3 * np.sqrt(variance)


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("ancestral", 1),
        ("stochastic_ddim", 1),
        ("exponential_euler", 1),
        ("dpmpp_2m_sde", 2),
        ("edm_heun", 2),
    ],
)
def test_the_weak_order(name, order, x64):
    """Of the variance, inside the schedule; churn is spread over the steps, as S_churn / N."""
    field, step, _ = CASES[name]

    def error(n):
        method = fj.edm_heun(churn=10 / n) if name == "edm_heun" else step
        ts = np.linspace(0.1, 0.9, n + 1)

        @jax.vmap
        def end(x0, xi):
            dw = xi * np.sqrt(np.diff(ts))
            return fj.solve(field, x0, ts, step=method, increments=dw)

        return abs(discrete_law(lambda x0, xi: np.asarray(end(x0, xi)), ts)[1] - law_at(0.9)[1])

    assert error(100) / error(200) == pytest.approx(2**order, rel=0.05)
