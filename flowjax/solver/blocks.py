"""Steps and how they are cut into blocks, for the memory of the loop and for its noise."""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from flowjax._types import State


class Intervals(eqx.Module):
    """Consecutive steps of a grid, on the leading axis; inside of the scan, one step.

    Args:
        step_index: of each step in the whole grid; None where no noise depends on it.
        t0: where each step begins.
        t1: where it ends.
        increments: the Brownian increment of each step, if it was given.
        from_even: whether the first of them is known to have an even index; see `brownian.draw`.
    """

    step_index: PyTree
    t0: Array
    t1: Array
    increments: State | None
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
        parts = (self.step_index, self.t0, self.t1, self.increments)
        return Intervals(*jax.tree.map(cut, parts), from_even=even)


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
