"""Where a NaN began."""

from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from flowjax import _check
from flowjax._types import State


def check_finite(path: State, ts: Any) -> State:
    """The path itself, refused if a state in it is not finite.

    The solvers let NaN and Inf through at full speed. To see where they began, solve again by
    `trajectory`, outside `jit`, and give the path to this function. It costs what it takes to store
    the path and to look at it once: on two CPU cores a few percent of the solve of a network, and
    some 15 times a solve that only multiplies and adds (row forward of the benchmark).
    A solve that is not asked pays nothing.

    Args:
        path: states at the times ts, as from `trajectory`: leaves of shape (m, ...).
        ts: the (m,) times, ``ts[::every]`` of the solve.

    Returns:
        `path`, unchanged.

    Raises:
        FloatingPointError: naming the first entry that is not finite, its time and the leaf.
        TypeError: if path or ts is traced (nothing can be looked at under `jit`), or a leaf is not
            real floating.
        ValueError: if ts is not a row of times, or the leading axis of a leaf is not that of ts.

    Example:
        >>> import flowjax as fj
        >>> ts = fj.uniform_grid(4)
        >>> path = fj.trajectory(lambda t, x, args: x / (0.5 - t), 1.0, ts)
        >>> fj.check_finite(path, ts)
        Traceback (most recent call last):
        FloatingPointError: x is inf from entry 3 of the path on, at t = 0.75: ...
    """
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((path, ts))):
        raise TypeError("check_finite looks at values: call it outside jit, vmap and grad.")
    _check.shapes_of(path, "x")
    times = np.asarray(_check.as_times(ts))
    if times.ndim != 1:
        raise ValueError(f"ts must be the times of the path, an array of shape (m,), got {ts!r}.")
    first, worst = len(times), None
    for name, leaf in _check.leaves_with_names(path, "x"):
        values = np.asarray(leaf)
        if values.shape[:1] != times.shape:
            raise ValueError(
                f"{name} must be a path, as from trajectory, with the leading axis of ts, "
                f"{times.shape}, got shape {values.shape}."
            )
        bad = np.flatnonzero(~np.isfinite(values).all(axis=tuple(range(1, values.ndim))))
        if bad.size and bad[0] < first:
            first, entry = bad[0], values[bad[0]]
            worst = (name, entry[~np.isfinite(entry)].flat[0])
    if worst is not None:
        name, value = worst
        where = (
            f"it is finite at the entry before, at t = {times[first - 1]:g}, and the steps between "
            f"the two lost it. If they are several, look again by trajectory(..., every=1)."
            if first
            else "the solve began with it."
        )
        raise FloatingPointError(
            f"{name} is {value} from entry {first} of the path on, at t = {times[first]:g}: {where}"
        )
    return path
