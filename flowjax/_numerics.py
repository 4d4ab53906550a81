"""Arithmetic that every floor shares: leaf by leaf, in the right precision, and safe at zero."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from flowjax._types import State, StateLike


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


def narrow(x: State, like: StateLike) -> State:
    """The state in the dtypes of another."""
    return jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), x, like)


def dot(x: State, y: State) -> Array:
    """The inner product of two states, a scalar of the widest dtype."""
    pairs = zip(jax.tree.leaves(wide(x)), jax.tree.leaves(wide(y)), strict=True)
    dtype = widest(x)
    return sum((jnp.sum(a * b).astype(dtype) for a, b in pairs), jnp.zeros((), dtype))


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
        ValueError: a term is no pair, or y, or a c that is no number, is unlike x.
        TypeError: a term is complex.

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
    sums: list[Any] = [None if first is None else _as(leaf, leaf) for leaf in leaves]
    for i, term in enumerate(terms):
        pair = isinstance(term, tuple) and len(term) == 2
        if not pair or jax.tree.structure(term[1]) != structure:
            raise ValueError(
                f"term {i} must be a pair (c, y), with y of the structure of the state, "
                f"{structure}, got {term!r}."
            )
        c, y = term
        each = jax.tree.structure(c) == structure
        factors = jax.tree.leaves(c) if each else [c] * len(leaves)
        for k, (leaf, c, part) in enumerate(zip(leaves, factors, jax.tree.leaves(y), strict=True)):
            if jnp.shape(part) != jnp.shape(leaf) or jnp.shape(c) not in ((), jnp.shape(leaf)):
                raise ValueError(
                    f"term {i} must be a pair of a number, or an array of the state's shape "
                    f"{jnp.shape(leaf)}, and an array of it, got shapes {jnp.shape(c)} and "
                    f"{jnp.shape(part)}."
                )
            product = _as(c, leaf) * _as(part, leaf)
            sums[k] = product if sums[k] is None else sums[k] + product
    sums = [jnp.asarray(a, jnp.result_type(leaf)) for a, leaf in zip(sums, leaves, strict=True)]
    return jax.tree.unflatten(structure, sums)


def _as(value: Any, leaf: Any) -> Array:
    """A number or an array in the dtype in which the leaf of a state is computed."""
    if jnp.iscomplexobj(value):
        raise TypeError(f"a term of the sum must be real, got {value!r}.")
    return jnp.asarray(value, computing_dtype(jnp.result_type(leaf)))


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


def inside(t: Array) -> Array:
    """The time, and NaN outside of [0, 1]."""
    return jnp.where((t < 0) | (t > 1), jnp.nan, t)


def clip(x: Array, low: Any = None, high: Any = None) -> Array:
    """The value between the bounds; at a bound itself the derivative is 1."""
    # jnp.clip halves it there.
    if low is not None:
        x = jnp.where(x < low, low, x)
    return x if high is None else jnp.where(x > high, high, x)
