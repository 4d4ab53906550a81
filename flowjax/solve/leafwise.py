"""A step's formula on a pytree, in the right precision."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from flowjax._types import Scalar, State, computing_dtype


def leafwise(formula: Callable[..., Array], h: Scalar, x: State, *others: State) -> State:
    """The formula ``(h, x, *others)`` leaf by leaf, computed in at least float32.

    The result has the dtypes of x: neither a float32 time nor a float64 grid promotes a state.
    """

    def on_leaf(leaf: Array, *rest: Array) -> Array:
        dtype = computing_dtype(leaf.dtype)
        values = (jnp.asarray(value, dtype) for value in (h, leaf, *rest))
        return formula(*values).astype(leaf.dtype)

    return jax.tree.map(on_leaf, x, *others)
