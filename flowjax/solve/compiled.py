"""Compiling a function once for each static part of its arguments."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

_ARRAYS = (jax.Array, np.ndarray, np.generic)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, compiled: the arrays among its arguments' leaves are traced, the rest is static.

    What `equinox.filter_jit` does, for positional arguments and at a third of its cost per call,
    which is most of the cost of a short solve. Static leaves (functions, ints, strings) must be
    hashable; a call with equal ones, of equal types, compiles nothing.
    """

    @functools.partial(jax.jit, static_argnums=0)
    @functools.wraps(function)
    def traced(static: tuple[Any, tuple[Any, ...]], arrays: list[Any]) -> Any:
        structure, others = static
        leaves = [
            array if other is None else other[1]
            for array, other in zip(arrays, others, strict=True)
        ]
        return function(*jax.tree.unflatten(structure, leaves))

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        leaves, structure = jax.tree.flatten(arguments)
        arrays = [leaf if isinstance(leaf, _ARRAYS) else None for leaf in leaves]
        others = tuple(None if isinstance(leaf, _ARRAYS) else (type(leaf), leaf) for leaf in leaves)
        return traced((structure, others), arrays)

    return call
