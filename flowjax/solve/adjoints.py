"""Adjoints: how the loop is run and differentiated.

An adjoint is an immutable record with one method, ``scan(advance, carry, xs, record, every)``:
apply ``advance(carry, x) -> carry`` to the n entries of xs in turn and return the last carry and,
if `record` is given, ``record(carry)`` after every `every`-th entry, stacked.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from flowjax import _check

Advance = Callable[[PyTree, PyTree], PyTree]
Record = Callable[[PyTree], PyTree]

# Up to this many steps one state per step is stored; beyond, the states are stored in two levels.
_ONE_LEVEL = 64


class Checkpointed(NamedTuple):
    """Stores states only and recomputes each step in the backward pass; the default.

    The n steps are cut into segments of about n / segments steps. The backward pass keeps the
    states between segments, and within the segment at hand the states between steps; what the
    field computes inside a step is never stored for more than one step.

    Cost of a gradient, for a step of c field calls: with one segment, n states and 2nc field
    calls (and their transposes); with several, segments + n/segments states and 3nc field calls.
    Forward mode and second derivatives work, at the cost of plain forward mode.

    Args:
        segments: number of segments, a positive int of at most n. Default: one up to 64 steps,
            the square root of n beyond, which makes memory grow as sqrt(n). In `trajectory` with
            ``every > 1`` a segment is what lies between two recorded times.

    Raises:
        TypeError, ValueError: if segments is not a positive int of at most n.

    Example:
        >>> import jax, flowjax as fj
        >>> ts = fj.uniform_grid(1000)
        >>> end = lambda x0: fj.solve(
        ...     fj.linear_field, x0, ts, args=1.0, adjoint=fj.Checkpointed(segments=10)
        ... )
        >>> round(float(jax.grad(end)(1.0)), 3)
        0.368

    References:
        Griewank, Walther (2000), "Algorithm 799: Revolve", ACM TOMS 26.
        Chen et al. (2016), "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174.
    """

    segments: int | None = None

    def scan(
        self, advance: Advance, carry: PyTree, xs: PyTree, record: Record | None, every: int
    ) -> tuple[PyTree, PyTree]:
        """Runs the loop; see the module."""
        n = _length(xs)
        if self.segments is None:
            segments = 1 if n <= _ONE_LEVEL else math.isqrt(n)
        else:
            segments = _check.positive_int(self.segments, "segments")
            _check.at_most(segments, n, "segments", "the number of steps")
        step = jax.checkpoint(advance, prevent_cse=False)
        if record is not None:
            return _recording(step, carry, xs, record, every, jax.checkpoint)
        if segments == 1:
            return _plain(step, carry, xs), None
        # Whole segments of equal length first, then the steps left over.
        length = math.ceil(n / segments)
        whole = n // length * length
        segment = jax.checkpoint(lambda carry, xs: _plain(step, carry, xs), prevent_cse=False)
        carry = _plain(segment, carry, _blocks(_slice(xs, 0, whole), length))
        return _plain(step, carry, _slice(xs, whole, n)), None


class Direct(NamedTuple):
    """Plain automatic differentiation of the loop, which stores whatever the steps computed.

    Cost of a gradient, for a step of c field calls: nc field calls (and their transposes), and
    every intermediate result of all of them in memory. It can pay for few, cheap steps.

    Example:
        >>> import jax, flowjax as fj
        >>> ts = fj.uniform_grid(10)
        >>> end = lambda x0: fj.solve(fj.linear_field, x0, ts, args=1.0, adjoint=fj.Direct())
        >>> round(float(jax.grad(end)(1.0)), 4)
        0.3487
    """

    def scan(
        self, advance: Advance, carry: PyTree, xs: PyTree, record: Record | None, every: int
    ) -> tuple[PyTree, PyTree]:
        """Runs the loop; see the module."""
        if record is not None:
            return _recording(advance, carry, xs, record, every, lambda block, **_: block)
        return _plain(advance, carry, xs), None


class Truncated(NamedTuple):
    """Differentiates the last steps only: the state before them counts as a constant.

    The gradient with respect to anything is that of the last `last` steps, as in the fine-tuning
    of a sampler on a reward. It is a biased gradient of the whole solve, in forward mode too.

    Cost of a gradient, for a step of c field calls: that of `Checkpointed` over `last` steps, and
    n - last steps forward.

    Args:
        last: number of steps, a positive int of at most n; in `trajectory`, a multiple of `every`.

    Raises:
        TypeError, ValueError: if last is not such an int.

    Example:
        >>> import jax, flowjax as fj
        >>> ts = fj.uniform_grid(10)
        >>> end = lambda x0: fj.solve(fj.linear_field, x0, ts, args=1.0, adjoint=fj.Truncated(2))
        >>> float(jax.grad(end)(1.0))
        0.0

    References:
        Clark, Vicol, Swersky, Fleet (2023), "Directly Fine-Tuning Diffusion Models on
        Differentiable Rewards", arXiv 2309.17400 (DRaFT-K).
    """

    last: int

    def scan(
        self, advance: Advance, carry: PyTree, xs: PyTree, record: Record | None, every: int
    ) -> tuple[PyTree, PyTree]:
        """Runs the loop; see the module."""
        n = _length(xs)
        last = _check.positive_int(self.last, "last")
        _check.at_most(last, n, "last", "the number of steps")
        if record is not None and last % every:
            raise ValueError(f"last must be a multiple of every = {every}, got {last}.")
        carry, early = Direct().scan(advance, carry, _slice(xs, 0, n - last), record, every)
        carry, early = jax.lax.stop_gradient((carry, early))
        carry, late = Checkpointed().scan(advance, carry, _slice(xs, n - last, n), record, every)
        if record is None:
            return carry, None
        return carry, jax.tree.map(lambda *parts: jnp.concatenate(parts), early, late)


def _plain(advance: Advance, carry: PyTree, xs: PyTree) -> PyTree:
    return jax.lax.scan(lambda carry, x: (advance(carry, x), None), carry, xs)[0]


def _recording(
    advance: Advance, carry: PyTree, xs: PyTree, record: Record, every: int, checkpoint: Any
) -> tuple[PyTree, PyTree]:
    """Scans with a record after every `every` steps, each block of them checkpointed."""
    if every == 1:
        block = advance
    else:
        xs = _blocks(xs, every)
        block = checkpoint(lambda carry, xs: _plain(advance, carry, xs), prevent_cse=False)

    def body(carry: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
        carry = block(carry, x)
        return carry, record(carry)

    return jax.lax.scan(body, carry, xs)


def _length(xs: PyTree) -> int:
    return jax.tree.leaves(xs)[0].shape[0]


def _slice(xs: PyTree, start: int, stop: int) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[start:stop], xs)


def _blocks(xs: PyTree, length: int) -> PyTree:
    return jax.tree.map(
        lambda leaf: leaf.reshape(leaf.shape[0] // length, length, *leaf.shape[1:]), xs
    )
