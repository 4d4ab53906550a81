"""Adjoints: how the loop is cut up and differentiated.

An adjoint is an immutable record with one method, ``scan(steps, carry, xs, every)``: it takes all
the steps xs from the carry (x, memory) and returns the last carry and, unless `every` is None,
the states after every `every`-th step. `Steps` is what it does that with.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from flowjax import _check
from flowjax.solver.blocks import Intervals, length_near, scan_in_blocks
from flowjax.solver.loop import Steps

# One state per step is stored for up to so many steps, or while all of them take up to so many
# bytes; beyond, the states are stored in two levels, which costs another forward pass. What a
# network computes within the one step at hand is usually more than this many states.
_FEW_STEPS = 256
_FEW_BYTES = 2**15


class Checkpointed(NamedTuple):
    r"""Stores states only and recomputes each step in the backward pass; the default.

    For steps $X_{k+1} = \Phi_k(X_k, \theta)$ and any function L of the last state it computes,
    exactly for the solve as it is,

    $$\lambda_n = \nabla L(X_n), \quad
    \lambda_k = \Big(\frac{\partial\Phi_k}{\partial x}\Big)^\top \lambda_{k+1}, \qquad
    \frac{dL}{d\theta}
    = \sum_{k=0}^{n-1} \Big(\frac{\partial\Phi_k}{\partial\theta}\Big)^\top \lambda_{k+1}$$

    The n steps are cut into segments of about n / segments steps. The backward pass keeps the
    states between segments, and within the segment at hand the states between steps; what the
    field computes inside a step is never stored for more than one step.

    Cost of a gradient, for a step of c field calls: with one segment, n states and 2nc field
    calls; with several, segments + n/segments states and 3nc field calls; and nc transposed calls.
    Where the gradient needs the noise (that of a diffusion which depends on the state or on what
    is differentiated) and a key names it, the increments of the segment at hand are kept too: as
    many as its states. Forward mode and second derivatives work, at the cost of plain forward mode.

    Args:
        segments: number of segments, a positive int of at most n. Default: one up to 256 steps (or
            while the states of all steps take 32 KiB or less), the square root of n beyond, which
            makes memory grow as sqrt(n), or fewer where the noise of more steps is drawn at once.
            In `trajectory` a segment of `every` steps or more ends at a recorded time, at the last
            within its length; shorter ones begin anew at each recorded time.

    Raises:
        ValueError: if segments is not a static int from 1 to n.

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
        self, steps: Steps, carry: PyTree, xs: Intervals, every: int | None
    ) -> tuple[PyTree, PyTree]:
        """Runs the loop; see the module."""
        n = len(xs)
        if self.segments is None:
            size = sum(leaf.nbytes for leaf in jax.tree.leaves(carry))
            length = n
            if n > _FEW_STEPS and n * size > _FEW_BYTES:
                length = max(
                    2 * length_near(math.isqrt(n) // 2, -(-n // 2)), min(steps.block(n), n)
                )
        else:
            # The steps after the last that is recorded are not among the xs.
            limit = n if every is None else n + every - 1
            length = -(-n // _check.count(self.segments, limit, "segments", "the number of steps"))
        # Of several segments all but the one at hand are recomputed; a single one is at hand. (It
        # is jitted in place of that, so that the jaxpr has one size whatever n is.)
        wrap = _remat if length < n else jax.jit
        take = functools.partial(steps.run, wrap=_remat)
        if every is None or every <= length:
            segment = wrap(_recording(take, every))
            return scan_in_blocks(segment, carry, xs, length // (every or 1) * (every or 1))

        def in_segments(carry: PyTree, xs: Intervals, record: bool) -> tuple[PyTree, PyTree]:
            segment = wrap(functools.partial(take, record=record))
            return scan_in_blocks(segment, carry, xs, length)

        return _recording(in_segments, every)(carry, xs)


class Direct(NamedTuple):
    r"""Plain automatic differentiation of the loop, which stores whatever the steps computed.

    The gradient is that of `Checkpointed`: for steps $X_{k+1} = \Phi_k(X_k)$,

    $$\nabla_{x_0} L(X_n) = \Big(\frac{\partial\Phi_0}{\partial x}\Big)^\top \cdots
    \Big(\frac{\partial\Phi_{n-1}}{\partial x}\Big)^\top \nabla L(X_n)$$

    Cost of a gradient, for a step of c field calls: nc field calls and nc transposed ones, and
    every intermediate result of all of them in memory. It can pay for few, cheap steps.

    Example:
        >>> import jax, flowjax as fj
        >>> ts = fj.uniform_grid(10)
        >>> end = lambda x0: fj.solve(fj.linear_field, x0, ts, args=1.0, adjoint=fj.Direct())
        >>> round(float(jax.grad(end)(1.0)), 4)
        0.3487

    References:
        Griewank, Walther (2008), "Evaluating derivatives: principles and techniques of algorithmic
        differentiation", SIAM, chapter 3.
    """

    def scan(
        self, steps: Any, carry: PyTree, xs: Intervals, every: int | None
    ) -> tuple[PyTree, PyTree]:
        """Runs the loop, of which it needs no more than ``steps.run``; see the module."""
        return _recording(functools.partial(steps.run, wrap=_plain), every)(carry, xs)


class Truncated(NamedTuple):
    r"""Differentiates the last steps only: the state before them counts as a constant.

    $$\sum_{k=n-m}^{n-1} \Big(\frac{\partial\Phi_k}{\partial\theta}\Big)^\top \lambda_{k+1}
    \quad \text{in place of} \quad \frac{dL}{d\theta}, \qquad m = \mathrm{last}$$

    with the steps and $\lambda$ of `Checkpointed`. The gradient of X at the end, with respect to
    anything, is that of the last m steps, as in the fine-tuning of a sampler on a reward. It is a
    biased gradient of the whole solve, in forward mode too. In `trajectory` the states before them
    are constants; the first entry is x0 itself.

    Cost of a gradient, for a step of c field calls: that of `Checkpointed` over `last` steps, and
    n - last steps forward.

    Args:
        last: m, the number of steps, a positive int of at most n; in `trajectory`, from one of the
            times of the path to the end: a multiple of `every`.

    Raises:
        ValueError: if last is not such an int.

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
        self, steps: Steps, carry: PyTree, xs: Intervals, every: int | None
    ) -> tuple[PyTree, PyTree]:
        """Runs the loop; see the module."""
        # How many steps are taken from each place on.
        left = np.arange(len(xs), 0, -1) if xs.taken is None else np.cumsum(xs.taken[::-1])[::-1]
        last = _check.count(self.last, int(left[0]), "last", "the number of steps")
        starts = np.flatnonzero(left == last)
        starts = starts[starts % (every or 1) == 0]
        if not starts.size:
            where = f"be a multiple of every = {every}"
            if xs.taken is not None:
                where = "reach back to one of the times at which the path is kept"
            raise ValueError(f"last must {where}, got {last}.")
        start = int(starts[-1])
        if start == 0:
            return Checkpointed().scan(steps, carry, xs, every)
        early = Direct().scan(steps, carry, xs.between(0, start), every)
        carry, early = jax.lax.stop_gradient(early)
        carry, late = Checkpointed().scan(steps, carry, xs.between(start, len(xs)), every)
        if every is None:
            return carry, None
        return carry, jax.tree.map(lambda *parts: jnp.concatenate(parts), early, late)


def _remat(function: Callable) -> Callable:
    return jax.checkpoint(function, prevent_cse=False)


def _plain(function: Callable) -> Callable:
    return function


def _recording(take: Callable[..., Any], every: int | None) -> Callable[..., Any]:
    """``take(carry, xs, record)`` that gives the states after every `every`-th of its steps."""
    if every is None or every == 1:
        return functools.partial(take, record=every == 1)

    def block(carry: PyTree, xs: Intervals) -> tuple[PyTree, PyTree]:
        carry, _ = take(carry, xs, record=False)
        x, _ = carry
        return carry, jax.tree.map(lambda leaf: leaf[None], x)

    return functools.partial(scan_in_blocks, block, length=every)
