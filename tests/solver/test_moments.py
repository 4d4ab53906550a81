"""Solves with noise against the exact moments of the discrete scheme: no error but a statistical.

Each check is a function of `simulate`, which solves one SDE for many samples; the planted bugs go
through the same functions.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowjax.solver.brownian import brownian_increments
from flowjax.solver.sde import SDE
from flowjax.solver.sde_steps import euler_maruyama, milstein, stochastic_heun
from flowjax.solver.views import solve, trajectory
from tests.solver.random_checks import (
    assert_mean,
    assert_near,
    assert_uncorrelated,
    keys_of,
)

SAMPLES, ELEMENTS = 512, 512  # 2^18 of each number
TIMES = np.array([0.0, 0.1, 0.15, 0.4, 0.5, 0.8, 1.0, 1.3, 1.5])
STEPS = TIMES.size - 1
H = np.diff(TIMES)


def simulate(step, sde, x0, keys):
    """The states at all times: (times, samples, elements)."""
    run = jax.vmap(
        lambda key: trajectory(sde, x0, TIMES.astype(np.float32), step=step, key=key), out_axes=1
    )
    return np.asarray(run(keys), np.float64)


def check_gaussian_moments(path, mean, variance, what):
    """Mean and variance at every time, for normal variables. False alarm: 6e-7 for each number."""
    for i in range(1, TIMES.size):
        x = path[i].ravel() - mean[i]
        assert_near(x.mean(), 0, np.sqrt(variance[i] / x.size), f"{what}: mean at {TIMES[i]}")
        error = variance[i] * np.sqrt(2 / x.size)
        assert_near(np.mean(x * x), variance[i], error, f"{what}: variance at {TIMES[i]}")


def linear_moments(a, b, g, x0):
    """m <- (1 + h a) m + h b, v <- (1 + h a)^2 v + g(t)^2 h, with g at the left end point."""
    mean, variance = [x0], [0.0]
    for t, h in zip(TIMES[:-1], H, strict=True):
        mean.append((1 + h * a) * mean[-1] + h * b)
        variance.append((1 + h * a) ** 2 * variance[-1] + g(t) ** 2 * h)
    return np.array(mean), np.array(variance)


# --- the problems: each a check of a step, given the way to simulate it ---------------------------

OU = SDE(lambda t, x, args: -1.3 * x, lambda t, x, args: 0.7)
TIME_DEPENDENT = SDE(lambda t, x, args: 0.4 - 0.8 * x, lambda t, x, args: 0.3 + t)
GBM = SDE(lambda t, x, args: 0.3 * x, lambda t, x, args: 0.4 * x)
MU, SIGMA = 0.3, 0.4


def check_ornstein_uhlenbeck(simulate):
    """Mean, variance, and the covariance of the states at two times. 23 numbers: 1.3e-5."""
    path = simulate(euler_maruyama, OU, np.full(ELEMENTS, 1.5, np.float32), keys_of("ou", SAMPLES))
    mean, variance = linear_moments(-1.3, 0.0, lambda t: 0.7, 1.5)
    check_gaussian_moments(path, mean, variance, "OU")
    x = path - mean[:, None, None]
    for i in range(1, STEPS):
        # Cov(X_s, X_t) = Var(X_s) times the factors between; the products' variance by Isserlis.
        covariance = variance[i] * np.prod(1 - 1.3 * H[i:])
        error = np.sqrt((variance[i] * variance[-1] + covariance**2) / x[0].size)
        assert_near(np.mean(x[i] * x[-1]), covariance, error, f"OU: covariance from {TIMES[i]}")


def check_additive_noise_that_depends_on_time(simulate):
    """Linear drift with a constant, diffusion 0.3 + t. 16 numbers: 9e-6."""
    path = simulate(
        euler_maruyama, TIME_DEPENDENT, np.zeros(ELEMENTS, np.float32), keys_of("time", SAMPLES)
    )
    mean, variance = linear_moments(-0.8, 0.4, lambda t: 0.3 + t, 0.0)
    check_gaussian_moments(path, mean, variance, "time-dependent noise")


class Factor(NamedTuple):
    """X_{i+1} / X_i = centre + a y + b (y^2 - v), with y = sigma dW ~ N(0, v)."""

    centre: float
    a: float
    b: float

    def moments(self, v):
        """Mean, variance and third central moment."""
        variance = self.a**2 * v + 2 * self.b**2 * v**2
        return self.centre, variance, 6 * self.a**2 * self.b * v**2 + 8 * self.b**3 * v**3


def euler_maruyama_factor(m, v):
    """1 + mu h + y, where m = mu h and v = sigma^2 h."""
    return Factor(1 + m, 1, 0)


def milstein_factor(m, v):
    """1 + mu h + y + (y^2 - v) / 2."""
    return Factor(1 + m, 1, 1 / 2)


def stochastic_heun_factor(m, v):
    """1 + z + z^2 / 2 with z = mu h + y."""
    return Factor(1 + m + (m**2 + v) / 2, 1 + m, 1 / 2)


def check_geometric_brownian_motion(simulate, step, factor_of):
    """E X and E X^2 at each time, and three moments of each factor. 40 numbers: 2e-5."""
    path = simulate(step, GBM, np.full(ELEMENTS, 1.2, np.float32), keys_of("gbm", SAMPLES))
    first, second = 1.2, 1.2**2
    for i, h in enumerate(H):
        v = SIGMA**2 * h
        mean, variance, third = factor_of(MU * h, v).moments(v)
        first, second = first * mean, second * (mean**2 + variance)
        x, factor = path[i + 1].ravel(), (path[i + 1] / path[i]).ravel()
        for what, values, expected in (
            ("E X", x, first),
            ("E X^2", x**2, second),
            ("mean of the factor", factor, mean),
            ("variance of the factor", (factor - mean) ** 2, variance),
            ("third moment of the factor", (factor - mean) ** 3, third),
        ):
            assert_mean(values, expected, f"GBM: {what} at {TIMES[i + 1]}")


def check_euler_maruyama_of_gbm(simulate):
    check_geometric_brownian_motion(simulate, euler_maruyama, euler_maruyama_factor)


def check_milstein_of_gbm(simulate):
    check_geometric_brownian_motion(simulate, milstein, milstein_factor)


def check_stochastic_heun_of_gbm(simulate):
    check_geometric_brownian_motion(simulate, stochastic_heun, stochastic_heun_factor)


def check_samples_are_independent(simulate):
    """The ends of OU paths are independent from sample to sample and element to element.

    9 numbers: 5e-6.
    """
    path = simulate(euler_maruyama, OU, np.full(ELEMENTS, 1.5, np.float32), keys_of("ou", SAMPLES))
    mean, variance = linear_moments(-1.3, 0.0, lambda t: 0.7, 1.5)
    z = (path[-1] - mean[-1]) / np.sqrt(variance[-1])
    assert_uncorrelated(z[:-1], z[1:], "neighbouring samples")
    assert_uncorrelated(z[: SAMPLES // 2], z[SAMPLES // 2 :], "distant samples")
    assert_uncorrelated(z[:, :-1], z[:, 1:], "neighbouring elements")


def check_a_random_start(simulate):
    """A start drawn with the key of the path is independent of the noise of the path.

    Cov(x0, X_n) is the product of the factors, Var X_n the sum of both parts. 17 numbers: 1e-5.
    """
    path = simulate(euler_maruyama, OU, None, keys_of("start", SAMPLES))
    ratio = np.cumprod(np.concatenate([[1.0], 1 - 1.3 * H]))
    variance = ratio**2 + linear_moments(-1.3, 0.0, lambda t: 0.7, 0.0)[1]
    check_gaussian_moments(path, 0 * ratio, variance, "OU from a normal start")
    error = np.sqrt((variance[-1] + ratio[-1] ** 2) / path[0].size)
    assert_near(np.mean(path[0] * path[-1]), ratio[-1], error, "covariance of start and end")


def from_a_normal_start(step, sde, x0, keys):
    """x0 is drawn from the very key that is then given to the solve."""

    def one(key):
        x0 = jax.random.normal(key, (ELEMENTS,))
        return trajectory(sde, x0, TIMES.astype(np.float32), step=step, key=key)

    return np.asarray(jax.vmap(one, out_axes=1)(keys), np.float64)


CHECKS = {
    "ornstein-uhlenbeck": check_ornstein_uhlenbeck,
    "noise that depends on time": check_additive_noise_that_depends_on_time,
    "geometric brownian motion": check_euler_maruyama_of_gbm,
    "milstein": check_milstein_of_gbm,
    "stochastic heun": check_stochastic_heun_of_gbm,
    "independent samples": check_samples_are_independent,
}


@pytest.mark.parametrize("name", CHECKS)
def test_the_moments_are_those_of_the_discrete_scheme(name):
    CHECKS[name](simulate)


def test_a_start_drawn_from_the_key_of_the_path_adds_its_own_variance():
    check_a_random_start(from_a_normal_start)


def test_the_moments_of_a_large_state_of_one_key_are_those_of_the_discrete_scheme():
    """One key and 2^18 elements in place of many keys."""

    def simulate_one(step, sde, x0, keys):
        x0 = jnp.broadcast_to(x0, (SAMPLES, ELEMENTS))
        return np.asarray(
            trajectory(sde, x0, TIMES.astype(np.float32), step=step, key=keys[0]), np.float64
        )

    check_ornstein_uhlenbeck(simulate_one)


def test_the_end_of_a_solve_has_the_moments_of_the_end_of_its_trajectory():
    """2^18 keys of one number each: no batch of a solve shares its noise. 5 numbers: 3e-6."""
    count = SAMPLES * ELEMENTS
    run = jax.vmap(lambda key: solve(OU, jnp.float32(1.5), TIMES.astype(np.float32), key=key))
    x = np.asarray(run(keys_of("ends", count)), np.float64)
    mean, variance = linear_moments(-1.3, 0.0, lambda t: 0.7, 1.5)
    z = (x - mean[-1]) / np.sqrt(variance[-1])
    assert_near(z.mean(), 0, 1 / np.sqrt(count), "mean")
    assert_near(np.mean(z * z), 1, np.sqrt(2 / count), "variance")
    assert_uncorrelated(z[:-1], z[1:], "neighbouring samples")


# --- planted bugs ---------------------------------------------------------------------------------


def on_increments(step, sde, x0, dw):
    """The states at all times: (times, samples, elements)."""
    ts = TIMES.astype(np.float32)
    run = jax.vmap(lambda dw: trajectory(sde, x0, ts, step=step, increments=dw), out_axes=1)
    return np.asarray(run(dw), np.float64)


@jax.jit
@jax.vmap
def increments_of(key):
    return brownian_increments(key, TIMES.astype(np.float32), jnp.zeros(ELEMENTS))


def with_step(planted):
    """Simulates with the planted step in place of the one asked for.

    On the keys' increments, drawn before: a program without a generator in it compiles faster.
    """
    return lambda step, sde, x0, keys: on_increments(planted, sde, x0, increments_of(keys))


def root_of_the_step_in_the_drift(sde, t0, t1, x, args, dw):
    return x + jnp.sqrt(t1 - t0) * sde.drift(t0, x, args) + sde.diffusion(t0, x, args) * dw


def the_step_in_place_of_its_root(sde, t0, t1, x, args, dw):
    return euler_maruyama(sde, t0, t1, x, args, jnp.sqrt(t1 - t0) * dw)


def the_drift_with_the_wrong_sign(sde, t0, t1, x, args, dw):
    return x - (t1 - t0) * sde.drift(t0, x, args) + sde.diffusion(t0, x, args) * dw


def the_drift_of_stratonovich(sde, t0, t1, x, args, dw):
    """Ito's drift taken for Stratonovich's, with the correction g g' / 2."""
    g, slope = jax.jvp(lambda x: sde.diffusion(t0, x, args), (x,), (jnp.ones_like(x),))
    return euler_maruyama(sde, t0, t1, x, args, dw) + (t1 - t0) * g * slope / 2


