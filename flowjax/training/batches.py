"""Where the batches of a training come from, as functions of a key and the number of the step."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowjax import _check
from flowjax._devices import rows
from flowjax.training.state import refuse_traced

# A compiled loop takes at most so many steps in one call, and its batches so many samples.
_STEPS, _SAMPLES = 1000, 2**20

# So many random numbers are drawn and sorted at once, or a whole pass.
_DRAWN = 2**16


class Batches(NamedTuple):
    """Batches for a compiled loop.

    Args:
        data: what all calls of it see.
        places: ``(at, count) -> places``, what one call sees that begins at a step.
        batch_of: ``(data, places, i, step_index) -> batch``, of step i of a call; traced.
        most: how many steps one call takes at most.
    """

    data: Any
    places: Callable[[int, int], Any]
    batch_of: Callable[[Any, Any, Array, Array], Any]
    most: int


def batches_of(data: Any, batch_size: int | None, key: Array) -> Batches:
    """The batches of arrays, in a new order in each pass, or those that a function draws."""
    if callable(data):
        draw = _check.function(data, "data", "(key, i) -> batch, or arrays", takes=2)
        check_whole(batch_size)
        return Batches((draw, key), _nowhere, _draw, _STEPS)
    data, samples = _samples(data)
    if batch_size is None:
        raise ValueError(f"batch_size must be given, an int of at most {samples}, got None.")
    size = _check.at_most(
        _check.positive_int(batch_size, "batch_size"),
        samples,
        "batch_size",
        "the number of samples",
    )
    most = min(_STEPS, max(_SAMPLES // size, 1))
    return Batches(data, partial(_places, _Orders(key, samples), size, most), _rows, most)


def check_whole(batch_size: int | None) -> None:
    """Refuses a batch_size where the batches come whole."""
    if batch_size is not None:
        raise ValueError(f"batch_size is for arrays; these batches come whole, got {batch_size}.")


def _nowhere(at: int, count: int) -> None:
    return None


def _draw(source: Any, places: None, i: Array, step_index: Array) -> Any:
    draw, key = source
    return draw(jax.random.fold_in(key, step_index), step_index)


def _rows(data: Any, places: Array, i: Array, step_index: Array) -> Any:
    return jax.tree.map(lambda leaf: rows(leaf, places[i]), data)


def _places(orders: "_Orders", size: int, most: int, at: int, count: int) -> Array:
    """Which samples are in the batch of each of some steps; zeros after these."""
    places = np.zeros((most, size), np.uint32)
    in_pass = orders.samples // size
    for number in range(at // in_pass, (at + count - 1) // in_pass + 1):
        first = number * in_pass
        low, high = max(at, first), min(at + count, first + in_pass)
        batches = orders[number][: in_pass * size].reshape(in_pass, size)
        places[low - at : high - at] = batches[low - first : high - first]
    return jnp.asarray(places)


class _Orders:
    """The order of the samples in each pass, by its number; those that lie beside it are kept.

    They are sorted by random bits, and then as they come. NumPy does so in a fiftieth of the time
    of `jax.random.permutation` on a CPU.
    """

    def __init__(self, key: Array, samples: int):
        self.key, self.samples = key, samples
        self._together = max(_DRAWN // samples, 1)
        self._first, self._kept = None, np.empty(())

    def __getitem__(self, number: int) -> np.ndarray:
        first = number - number % self._together
        if first != self._first:
            bits = np.asarray(_bits(self.key, np.int32(first), self._together, self.samples))
            packed = bits.astype(np.uint64) << 32 | np.arange(self.samples, dtype=np.uint64)
            self._first, self._kept = first, np.sort(packed).astype(np.uint32)
        return self._kept[number - first]


@partial(jax.jit, static_argnums=(2, 3))
def _bits(key: Array, first: Array, count: int, samples: int) -> Array:
    # By an rbg key, under `vmap`, they would depend on the first of them.
    words = jax.random.bits(key, (2,), jnp.uint32)
    threefry = jax.random.wrap_key_data(words, impl="threefry2x32")
    keys = jax.vmap(lambda i: jax.random.fold_in(threefry, first + i))(
        jnp.arange(count, dtype=jnp.int32)
    )
    return jax.vmap(lambda key: jax.random.bits(key, (samples,), jnp.uint32))(keys)


def _samples(data: Any) -> tuple[Any, int]:
    """The data as arrays, and how many samples they hold."""
    for name, leaf in _check.leaves_with_names(data, "data"):
        numeric = isinstance(leaf, np.ndarray) and leaf.dtype.kind not in "OSUMm"
        if not numeric and not isinstance(leaf, jax.Array):
            got = getattr(leaf, "dtype", type(leaf).__name__)
            raise TypeError(f"{name} must be an array of numbers, got {got}.")
    count = _check.samples(data, "data")
    data = jax.tree.map(jnp.asarray, data)
    refuse_traced(data)
    for name, leaf in _check.leaves_with_names(data, "data"):
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and not bool(jnp.isfinite(leaf).all()):
            bad = int(jnp.sum(~jnp.isfinite(leaf)))
            raise ValueError(f"{name} must be finite, got {bad} numbers that are not.")
    return data, count
