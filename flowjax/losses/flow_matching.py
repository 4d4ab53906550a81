"""Losses of one sample; `jax.vmap` and a mean make the loss of a batch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from flowjax import _check
from flowjax._numerics import weighted, widest
from flowjax.schedules.interpolations import CondOT
from flowjax.schedules.point import path_at
from flowjax.schedules.schedule import Schedule, checked_schedule
from flowjax.solver.door import as_plain_field


def flow_matching(
    model: Callable[[Any, Any, Any], Any],
    x1: Any,
    key: Array,
    args: Any = None,
    *,
    schedule: Any = None,
) -> Array:
    r"""The conditional flow matching loss of one sample, at one random time and noise.

    $$\frac1d \left\| u_t(x_t) - (\dot\alpha_t x_1 + \dot\sigma_t x_0) \right\|^2, \qquad
    x_t = \alpha_t x_1 + \sigma_t x_0, \quad t \sim U(0, 1), \quad x_0 \sim N(0, I)$$

    with d the number of elements. Its expectation over the data is least at the marginal velocity
    $u_t(x) = E[\dot\alpha_t x_1 + \dot\sigma_t x_0 \mid x_t = x]$, where it equals the mean
    variance of the target given x_t: in general that is not zero, and where the square of sigma'
    has no integral (`SquareRoot` and `VariancePreserving`, at t = 1) it is infinite for data with a
    density: the mean of a batch does not settle.

    Args:
        model: the velocity to train, a field ``(t, x, args) -> u`` with x's structure, shapes
            and dtypes, or what `fj.velocity` makes of any model.
        x1: one data sample: a floating array or a pytree of them.
        key: one JAX key; it names the time and the noise.
        args: passed on to the model, such as the sample's label.
        schedule: the path from noise (t = 0) to data (t = 1), for a model that has none of its
            own. Default: `CondOT()`.

    Returns:
        The loss, a scalar of at least 32 bits. For a batch, `jax.vmap` over samples and keys,
        and the mean.

    Raises:
        TypeError: the model is not callable or known to give something else than a velocity, x1 is
            not floating, key is not a JAX key, or schedule is no schedule.
        ValueError: x1 holds no number, key is a batch of keys, schedule is given for a model with
            one of its own, or the model's output is unlike its input.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> keys = jax.random.split(jax.random.key(0), 1000)
        >>> x1 = jnp.full((1000, 2), 3.0)
        >>> def exact(t, x, args):  # all data at 3: the straight line from x to there
        ...     return (3.0 - x) / (1 - t)
        >>> losses = jax.vmap(lambda x1, key: fj.losses.flow_matching(exact, x1, key))(x1, keys)
        >>> bool(losses.mean() < 1e-6)
        True

    References:
        Lipman, Chen, Ben-Hamu, Nickel, Le, "Flow matching for generative modeling", 2022,
        arXiv 2210.02747, equation 14; Holderrieth, Erives (MIT 6.S184), 2025, arXiv 2506.02070,
        section 4.1.
    """
    _check.single_key(key)
    x1 = _check.state(x1, "x1")
    _check.elements(x1, "x1")
    schedule = _schedule_of(as_plain_field(model, "model"), schedule)
    dtype = widest(x1)
    time_key, noise_key = jax.random.split(key)
    # Neither 0 nor 1, where some predictions determine no velocity.
    t = jax.random.uniform(time_key, dtype=dtype) + jnp.finfo(dtype).eps / 2
    leaves, structure = jax.tree.flatten(x1)
    keys = jax.tree.unflatten(structure, list(jax.random.split(noise_key, len(leaves))))
    x0 = jax.tree.map(lambda leaf, key: jax.random.normal(key, leaf.shape, dtype), x1, keys)
    x1_wide = jax.tree.map(lambda leaf: leaf.astype(dtype), x1)

    path = path_at(schedule, t, dtype)
    xt = weighted(x1, (path.alpha, x1_wide), (path.sigma, x0))
    u = _check.alike(model(t, xt, args), xt, "the model's output")
    error = weighted(x1_wide, (1, u), (-path.alpha_rate, x1_wide), (-path.sigma_rate, x0))
    return jnp.mean(ravel_pytree(error)[0] ** 2)


def _schedule_of(model: Any, schedule: Any) -> Schedule:
    """The model's own schedule, or that which is given for a model that has none."""
    own = getattr(model, "schedule", None)
    if not isinstance(own, Schedule):
        return checked_schedule(CondOT() if schedule is None else schedule)
    if schedule is not None:
        raise ValueError(f"schedule must be left out: this model has its own, {own}.")
    return own
