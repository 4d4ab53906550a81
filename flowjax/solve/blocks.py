"""Scanning in blocks: the one way in which the loop is cut, for its memory and for its noise."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import PyTree


def scan_in_blocks(
    function: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    carry: PyTree,
    xs: PyTree,
    length: int,
) -> tuple[PyTree, PyTree]:
    """``function(carry, block) -> (carry, ys)`` over blocks of `length` consecutive entries of xs.

    Like `jax.lax.scan`, but that `function` sees a block at a time, the last one shorter where
    `length` does not divide the number of entries, and that the ys of all blocks are concatenated.
    """
    n = leading_size(xs)
    whole = n // length * length
    cut = jax.tree.map(
        lambda leaf: leaf[:whole].reshape(whole // length, length, *leaf.shape[1:]), xs
    )
    carry, ys = jax.lax.scan(function, carry, cut)
    ys = jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[0] * leaf.shape[1], *leaf.shape[2:]), ys)
    if whole == n:
        return carry, ys
    carry, rest = function(carry, between(xs, whole, n))
    return carry, jax.tree.map(lambda *parts: jnp.concatenate(parts), ys, rest)


def leading_size(xs: PyTree) -> int:
    """The size of the leading axis, which all leaves share."""
    return jax.tree.leaves(xs)[0].shape[0]


def between(xs: PyTree, start: int, stop: int) -> PyTree:
    """Entries start to stop of every leaf."""
    return jax.tree.map(lambda leaf: leaf[start:stop], xs)


def length_near(target: int, n: int) -> int:
    """A block length near `target` that divides n, if one is within a factor of two of it."""
    target = min(target, n)
    near = [d for d in range(-(-target // 2), min(n, 2 * target) + 1) if n % d == 0]
    return min(near, key=lambda d: abs(math.log(d / target)), default=target)
