"""Steps and how they are cut into blocks, for the memory of the loop and for its noise."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from flowjax._types import State

# How many blocks there are for each time at which the path is wanted: with more, fewer steps only
# fill up a block, and more states are kept.
_BLOCKS = 4


class Intervals(eqx.Module):
    """Consecutive steps of a grid, on the leading axis; inside of the scan, one step.

    Args:
        step_index: of each step in the whole grid; None where no noise depends on it.
        t0: where each step begins.
        t1: where it ends.
        increments: the Brownian increment of each step, if it was given.
        taken: whether each step is taken; None where all of them are.
        from_even: whether the first of them is known to have an even index; see `brownian.draw`.
    """

    step_index: PyTree
    t0: Array
    t1: Array
    increments: State | None
    taken: Any
    from_even: bool = eqx.field(static=True)

    def __len__(self) -> int:
        return self.t0.shape[0]

    def between(self, start: int, stop: int) -> "Intervals":
        """Steps start to stop of these."""
        return self._cut(lambda leaf: jax.lax.slice_in_dim(leaf, start, stop), start)

    def in_blocks(self, length: int) -> "Intervals":
        """These steps on an axis of blocks and one of `length` steps, a divisor of their number."""
        shape = (len(self) // length, length)
        return self._cut(lambda leaf: jax.lax.reshape(leaf, (*shape, *leaf.shape[1:])), length)

    def _cut(self, cut: Callable[[Array], Array], at: int) -> "Intervals":
        even = self.from_even and at % 2 == 0
        parts = (self.step_index, self.t0, self.t1, self.increments, self.taken)
        return Intervals(*jax.tree.map(cut, parts), from_even=even)

    def ending_at(self, indices: Sequence[int]) -> tuple["Intervals", int, np.ndarray]:
        """These steps on blocks of one length, which end where the path is wanted.

        A stretch between two of the indices is filled up, to a whole number of blocks, by steps
        that are not taken: at most a quarter of the steps, where the path is wanted at few times.

        Args:
            indices: of the times at which the path is wanted, without 0; increasing.

        Returns:
            The steps, the length of a block, and the blocks of which the ends are wanted.
        """
        stretches = np.diff([0, *indices])
        length = -(-indices[-1] // (_BLOCKS * len(indices)))
        blocks = -(-stretches // length)
        last, ends = np.cumsum(stretches), np.cumsum(blocks)
        # How far the number of a step is behind its place in the blocks.
        behind = (ends - blocks) * length - (last - stretches)
        places = np.arange(ends[-1] * length).reshape(-1, length)
        numbers = places - np.repeat(behind, blocks)[:, None]
        taken = numbers < np.repeat(last, blocks)[:, None]
        numbers, taken = numbers.reshape(-1), taken.reshape(-1)
        if taken.all():
            return self.between(0, int(indices[-1])), int(length), ends - 1
        rows = np.minimum(numbers, len(self) - 1)
        t0, t1, increments = jax.tree.map(
            lambda leaf: jnp.asarray(leaf)[rows], (self.t0, self.t1, self.increments)
        )
        index = self.step_index
        if index is not None:
            index = index[0] + jnp.asarray(numbers, jnp.uint32)
        return Intervals(index, t0, t1, increments, taken, from_even=False), int(length), ends - 1


def where_taken(interval: Intervals, step: Callable[[PyTree], PyTree], before: PyTree) -> PyTree:
    """What a step makes of `before`, and `before` itself where the step is not taken."""
    if interval.taken is None:
        return step(before)
    return jax.lax.cond(interval.taken, step, lambda before: before, before)


def scan_in_blocks(
    function: Callable[[PyTree, Intervals], tuple[PyTree, PyTree]],
    carry: PyTree,
    xs: Intervals,
    length: int,
) -> tuple[PyTree, PyTree]:
    """``function(carry, block) -> (carry, ys)`` over blocks of `length` consecutive steps.

    Like `jax.lax.scan`, but that `function` sees a block at a time, the last one shorter where
    `length` does not divide the number of steps, and that the ys of all blocks are concatenated.
    """
    n = len(xs)
    whole = n // length * length
    carry, ys = jax.lax.scan(function, carry, xs.between(0, whole).in_blocks(length))
    ys = jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[0] * leaf.shape[1], *leaf.shape[2:]), ys)
    if whole == n:
        return carry, ys
    carry, rest = function(carry, xs.between(whole, n))
    return carry, jax.tree.map(lambda *parts: jnp.concatenate(parts), ys, rest)


def length_near(target: int, n: int) -> int:
    """A block length near `target` that divides n, if one is above half and at most twice of it."""
    target = min(target, n)
    near = [d for d in range(target // 2 + 1, min(n, 2 * target) + 1) if n % d == 0]
    return min(near, key=lambda d: abs(math.log(d / target)), default=target)
