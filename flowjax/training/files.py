"""A state in a file."""

import os
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from flowjax.training.state import TrainState


def save(path: Any, state: TrainState) -> None:
    """Writes the arrays of a state to a file, all of them or, if it is stopped, nothing.

    Args:
        path: of the file; what is there is replaced once the new one is whole.
        state: a `TrainState`, such as a callback of `fit` is given.

    Raises:
        TypeError: state is no `TrainState`.
        OSError: the file cannot be written.

    Example:
        See `restore`.
    """
    path, partial = Path(path), Path(f"{path}.partial")
    _check_state(state, "state")
    try:
        eqx.tree_serialise_leaves(partial, _without_keys(state))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def restore(path: Any, like: TrainState) -> TrainState:
    """The state that `save` has written, for `fit(..., state=)` to go on from.

    Args:
        path: of the file.
        like: a state of the same model, key and optimiser, such as `init` makes.

    Returns:
        A `TrainState`, with the arrays of the file.

    Raises:
        TypeError: like is no `TrainState`.
        ValueError: the arrays of the file are others in number, shape or dtype, or it is cut off.
        OSError: the file cannot be read.

    Example:
        >>> import tempfile
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import optax
        >>> import flowjax as fj
        >>> loss = lambda model, x, key: (model - x) ** 2
        >>> begun = fj.training.init(
        ...     jnp.array(0.0), loss, jax.random.key(0), optimizer=optax.sgd(0.5)
        ... )
        >>> state, _ = fj.training.step(begun, jnp.ones(4))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     fj.training.save(f"{folder}/state", state)
        ...     again = fj.training.restore(f"{folder}/state", begun)
        >>> int(again.step), float(again.model)
        (1, 1.0)
    """
    _check_state(like, "like")
    try:
        with open(path, "rb") as file:
            read = eqx.tree_deserialise_leaves(file, _without_keys(like))
            if file.read(1):
                raise ValueError("there is more in it")
    except (EOFError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"path must be a file of such a state, written whole, but {path} is not: {error}"
        ) from error
    return jax.tree.map(_as_key, read, like)


def _check_state(value: Any, name: str) -> None:
    if not isinstance(value, TrainState):
        raise TypeError(f"{name} must be a TrainState, such as init makes, got {value!r}.")


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _without_keys(state: TrainState) -> TrainState:
    """Keys as the numbers that name them."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, state)


def _as_key(read: Any, like: Any) -> Any:
    return jax.random.wrap_key_data(read, impl=jax.random.key_impl(like)) if _is_key(like) else read
