"""The order of a method, measured by the same paths on coarser grids."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flowjax.interop.to_diffrax import area_of
from flowjax.solver.brownian import coarsen


def measured_order(
    run: Callable[..., Any], problem: Any, ts: Any, many: Any, area: bool
) -> float | None:
    """The order of ``run(problem, increments, ts)`` over many paths, None where it is not seen.

    With `area` increments are pairs, as a `Stepper` with `levy_area` takes them.
    """
    n = ts.shape[0] - 1
    ratio = next((ratio for ratio in (2, 3, 5, 7) if n % ratio**2 == 0), None)
    if ratio is None:
        return None
    factors = [ratio**k for k in range(4) if n % ratio**k == 0]

    def end(problem: Any, dw: Any, k: int) -> Any:
        if dw is not None:
            dw = coarsened(dw, ts, k) if area else coarsen(dw, k)
        return run(problem, dw, ts[::k])

    def ends(problem: Any, many: Any) -> Any:
        if many is None:
            one = [end(problem, None, k) for k in factors]
            return jax.tree.map(lambda leaf: leaf[None], one)
        return jax.vmap(lambda dw: [end(problem, dw, k) for k in factors])(many)

    levels = eqx.filter_jit(ends)(problem, many)
    apart = []
    for fine, coarse in itertools.pairwise(levels):
        leaves = zip(jax.tree.leaves(fine), jax.tree.leaves(coarse), strict=True)
        squares = sum(
            np.sum(np.asarray(f - c, np.float64).reshape(len(f), -1) ** 2, 1) for f, c in leaves
        )
        apart.append(float(np.mean(np.sqrt(squares))))
    if min(apart) == 0:
        return None
    return float(np.polyfit(np.log(factors[:-1]), np.log(apart), 1)[0])


def coarsened(increments: Any, ts: Any, factor: int) -> Any:
    r"""The increments over every so many times, with those that make their Levy areas.

    The area over steps i from s to t adds up to

    $$H_{s,t} = \frac1{t - s} \sum_i h_i \Big(H_i + W_{s,t_i} + \frac{dW_i}2\Big)
    - \frac{W_{s,t}}2$$
    """
    h = jnp.diff(ts).reshape(-1, factor)

    def of_leaf(dw: Any, other: Any) -> tuple[Any, Any]:
        dw, area = (part.reshape(*h.shape, *part.shape[1:]) for part in (dw, area_of(other)))
        weight = (h / h.sum(1, keepdims=True)).astype(dw.dtype)
        weight = weight.reshape(*h.shape, *[1] * (dw.ndim - 2))
        whole = dw.sum(1)
        before = jnp.cumsum(dw, 1) - dw / 2
        return whole, math.sqrt(12) * ((weight * (area + before)).sum(1) - whole / 2)

    pairs = [of_leaf(*pair) for pair in zip(*map(jax.tree.leaves, increments), strict=True)]
    structure = jax.tree.structure(increments[0])
    return tuple(jax.tree.unflatten(structure, part) for part in zip(*pairs, strict=True))
