"""Training as a pure function: a state, and the step that takes it on."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.core import Tracer

from flowjax import _check
from flowjax._numerics import narrow, wide


class Recipe(NamedTuple):
    """What a training is made of and does not change; see `init`."""

    loss: Callable[..., Any]
    optimizer: Any
    trainable: Any
    ema: Any
    batch_loss: bool


class TrainState(eqx.Module):
    """All that a training is at one step: with the data and this, the rest follows.

    Args:
        model: being trained.
        ema: the exponential moving average of what is trained, in at least 32 bits, and None in the
            place of the rest; see `averaged`.
        optimizer_state: of optax.
        step: how many steps were taken, a scalar of int32.
        key: one JAX key; it names the batches and the randomness of the loss.
        recipe: the loss, the optimiser and the rest of what `init` was given.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import optax
        >>> import flowjax as fj
        >>> def loss(slope, sample, key):
        ...     x, y = sample
        ...     return (slope * x - y) ** 2
        >>> x = jnp.linspace(-1.0, 1.0, 8)
        >>> key, sgd = jax.random.key(0), optax.sgd(0.5)
        >>> state = fj.training.init(jnp.array(0.0), loss, key, optimizer=sgd)
        >>> for _ in range(20):
        ...     state, info = fj.training.step(state, (x, 3 * x))
        >>> print(f"{state.model:.2f}")
        3.00
    """

    model: Any
    ema: Any
    optimizer_state: Any
    step: Array
    key: Array
    recipe: Recipe = eqx.field(static=True)


class Info(NamedTuple):
    """Of one step: the mean loss of its batch before the update, and what else the loss gave."""

    loss: Array
    aux: Any


def init(
    model: Any,
    loss: Callable[..., Any],
    key: Array,
    *,
    optimizer: Any,
    ema: float | Callable[[Array], Any] | None = None,
    trainable: Any = eqx.is_inexact_array,
    batch_loss: bool = False,
) -> TrainState:
    r"""The state before the first step.

    Args:
        model: an equinox module or any pytree.
        loss: ``loss(model, sample, key) -> scalar`` of one sample, or a pair of the scalar and
            anything else that is to be known (its mean over the batch is). With `batch_loss`,
            of the batch and one key, as where samples are coupled.
        key: one JAX key; it names the batches and the randomness of the loss.
        optimizer: an optax optimiser, such as ``optax.adamw(1e-3)``. One that asks for the value,
            the gradient or the function is given them.
        ema: the decay of an exponential moving average of what is trained, in [0, 1),
            $\bar\theta \leftarrow \mathrm{ema}\,\bar\theta + (1 - \mathrm{ema})\,\theta$
            after each step, which begins at the model; or a function of how many steps were taken,
            ``step -> decay``, such as one that grows; NaN is kept if that leaves [0, 1).
            Default: none is kept.
        trainable: what is trained, as the filter_spec of `equinox.partition`: a function of a
            leaf, or a pytree of booleans that is a prefix of the model. Default: floating arrays.
        batch_loss: whether the loss is one of a whole batch.

    Returns:
        A `TrainState`.

    Raises:
        TypeError: key is no key, loss not a function, optimizer no optax optimiser, ema no number,
            or trainable names nothing, or something that is not a real floating array.
        ValueError: ema is not in [0, 1).

    Example:
        >>> import jax, optax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> loss = lambda model, x, key: (model - x) ** 2
        >>> key, sgd = jax.random.key(0), optax.sgd(0.5)
        >>> state = fj.training.init(jnp.array(0.0), loss, key, optimizer=sgd)
        >>> int(state.step), float(state.model)
        (0, 0.0)

    References:
        Polyak, Juditsky (1992), "Acceleration of stochastic approximation by averaging", SIAM
        Journal on Control and Optimization 30; Song, Ermon, "Improved techniques for training
        score-based generative models", 2020, arXiv 2006.09011, technique 5.
    """
    _check.single_key(key)
    _check.function(loss, "loss", "(model, sample, key) -> scalar")
    if isinstance(optimizer, type) or not all(
        callable(getattr(optimizer, name, None)) for name in ("init", "update")
    ):
        raise TypeError(
            f"optimizer must be an optax optimiser, such as optax.adamw(1e-3), got {optimizer!r}."
        )
    if callable(ema):
        _check.function(ema, "ema", "step -> decay, or a decay", takes=1)
    elif ema is not None:
        ema = _check.static_number(ema, "ema")
        if not 0 <= ema < 1:
            raise ValueError(f"ema must be a decay from 0 to below 1, got {ema}.")
    for name, held in (("loss", loss), ("ema", ema)):
        if isinstance(held, eqx.Module) and any(map(eqx.is_array, jax.tree.leaves(held))):
            raise TypeError(
                f"{name} must hold no arrays, got {eqx.tree_pformat(held)}: call it in a function, "
                f"lambda *args: {name}(*args)."
            )
    # What is trained is decided once: a function of a leaf may know it by what it is.
    which = jax.tree.map(
        lambda leaf: leaf is not None, trained_part(model, trainable), is_leaf=lambda x: x is None
    )
    model = _strong(model)
    trained = eqx.filter(model, which)
    recipe = Recipe(loss, optimizer, _Static.of(which), ema, batch_loss)
    # A copy, lest one buffer be two of the state, of at least 32 bits, lest small steps be lost.
    average = None if ema is None else jax.tree.map(jnp.copy, wide(trained))
    return TrainState(
        model, average, _strong(optimizer.init(trained)), jnp.zeros((), jnp.int32), key, recipe
    )


def step(state: TrainState, batch: Any) -> tuple[TrainState, Info]:
    r"""One step of stochastic gradient descent on a batch: a pure function, compiled.

    $$\theta \leftarrow \theta + \mathrm{optimizer}\Big(\nabla_\theta \frac1B
    \sum_{b=1}^{B} \mathrm{loss}(\theta, \mathrm{batch}_b, \mathrm{key}_b)\Big)$$

    Args:
        state: from `init`, or from the step before.
        batch: a pytree of arrays with one leading axis of samples.

    Returns:
        The state after the step, and an `Info` of the loss before it.

    Raises:
        TypeError: the loss is not a real floating scalar.

    Example:
        >>> import jax, optax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> loss = lambda model, x, key: (model - x) ** 2
        >>> key, sgd = jax.random.key(0), optax.sgd(0.5)
        >>> state = fj.training.init(jnp.array(0.0), loss, key, optimizer=sgd)
        >>> state, info = fj.training.step(state, jnp.ones(4))
        >>> float(info.loss), float(state.model)
        (1.0, 1.0)

    References:
        Robbins, Monro (1951), "A stochastic approximation method", Annals of Mathematical
        Statistics 22.
    """
    return _compiled(state, batch)


def averaged(state: TrainState) -> Any:
    r"""The model with the moving average in the place of what is trained, or itself without one.

    $$\bar\theta_k = \mathrm{ema}\,\bar\theta_{k-1} + (1 - \mathrm{ema})\,\theta_k, \qquad
    \bar\theta_0 = \theta_0$$

    Args:
        state: a `TrainState`.

    Returns:
        A model, to sample with.

    Example:
        >>> import jax, optax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> loss = lambda model, x, key: (model - x) ** 2
        >>> key, sgd = jax.random.key(0), optax.sgd(0.5)
        >>> state = fj.training.init(jnp.array(0.0), loss, key, optimizer=sgd, ema=0.5)
        >>> state, _ = fj.training.step(state, jnp.ones(4))
        >>> float(state.model), float(fj.training.averaged(state))
        (1.0, 0.5)

    References:
        Polyak, Juditsky (1992), "Acceleration of stochastic approximation by averaging", SIAM
        Journal on Control and Optimization 30; Song, Ermon, "Improved techniques for training
        score-based generative models", 2020, arXiv 2006.09011, technique 5.
    """
    if state.ema is None:
        return state.model
    trained = eqx.filter(state.model, state.recipe.trainable.value)
    return eqx.combine(narrow(state.ema, trained), state.model)


def after(state: TrainState, batch: Any) -> tuple[TrainState, Info]:
    """The state after one step on a batch."""
    recipe = state.recipe
    # As the loop of `fit`: batches are drawn by the first of the two.
    key = jax.random.fold_in(jax.random.split(state.key)[1], state.step)
    trained, rest = eqx.partition(state.model, recipe.trainable.value)

    def of_batch(trained: Any) -> tuple[Array, Any]:
        model = eqx.combine(trained, rest)
        if recipe.batch_loss:
            return _scalar(recipe.loss(model, batch, key), "loss(model, batch, key)")
        leaves = jax.tree.leaves(batch)
        if not leaves or any(jnp.ndim(leaf) == 0 for leaf in leaves):
            got = eqx.tree_pformat(batch)
            raise ValueError(f"batch must be arrays with a leading axis of samples, got {got}.")
        keys = jax.random.split(key, leaves[0].shape[0])

        def one(sample: Any, key: Array) -> tuple[Array, Any]:
            return _scalar(recipe.loss(model, sample, key), "loss(model, sample, key)")

        return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), jax.vmap(one)(batch, keys))

    (value, aux), gradient = jax.value_and_grad(of_batch, has_aux=True)(trained)
    extra = {"value": value, "grad": gradient, "value_fn": lambda trained: of_batch(trained)[0]}
    updates, optimizer_state = recipe.optimizer.update(
        gradient, state.optimizer_state, trained, **_wanted(recipe.optimizer.update, extra)
    )
    trained = optax.apply_updates(trained, updates)
    average = state.ema
    if average is not None:
        decay = recipe.ema
        if callable(decay):
            decay = jnp.asarray(_check.returned_scalar(decay(state.step), "ema"))
            decay = jnp.where((decay >= 0) & (decay < 1), decay, jnp.nan)
        average = optax.incremental_update(wide(trained), average, 1 - decay)
    model = eqx.combine(trained, rest)
    return TrainState(model, average, optimizer_state, state.step + 1, state.key, recipe), Info(
        value, aux
    )


_compiled = eqx.filter_jit(after)


def _wanted(update: Callable[..., Any], extra: dict[str, Any]) -> dict[str, Any]:
    """Those of the extra arguments that an optimiser takes."""
    parameters = list(inspect.signature(update).parameters.values())
    given, others = {one.name for one in parameters[:3]}, {one.name for one in parameters[3:]}
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters):
        others |= set(extra)
    return {name: value for name, value in extra.items() if name in others - given}


def _strong(tree: Any) -> Any:
    """The tree without weak types, which would last one step only and compile the next one anew."""
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, leaf.dtype) if eqx.is_inexact_array(leaf) else leaf, tree
    )


def _scalar(value: Any, name: str) -> tuple[Array, Any]:
    pair = isinstance(value, tuple) and len(value) == 2
    loss, aux = value if pair else (value, None)
    return _check.returned_scalar(loss, name), aux


def trained_part(model: Any, trainable: Any) -> Any:
    """What of a model is trained, None in the place of the rest; refused if that is nothing."""
    try:
        trained, _ = eqx.partition(model, trainable)
    except ValueError as error:
        raise TypeError(
            f"trainable must be a function of a leaf, or booleans that are a prefix of the model, "
            f"got {trainable!r}."
        ) from error
    for name, leaf in _check.leaves_with_names(trained, "model"):
        if not eqx.is_inexact_array(leaf):
            raise TypeError(f"{name} must be a floating array to be trained, got {leaf!r}.")
        if jnp.iscomplexobj(leaf):
            raise TypeError(f"{name} must be real, got {leaf.dtype}: train its two parts.")
    if not jax.tree.leaves(trained):
        raise TypeError(f"model must hold floating arrays to train, got {model!r}.")
    return trained


def check_state(value: Any, name: str) -> None:
    """Refuses what is no state of a training."""
    if not isinstance(value, TrainState):
        raise TypeError(f"{name} must be a TrainState, such as init makes, got {value!r}.")


def refuse_traced(*trees: Any) -> None:
    """Refuses what is traced."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(trees)):
        raise TypeError("fit is a loop of Python, over compiled steps: call it outside jit.")


class _Static(NamedTuple):
    """A filter, which may be a pytree of booleans, in a form that can be hashed."""

    structure: Any
    leaves: tuple[Any, ...]

    @classmethod
    def of(cls, value: Any) -> "_Static":
        leaves, structure = jax.tree.flatten(value)
        return cls(structure, tuple(leaves))

    @property
    def value(self) -> Any:
        return jax.tree.unflatten(self.structure, self.leaves)
