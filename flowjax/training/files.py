"""A state in a file: NumPy's archive of its arrays, by name, whose checksums are those of a zip."""

import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowjax.training.state import TrainState, check_state

# The name of the dtypes and shapes, which no leaf has.
_KINDS = "kinds"


def save(path: Any, state: TrainState) -> None:
    """Writes the arrays of a state to a file, all of them or, if it is stopped, nothing.

    Args:
        path: the path of the file, a string or an `os.PathLike`; what is there is replaced once the
            new one is whole.
        state: a `TrainState`, such as a callback of `fit` is given.

    Raises:
        TypeError: state is no `TrainState`.
        OSError: the file cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> import jax, optax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> loss = lambda model, x, key: (model - x) ** 2
        >>> key, sgd = jax.random.key(0), optax.sgd(0.5)
        >>> state = fj.training.init(jnp.array(0.0), loss, key, optimizer=sgd)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     fj.training.save(f"{folder}/state", state)
        ...     print([file.name for file in pathlib.Path(folder).iterdir()])
        ['state']
    """
    path, partial = Path(path), Path(f"{path}.partial")
    check_state(state, "state")
    leaves = {name: np.asarray(leaf) for name, leaf in _leaves(state)}
    # NumPy's format does not know bfloat16 and its like: bytes do for all.
    written: Any = {n: np.frombuffer(leaf.tobytes(), np.uint8) for n, leaf in leaves.items()}
    written[_KINDS] = np.array(json.dumps(_kinds(leaves)))
    try:
        with open(partial, "wb") as file:
            np.savez(file, **written)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def restore(path: Any, like: TrainState) -> TrainState:
    """The state that `save` has written, for `fit(..., state=)` to go on from.

    Args:
        path: the path of the file, a string or an `os.PathLike`.
        like: a `TrainState` of the same model, key and optimiser, such as `init` makes.

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
    check_state(like, "like")
    wanted = dict(_leaves(like))
    kinds = _kinds(wanted)
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            written = json.loads(str(file[_KINDS]))
            read = {name: file[name] for name in written}
    except (EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"path must be a file that save has written, and whole, but {path} is not: {error}"
        ) from error
    for name in {**kinds, **written}:
        if kinds.get(name) != written.get(name):
            raise ValueError(
                f"path must be a file of a state like `like`, in which {name} is "
                f"{kinds.get(name)}, but in {path} it is {written.get(name)}."
            )

    def filled(name: str, leaf: Array) -> Array:
        array = jnp.asarray(read[name].view(leaf.dtype).reshape(leaf.shape))
        return jax.device_put(array, leaf.sharding) if getattr(leaf, "committed", False) else array

    arrays = iter([filled(name, leaf) for name, leaf in wanted.items()])
    return jax.tree.map(
        lambda leaf: _as_key(next(arrays), leaf) if eqx.is_array(leaf) else leaf, like
    )


def _kinds(leaves: dict[str, Any]) -> dict[str, list[Any]]:
    """Dtype and shape of each array, as JSON gives them back."""
    return {name: [str(leaf.dtype), list(leaf.shape)] for name, leaf in leaves.items()}


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _leaves(state: TrainState) -> list[tuple[str, Array]]:
    """The arrays of a state by name, and of keys the numbers that name them."""
    return [
        (jax.tree_util.keystr(path), jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
        if eqx.is_array(leaf)
    ]


def _as_key(read: Any, like: Any) -> Any:
    return jax.random.wrap_key_data(read, impl=jax.random.key_impl(like)) if _is_key(like) else read
