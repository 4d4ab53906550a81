"""A bar of the steps that a solve has taken, moved from inside the compiled loop.

A callback opens it, and the numbers of the steps depend on what that returns, so that no step comes
before; other callbacks, some hundred in all, move it. What the backward pass computes again moves
nothing: the bar has been closed by the last step.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import io_callback

from flowjax._progress import progress_bar

# How often a bar moves over a whole solve: at some 50 microseconds each.
_MOVES = 50

_bar: Any = None


def opened(total: int) -> Array:
    """Zero, after a bar of so many steps is opened."""
    return io_callback(_open, jax.ShapeDtypeStruct((), np.uint32), np.int32(total))


class Bar(NamedTuple):
    """A bar that is open, and the number that its first step has."""

    total: int
    first: Array

    def moved(self, step_index: Array) -> None:
        """Moves the bar behind a step, now and then."""
        done = step_index - self.first + jnp.uint32(1)
        apart = max(self.total // _MOVES, 1)
        shows = (done % jnp.uint32(apart) == 0) | (done == jnp.uint32(self.total))
        jax.lax.cond(shows, lambda done: jax.debug.callback(_move, done), lambda done: None, done)


def _open(total: Any) -> Any:
    global _bar
    _close()
    _bar = progress_bar(int(total), "solving", "step")
    return np.uint32(0)


def _move(done: Any) -> None:
    if _bar is None:
        return
    _bar.update(max(int(done) - _bar.n, 0))
    if _bar.n >= _bar.total:
        _close()


def _close() -> None:
    global _bar
    if _bar is not None:
        _bar.close()
        _bar = None