def the_diffusion_at_the_right_end_in_time(sde, t0, t1, x, args, dw):
    return x + (t1 - t0) * sde.drift(t0, x, args) + sde.diffusion(t1, x, args) * dw


def the_diffusion_at_the_right_end_in_space(sde, t0, t1, x, args, dw):
    end = euler_maruyama(sde, t0, t1, x, args, dw)
    return x + (t1 - t0) * sde.drift(t0, x, args) + sde.diffusion(t1, end, args) * dw


def the_drift_at_the_right_end(sde, t0, t1, x, args, dw):
    end = x + (t1 - t0) * sde.drift(t0, x, args)
    return x + (t1 - t0) * sde.drift(t1, end, args) + sde.diffusion(t0, x, args) * dw


def variance_for_standard_deviation(sde, t0, t1, x, args, dw):
    g = sde.diffusion(t0, x, args)
    return x + (t1 - t0) * sde.drift(t0, x, args) + g * g * dw


def milstein_without_its_mean_removed(sde, t0, t1, x, args, dw):
    return milstein(sde, t0, t1, x, args, dw) + 0.08 * (t1 - t0) * x


def stochastic_heun_of_other_noise(sde, t0, t1, x, args, dw):
    """The predictor sees the drift alone."""
    y = x + (t1 - t0) * sde.drift(t0, x, args)
    drift = (sde.drift(t0, x, args) + sde.drift(t1, y, args)) / 2
    return (
        x + (t1 - t0) * drift + (sde.diffusion(t0, x, args) + sde.diffusion(t1, y, args)) / 2 * dw
    )


