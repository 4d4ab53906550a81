"""The training loop: any loss, any pytree of data or source of batches, any optax optimiser."""

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowjax import _check
from flowjax._devices import rows
from flowjax._progress import progress_bar
from flowjax.training.state import (
    Info,
    TrainState,
    after,
    init,
    refuse_traced,
    step,
)

# At most so many steps are one call of a compiled loop; then the bar moves.
_CHUNK = 100


def fit(
    model: Any,
    loss: Callable[..., Any],
    data: Any,
    key: Array,
    *,
    optimizer: Any,
    steps: int,
    batch_size: int | None = None,
    state: TrainState | None = None,
    ema: float | Callable[[Array], Any] | None = None,
    trainable: Any = eqx.is_inexact_array,
    batch_loss: bool = False,
    callback: Callable[[TrainState, Info], Any] | None = None,
    every: int = 1000,
    progress: bool = False,
) -> tuple[TrainState, Array]:
    r"""Trains a model by stochastic gradient descent on the mean loss of random batches.

    $$\theta \leftarrow \theta + \mathrm{optimizer}\Big(\nabla_\theta \frac1B
    \sum_{b=1}^{B} \mathrm{loss}(\theta, \mathrm{sample}_b, \mathrm{key}_b)\Big)$$

    Each pass over arrays visits them in a new random order, in batches; a last batch that would
    not be full is left out. The batches and keys of step i are a function of (key, i) alone, so
    that to go on from a state is the same, bit for bit, as not to have stopped.

    Args:
        model: an equinox module or any pytree.
        loss: ``loss(model, sample, key) -> scalar`` for one sample; see `init`.
        data: a pytree of arrays with one leading axis of N samples, such as ``(images, labels)``;
            or a function ``(key, i) -> batch``, which draws the batch of step i (it is traced); or
            an iterator of batches, which goes on where it stands.
        key: one JAX key; it names the batches and the randomness of the loss.
        optimizer: an optax optimiser, such as ``optax.adamw(1e-3)``; see `init`.
        steps: how many updates.
        batch_size: how many samples each update sees, at most N; for arrays alone.
        state: where to go on: the state that an earlier call returned, of the same model, loss,
            key and optimiser. Its own model is then the one that is trained.
        ema: the decay of a moving average; see `init`.
        trainable: what is trained; see `init`.
        batch_loss: whether the loss is one of a whole batch; see `init`.
        callback: called as ``callback(state, info)`` after each `every` steps and at the end, to
            evaluate, sample, log or save.
        every: how many steps lie between two calls of it.
        progress: show a bar (tqdm) with the current loss.

    Returns:
        ``(state, losses)``: the last state, with the trained model ``state.model``, and the mean
        loss of each batch before its update, of shape (steps,). A loss that is not finite is
        passed on, with a RuntimeWarning that names the first such step: nothing is skipped.

    Raises:
        TypeError: steps, batch_size or every is not an int, optimizer is not an optax optimiser,
            loss is not a function or the loss not a real floating scalar, a leaf of data is
            not an array of numbers, or the model has no floating array.
        ValueError: data has no leaf, no sample, leaves that differ in N or numbers that are not
            finite, or integers, such as labels out of range, of which the loss is not; steps or
            batch_size is out of range; batch_size is missing, or given where the
            batches come from elsewhere; state is one of another model, loss, key or optimiser; or
            an iterator ends too soon.
        ImportError: progress is asked for and tqdm is not installed.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import optax
        >>> import flowjax as fj
        >>> x = jnp.linspace(-1.0, 1.0, 64)
        >>> def loss(slope, sample, key):
        ...     x, y = sample
        ...     return (slope * x - y) ** 2
        >>> state, losses = fj.training.fit(
        ...     jnp.array(0.0),
        ...     loss,
        ...     (x, 3 * x),
        ...     jax.random.key(0),
        ...     optimizer=optax.adam(0.1),
        ...     steps=200,
        ...     batch_size=16,
        ... )
        >>> print(f"{state.model:.2f}", losses.shape)
        3.00 (200,)
    """
    steps, every = _check.positive_int(steps, "steps"), _check.positive_int(every, "every")
    how = {"optimizer": optimizer, "ema": ema, "trainable": trainable, "batch_loss": batch_loss}
    begun = init(model, loss, key, **how)
    now = begun if state is None else going_on(state, begun)
    refuse_traced(now)
    run = _batches(data, batch_size, now)
    at = first = int(now.step)
    losses, info = [], None
    with progress_bar(steps, "training", "step") if progress else contextlib.nullcontext() as bar:
        while at < first + steps:
            now, info, values, count = run(now, at, min(first + steps - at, every - at % every))
            losses.append((values, count))
            at += count
            if bar is not None:
                bar.set_postfix(loss=f"{float(info.loss):.4f}", refresh=False)
                bar.update(count)
            if callback is not None and (at == first + steps or at % every == 0):
                callback(now, info)
    return now, _finite([values[:count] for values, count in jax.device_get(losses)], first)


