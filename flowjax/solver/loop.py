"""The one loop over time: a `jax.lax.scan` over steps."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from flowjax._check import alike
from flowjax._numerics import wide
from flowjax._types import State, StateLike
from flowjax.solver.blocks import Intervals, scan_in_blocks, where_taken
from flowjax.solver.brownian import Drawn, draw, increment, root_of_step
from flowjax.solver.noise import Words, block_length
from flowjax.solver.outputs import as_memory, as_value
from flowjax.solver.progress import Bar
from flowjax.solver.stepper import Stepper, fact


class Steps(NamedTuple):
    """The steps of a solve, which an adjoint takes.

    What they carry is the state, and beside it the method's memory and the value of a fold.

    Args:
        field: the field or SDE.
        args: passed on to it.
        step: the method.
        noisy: whether the steps take Brownian increments.
        path: the key of the Brownian path; None where none is drawn.
        noise: the shapes and dtypes of the noise, where it is drawn.
        update: what computes the value of a fold; None where nothing is folded.
        bar: of progress; None where none is shown.
    """

    field: Any
    args: Any
    step: Any
    noisy: bool
    path: Words | None
    noise: StateLike
    update: Callable[..., Any] | None = None
    bar: Bar | None = None

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
        return block_length([leaf.shape for leaf in jax.tree.leaves(self.noise)], steps)

    def run(
        self, carry: PyTree, intervals: Intervals, *, wrap: Callable, record: bool
    ) -> tuple[PyTree, PyTree]:
        """Takes consecutive steps, each wrapped by `wrap`; the states after each if `record`."""
        if self.path is None:
            body = self.watched(wrap(self.body(intervals, None, record)))
            return jax.lax.scan(body, carry, (intervals, None))
        path = self.path

        def block(carry: PyTree, intervals: Intervals) -> tuple[PyTree, PyTree]:
            first = intervals.step_index[0]
            drawn = draw(path, first, len(intervals), self.noise, intervals.from_even)
            roots = root_of_step(intervals.t0, intervals.t1)
            body = self.watched(wrap(self.body(intervals, drawn, record)))
            return jax.lax.scan(body, carry, (intervals, roots))

        return scan_in_blocks(block, carry, intervals, self.block(len(intervals)))

    def body(self, intervals: Intervals, drawn: Drawn | None, record: bool) -> Callable:
        """The body of the scan over steps, of which those that fill up a block change nothing."""
        step = functools.partial(self._step, drawn, record)
        if intervals.taken is None:
            return step

        def if_taken(carry: PyTree, xs: PyTree) -> tuple[PyTree, PyTree]:
            carry = where_taken(xs[0], lambda carry: step(carry, xs)[0], carry)
            return carry, (carry[0] if record else None)

        return if_taken

    def watched(self, body: Callable) -> Callable:
        """The body of a scan, which moves the bar where there is one."""
        bar = self.bar
        if bar is None:
            return body

        def moving(carry: PyTree, xs: PyTree) -> tuple[PyTree, PyTree]:
            result = body(carry, xs)
            bar.moved(xs[0])
            return result

        return moving

    def one(self, carry: PyTree, interval: Intervals, *, backward: bool = False) -> PyTree:
        """What is carried after one step, or after the same step from its end to its start."""
        t0, t1, dw = interval.t0, interval.t1, self.increment_of(interval)
        if backward:
            t0, t1, dw = t1, t0, jax.tree.map(jnp.negative, dw)
        interval = Intervals(None, t0, t1, dw, None, from_even=False)
        return self._step(None, False, carry, (interval, None))[0]

    def increment_of(self, interval: Intervals) -> State | None:
        """The Brownian increment of one step, None where it takes none."""
        if self.path is None:
            return interval.increments
        drawn = draw(self.path, interval.step_index, 1, self.noise, False)
        root = root_of_step(interval.t0, interval.t1)
        return increment(drawn, interval.step_index, root, self.noise)

    def _step(
        self, drawn: Drawn | None, record: bool, carry: PyTree, xs: PyTree
    ) -> tuple[PyTree, PyTree]:
        """One step of the scan, with its increment: given, or out of what was drawn."""
        (x, (memory, value)), (interval, root) = carry, xs
        t0, t1, dw = interval.t0, interval.t1, interval.increments
        if drawn is not None:
            dw = increment(drawn, interval.step_index, root, self.noise)
        dw = wide(dw)
        if self.remembers:
            x1, kept = self.step.step(self.field, t0, t1, x, self.args, dw, memory)
            memory = as_memory(kept, memory)
        else:
            x1 = self.step(self.field, t0, t1, x, self.args, dw)
        x1 = alike(x1, x, "step output", exact=False)
        if self.update is not None:
            dw = dw[0] if dw is not None and fact(self.step, "levy_area") else dw
            value = as_value(self.update(value, t0, t1, x, x1, dw), value)
        return (x1, (memory, value)), (x1 if record else None)
