"""Every schedule, and its formulas written independently in NumPy float64.

The formulas also take complex times, so that a derivative can be had by a complex step, which is
exact to rounding. What a prediction is at one time is linear in two unknown numbers, the expected
data D and the score S; `ROWS` holds the coefficients, all of them finite at both ends.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

import flowjax as fj


class Point(NamedTuple):
    """alpha, sigma^2, alpha' and sigma sigma' at one time."""

    a: complex
    s2: complex
    a_rate: complex
    r: complex

    @property
    def s(self):
        return np.sqrt(self.s2)

    @property
    def s_rate(self):
        return self.r / self.s


def _vp(t, low=0.1, high=20.0):
    elapsed = 1 - t
    a = np.exp(-(elapsed**2) * (high - low) / 4 - elapsed * low / 2)
    beta = low + elapsed * (high - low)
    return Point(a, -np.expm1(2 * np.log(a)), a * beta / 2, -(a**2) * beta / 2)


def _ve(t, low=0.02, high=30.0):
    s2 = high**2 * (low / high) ** (2 * t)
    return Point(1 + 0 * t, s2, 0 * t, s2 * np.log(low / high))


def _trigonometric(t):
    # cos(pi t / 2), but exactly zero at t = 1.
    a, s = np.sin(np.pi / 2 * t), np.sin(np.pi / 2 * (1 - t))
    return Point(a, s**2, np.pi / 2 * s, -np.pi / 2 * a * s)


def _polynomial(n):
    def formulas(t):
        a, rate = t**n, n * t ** (n - 1)
        return Point(a, (1 - a) ** 2, rate, -(1 - a) * rate)

    return formulas


# name: (the schedule, its formulas)
SCHEDULES = {
    "CondOT": (fj.CondOT(), lambda t: Point(t, (1 - t) ** 2, 1 + 0 * t, t - 1)),
    "Trigonometric": (fj.Trigonometric(), _trigonometric),
    "VariancePreserving": (fj.VariancePreserving(), _vp),
    "VarianceExploding": (fj.VarianceExploding(0.02, 30.0), _ve),
    "SquareRoot": (fj.SquareRoot(), lambda t: Point(t, 1 - t, 1 + 0 * t, -0.5 + 0 * t)),
    "Polynomial": (fj.Polynomial(2), _polynomial(2)),
    "EDM": (
        fj.EDM(80.0),
        lambda t: Point(1 + 0 * t, (80 * (1 - t)) ** 2, 0 * t, -6400 * (1 - t)),
    ),
}
# Where sigma' is infinite at t = 1.
ROOTS = ("VariancePreserving", "SquareRoot")
PREDICTIONS = ("velocity", "data", "noise", "score", "v")


def rows(point):
    """Each prediction, and the state, as coefficients of (D, S), with E = -sigma S."""
    a, s2, a_rate, r = point
    s = np.sqrt(s2)
    return {
        "x": np.array([a, -s2]),
        "velocity": np.array([a_rate, -r]),
        "data": np.array([1.0, 0.0]),
        "noise": np.array([0.0, -s]),
        "score": np.array([0.0, 1.0]),
        "v": np.array([-s, -a * s]),
    }


def determined(point, source, target):
    """Whether x and the source say what the target is: its row is in the span of theirs."""
    of = rows(point)
    known = np.stack([of["x"], of[source]])
    return source == target or np.linalg.matrix_rank(known) == np.linalg.matrix_rank(
        np.vstack([known, of[target]])
    )


def coefficients(point, source, target):
    """The target as `c[0] x + c[1] source`, where x and the source are independent."""
    of = rows(point)
    return np.linalg.solve(np.stack([of["x"], of[source]]).T, of[target])


def complex_step(function, t):
    """The derivative of an analytic function at t, exact to rounding."""
    return np.imag(function(complex(t, 1e-30))) / 1e-30


class OwnTrigonometric(fj.Schedule):
    """A user's own schedule: no more than the two methods that are asked for."""

    def alpha(self, t):
        return jnp.sin(np.pi / 2 * t)

    def sigma(self, t):
        return jnp.cos(np.pi / 2 * t)


def gaussian(point, mean, covariance, x):
    """Velocity, score and E[x_1 | x] of Gaussian data at a point of a path."""
    identity = np.eye(len(mean))
    whitened = np.linalg.solve(point.a**2 * covariance + point.s2 * identity, x - point.a * mean)
    gain = point.a * point.a_rate * covariance + point.r * identity
    return {
        "velocity": point.a_rate * mean + gain @ whitened,
        "score": -whitened,
        "data": mean + point.a * covariance @ whitened,
    }
