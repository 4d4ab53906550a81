"""That all contenders compute the same thing, before any of them is timed on it."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks import problems
from benchmarks.problems import Problem

# Float32 rounding over a thousand steps stays below this; a scheme of first order that is another
# than Euler's, or one step more or less at the same step size, does not.
TOLERANCE = 2e-4
# A reversible scheme is another scheme than Euler's, as close to it as Euler is to the truth.
OTHER_SCHEME = {"flowjax Reversible": 0.05}


def end_states(problem: Problem, results: Mapping[str, Any]) -> None:
    """Each result is X at time 1 by Euler's method, in float32, by the float64 oracle."""
    expected = problems.end_state(problem)
    for name, result in results.items():
        _alike(name, [result], [problem.x0])
        _close(name, result, expected, OTHER_SCHEME.get(name, TOLERANCE))


def gradients(problem: Problem, results: Mapping[str, Any], floor: str) -> None:
    """Each result is the gradient by (x0, args): as a whole the floor's, along a line the oracle's.

    The line is the floor's own gradient, so that nothing cancels.
    """
    like = (problem.x0, problem.args)
    expected = jax.tree.leaves(results[floor])
    _alike(floor, expected, jax.tree.leaves(like))
    norm = np.sqrt(sum(np.sum(np.float64(leaf) ** 2) for leaf in expected))
    direction = jax.tree.unflatten(
        jax.tree.structure(like), [np.float64(leaf) / norm for leaf in expected]
    )
    slope = problems.slope(problem, direction)
    for name, result in results.items():
        tolerance = 5 * OTHER_SCHEME.get(name, TOLERANCE)
        leaves = jax.tree.leaves(result)
        _alike(name, leaves, expected)
        for leaf, floor_leaf in zip(leaves, expected, strict=True):
            _close(name, leaf, floor_leaf, tolerance)
        pairs = zip(leaves, jax.tree.leaves(direction), strict=True)
        along = sum(np.sum(np.float64(leaf) * v) for leaf, v in pairs)
        _close(f"{name}, along a line", along, slope, tolerance)


def statistics(problem: Problem, name: str, draws: Sequence[np.ndarray]) -> None:
    """X at time 1 has the exact mean and variance of Euler-Maruyama, and no value comes twice.

    Five standard errors: one run in about a million of a right contender fails each check.
    """
    shape = problem.x0.shape if problem.keys is None else (problem.keys, *problem.x0.shape)
    _alike(name, draws, [np.empty(shape, np.float32)] * len(draws))
    mean, variance = problems.moments(problem)
    z = (np.stack(draws).astype(np.float64) - mean) / np.sqrt(variance)
    if abs(z.mean()) > 5 / np.sqrt(z.size):
        raise AssertionError(f"{name}: mean off by {z.mean():.3g} standard deviations.")
    # The variance about the mean that was just checked; its own standard error is sqrt(2/m).
    ratio = np.mean(z**2)
    if abs(ratio - 1) > 5 * np.sqrt(2 / z.size):
        raise AssertionError(f"{name}: variance is {ratio:.4f} of what it should be.")
    if np.unique(z).size < 0.99 * min(z.size, 10_000):
        raise AssertionError(f"{name}: the same numbers come again.")


def _alike(name: str, leaves: Sequence[Any], like: Sequence[Any]) -> None:
    shapes = [(leaf.shape, leaf.dtype) for leaf in leaves]
    expected = [(leaf.shape, leaf.dtype) for leaf in like]
    if shapes != expected:
        raise AssertionError(f"{name}: shapes and dtypes are {shapes}, not {expected}.")


def _close(name: str, value: Any, expected: Any, tolerance: float) -> None:
    scale = np.max(np.abs(expected))
    error = np.max(np.abs(np.float64(value) - expected)) / scale
    if not error <= tolerance:
        raise AssertionError(f"{name}: off by {error:.2g} of the largest value.")
