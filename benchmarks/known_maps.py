"""Flows whose map is known: the targets of the row quality, in NumPy's float64.

A target is a mixture of Gaussians with some points of standard normal noise. Where the state is
alpha x_1 + sigma x_0, the map of the flow depends on the ratio of alpha and sigma alone, but for a
scaling. So it is told by an angle, from 0 (noise) to pi / 2 (data), and for a state of the scale
alpha = sin(angle), sigma = cos(angle).
"""

import dataclasses
import functools
from typing import Any

import numpy as np
from scipy import integrate, special


@dataclasses.dataclass(frozen=True)
class KnownMap:
    """A mixture of k Gaussians in d dimensions, and n points of noise.

    Args:
        name: what it is called in the table.
        weights: (k,).
        means: (k, d).
        stds: (k, d).
        noise: (n, d), where the flow starts.
    """

    name: str
    weights: np.ndarray
    means: np.ndarray
    stds: np.ndarray
    noise: np.ndarray

    def expected(self, x: np.ndarray, alpha: float, sigma: float) -> tuple[Any, Any]:
        """The data and the noise that are expected where the state is x, of shape (n, d)."""
        variances = (alpha * self.stds) ** 2 + sigma**2
        away = (x[:, None] - alpha * self.means) / variances
        logs = np.log(self.weights) - np.sum(variances * away**2 + np.log(variances), -1) / 2
        shares = special.softmax(logs, axis=1)[..., None]
        data = np.sum(shares * (self.means + alpha * self.stds**2 * away), axis=1)
        return data, np.sum(shares * sigma * away, axis=1)

    def states(self, angle: float) -> np.ndarray:
        """The points at an angle, (n, d); at 0 they are the noise and at pi / 2 data."""
        alpha, sigma = np.sin(angle), np.cos(angle)
        if len(self.weights) == 1:
            return alpha * self.means + np.hypot(alpha * self.stds, sigma) * self.noise
        if self.noise.shape[1] == 1:
            return self._quantiles(alpha, sigma)
        return self._flow(angle).reshape(self.noise.shape)

    def _quantiles(self, alpha: float, sigma: float) -> np.ndarray:
        """The map in one dimension keeps the quantiles; they are found by bisection."""
        means, stds = alpha * self.means[:, 0], np.hypot(alpha * self.stds[:, 0], sigma)
        levels = special.ndtr(self.noise)
        low = np.full_like(levels, np.min(means - 9 * stds))
        high = np.full_like(levels, np.max(means + 9 * stds))
        for _ in range(100):
            middle = (low + high) / 2
            below = (special.ndtr((middle - means) / stds) @ self.weights)[:, None] < levels
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2

    @functools.cached_property
    def _flow(self) -> Any:
        """The flow as a function of the angle, solved to about 1e-10."""

        def velocity(angle: float, x: np.ndarray) -> np.ndarray:
            alpha, sigma = np.sin(angle), np.cos(angle)
            data, noise = self.expected(x.reshape(self.noise.shape), alpha, sigma)
            return (sigma * data - alpha * noise).ravel()

        return integrate.solve_ivp(
            *(velocity, (0, np.pi / 2), self.noise.ravel()),
            method="DOP853",
            rtol=1e-12,
            atol=1e-12,
            dense_output=True,
        ).sol


def known_maps() -> tuple[KnownMap, ...]:
    """The targets; the last was not looked at when methods and grids were chosen."""
    rng, circle = np.random.default_rng(20), np.arange(8) * np.pi / 4
    quantiles = special.ndtri((np.arange(100) + 0.5) / 100)[:, None]
    return (
        _known("mixture (1)", [0.3, 0.7], [[-2], [2]], 0.5, quantiles),
        _known(
            "Gaussian (12)", [1], np.zeros((1, 12)), np.geomspace(0.05, 2, 12), np.ones((1, 12))
        ),
        _known(
            *("ring of 8 (2)", np.full(8, 1 / 8), 2 * np.c_[np.cos(circle), np.sin(circle)], 0.3),
            noise=rng.standard_normal((50, 2)),
        ),
        _known(
            "mixture (3)",
            weights=[0.1, 0.2, 0.3, 0.4],
            means=[[-2, 1, 0], [1, 2, 1], [0, -1, 1], [1, 0, -1]],
            stds=[[0.1, 0.3, 0.6], [0.5, 0.2, 0.2], [0.4, 0.8, 0.1], [0.3, 0.3, 0.3]],
            noise=rng.standard_normal((50, 3)),
        ),
    )


def _known(name: str, weights: Any, means: Any, stds: Any, noise: Any) -> KnownMap:
    means = np.asarray(means, float)
    stds = np.broadcast_to(np.asarray(stds, float), means.shape)
    return KnownMap(name, np.asarray(weights, float), means, stds, np.asarray(noise, float))
