"""The one loop over time: a `jax.lax.scan` over steps."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

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
            body = self.watched(wrap(functools.partial(self._step, None, record)))
            return jax.lax.scan(body, carry, (intervals, None))
        path = self.path

        def block(carry: PyTree, intervals: Intervals) -> tuple[PyTree, PyTree]:
            first = intervals.step_index[0]
            drawn = draw(path, first, len(intervals), self.noise, intervals.from_even)
            roots = root_of_step(intervals.t0, intervals.t1)
            body = self.watched(wrap(functools.partial(self._step, drawn, record)))
            return jax.lax.scan(body, carry, (intervals, roots))

        return scan_in_blocks(block, carry, intervals, self.block(len(intervals)))

    def watched(self, body: Callable) -> Callable:
        """The body of a scan, which moves the bar where there is one."""
        bar = self.bar
        if bar is None:
            return body

        def moving(carry: PyTree, xs: PyTree) -> tuple[PyTree, PyTree]:
            result = body(carry, xs)
            bar.moved(xs[0].step_index)
            return result

        return moving

    def after(self, carry: PyTree, interval: Intervals) -> PyTree:
        """What is carried after one step."""
        x0, (memory, value) = carry
        x1, memory = self.one((x0, memory), interval)
        if self.update is not None:
            value = self.folded(self.update, value, x0, x1, interval)
        return x1, (memory, value)

    def one(self, state: PyTree, interval: Intervals, *, backward: bool = False) -> PyTree:
        """The (x, memory) after one step, or after the same step from its end to its start."""
        (x, memory), t0, t1 = state, interval.t0, interval.t1
        dw = self.increment_of(interval)
        if backward:
            t0, t1, dw = t1, t0, jax.tree.map(jnp.negative, dw)
        return self._stepped(x, memory, t0, t1, dw)

    def folded(
        self, update: Callable[..., Any], value: PyTree, x0: State, x1: State, interval: Intervals
    ) -> PyTree:
        """The value of a fold after one step, from x0 to x1."""
        dw = wide(self.increment_of(interval))
        return as_value(update(value, interval.t0, interval.t1, x0, x1, dw), value)

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
        interval, root = xs
        t0, t1 = interval.t0, interval.t1

        def take(carry: PyTree) -> PyTree:
            (x0, (memory, value)), dw = carry, interval.increments
            if drawn is not None:
                dw = increment(drawn, interval.step_index, root, self.noise)
            x1, memory = self._stepped(x0, memory, t0, t1, dw)
            if self.update is not None:
                value = as_value(self.update(value, t0, t1, x0, x1, wide(dw)), value)
            return x1, (memory, value)

        carry = where_taken(interval, take, carry)
        return carry, (carry[0] if record else None)

    def _stepped(
        self, x: State, memory: PyTree, t0: Array, t1: Array, dw: State | None
    ) -> tuple[State, PyTree]:
        """The state and the method's memory after one step."""
        dw = wide(dw)
        if self.remembers:
            x1, kept = self.step.step(self.field, t0, t1, x, self.args, dw, memory)
            memory = as_memory(kept, memory)
        else:
            x1 = self.step(self.field, t0, t1, x, self.args, dw)
        return alike(x1, x, "step output", exact=False), memory