def given_increments(planted):
    """Simulates on increments made by `planted` from standard normals (steps, *shape)."""

    def run(step, sde, x0, keys):
        z = np.random.default_rng(0).normal(size=(SAMPLES, STEPS, ELEMENTS))
        dw = (planted(z) * np.sqrt(H)[:, None]).astype(np.float32)
        return on_increments(step, sde, x0, dw)

    return run


@pytest.mark.parametrize(
    ("bug", "check"),
    [
        (root_of_the_step_in_the_drift, check_ornstein_uhlenbeck),
        (the_step_in_place_of_its_root, check_ornstein_uhlenbeck),
        (the_drift_with_the_wrong_sign, check_ornstein_uhlenbeck),
        (the_drift_of_stratonovich, check_euler_maruyama_of_gbm),
        (stochastic_heun, check_euler_maruyama_of_gbm),
        (the_diffusion_at_the_right_end_in_time, check_additive_noise_that_depends_on_time),
        (the_diffusion_at_the_right_end_in_space, check_euler_maruyama_of_gbm),
        (the_drift_at_the_right_end, check_ornstein_uhlenbeck),
        (variance_for_standard_deviation, check_ornstein_uhlenbeck),
        (euler_maruyama, check_milstein_of_gbm),
        (milstein_without_its_mean_removed, check_milstein_of_gbm),
        (stochastic_heun_of_other_noise, check_stochastic_heun_of_gbm),
    ],
)
def test_a_wrong_step_is_caught(bug, check):
    with pytest.raises(AssertionError, match="standard errors away"):
        check(with_step(bug))


