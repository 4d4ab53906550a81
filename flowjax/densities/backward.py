"""What the log densities share: the solve from a sample back to the noise, and what they refuse."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from flowjax import _check
from flowjax._numerics import widest
from flowjax._types import Field, State
from flowjax.solver.door import as_plain_field, check_pair
from flowjax.solver.field import output_of
from flowjax.solver.stepper import fact, name_of, needs_noise
from flowjax.solver.times import check_times
from flowjax.solver.views import solve


def log_density(
    x: State, field: Field, step: Any, init_log_prob: Callable, ts: Array, args: Any, adjoint: Any
) -> Array:
    """The log density at x, of a field and a step for the pair (x, log volume)."""
    dtype = widest(x)
    # A zero that lies on the same devices as x.
    start = (x, jnp.sum(jnp.zeros_like(flat(x, dtype))))
    x0, log_volume = solve(field, start, ts[::-1], args, step=step, adjoint=adjoint)
    value = _check.returned_scalar(init_log_prob(x0), "init_log_prob")
    return jnp.asarray(value, dtype) + log_volume


def velocity(v: Field, t: Any, x: State, args: Any) -> State:
    """The velocity at x, refused if it is unlike x."""
    return output_of(v, t, x, args, lambda u: _check.alike(u, x, "v's output"), "v")


def flat(x: State, dtype: Any) -> Array:
    """The elements of x in a row."""
    return ravel_pytree(jax.tree.map(lambda leaf: leaf.astype(dtype), x))[0]


def like(row: Array, x: State) -> State:
    """A row of elements in the structure, shapes and dtypes of x."""
    _, unravel = ravel_pytree(jax.tree.map(lambda leaf: leaf.astype(row.dtype), x))
    return jax.tree.map(lambda part, leaf: part.astype(leaf.dtype), unravel(row), x)


def check_arguments(v: Any, init_log_prob: Any, ts: Array, step: Any, order: int) -> None:
    """Refuses what `solve` would not refuse, or not in these words.

    The step calls v at the times of ts in this order, 1 or -1.
    """
    as_plain_field(v, "v")
    _check.function(init_log_prob, "init_log_prob", "x0 -> log p_0(x0), such as prior.log_prob", 1)
    check_pair(v, None if fact(step, "reads") else step)
    if fact(step, "reads") or needs_noise(step, False):
        raise TypeError(
            f"step must be a method for any ODE, such as fj.rk4, got {name_of(step)}, which "
            f"does not integrate the divergence of v."
        )
    if isinstance(ts, Tracer):
        return
    # By NumPy, since a part of a JAX array is traced under `jit`, even where the array is known.
    times = np.asarray(ts)
    if np.any(np.diff(times) < 0):
        raise ValueError(
            "ts must be the sampler's own grid, which increases, got one that decreases: the "
            "likelihood runs through it backward itself."
        )
    check_times(times[::order], v, step, drawn=False)
