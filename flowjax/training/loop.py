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
from flowjax._progress import progress_bar
from flowjax.training.batches import Batches, batches_of, check_whole
from flowjax.training.state import (
    Info,
    TrainState,
    after,
    check_state,
    init,
    refuse_traced,
    step,
)

# A bar that is shown moves after so many steps.
_SHOWN = 100


def fit(
    model: Any,
    loss: Callable[[Any, Any, Any], Any],
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
            or a function ``(key, i) -> batch``, which draws the batch of step i by a key of that
            step (it is traced); or an iterator of batches, which goes on where it stands.
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
        ``(state, losses)``, the last state, with the trained model ``state.model``, and the mean
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

    References:
        Robbins, Monro (1951), "A stochastic approximation method", Annals of Mathematical
        Statistics 22.
    """
    steps, every = _check.positive_int(steps, "steps"), _check.positive_int(every, "every")
    how = {"optimizer": optimizer, "ema": ema, "trainable": trainable, "batch_loss": batch_loss}
    begun = init(model, loss, key, **how)
    now = begun if state is None else going_on(state, begun)
    refuse_traced(now)
    run = _taken(data, batch_size, now, progress)
    at = first = int(now.step)
    losses, info = [], None
    with progress_bar(steps, "training", "step") if progress else contextlib.nullcontext() as bar:
        while at < first + steps:
            now, info, values, count = run(now, at, min(first + steps - at, every - at % every))
            losses.append(values[:count] if count < len(values) else values)
            at += count
            if bar is not None:
                bar.set_postfix(loss=f"{float(info.loss):.4f}", refresh=False)
                bar.update(count)
            if callback is not None and (at == first + steps or at % every == 0):
                callback(now, info)
    return now, _finite(jax.device_get(losses), first)


def _taken(data: Any, batch_size: int | None, state: TrainState, shown: bool) -> Callable[..., Any]:
    """What takes some steps, at most so many: ``-> state, info, losses, how many``."""
    if isinstance(data, Iterator):
        check_whole(batch_size)
        return partial(_one_by_one, data)
    # As `after`: the second of the two is the loss's.
    batches = batches_of(data, batch_size, jax.random.split(state.key)[0])
    if batch_size is not None and state.step == 0 and not state.recipe.batch_loss:
        _refuse_labels(state, batches)

    def run(state: TrainState, at: int, most: int) -> Any:
        # A bar that is shown moves now and then.
        count = min(most, batches.most, _SHOWN if shown else most)
        places, how = batches.places(at, count), (batches.batch_of, batches.most)
        return *_loop(state, batches.data, places, jnp.int32(count), *how), count

    return run


def _one_by_one(batches: Iterator, state: TrainState, at: int, most: int) -> Any:
    try:
        batch = next(batches)
    except StopIteration:
        raise ValueError(f"data must go on for all steps, but ended before step {at}.") from None
    state, info = step(state, batch)
    return state, info, info.loss[None], 1


def _refuse_labels(state: TrainState, batches: Batches) -> None:
    """Refuses integers of which the loss is not finite, as of a label that a model has no row for.

    Those that are out of range are the least or the largest: a step on these, by the same program,
    and where its loss is not finite another with zeros in their place, of which it is.
    """

    def finite(data: Any, sample: int) -> bool:
        places, how = batches.places(0, 0), (batches.batch_of, batches.most)
        info = _loop(state, data, jnp.full_like(places, sample), jnp.int32(1), *how)[1]
        return bool(jnp.isfinite(info.loss))

    def is_integer(leaf: Array) -> bool:
        return jnp.issubdtype(leaf.dtype, jnp.integer)

    zeros = jax.tree.map(
        lambda leaf: jnp.zeros_like(leaf) if is_integer(leaf) else leaf, batches.data
    )
    for name, leaf in _check.leaves_with_names(batches.data, "data"):
        if not is_integer(leaf) or leaf.size == 0 or not leaf.is_fully_addressable:
            continue
        values = np.asarray(leaf)
        for place in (values.argmin(), values.argmax()):
            sample = int(place) // (leaf.size // leaf.shape[0])
            if not finite(batches.data, sample) and finite(zeros, sample):
                raise ValueError(
                    f"{name} must be integers, such as labels, of which the loss is finite: it is "
                    f"not of sample {sample}, which has {values.flat[place]}."
                )


@eqx.filter_jit
def _loop(
    state: TrainState,
    data: Any,
    places: Any,
    count: Array,
    batch_of: Callable[..., Any],
    most: int,
) -> tuple[TrainState, Info, Array]:
    """So many steps, at most `most`, in one program whatever their number is; see `Batches`."""
    arrays, static = eqx.partition(state, eqx.is_array)

    # Jitted, so that its shapes and the loop trace it once.
    @jax.jit
    def one(i: Array, arrays: Any) -> tuple[Any, Info]:
        state = eqx.combine(arrays, static)
        after_it, info = after(state, batch_of(data, places, i, state.step))
        return eqx.filter(after_it, eqx.is_array), info

    def body(i: Array, carry: Any) -> Any:
        arrays, _, losses = carry
        arrays, info = one(i, arrays)
        return arrays, info, losses.at[i].set(info.loss)

    shapes = jax.eval_shape(one, jnp.int32(0), arrays)[1]
    info = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    losses = jnp.zeros(most, info.loss.dtype)
    arrays, info, losses = jax.lax.fori_loop(jnp.int32(0), count, body, (arrays, info, losses))
    return eqx.combine(arrays, static), info, losses


def going_on(state: Any, begun: TrainState) -> TrainState:
    """The state, refused unless it is one of the same model, loss, key and optimiser."""
    check_state(state, "state")
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
