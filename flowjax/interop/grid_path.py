"""A Brownian path on a grid as a path of diffrax, and its space-time Levy areas."""

import math
from typing import Any, ClassVar

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array

from flowjax._numerics import computing_dtype
from flowjax._types import State


def area_of(other: State) -> State:
    """The space-time Levy area that the increment of an independent motion makes."""
    return jax.tree.map(lambda leaf: leaf / math.sqrt(12), other)


def with_area(dt: Any, dw: State, area: State) -> diffrax.SpaceTimeLevyArea:
    """An increment with its space-time Levy area, as diffrax's solvers take them."""
    dt = jax.tree.map(lambda leaf: jnp.asarray(dt, leaf.dtype), dw)
    return diffrax.SpaceTimeLevyArea(dt=dt, W=dw, H=area)


class GridPath(diffrax.AbstractBrownianPath):
    """A Brownian path given by its increments over the steps of a grid, straight within a step.

    Diffrax goes down a grid by the negative of what it asks for upward, so that a grid that
    decreases is turned, with the negative of its increments.

    Its space-time Levy areas are those of whole steps, made of the increments of `other`; over
    other intervals they are not determined, and NaN.
    """

    t0: Any
    t1: Any
    ts: Array
    increments: Any
    other: Any
    values: Any
    levy_area: ClassVar[Any] = diffrax.SpaceTimeLevyArea

    def __init__(self, ts: Array, increments: Any, other: Any = None):
        falls = ts[-1] < ts[0]

        def upward(dw: Array) -> Array:
            # In the dtype of the state that diffrax carries.
            dw = dw.astype(jnp.promote_types(computing_dtype(dw.dtype), ts.dtype))
            return jnp.where(falls, -dw[::-1], dw)

        self.ts = jnp.where(falls, ts[::-1], ts)
        self.t0, self.t1 = self.ts[0], self.ts[-1]
        self.increments = jax.tree.map(upward, increments)
        # The solvers that take areas do not go down: their drift would have the wrong sign.
        self.other = jax.tree.map(lambda dw: jnp.where(falls, jnp.nan, upward(dw)), other)
        self.values = jax.tree.map(
            lambda dw: jnp.concatenate([jnp.zeros_like(dw[:1]), jnp.cumsum(dw, axis=0)]),
            self.increments,
        )

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True, use_levy: bool = False) -> Any:
        """The increment from t0 to t1, or from the start to t0."""
        if t1 is None:
            return self._between(self.ts[0], t0)[0]
        dw, step, whole = self._between(t0, t1)
        if not use_levy:
            return dw
        if self.other is None:
            raise ValueError(
                "solver asks for the Levy area of each step, which increments do not determine: "
                "give to_diffrax a key in their place, and this solver."
            )
        area = jax.tree.map(lambda leaf: jnp.where(whole, leaf[step], jnp.nan), self.other)
        return with_area(t1 - t0, dw, area_of(area))

    def _between(self, t0: Any, t1: Any) -> tuple[State, Array, Array]:
        """The increment, the step in which it begins, and whether it is that of the step."""
        ts, last = self.ts, self.ts.shape[0] - 2
        t0, t1 = jnp.asarray(t0, ts.dtype), jnp.asarray(t1, ts.dtype)
        first = jnp.clip(jnp.searchsorted(ts, t0, side="right") - 1, 0, last)
        end = jnp.clip(jnp.searchsorted(ts, t1, side="left") - 1, first, last)
        before = (t0 - ts[first]) / (ts[first + 1] - ts[first])
        after = (ts[end + 1] - t1) / (ts[end + 1] - ts[end])

        def on_leaf(dw: Array, w: Array) -> Array:
            parts = [part.astype(dw.dtype) for part in (before, after)]
            # A step of the grid has its own increment, to the last bit.
            within = dw[first] * (1 - parts[0] - parts[1])
            ends = parts[0] * dw[first] + parts[1] * dw[end]
            return jnp.where(first == end, within, w[end + 1] - w[first] - ends)

        whole = (first == end) & (before == 0) & (after == 0)
        return jax.tree.map(on_leaf, self.increments, self.values), first, whole
