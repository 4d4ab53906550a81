"""The regression on a pair (x_0, x_1) that trains a flow or diffusion model."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from flowjax import _check
from flowjax._numerics import narrow, weighted, wide, widest
from flowjax._types import State
from flowjax.fields.predictions import check_name, converted, on_leaves
from flowjax.fields.velocity import Velocity, velocity
from flowjax.losses.times import time_of, uniform
from flowjax.losses.weights import weight_at
from flowjax.schedules.interpolations import CondOT
from flowjax.schedules.point import PathPoint, path_at
from flowjax.schedules.schedule import Schedule, checked_schedule
from flowjax.solver.door import as_plain_field


def flow_matching(
    model: Callable[[Any, Any, Any], Any],
    x1: Any,
    key: Array,
    args: Any = None,
    *,
    schedule: Any = None,
    predicts: str = "velocity",
    x0: Any = None,
    t: Any = None,
    time: Callable[[Array], Array] = uniform,
    weight: Any = None,
) -> Array:
    r"""The loss of one sample by which a model learns one of the five predictions.

    $$\frac{w(t)}{d} \left\| m(t, x_t) - y \right\|^2, \qquad
    x_t = \alpha_t x_1 + \sigma_t x_0$$

    with d the number of elements and the target y of the pair:

    ==========  =========================================
    velocity    $\dot\alpha_t x_1 + \dot\sigma_t x_0$
    data        $x_1$
    noise       $x_0$
    score       $-x_0 / \sigma_t$
    v           $\alpha_t x_0 - \sigma_t x_1$
    ==========  =========================================

    Its expectation is least at $E[y \mid x_t = x]$, the prediction itself, whatever the weight and
    the law of t, where it equals the mean variance of y given x_t. In general that is not zero. Of
    the velocity, and where the square of sigma' has no integral (`SquareRoot` and
    `VariancePreserving`, at t = 1), it is infinite for data with a density: the mean of a batch
    does not settle. There, predict the data, the noise or v, or give a weight such as `min_snr`, as
    in the example.

    Args:
        model: what is trained: a callable ``(t, x, args)`` with x's structure, shapes and dtypes,
            or what `fj.velocity` or `fj.precondition` makes of one.
        x1: one data sample: a floating array or a pytree of them.
        key: one JAX key; it names the time and the noise.
        args: passed on to the model, such as the sample's label; see `drop_label`.
        schedule: the path from noise (t = 0) to data (t = 1), for a model that has none of its
            own. Default: `CondOT()`.
        predicts: which of the five is compared: "velocity", "data", "noise", "score" or "v".
            What a `Velocity` gives is converted; any other model is taken to give this one, as
            what `fj.precondition` makes gives "data".
        x0: where the path begins: one sample like x1, as of a coupling, or a function
            ``key -> x0``. Default: standard normal. A model of such pairs is one for
            ``fj.velocity(..., coupled=True)``, unless x0 is standard normal and independent.
        t: the time, a scalar within [0, 1], such as one of `stratified`. Default: drawn.
        time: the law of t: how a uniform number in (0, 1) becomes t, such as `logit_normal`.
        weight: w, a function ``(t, schedule, predicts) -> scalar``, such as `min_snr`. Default: 1.

    Returns:
        The loss, a scalar of at least 32 bits. For a batch, `jax.vmap` over samples and keys,
        and the mean.

    Raises:
        TypeError: the model is not callable or known to give something else, x1 or x0 is not
            floating, key is not a JAX key, schedule is no schedule, time or weight no function, or
            the weight no real scalar.
        ValueError: x1 holds no number, x0 or the model's output is unlike it, key is a batch of
            keys, schedule is given for a model with one of its own, predicts is none of the five,
            or the score with an x0 of one's own; or t leaves [0, 1].

    Example:
        A loss that settles under `VariancePreserving`, by times that stay away from the data:

        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> keys = jax.random.split(jax.random.key(0), 1000)
        >>> x1 = jnp.full((1000, 2), 3.0)
        >>> def exact(t, x, args):  # all data at 3
        ...     return jnp.full_like(x, 3.0)
        >>> loss = lambda x1, key: fj.losses.flow_matching(
        ...     exact,
        ...     x1,
        ...     key,
        ...     schedule=fj.VariancePreserving(),
        ...     predicts="data",
        ...     weight=fj.losses.min_snr(5.0),
        ... )
        >>> float(jax.jit(jax.vmap(loss))(x1, keys).mean())
        0.0

    References:
        Lipman, Chen, Ben-Hamu, Nickel, Le, "Flow matching for generative modeling", 2022,
        arXiv 2210.02747, equation 14; Salimans, Ho, "Progressive distillation for fast
        sampling of diffusion models", 2022, arXiv 2202.00512, appendix D;
        Holderrieth, Erives, "An introduction to flow matching and diffusion models" (MIT
        6.S184), 2025, arXiv 2506.02070, section 4.1.
    """
    _check.single_key(key)
    x1 = _check.state(x1, "x1")
    _check.elements(x1, "x1")
    v = velocity_of(model, schedule, predicts)
    time_key, noise_key = jax.random.split(key)
    if x0 is not None and predicts == "score":
        raise ValueError(
            "predicts must not be 'score' where x0 is given: of pairs that are coupled, or do not "
            "begin with noise, no score follows. Predict the noise, the data or the velocity."
        )
    x0 = start_of(x0, x1, noise_key)
    dtype = widest(x1)
    t = drawn_time(t, time, time_key, dtype)
    path = path_at(v.schedule, t, dtype)
    xt = narrow(on_path(path, x0, wide(x1)), x1)
    given = _check.alike(v.model(t, xt, args), xt, "the model's output")
    if predicts != v.predicts:
        given = on_leaves(lambda *a: converted(v.predicts, predicts, *a), path, xt, given)
    factor = weight_at(weight, t, v.schedule, predicts)
    return (factor * mean_square(given, target_of(predicts, path, x0, wide(x1)))).astype(dtype)


def interpolate(x0: Any, x1: Any, t: Any, schedule: Any) -> State:
    r"""The state between a start and a data sample, $x_t = \alpha_t x_1 + \sigma_t x_0$.

    Args:
        x0: where the path begins, a floating array or a pytree of them.
        x1: where it ends, with x0's structure and shapes.
        t: time, a scalar, 0 (x0) to 1 (x1).
        schedule: such as `fj.CondOT()`.

    Returns:
        The state, with x1's structure, shapes and dtypes.

    Raises:
        TypeError: schedule is no schedule, or a leaf is not real floating.
        ValueError: x0 is unlike x1, or t is no scalar.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> fj.losses.interpolate(jnp.array([0.0]), jnp.array([4.0]), 0.25, fj.CondOT()).tolist()
        [1.0]

    References:
        Lipman, Chen, Ben-Hamu, Nickel, Le, "Flow matching for generative modeling", 2022,
        arXiv 2210.02747, equation 10.
    """
    x1 = _check.state(x1, "x1")
    x0 = _check.alike(x0, x1, "x0", exact=False, of="x1")
    path = path_at(checked_schedule(schedule), t, widest(x1))
    return narrow(on_path(path, wide(x0), wide(x1)), x1)


def drop_label(key: Array, label: Any, null: Any, rate: Any = 0.1) -> Any:
    r"""The label, or now and then the null label, as classifier-free guidance is trained.

    $$y' = \varnothing \text{ with probability } r, \quad y \text{ otherwise}$$

    Args:
        key: one JAX key, such as one of the two that the key of a loss is split into.
        label: of one sample: an array or a pytree of them.
        null: what stands for no label, with the structure and shapes of label.
        rate: r, the probability of the null label, a scalar from 0 to 1.

    Returns:
        What to train with, like label.

    Raises:
        TypeError: key is no key, or rate no number.
        ValueError: null is unlike label, or rate is not within [0, 1].

    Example:
        >>> import jax
        >>> import flowjax as fj
        >>> keys = jax.random.split(jax.random.key(0), 1000)
        >>> labels = jax.vmap(lambda key: fj.losses.drop_label(key, 3, 10))(keys)
        >>> sorted(set(labels.tolist()))
        [3, 10]

    References:
        Ho, Salimans, "Classifier-free diffusion guidance", 2022, arXiv 2207.12598, algorithm 1.
    """
    _check.single_key(key)
    rate = _check.number(rate, "rate")
    _check.require(lambda r: 0 <= r <= 1, rate, message="rate must lie within [0, 1]")
    dropped = jax.random.bernoulli(key, rate)
    label = jax.tree.map(jnp.asarray, label)
    for name, got, want in _check.paired(null, label, "null", "the label's"):
        if jnp.shape(got) != want.shape:
            raise ValueError(f"{name} must have the label's shape, {want.shape}, got {got!r}.")
    return jax.tree.map(
        lambda given, none: jnp.where(dropped, jnp.asarray(none, given.dtype), given), label, null
    )


def velocity_of(model: Any, schedule: Any, predicts: str) -> Velocity:
    """The model with its schedule, its own or the one that is given, and what it predicts."""
    check_name(predicts, "predicts")
    if predicts == "velocity":
        as_plain_field(model, "model")
    own = getattr(model, "schedule", None)
    if isinstance(own, Schedule) and schedule is not None:
        raise ValueError(f"schedule must be left out: this model has its own, {own}.")
    if isinstance(model, Velocity):
        return model
    if not isinstance(own, Schedule):
        own = CondOT() if schedule is None else schedule
    return velocity(model, own, predicts)


def start_of(x0: Any, x1: State, key: Array) -> State:
    """The start of a path, given, drawn by a function, or standard normal; wide."""
    if callable(x0):
        x0 = _check.function(x0, "x0", "key -> x0, or one sample like x1", takes=1)(key)
    if x0 is not None:
        return wide(_check.alike(x0, x1, "x0", exact=False, of="x1"))
    leaves, structure = jax.tree.flatten(wide(x1))
    # One key serves one leaf as it is: of a step on samples of few numbers, keys are some percent.
    keys = [key] if len(leaves) == 1 else list(jax.random.split(key, len(leaves)))
    noise = [
        jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, noise)


def drawn_time(t: Any, time: Any, key: Array, dtype: Any) -> Array:
    """The time that is given, or one drawn by its law."""
    if t is None:
        return time_of(time, jax.random.uniform(key, dtype=dtype) + jnp.finfo(dtype).eps / 2)
    t = _check.scalar_time(t)
    _check.require(lambda t: 0 <= t <= 1, t, message="t must lie within [0, 1]")
    return t.astype(dtype)


def on_path(path: PathPoint, x0: State, x1: State) -> State:
    """The state of a pair at a point of the path."""
    return weighted(x1, (path.alpha, x1), (path.sigma, x0))


def target_of(predicts: str, path: PathPoint, x0: State, x1: State) -> State:
    """Each of the five predictions, of a pair instead of its expectation."""
    zero = jnp.zeros((), path.alpha.dtype)
    of_x1, of_x0 = {
        "velocity": (path.alpha_rate, path.sigma_rate),
        "data": (zero + 1, zero),
        "noise": (zero, zero + 1),
        "score": (zero, -1 / path.sigma),
        "v": (-path.sigma, path.alpha),
    }[predicts]
    return weighted(x1, (of_x1, x1), (of_x0, x0))


def mean_square(given: State, target: State) -> Array:
    """The mean over all elements of the squared difference, of at least 32 bits."""
    error = weighted(target, (1, given), (-1, target))
    return jnp.mean(ravel_pytree(error)[0] ** 2)
