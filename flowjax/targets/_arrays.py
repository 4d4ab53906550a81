"""Parameters that meet a state: conversion, checks, and the dtype to compute in."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from flowjax import _check
from flowjax._numerics import computing_dtype


def parameters(tree: Any, name: str) -> Any:
    """Every leaf of `tree` as a real floating array, refused if it is seen to be not finite."""
    if not jax.tree.leaves(tree):
        raise TypeError(f"{name} must be a number, an array or a pytree of them, got {tree!r}.")
    return jax.tree.map(lambda leaf: _finite(leaf, _check.real(leaf, name), name), tree)


def of_one_dtype(**values: Any) -> list[Array]:
    """The named values as real floating arrays of one dtype, refused as by `parameters`."""
    arrays = [_check.real(value, name) for name, value in values.items()]
    dtype = jnp.result_type(*arrays)
    named = zip(values.items(), arrays, strict=True)
    return [_finite(value, array.astype(dtype), name) for (name, value), array in named]


def _finite(value: Any, array: Array, name: str) -> Array:
    numbers = concrete(value, array)
    if numbers is not None and not np.all(np.isfinite(numbers)):
        raise ValueError(f"{name} must be finite, got {np.array2string(numbers, threshold=10)}.")
    return array


def concrete(value: Any, array: Array) -> np.ndarray | None:
    """The numbers of `array`, made from `value`, in float64; None while they are traced."""
    numbers = value if isinstance(array, Tracer) else array
    if isinstance(numbers, Tracer) or not isinstance(
        numbers, (int, float, np.ndarray, np.generic, jax.Array)
    ):
        return None
    return np.asarray(numbers, dtype=np.float64)


def broadcasts_to(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether an array of `shape` broadcasts to `target` without changing `target`."""
    try:
        return np.broadcast_shapes(shape, target) == target
    except ValueError:
        return False


def map_state(function: Callable[..., Array], x: Any, name: str = "x", **coefficients: Any) -> Any:
    """`function(leaf, *coefficients)` on every leaf of x.

    It is computed in at least float32 and returned in the leaf's dtype. Each coefficient is one
    array for all leaves or a pytree that is a prefix of x, and broadcasts to x's shapes.
    """
    x = _check.state(x, name)
    leaves, structure = jax.tree.flatten(x)
    columns = [_prefix_leaves(tree, x, key) for key, tree in coefficients.items()]
    results = []
    for leaf, *entries in zip(leaves, *columns, strict=True):
        dtype = computing_dtype(leaf.dtype)
        arrays = [
            _like(entry, leaf.shape, dtype, key)
            for entry, key in zip(entries, coefficients, strict=True)
        ]
        results.append(function(leaf.astype(dtype), *arrays).astype(leaf.dtype))
    return jax.tree.unflatten(structure, results)


def _prefix_leaves(tree: Any, x: Any, name: str) -> list[Any]:
    try:
        spread = jax.tree.map(lambda part, sub: [part] * len(jax.tree.leaves(sub)), tree, x)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must be one array for the whole state or a pytree that is a prefix of it: "
            f"the state is {jax.tree.structure(x)}, {name} is {jax.tree.structure(tree)}."
        ) from error
    return jax.tree.leaves(spread)


def _like(value: Any, shape: tuple[int, ...], dtype: Any, name: str) -> Array:
    array = _check.real(value, name)
    if not broadcasts_to(array.shape, shape):
        raise ValueError(
            f"{name} must broadcast to the state's shape {shape}, got shape {array.shape}."
        )
    return jnp.broadcast_to(array.astype(dtype), shape)