def _batches(data: Any, batch_size: int | None, state: TrainState) -> Callable[..., Any]:
    """What takes a few of so many steps, on the data: ``-> state, info, losses, how many``."""
    # As `after`: the second of the two is the loss's.
    key = jax.random.split(state.key)[0]
    if callable(data) or isinstance(data, Iterator):
        if callable(data):
            _check.function(data, "data", "(key, i) -> batch, or arrays", takes=2)
        if batch_size is not None:
            raise ValueError(
                f"batch_size is for arrays; these batches come whole, got {batch_size}."
            )
        return (
            partial(_one_by_one, data) if isinstance(data, Iterator) else partial(_drawn, data, key)
        )
    data, samples = _samples(data)
    if batch_size is None:
        raise ValueError(f"batch_size must be given, an int of at most {samples}, got None.")
    size = _check.at_most(
        _check.positive_int(batch_size, "batch_size"),
        samples,
        "batch_size",
        "the number of samples",
    )
    in_pass = samples // size
    # Many short passes at once, or a long one, of which the order is kept.
    passes = 1 if in_pass >= _CHUNK else _CHUNK // in_pass + 2
    kept: dict[int, Array] = {}
    if state.step == 0 and not state.recipe.batch_loss:
        _refuse_labels(state, data, size, jnp.zeros((passes, samples), jnp.int32))

    def run(state: TrainState, at: int, most: int) -> Any:
        number = at // in_pass
        first = next(iter(kept), number)
        if first not in kept or not first <= number < first + passes:
            kept.clear()
            first, kept[number] = number, _orders(key, number, passes, samples)
        place = at - first * in_pass
        count = min(most, _CHUNK, passes * in_pass - place)
        numbers = jnp.int32(place), jnp.int32(count)
        return *_loop(state, (data, kept[first]), size, *numbers, _rows), count

    return run


def _refuse_labels(state: TrainState, data: Any, size: int, orders: Array) -> None:
    """Refuses integers of which the loss is not finite, as of a label that a model has no row for.

    Those that are out of range are the least or the largest: a step on these, by the same program,
    and where its loss is not finite another with zeros in their place, of which it is.
    """

    def finite(data: Any, sample: Array) -> bool:
        source, first = (data, jnp.full_like(orders, sample)), (jnp.int32(0), jnp.int32(1))
        return bool(jnp.isfinite(_loop(state, source, size, *first, _rows)[1].loss))

    leaves, structure = jax.tree.flatten(data)
    for i, (name, leaf) in enumerate(_check.leaves_with_names(data, "data")):
        if not jnp.issubdtype(leaf.dtype, jnp.integer) or leaf.size == 0:
            continue
        zeros = jax.tree.unflatten(structure, [*leaves[:i], jnp.zeros_like(leaf), *leaves[i + 1 :]])
        for place in (jnp.argmin(leaf), jnp.argmax(leaf)):
            sample = place // (leaf.size // leaf.shape[0])
            if not finite(data, sample) and finite(zeros, sample):
                raise ValueError(
                    f"{name} must be integers, such as labels, of which the loss is finite: it is "
                    f"not of sample {sample}, which has {leaf.reshape(-1)[place]}."
                )


@partial(jax.jit, static_argnums=(2, 3))
def _orders(key: Array, first: Any, passes: int, samples: int) -> Array:
    """The orders of some passes over the samples."""

    def order(number: Array) -> Array:
        return jax.random.permutation(jax.random.fold_in(key, number), samples)

    # One after the other: by an rbg key under `vmap` an order would depend on the first of them.
    return jax.lax.map(order, first + jnp.arange(passes))


