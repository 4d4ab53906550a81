"""The one loop over time: a `jax.lax.scan` over steps."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from flowjax._check import alike
from flowjax._numerics import wide
from flowjax._types import State
from flowjax.solver.blocks import Intervals, scan_in_blocks
from flowjax.solver.brownian import Drawn, draw, increment, root_of_step
from flowjax.solver.noise import Words, block_length
from flowjax.solver.outputs import as_memory
from flowjax.solver.stepper import Stepper, fact


class Steps(NamedTuple):
    """The steps of a solve, which an adjoint takes.

    Args:
        field: the field or SDE.
        args: passed on to it.
        step: the method.
        noisy: whether the steps take Brownian increments.
        path: the key of the Brownian path; None where none is drawn.
        like: the state, in its own dtypes.
    """

    field: Any
    args: Any
    step: Any
    noisy: bool
    path: Words | None
    like: State

    @property
    def remembers(self) -> bool:
        """Whether the method is a `Stepper`."""
        return isinstance(self.step, Stepper)

    @property
    def symmetric(self) -> bool:
        """Whether the step backward undoes the step; see `Stepper`."""
        return fact(self.step, "symmetric")

    def block(self, steps: int) -> int:
        """Of so many steps, how many it is best to take at once, for the sake of the noise."""
        if self.path is None:
            return 1
        return block_length([leaf.shape for leaf in jax.tree.leaves(self.like)], steps)

    def run(
        self, carry: PyTree, intervals: Intervals, *, wrap: Callable, record: bool
    ) -> tuple[PyTree, PyTree]:
        """Takes consecutive steps, each wrapped by `wrap`; the states after each if `record`."""
        if self.path is None:
            body = wrap(functools.partial(self._step, None, record))
            return jax.lax.scan(body, carry, (intervals, None))
        path = self.path

        def block(carry: PyTree, intervals: Intervals) -> tuple[PyTree, PyTree]:
            first = intervals.step_index[0]
            drawn = draw(path, first, len(intervals), self.like, intervals.from_even)
            roots = root_of_step(intervals.t0, intervals.t1)
            body = wrap(functools.partial(self._step, drawn, record))
            return jax.lax.scan(body, carry, (intervals, roots))

        return scan_in_blocks(block, carry, intervals, self.block(len(intervals)))

    def one(self, carry: PyTree, interval: Intervals, backward: bool = False) -> PyTree:
        """Takes one step, or the step over the same interval from its end to its start."""
        t0, t1, dw = interval.t0, interval.t1, interval.increments
        if self.path is not None:
            drawn = draw(self.path, interval.step_index, 1, self.like, False)
            dw = increment(drawn, interval.step_index, root_of_step(t0, t1), self.like)
        if backward:
            t0, t1, dw = t1, t0, jax.tree.map(jnp.negative, dw)
        interval = Intervals(None, t0, t1, dw, from_even=False)
        return self._step(None, False, carry, (interval, None))[0]

    def _step(
        self, drawn: Drawn | None, record: bool, carry: PyTree, xs: PyTree
    ) -> tuple[PyTree, PyTree]:
        """One step of the scan, with its increment: given, or out of what was drawn."""
        (x, memory), (interval, root) = carry, xs
        t0, t1, dw = interval.t0, interval.t1, interval.increments
        if drawn is not None:
            dw = increment(drawn, interval.step_index, root, self.like)
        dw = wide(dw)
        if self.remembers:
            x1, kept = self.step.step(self.field, t0, t1, x, self.args, dw, memory)
            memory = as_memory(kept, memory)
        else:
            x1 = self.step(self.field, t0, t1, x, self.args, dw)
        x1 = alike(x1, x, "step output", exact=False)
        return (x1, memory), (x1 if record else None)
