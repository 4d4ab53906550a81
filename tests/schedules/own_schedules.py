"""Schedules as users write them, with what is true of them at both ends."""

import jax.numpy as jnp
import numpy as np

import flowjax as fj


def own(alpha, sigma=None, variance=None):
    """A schedule of these formulas, as a class with two methods."""
    methods = {"alpha": alpha, "sigma": sigma, "variance": variance}
    methods = {
        name: (lambda self, t, f=formula: f(t)) for name, formula in methods.items() if formula
    }
    return type("Own", (fj.Schedule,), methods)()


def cosine(xp, offset=0.0):
    """Alpha of the cosine schedule, as a function of t; with an offset, improved DDPM's."""
    share = 1 / (1 + offset)
    start = np.cos(offset * share * np.pi / 2)
    return lambda t: xp.cos((1 - t + offset) * share * np.pi / 2) / start


def noise(xp):
    """The integral of VariancePreserving's noise rate from the data to t."""
    return lambda t: (1 - t) * (0.1 + (1 - t) * 19.9 / 2)


# name: (xp -> (alpha, sigma or None, variance or None), the ends (alpha, sigma, alpha', sigma',
# sigma sigma') that are true, those of them that are not known)
SLOPE = np.pi / 2
SLOW = SLOPE / 1.008 * np.tan(0.008 / 1.008 * SLOPE)
FAST = SLOPE / 1.008 / np.cos(0.008 / 1.008 * SLOPE)
OWN = {
    "straight": (
        lambda xp: (lambda t: t, lambda t: 1 - t, None),
        ((0, 1, 1, -1, -1), (1, 0, 1, -1, 0)),
        (),
    ),
    "sine and cosine": (
        lambda xp: (lambda t: xp.sin(SLOPE * t), lambda t: xp.cos(SLOPE * t), None),
        ((0, 1, SLOPE, 0, 0), (1, 0, 0, -SLOPE, 0)),
        (),
    ),
    "cosines": (
        lambda xp: (cosine(xp), lambda t: xp.cos(SLOPE * t), None),
        ((0, 1, SLOPE, 0, 0), (1, 0, 0, -SLOPE, 0)),
        (),
    ),
    "sigma the root of a difference": (
        lambda xp: (
            lambda t: xp.sin(SLOPE * t),
            lambda t: xp.sqrt(1 - xp.sin(SLOPE * t) ** 2),
            None,
        ),
        ((0, 1, SLOPE, 0, 0), (1, 0, 0, -SLOPE, 0)),
        ("end sigma'", "end sigma sigma'"),
    ),
    "variance a difference": (
        lambda xp: (lambda t: xp.sin(SLOPE * t), None, lambda t: 1 - xp.sin(SLOPE * t) ** 2),
        ((0, 1, SLOPE, 0, 0), (1, 0, 0, -SLOPE, 0)),
        ("end sigma'",),
    ),
    "alpha the root of a difference": (
        lambda xp: (
            lambda t: xp.sqrt(1 - xp.cos(SLOPE * t) ** 2),
            lambda t: xp.cos(SLOPE * t),
            None,
        ),
        ((0, 1, SLOPE, 0, 0), (1, 0, 0, -SLOPE, 0)),
        ("start alpha'",),
    ),
    "improved DDPM by its variance": (
        lambda xp: (cosine(xp, 0.008), None, lambda t: 1 - cosine(xp, 0.008)(t) ** 2),
        ((0, 1, FAST, 0, 0), (1, 0, SLOW, -np.inf, -SLOW)),
        (),
    ),
    "improved DDPM by its sigma": (
        lambda xp: (cosine(xp, 0.008), lambda t: xp.sqrt(1 - cosine(xp, 0.008)(t) ** 2), None),
        ((0, 1, FAST, 0, 0), (1, 0, SLOW, -np.inf, -SLOW)),
        ("end sigma sigma'",),
    ),
    "root by its variance": (
        lambda xp: (lambda t: t, None, lambda t: 1 - t),
        ((0, 1, 1, -0.5, -0.5), (1, 0, 1, -np.inf, -0.5)),
        (),
    ),
    "root by its sigma": (
        lambda xp: (lambda t: t, lambda t: xp.sqrt(1 - t), None),
        ((0, 1, 1, -0.5, -0.5), (1, 0, 1, -np.inf, -0.5)),
        ("end sigma sigma'",),
    ),
    "variance preserving by its sigma": (
        lambda xp: (
            lambda t: xp.exp(-noise(xp)(t) / 2),
            lambda t: xp.sqrt(1 - xp.exp(-noise(xp)(t))),
            None,
        ),
        (
            (
                *(np.exp(-5.025), np.sqrt(-np.expm1(-10.05)), 10 * np.exp(-5.025)),
                *(-10 * np.exp(-10.05) / np.sqrt(-np.expm1(-10.05)), -10 * np.exp(-10.05)),
            ),
            (1, 0, 0.05, -np.inf, -0.05),
        ),
        ("end sigma sigma'",),
    ),
    "still at both ends": (
        lambda xp: (lambda t: 3 * t**2 - 2 * t**3, lambda t: 1 - 3 * t**2 + 2 * t**3, None),
        ((0, 1, 0, 0, 0), (1, 0, 0, 0, 0)),
        (),
    ),
    "a wave that is still at both ends": (
        lambda xp: (
            lambda t: 0.5 - xp.cos(np.pi * t) / 2,
            lambda t: xp.cos(SLOPE * t) ** 2,
            None,
        ),
        ((0, 1, 0, 0, 0), (1, 0, 0, 0, 0)),
        (),
    ),
    "a small sigma that is meant": (
        lambda xp: (lambda t: t, lambda t: 1 - (1 - 2.0**-16) * t, None),
        (
            (0, 1, 1, 2.0**-16 - 1, 2.0**-16 - 1),
            (1, 2.0**-16, 1, 2.0**-16 - 1, 2.0**-32 - 2.0**-16),
        ),
        (),
    ),
    "exploding": (
        lambda xp: (lambda t: 1.0 + 0 * t, lambda t: 64 * xp.exp(-np.log(2.0**20) * t), None),
        (
            (1, 64, 0, -64 * np.log(2.0**20), -4096 * np.log(2.0**20)),
            (1, 2.0**-14, 0, -(2.0**-14) * np.log(2.0**20), -(2.0**-28) * np.log(2.0**20)),
        ),
        (),
    ),
    "exploding by its variance": (
        lambda xp: (lambda t: 1.0, None, lambda t: 4096 * xp.exp(-2 * np.log(2.0**20) * t)),
        (
            (1, 64, 0, -64 * np.log(2.0**20), -4096 * np.log(2.0**20)),
            (1, 2.0**-14, 0, -(2.0**-14) * np.log(2.0**20), -(2.0**-28) * np.log(2.0**20)),
        ),
        (),
    ),
    "unscaled, and sigma the root of a difference": (
        lambda xp: (lambda t: 1, lambda t: 80 * xp.sqrt(1 - xp.sin(SLOPE * t) ** 2), None),
        ((1, 80, 0, 0, 0), (1, 0, 0, -80 * SLOPE, 0)),
        ("end sigma'", "end sigma sigma'"),
    ),
}


def made(name):
    return own(*OWN[name][0](jnp))
