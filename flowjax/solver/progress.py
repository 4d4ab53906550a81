"""A bar of steps or samples that are done, moved from inside the compiled program.

A callback opens it, and the numbers of the steps depend on what that returns, so that no step comes
before; others move it. What the backward pass computes again moves nothing: the bar has been closed
by the last step.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import io_callback

from flowjax._progress import progress_bar
from flowjax.solver.blocks import Intervals

_bar: Any = None


class Bar(NamedTuple):
    """A bar of steps that is open: of how many, and the number of the first of them."""

    total: int
    first: Array

    def moved(self, step: Intervals) -> None:
        """Moves the bar behind a step, now and then."""
        done = step.step_index - self.first + jnp.uint32(1)
        # A move takes 0.2 to 0.4 ms: 5 in a solve of 1000 steps, 200 in a long one.
        apart = max(self.total // min(max(self.total // 200, 5), 200), 1)
        shows = (done % jnp.uint32(apart) == 0) | (done == jnp.uint32(self.total))
        if step.taken is not None:
            shows = shows & step.taken
        jax.lax.cond(shows, moved, lambda done: None, done)


def of_steps(steps: Intervals) -> tuple[Bar, Intervals]:
    """A bar of these steps, and the steps, which come after it is opened."""
    total = len(steps) if steps.taken is None else int(steps.taken.sum())
    index = steps.step_index + opened(total, "solving", "step")
    return Bar(total, index[0]), dataclasses.replace(steps, step_index=index)


def opened(total: int, title: str, unit: str) -> Array:
    """Zero, after a bar of so many units is opened."""

    def open_bar() -> Any:
        global _bar
        _close()
        _bar = progress_bar(total, title, unit)
        return np.uint32(0)

    return io_callback(open_bar, jax.ShapeDtypeStruct((), np.uint32))


def moved(done: Array, after: Any = None) -> None:
    """Moves the bar to so many units, when `after` is computed."""
    jax.debug.callback(_move, done, jax.tree.map(lambda leaf: leaf.reshape(-1)[:1], after))


def _move(done: Any, after: Any) -> None:
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
