"""A model with and without its condition, by one call of a batch of two."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowjax import _check
from flowjax._types import State
from flowjax.guidance.guided import output


def branches(
    model: Callable[..., Any], t: Any, x: Any, args: Any, null: Any
) -> tuple[State, State]:
    """The model's outputs for null and for args.

    The leaves in which the two differ make a batch of two, over which the model is mapped. It is
    called twice where they cannot: where null has None in place of a condition, or another value
    that is no number, such as a flag.
    """
    leaves, structure = jax.tree.flatten(args)
    pairs = _pairs(args, null)
    if pairs is None or not all(_same(*pair) or all(map(_is_array, pair)) for pair in pairs):
        return output(model, t, x, null), output(model, t, x, args)
    differ = [k for k, (n, a) in enumerate(pairs) if not _same(n, a)]
    if not differ:
        both = output(model, t, x, args)
        return both, both

    def row(values: list[Any]) -> State:
        filled = list(leaves)
        for k, value in zip(differ, values, strict=True):
            filled[k] = value
        return output(model, t, x, jax.tree.unflatten(structure, filled))

    two = jax.vmap(row)([jnp.stack(pairs[k]) for k in differ])
    without, conditional = (jax.tree.map(lambda leaf, i=i: leaf[i], two) for i in (0, 1))
    return without, conditional


def _pairs(args: Any, null: Any) -> list[tuple[Any, Any]] | None:
    """The leaves of null and args, or None where null has None instead of a condition."""
    wanted, got = jax.tree.structure(null), jax.tree.structure(args)
    if wanted == got:
        if got.num_leaves == 0:
            raise ValueError(
                f"args must be the condition to guide towards, got {args!r}, which is null: "
                f"no condition."
            )
        named = _check.leaves_with_names(args, "args")
        return [of_one_dtype(n, *one) for n, one in zip(jax.tree.leaves(null), named, strict=True)]
    absent = jax.tree.structure(null, is_leaf=_is_none)
    try:
        parts = absent.flatten_up_to(args)
    except (TypeError, ValueError):
        parts = None
    values = jax.tree.leaves(null, is_leaf=_is_none)
    # Beside a None there may be any part of args, beside a leaf a leaf.
    fits = parts is not None and all(
        n is None or _check.is_leaf(part) for n, part in zip(values, parts, strict=True)
    )
    if not fits:
        raise ValueError(f"args must have the structure of null, {wanted}, got {got}.")
    return None


def of_one_dtype(null: Any, name: str, leaf: Any) -> tuple[Any, Any]:
    """A leaf of null and of args, as arrays of one dtype where they are numbers."""
    if not (_is_array(null) and _is_array(leaf)) or _same(null, leaf):
        return null, leaf
    if np.shape(leaf) != np.shape(null):
        raise ValueError(
            f"{name} must have the shape {np.shape(null)} of null, got {np.shape(leaf)}."
        )
    wanted, got = _dtype(null), _dtype(leaf)
    if wanted == got:
        return jnp.asarray(null), jnp.asarray(leaf)
    dtype = _one_dtype(null, leaf, wanted, got)
    if dtype is None:
        raise ValueError(f"{name} must have the dtype of null, {wanted}, got {got}.")
    return jnp.asarray(null, dtype), jnp.asarray(leaf, dtype)


def _dtype(leaf: Any) -> Any:
    """The dtype that JAX has for a leaf; that of a key is its own."""
    dtype = getattr(leaf, "dtype", None)
    key = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    return dtype if key else jnp.result_type(leaf)


def _one_dtype(null: Any, leaf: Any, wanted: Any, got: Any) -> Any:
    """The dtype of both, None if there is none; that of a Python number is the other's."""
    integers = [jnp.issubdtype(dtype, jnp.integer) for dtype in (wanted, got)]
    floats = [jnp.issubdtype(dtype, jnp.floating) for dtype in (wanted, got)]
    if not all(i or f for i, f in zip(integers, floats, strict=True)):
        return None
    if isinstance(null, (int, float)) and not (floats[0] and integers[1]):
        return got
    if isinstance(leaf, (int, float)) and not (floats[1] and integers[0]):
        return wanted
    if all(integers):
        return jax.dtypes.canonicalize_dtype(np.promote_types(wanted, got))
    return got if all(floats) else None


def _is_array(leaf: Any) -> bool:
    """Whether a leaf is a number or an array, not a flag."""
    number = isinstance(leaf, (int, float, complex)) and not isinstance(leaf, bool)
    return number or isinstance(leaf, (np.generic, np.ndarray, jax.Array))


def _same(null: Any, leaf: Any) -> bool:
    """Whether two leaves are known to be one value, without looking at arrays."""
    if null is leaf:
        return True
    arrays = (np.generic, np.ndarray, jax.Array)
    return type(null) is type(leaf) and not isinstance(leaf, arrays) and bool(null == leaf)


def _is_none(leaf: Any) -> bool:
    return leaf is None
