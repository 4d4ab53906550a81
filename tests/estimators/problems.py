"""Two SDEs whose moments under Euler-Maruyama are known exactly."""

import jax.numpy as jnp
import numpy as np

import flowjax as fj

MU, SIGMA, START = 0.3, 0.4, 1.5
THETA, NOISE = 1.2, 0.5


def drift(t, x, args):
    return args["mu"] * x


def diffusion(t, x, args):
    return args["sigma"] * x


GBM = fj.SDE(drift, diffusion)
ARGS = {"mu": MU, "sigma": SIGMA, "start": START}
OU = fj.ornstein_uhlenbeck(THETA, NOISE)


def given(key, args):
    """X_0 of the geometric Brownian motion."""
    return jnp.asarray(args["start"])


def at_one(key):
    return jnp.ones((2,))


def at_zero(key):
    return jnp.zeros(())


def square(x):
    return x * x


def gbm_moments(n, mu=MU, sigma=SIGMA, start=START):
    """E X_1 and E X_1^2 after n steps of Euler-Maruyama over [0, 1]."""
    h = 1 / n
    return start * (1 + mu * h) ** n, start**2 * ((1 + mu * h) ** 2 + sigma**2 * h) ** n


def ou_moments(n):
    """Mean and variance of X_1 from 1 after n steps of Euler-Maruyama over [0, 1]."""
    mean, variance = 1.0, 0.0
    for _ in range(n):
        mean, variance = mean * (1 - THETA / n), variance * (1 - THETA / n) ** 2 + NOISE**2 / n
    return mean, variance


def as_numpy(samples):
    return np.asarray(samples, np.float64)
