"""Sets of samples as rows of numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from flowjax import _check
from flowjax._numerics import widest


def two_sets(x: Any, y: Any, least: int = 1) -> tuple[Array, Array]:
    """Both sets as rows, (N, D) and (M, D), of one dtype, refused if their samples are unlike."""
    x, y = _arrays(x, "x", least), _arrays(y, "y", least)
    for name, got, want in _check.paired(y, x, "y", "x's"):
        if got.shape[1:] != want.shape[1:]:
            raise ValueError(
                f"{name} must hold samples of x's shape {want.shape[1:]}, got {got.shape[1:]}."
            )
    dtype = widest((x, y))
    return _rows(x, dtype), _rows(y, dtype)


def _arrays(x: Any, name: str, least: int) -> Any:
    """The set as floating arrays with one leading axis of at least so many samples."""
    x = _check.state(x, name)
    _check.samples(x, name, least)
    _check.elements(x, name)
    for leaf_name, leaf in _check.leaves_with_names(x, name):
        refuse_not_finite(leaf, leaf_name)
    return x


def _rows(x: Any, dtype: Any) -> Array:
    flat = [leaf.reshape(leaf.shape[0], -1).astype(dtype) for leaf in jax.tree.leaves(x)]
    return jnp.concatenate(flat, axis=1)


def refuse_not_finite(leaf: Any, name: str) -> None:
    """Refuses an array with NaN or infinity; one that is traced is not looked at."""
    if isinstance(leaf, Tracer):
        return
    bad = np.size(leaf) - int(jnp.sum(jnp.isfinite(leaf)))
    if bad:
        raise ValueError(f"{name} must be finite, got {bad} numbers that are not.")


def order_of(order: Any) -> int:
    """The order of a Wasserstein distance."""
    if not _check.is_int(order) or order not in (1, 2):
        raise ValueError(f"order must be 1 or 2, got {order!r}.")
    return int(order)
