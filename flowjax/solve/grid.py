"""Time grids: an array of n + 1 times, which anything may make."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowjax import _check
from flowjax._types import Times, computing_dtype


def uniform_grid(n: int, t0: Any = 0.0, t1: Any = 1.0) -> Times:
    """The n + 1 equally spaced times from t0 to t1.

    ``ts[i] = t0 + i h`` with ``h = (t1 - t0) / n``, each computed afresh as
    ``t0 + (i/n) (t1 - t0)``: rounding does not accumulate, both ends are exact, and no time
    comes before the one it follows. From plain numbers the grid is concrete, also under `jit`.

    Args:
        n: number of steps, a static positive int.
        t0: first time, a scalar, in the units of time of the field. May be traced.
        t1: last time, likewise. ``t1 < t0`` gives a decreasing grid, on which an ODE runs
            backward.

    Returns:
        Array of shape (n + 1,), of JAX's default floating dtype or of t0's and t1's if they
        are floating arrays, never below float32. Differentiable in t0 and t1.

    Raises:
        TypeError: if n is not a static int.
        ValueError: if n is less than 1, or t0 or t1 is not a real scalar.

    Example:
        >>> import flowjax as fj
        >>> fj.uniform_grid(4)
        Array([0.  , 0.25, 0.5 , 0.75, 1.  ], dtype=float32)

    References:
        MIT 6.S184, "Flow Matching and Diffusion Models", lecture notes, Algorithm 1.
    """
    n = _check.positive_int(n, "n")
    dtype = computing_dtype(jnp.result_type(float))
    for name, time in (("t0", t0), ("t1", t1)):
        if jnp.shape(time) != () or jnp.issubdtype(jnp.result_type(time), jnp.complexfloating):
            raise ValueError(
                f"{name} must be a real scalar, got shape {jnp.shape(time)} and dtype "
                f"{jnp.result_type(time)}."
            )
    floating = [
        jnp.result_type(time)
        for time in (t0, t1)
        if hasattr(time, "dtype") and jnp.issubdtype(time.dtype, jnp.floating)
    ]
    if floating:
        dtype = max(map(computing_dtype, floating), key=lambda dtype: jnp.finfo(dtype).bits)
    weight = np.arange(n + 1) / n
    if not isinstance(t0, jax.Array) and not isinstance(t1, jax.Array):
        times = np.clip(t0 + weight * (t1 - t0), min(t0, t1), max(t0, t1))
        times[-1] = t1
        with jax.ensure_compile_time_eval():
            return jnp.asarray(times, dtype)
    weight, t0, t1 = (jnp.asarray(value, dtype) for value in (weight, t0, t1))
    times = jnp.clip(t0 + weight * (t1 - t0), jnp.minimum(t0, t1), jnp.maximum(t0, t1))
    # At the ends themselves: exactly, and with the derivatives 1 and 0 that clipping would halve.
    return jnp.concatenate([t0[None], times[1:-1], t1[None]])