def _rows(source: Any, size: int, place: Array, step_index: Array) -> Any:
    """The batch at a place, counted from the first of the passes."""
    data, orders = source
    number, start = jnp.divmod(place, orders.shape[1] // size)
    indices = jax.lax.dynamic_slice(orders, (number, start * size), (1, size))[0]
    return jax.tree.map(lambda leaf: rows(leaf, indices), data)


def _drawn(draw: Callable[..., Any], key: Array, state: TrainState, at: int, most: int) -> Any:
    count = min(most, _CHUNK)
    return *_loop(state, (draw, key), 0, jnp.int32(0), jnp.int32(count), _draw), count


def _draw(source: Any, size: int, place: Array, step_index: Array) -> Any:
    draw, key = source
    return draw(key, step_index)


def _one_by_one(batches: Iterator, state: TrainState, at: int, most: int) -> Any:
    try:
        batch = next(batches)
    except StopIteration:
        raise ValueError(f"data must go on for all steps, but ended before step {at}.") from None
    state, info = step(state, batch)
    return state, info, info.loss[None], 1


@eqx.filter_jit
def _loop(
    state: TrainState,
    source: Any,
    size: int,
    place: Array,
    count: Array,
    batch_of: Callable[..., Any],
) -> tuple[TrainState, Info, Array]:
    """So many steps, at most `_CHUNK`, in one program whatever their number is."""
    arrays, static = eqx.partition(state, eqx.is_array)

    # Jitted, so that its shapes and the loop trace it once.
    @jax.jit
    def one(place: Array, arrays: Any) -> tuple[Any, Info]:
        state = eqx.combine(arrays, static)
        after_it, info = after(state, batch_of(source, size, place, state.step))
        return eqx.filter(after_it, eqx.is_array), info

    def body(i: Array, carry: Any) -> Any:
        arrays, _, losses = carry
        arrays, info = one(place + i.astype(place.dtype), arrays)
        return arrays, info, losses.at[i].set(info.loss)

    info = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(one, place, arrays)[1]
    )
    losses = jnp.zeros(_CHUNK, info.loss.dtype)
    arrays, info, losses = jax.lax.fori_loop(0, count, body, (arrays, info, losses))
    return eqx.combine(arrays, static), info, losses


def going_on(state: Any, begun: TrainState) -> TrainState:
    """The state, refused unless it is one of the same model, loss, key and optimiser."""
    if not isinstance(state, TrainState):
        raise TypeError(f"state must be a TrainState, such as fit returns, got {state!r}.")
    for name in ("model", "ema", "optimizer_state"):
        got, want = (_kinds(getattr(one, name)) for one in (state, begun))
        if got != want:
            got, want = (one[1] if got[1] != want[1] else one[0] for one in (got, want))
            raise ValueError(
                f"state must be one of this {name.removesuffix('_state')}, {want}, got {got}."
            )
    words = [jax.random.key_data(one.key).tolist() for one in (state, begun)]
    if words[0] != words[1]:
        raise ValueError(f"state must be one of this key, {begun.key}, got {state.key}.")
    # Its loss and optimiser are those that are given now: a new function of them is no other one.
    return dataclasses.replace(state, recipe=begun.recipe, key=begun.key)


def _kinds(tree: Any) -> tuple[Any, list[str]]:
    arrays = eqx.filter(tree, eqx.is_array)
    return jax.tree.structure(arrays), [
        f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(arrays)
    ]


def _samples(data: Any) -> tuple[Any, int]:
    """The data as arrays, and how many samples they hold."""
    leaves = _check.leaves_with_names(data, "data")
    if not leaves:
        raise ValueError("data must hold at least one array, got a pytree without leaves.")
    for name, leaf in leaves:
        numeric = isinstance(leaf, np.ndarray) and leaf.dtype.kind not in "OSUMm"
        if not numeric and not isinstance(leaf, jax.Array):
            got = getattr(leaf, "dtype", type(leaf).__name__)
            raise TypeError(f"{name} must be an array of numbers, got {got}.")
        if leaf.ndim == 0:
            raise ValueError(f"{name} must have a leading axis of samples, got a scalar.")
    counts = {name: leaf.shape[0] for name, leaf in leaves}
    if len(set(counts.values())) > 1:
        raise ValueError(f"data must have one number of samples in all leaves, got {counts}.")
    count = leaves[0][1].shape[0]
    if count == 0:
        raise ValueError("data must hold at least one sample, got none.")
    data = jax.tree.map(jnp.asarray, data)
    refuse_traced(data)
    for name, leaf in _check.leaves_with_names(data, "data"):
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and not bool(jnp.isfinite(leaf).all()):
            bad = int(jnp.sum(~jnp.isfinite(leaf)))
            raise ValueError(f"{name} must be finite, got {bad} numbers that are not.")
    return data, count


def _finite(losses: list[np.ndarray], first: int) -> Array:
    """The losses, with a warning if they are not finite."""
    values = np.concatenate(losses)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        warnings.warn(
            f"the loss is not finite from step {first + bad[0]} on ({bad.size} of {values.size} "
            f"steps).",
            RuntimeWarning,
            stacklevel=3,
        )
    return jnp.asarray(values)