@pytest.mark.parametrize("check", [check_ornstein_uhlenbeck, check_euler_maruyama_of_gbm])
def test_one_normal_for_all_steps_is_caught(check):
    check(given_increments(lambda z: z))
    with pytest.raises(AssertionError, match="standard errors away"):
        check(given_increments(lambda z: np.broadcast_to(z[:, :1], z.shape)))


def test_noise_shared_by_a_vmapped_batch_is_caught():
    """The moments do not show it but by chance; the independence of the samples does."""

    def shared(step, sde, x0, keys):
        return simulate(step, sde, x0, jnp.broadcast_to(keys[:1], keys.shape))

    with pytest.raises(AssertionError, match="neighbouring samples"):
        check_samples_are_independent(shared)


def test_the_start_reused_as_noise_is_caught():
    def reused(step, sde, x0, keys):
        def one(key):
            noise = jax.random.normal(key, (STEPS, ELEMENTS))
            dw = noise * jnp.sqrt(jnp.asarray(H, jnp.float32))[:, None]
            ts = TIMES.astype(np.float32)
            return trajectory(sde, noise[0], ts, step=step, increments=dw)

        return np.asarray(jax.vmap(one, out_axes=1)(keys), np.float64)

    with pytest.raises(AssertionError, match="standard errors away"):
        check_a_random_start(reused)
