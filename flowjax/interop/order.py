"""The order of a method, measured by the same paths on coarser grids."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flowjax._numerics import dot
from flowjax.interop.grid_path import area_of
from flowjax.solver.brownian import coarsen

# How many roundings of X the finest two ends must be apart.
_ROUNDINGS = 50
# How many increments are drawn at once, as numbers: 64 MB in 32 bits.
_NUMBERS = 2**24


def measured_order(
    run: Callable[..., Any],
    problem: Any,
    ts: Any,
    given: Any,
    draw: Any,
    keys: Any,
    area: bool,
) -> float | None:
    """The order of ``run(problem, increments, ts)``, None where it is not seen.

    Over the paths that `draw` makes of keys, or along the one that is given. With `area`
    increments are pairs, as a `Stepper` with `levy_area` takes them.
    """
    n = ts.shape[0] - 1
    ratio = next((ratio for ratio in (2, 3, 5, 7) if n % ratio**2 == 0), None)
    if ratio is None:
        return None
    factors = [ratio**k for k in range(4) if n % ratio**k == 0]

    def ends(problem: Any, dw: Any) -> Any:
        """How far apart the ends of one path are, from grid to grid, and their rounding."""
        levels = []
        for k in factors:
            on_level = dw
            if dw is not None:
                on_level = coarsened(dw, ts, k) if area else coarsen(dw, k)
            levels.append(run(problem, on_level, ts[::k]))
        apart = [_norm(jax.tree.map(jnp.subtract, *pair)) for pair in itertools.pairwise(levels)]
        rounding = jax.tree.map(lambda x: x * float(jnp.finfo(x.dtype).eps), levels[0])
        return jnp.stack([*apart, _norm(rounding)])

    def all_ends(problem: Any, given: Any, keys: Any) -> Any:
        if draw is None:
            return ends(problem, given)[None]
        size = sum(leaf.size for leaf in jax.tree.leaves(given))
        together = min(len(keys), max(1, _NUMBERS // max(size, 1)))

        def of_key(key: Any) -> Any:
            return ends(problem, draw(key))

        return jax.lax.map(of_key, keys, batch_size=together)

    *apart, rounding = np.mean(np.asarray(eqx.filter_jit(all_ends)(problem, given, keys)), 0)
    if not np.isfinite(apart).all() or min(apart) == 0 or apart[0] <= _ROUNDINGS * rounding:
        return None
    return float(np.polyfit(np.log(factors[:-1]), np.log(apart), 1)[0])


def _norm(x: Any) -> Any:
    return jnp.sqrt(dot(x, x))


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
