"""The training loop: any per-sample loss, any pytree of data, any optax optimiser."""

import contextlib
import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.core import Tracer

from flowjax import _check
from flowjax._devices import rows
from flowjax._progress import progress_bar

# How often the progress bar asks for the loss, and so waits for the device.
_STEPS_PER_BAR_UPDATE = 50


def fit(
    model: Any,
    loss: Callable[[Any, Any, Array], Array],
    data: Any,
    key: Array,
    *,
    optimizer: optax.GradientTransformation,
    steps: int,
    batch_size: int,
    progress: bool = False,
) -> tuple[Any, Array]:
    r"""Trains a model by stochastic gradient descent on the mean loss of random batches.

    $$\theta \leftarrow \theta + \mathrm{optimizer}\Big(\nabla_\theta \frac1B
    \sum_{b=1}^{B} \mathrm{loss}(\theta, \mathrm{sample}_b, \mathrm{key}_b)\Big)$$

    Each pass over the data visits it in a new random order, in batches; a last batch that would
    not be full is left out. The batches and keys of step i are a function of (key, i) alone.

    Args:
        model: an equinox module or any pytree. Its floating arrays are trained.
        loss: ``loss(model, sample, key) -> scalar`` for one sample, an element of data.
        data: a pytree of arrays with one leading axis of N samples, such as ``(images, labels)``.
        key: one JAX key; it names the batches and the randomness of the loss.
        optimizer: an optax optimiser, such as ``optax.adamw(1e-3)``.
        steps: how many updates.
        batch_size: how many samples each update sees, at most N.
        progress: show a bar (tqdm) with the current loss.

    Returns:
        ``(model, losses)``: the trained model and the mean loss of each batch before its update,
        of shape (steps,). A loss that is not finite is passed on, with a RuntimeWarning that
        names the first such step.

    Raises:
        TypeError: steps or batch_size is not an int, optimizer is not an optax optimiser, loss is
            not a function or the loss of one sample not a real floating scalar, a leaf of data is
            not an array of numbers, or the model has no floating array.
        ValueError: data has no leaf, no sample, or leaves that differ in N; or steps or batch_size
            is out of range.
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
        >>> slope, losses = fj.training.fit(
        ...     jnp.array(0.0),
        ...     loss,
        ...     (x, 3 * x),
        ...     jax.random.key(0),
        ...     optimizer=optax.adam(0.1),
        ...     steps=200,
        ...     batch_size=16,
        ... )
        >>> print(f"{slope:.2f}", losses.shape)
        3.00 (200,)
    """
    _check.single_key(key)
    _check.function(loss, "loss", "(model, sample, key) -> scalar")
    steps = _check.positive_int(steps, "steps")
    data, count = _samples(data)
    batch_size = _check.at_most(
        _check.positive_int(batch_size, "batch_size"), count, "batch_size", "the number of samples"
    )
    if not isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(
            f"optimizer must be an optax optimiser, such as optax.adamw(1e-3), got {optimizer!r}."
        )
    # A weak type, as of jnp.array(0.0), would last one step only and compile the next one anew.
    model = jax.tree.map(
        lambda leaf: jnp.asarray(leaf, leaf.dtype) if eqx.is_inexact_array(leaf) else leaf, model
    )
    parameters = eqx.filter(model, eqx.is_inexact_array)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((model, data, key))):
        raise TypeError("fit is a loop of Python, over compiled steps: call it outside jit.")
    for name, leaf in _check.leaves_with_names(parameters, "model"):
        if jnp.iscomplexobj(leaf):
            raise TypeError(f"{name} must be real, got {leaf.dtype}: train its two parts.")
    if not jax.tree.leaves(parameters):
        raise TypeError(f"model must hold floating arrays to train, got {model!r}.")

    order_key, loss_key = jax.random.split(key)
    batches_per_pass = count // batch_size
    optimizer_state = optimizer.init(parameters)
    order: Any = None
    losses = []
    with progress_bar(steps, "training", "step") if progress else contextlib.nullcontext() as bar:
        for i in range(steps):
            pass_number, batch_number = divmod(i, batches_per_pass)
            if batch_number == 0:
                order = jax.random.permutation(jax.random.fold_in(order_key, pass_number), count)
            model, optimizer_state, value = _update(
                model,
                optimizer_state,
                data,
                order,
                # An array, so that it is traced: a static number would compile every step anew.
                jnp.asarray(batch_number),
                jax.random.fold_in(loss_key, i),
                loss,
                optimizer,
                batch_size,
            )
            losses.append(value)
            if bar is not None and ((i + 1) % _STEPS_PER_BAR_UPDATE == 0 or i + 1 == steps):
                bar.set_postfix(loss=f"{float(value):.4f}", refresh=False)
                bar.update(i + 1 - bar.n)
    return model, _checked(losses)


@eqx.filter_jit
def _update(
    model: Any,
    optimizer_state: Any,
    data: Any,
    order: Array,
    batch_number: Array,
    key: Array,
    loss: Callable,
    optimizer: optax.GradientTransformation,
    batch_size: int,
) -> tuple[Any, Any, Array]:
    indices = jax.lax.dynamic_slice(order, (batch_number * batch_size,), (batch_size,))
    samples = jax.tree.map(lambda leaf: rows(leaf, indices), data)
    keys = jax.random.split(key, batch_size)

    def checked(model: Any, sample: Any, key: Array) -> Array:
        return _check.returned_scalar(loss(model, sample, key), "loss(model, sample, key)")

    def mean_loss(model: Any) -> Array:
        return jnp.mean(jax.vmap(checked, in_axes=(None, 0, 0))(model, samples, keys))

    value, gradient = eqx.filter_value_and_grad(mean_loss)(model)
    updates, optimizer_state = optimizer.update(
        gradient, optimizer_state, eqx.filter(model, eqx.is_inexact_array)
    )
    return eqx.apply_updates(model, updates), optimizer_state, value


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
    return jax.tree.map(jnp.asarray, data), count


def _checked(losses: list[Array]) -> Array:
    values = np.asarray(jax.device_get(losses))
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        warnings.warn(
            f"the loss is not finite from step {bad[0]} on ({bad.size} of {values.size} steps).",
            RuntimeWarning,
            stacklevel=3,
        )
    return jnp.asarray(values)
