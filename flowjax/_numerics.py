"""Arithmetic that every floor shares: leaf by leaf, in the right precision, and safe at zero."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from flowjax._types import State


def computing_dtype(dtype: Any) -> Any:
    """`dtype`, but at least float32: the dtype in which a state of `dtype` is computed."""
    return jnp.dtype(jnp.float32) if jnp.finfo(dtype).bits < 32 else jnp.dtype(dtype)


def widest(x: Any) -> Any:
    """The widest dtype that a leaf of x is computed in."""
    dtypes = [computing_dtype(leaf.dtype) for leaf in jax.tree.leaves(x)]
    return max(dtypes, key=lambda dtype: jnp.finfo(dtype).bits)


def wide(x: State) -> State:
    """The state in the dtypes that it is computed in."""
    return jax.tree.map(lambda leaf: leaf.astype(computing_dtype(leaf.dtype)), x)


def narrow(x: State, like: State) -> State:
    """The state in the dtypes of another."""
    return jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), x, like)


def plus(x: State, *terms: tuple[Any, State]) -> State:
    r"""The sum of a state and multiples of others, leaf by leaf.

    $$x + c_1 y_1 + c_2 y_2 + \dots$$

    What a step's formula is written with, so that it holds for arrays and pytrees alike. Each leaf
    is computed in at least float32 and returned in x's dtype: neither a float32 time nor a float64
    grid promotes a state.

    Args:
        x: a state, an array or any pytree of floating arrays.
        *terms: pairs (c, y): y is like x, and c a number, or like x too and then multiplied element
            by element.

    Returns:
        The sum, with the structure, shapes and dtypes of x.

    Raises:
        ValueError: a y differs from x in structure or shapes.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> x, slope = {"a": jnp.array(1.0)}, {"a": jnp.array(3.0)}
        >>> fj.plus(x, (0.5, slope))
        {'a': Array(2.5, dtype=float32)}
    """
    return _sum(x, x, *terms)


def weighted(like: State, *terms: tuple[Any, State]) -> State:
    """The sum of c y over the terms (c, y), as in `plus`, in the dtypes of `like`."""
    return _sum(like, None, *terms)


def _sum(like: State, first: State | None, *terms: tuple[Any, State]) -> State:
    leaves, structure = jax.tree.flatten(like)
    columns = []
    for i, (c, y) in enumerate(terms):
        if jax.tree.structure(y) != structure:
            raise ValueError(
                f"term {i} must have the structure of the state, {structure}, got "
                f"{jax.tree.structure(y)}."
            )
        coefficients = jax.tree.leaves(c)
        if len(coefficients) == 1 and jax.tree.structure(c) != structure:
            coefficients = coefficients * len(leaves)
        columns.append(list(zip(coefficients, jax.tree.leaves(y), strict=True)))
    sums = []
    for k, leaf in enumerate(leaves):
        dtype = computing_dtype(jnp.result_type(leaf))
        total = None if first is None else jnp.asarray(leaf, dtype)
        for i, column in enumerate(columns):
            c, y = column[k]
            if jnp.shape(y) != jnp.shape(leaf):
                raise ValueError(
                    f"term {i} must have the state's shape {jnp.shape(leaf)}, got {jnp.shape(y)}."
                )
            product = jnp.asarray(c, dtype) * jnp.asarray(y, dtype)
            total = product if total is None else total + product
        sums.append(jnp.asarray(total, jnp.result_type(leaf)))
    return jax.tree.unflatten(structure, sums)


def quotient(numerator: Array, denominator: Array) -> Array:
    """The quotient, and zero with a derivative of zero where the denominator is zero."""
    exists = denominator != 0
    return jnp.where(exists, numerator / jnp.where(exists, denominator, 1), 0)


def root(x: Array) -> Array:
    """The square root, and zero with a derivative of zero where x is not positive."""
    nothing = x <= 0
    return jnp.where(nothing, 0, jnp.sqrt(jnp.where(nothing, 1, x)))


def log(x: Array) -> Array:
    """The logarithm, and -inf with a derivative of zero where x is not positive."""
    nothing = x <= 0
    return jnp.where(nothing, -jnp.inf, jnp.log(jnp.where(nothing, 1, x)))


def clip(x: Array, low: Any = None, high: Any = None) -> Array:
    """The value between the bounds; at a bound itself the derivative is 1."""
    # jnp.clip halves it there.
    if low is not None:
        x = jnp.where(x < low, low, x)
    return x if high is None else jnp.where(x > high, high, x)
