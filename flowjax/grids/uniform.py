"""Grids of equal steps, and what all grids are held to."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from flowjax import _check
from flowjax._check import number, require, static_number
from flowjax._numerics import computing_dtype
from flowjax._types import Times


def uniform_grid(n: int, t0: Any = 0.0, t1: Any = 1.0) -> Times:
    r"""The n + 1 equally spaced times from t0 to t1.

    $$\mathrm{ts}_i = t_0 + \frac in\,(t_1 - t_0), \qquad i = 0, \dots, n$$

    with t0 and t1 the arguments. Each time is computed afresh, so that rounding does not
    accumulate, both ends are exact, and no time comes before the one it follows. From plain numbers
    the grid is concrete, also under `jit`.

    Args:
        n: number of steps, a static positive int.
        t0: first time, a scalar, in the units of time of the field. May be traced.
        t1: last time, a scalar like t0. ``t1 < t0`` gives a decreasing grid, on which an ODE runs
            backward.

    Returns:
        Array of shape (n + 1,), of JAX's default floating dtype or of t0's and t1's if they
        are floating arrays, never below float32. Differentiable in t0 and t1.

    Raises:
        TypeError: if n is not a static int, or t0 or t1 is not a real number.
        ValueError: if n is less than 1, t0 or t1 is not finite or not one number, or two of the
            times are the same, because the dtype does not tell them apart. Traced ends are not
            looked at.

    Example:
        >>> import flowjax as fj
        >>> fj.uniform_grid(4)
        Array([0.  , 0.25, 0.5 , 0.75, 1.  ], dtype=float32)

    References:
        Holderrieth, Erives, "An introduction to flow matching and diffusion models" (MIT
        6.S184), 2025, arXiv 2506.02070, section 2.1.
    """
    n = _check.positive_int(n, "n")
    dtypes = [
        computing_dtype(time.dtype)
        for time in (t0, t1)
        if hasattr(time, "dtype") and jnp.issubdtype(time.dtype, jnp.floating)
    ]
    dtype = max(dtypes or [jnp.result_type(float)], key=lambda dtype: jnp.finfo(dtype).bits)
    t0, t1 = number(t0, "t0"), number(t1, "t1")
    for name, time in (("t0", t0), ("t1", t1)):
        require(np.isfinite, time, message=f"{name} must be finite")
    weight = np.arange(n + 1) / n
    advice = "take fewer steps, or measure time from nearer by"
    if not isinstance(t0, jax.Array) and not isinstance(t1, jax.Array):
        times = np.clip(t0 + weight * (t1 - t0), min(t0, t1), max(t0, t1))
        times[-1] = t1
        with jax.ensure_compile_time_eval(), np.errstate(over="ignore"):
            return jnp.asarray(distinct(times.astype(dtype), advice))
    weight, t0, t1 = (jnp.asarray(value, dtype) for value in (weight, t0, t1))
    times = jnp.clip(t0 + weight * (t1 - t0), jnp.minimum(t0, t1), jnp.maximum(t0, t1))
    # At the ends themselves: exactly, and with the derivatives 1 and 0 that clipping would halve.
    return distinct(jnp.concatenate([t0[None], times[1:-1], t1[None]]), advice)


def grid_through(times: Any, max_step: Any) -> tuple[Times, np.ndarray]:
    r"""A grid that goes through all of the times, by steps of at most max_step.

    Between two neighbours it is uniform, of the least number of steps that are short enough:

    $$s_j + \frac{i}{m_j}\,(s_{j+1} - s_j), \quad i = 0, \dots, m_j, \qquad
    m_j = \Big\lceil \frac{s_{j+1} - s_j}{\delta} \Big\rceil$$

    for the times s and the longest step $\delta$.

    Args:
        times: (m,) times, increasing, not traced, such as those of observations, with that at
            which the solve begins as the first.
        max_step: the longest step, a positive static number, in the units of the times.

    Returns:
        The times of the grid, of JAX's default floating dtype, and the indices of `times` among
        them, ints, so that ``ts[indices]`` are the times: for ``trajectory(..., at=indices)``.

    Raises:
        TypeError: times or max_step is traced or no number.
        ValueError: times are not at least two, not finite or do not increase, or max_step is not
            positive.

    Example:
        >>> import flowjax as fj
        >>> ts, indices = fj.grid_through([0.0, 0.5, 0.6, 1.0], max_step=0.25)
        >>> print([f"{t:.1f}" for t in ts], indices.tolist())
        ['0.0', '0.2', '0.5', '0.6', '0.8', '1.0'] [0, 2, 3, 5]
        >>> fj.trajectory(fj.linear_field, 1.0, ts, args=1.0, at=indices).shape
        (4,)
    """
    max_step = static_number(max_step, "max_step")
    if not 0 < max_step < math.inf:
        raise ValueError(f"max_step must be positive and finite, got {max_step}.")
    if isinstance(times, Tracer):
        raise TypeError(
            "times must be static, got a traced value: how many steps there are follows."
        )
    try:
        values = np.asarray(times)
        values = values.astype(np.float64) if values.dtype.kind not in "bcSUO" else None
    except (TypeError, ValueError):
        values = None
    if values is None:
        raise TypeError(f"times must be numbers, got {times!r}.")
    if values.ndim != 1 or len(values) < 2 or not np.all(np.diff(values) > 0):
        raise ValueError(f"times must be at least 2, in one row that increases, got {times!r}.")
    if not np.all(np.isfinite(values)):
        raise ValueError(f"times must be finite, got {times!r}.")
    # A step that is longer by rounding alone is not cut.
    steps = np.ceil(np.diff(values) / max_step * (1 - 1e-6)).astype(int)
    parts = [
        np.linspace(start, stop, n, endpoint=False)
        for start, stop, n in zip(values[:-1], values[1:], steps, strict=True)
    ]
    with jax.ensure_compile_time_eval():
        grid = jnp.asarray(np.concatenate([*parts, values[-1:]]), float)
    advice = f"take longer steps, or times further apart than {grid.dtype} tells them"
    return distinct(grid, advice), np.concatenate([[0], np.cumsum(steps)])


def distinct(times: Any, advice: str) -> Any:
    """The times, refused if two neighbours are the same, where they are known."""
    if isinstance(times, Tracer):
        return times
    values = np.asarray(times)
    down = values[-1] < values[0]
    # Negated, because NaN is in no order.
    same = np.flatnonzero(~(values[1:] < values[:-1] if down else values[1:] > values[:-1]))
    if same.size:
        raise ValueError(
            f"the times must {'decrease' if down else 'increase'}, but step {same[0]} starts and "
            f"ends at t = {values[same[0]]!s}: {advice}."
        )
    return times
