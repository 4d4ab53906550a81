"""Losses of models of two times, which sample in one step or few."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from flowjax import _check
from flowjax._numerics import narrow, weighted, wide, widest
from flowjax._types import State
from flowjax.fields.two_time import TwoTime, two_time
from flowjax.losses.regression import mean_square, on_path, start_of, target_of
from flowjax.losses.times import time_of, uniform
from flowjax.schedules.interpolations import CondOT
from flowjax.schedules.point import path_at
from flowjax.schedules.schedule import checked_schedule


def mean_flow(
    model: Callable[..., Any],
    x1: Any,
    key: Array,
    args: Any = None,
    *,
    schedule: Any = None,
    x0: Any = None,
    time: Callable[[Array], Array] = uniform,
    instant: float = 0.25,
    own_tangent: bool = False,
) -> Array:
    r"""The MeanFlow loss of one sample: the average velocity, from its own derivative.

    $$\frac1d \left\| u(t, r, x_t) - \mathrm{sg}\big[\dot x_t + (r - t)\,
    (\partial_t u + \dot x_t \cdot \nabla_x u)\big] \right\|^2, \qquad
    x_t = \alpha_t x_1 + \sigma_t x_0,\; t \le r$$

    where sg stops the gradient and the derivative is one `jax.jvp`. It is least where the identity
    $u = v + (r - t)\,\frac{d}{dt} u$ holds, that is at the average of the marginal velocity v. At
    r = t it is the flow matching loss.

    Args:
        model: u, a callable ``(t, r, x, args)``, or what `fj.two_time` makes of one.
        x1: one data sample: a floating array or a pytree of them.
        key: one JAX key.
        args: passed on to the model.
        schedule: the path from noise (t = 0) to data (t = 1). Default: `CondOT()`.
        x0: as in `flow_matching`.
        time: the law of both times, of which t is the smaller.
        instant: the probability that r is t.
        own_tangent: whether the derivative is taken along the model's own velocity u(t, t, x)
            instead of the pair's, as improved MeanFlow does: it varies less, and is biased until
            that velocity is right.

    Returns:
        The loss, a scalar of at least 32 bits.

    Raises:
        TypeError, ValueError: as `flow_matching`, or instant is not within [0, 1].

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> keys = jax.random.split(jax.random.key(0), 100)
        >>> def exact(t, r, x, args):  # all data at 3: straight lines
        ...     return (3.0 - x) / (1 - t)
        >>> loss = lambda key: fj.losses.mean_flow(exact, jnp.full(2, 3.0), key)
        >>> bool(jax.jit(jax.vmap(loss))(keys).mean() < 1e-6)
        True

    References:
        Geng, Deng, Bai, Kolter, He, "Mean flows for one-step generative modeling", 2025, arXiv
        2505.13447, algorithm 1 (there t runs from data to noise, and the sign is the other);
        Geng, Lu, Wu, Shechtman, Kolter, He, "Improved mean flows", 2025, arXiv 2512.02012.
    """
    field, x1, drawn = _drawn(model, x1, key, schedule, x0, time, instant)
    t, r, xt, velocity = drawn
    tangent = field(t, xt, args) if own_tangent else narrow(velocity, x1)

    def average(t: Array, x: State) -> State:
        return field.between(t, r, x, args)

    one = jnp.ones_like(t)
    given, rate = jax.jvp(average, (t, xt), (one, jax.lax.stop_gradient(tangent)))
    target = weighted(wide(x1), (1, velocity), (r - t, wide(rate)))
    return mean_square(wide(given), jax.lax.stop_gradient(target)).astype(t.dtype)


def flow_map(
    model: Callable[..., Any],
    x1: Any,
    key: Array,
    args: Any = None,
    *,
    schedule: Any = None,
    x0: Any = None,
    time: Callable[[Array], Array] = uniform,
) -> Array:
    r"""The loss of Lagrangian self-distillation of one sample: a flow map that is its own teacher.

    $$\frac1d \left\| u(t, t, x_t) - \dot x_t \right\|^2 + \frac1d \left\|
    \partial_r X_{t,r}(x_t) - \mathrm{sg}[u](r, r, X_{t,r}(x_t)) \right\|^2, \qquad
    X_{t,r}(x) = x + (r - t)\,u(t, r, x)$$

    The first term learns the velocity, on the diagonal; the second is zero where the map follows
    it. sg stops the gradient of the teacher's parameters, not of the state that it is asked at:
    with both stopped, training runs away.

    Args:
        model: u, a callable ``(t, r, x, args)``, or what `fj.two_time` makes of one.
        x1: one data sample: a floating array or a pytree of them.
        key: one JAX key.
        args: passed on to the model.
        schedule: the path from noise (t = 0) to data (t = 1). Default: `CondOT()`.
        x0: as in `flow_matching`.
        time: the law of both times, of which t is the smaller.

    Returns:
        The loss, a scalar of at least 32 bits.

    Raises:
        TypeError, ValueError: as `flow_matching`.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> keys = jax.random.split(jax.random.key(0), 100)
        >>> def exact(t, r, x, args):  # all data at 3: straight lines
        ...     return (3.0 - x) / (1 - t)
        >>> loss = lambda key: fj.losses.flow_map(exact, jnp.full(2, 3.0), key)
        >>> bool(jax.jit(jax.vmap(loss))(keys).mean() < 1e-4)
        True

    References:
        Boffi, Albergo, Vanden-Eijnden, "How to build a consistency model: learning flow maps via
        self-distillation", 2025, arXiv 2505.18825, equations 8 and 10.
    """
    field, x1, drawn = _drawn(model, x1, key, schedule, x0, time, 0.0)
    t, r, xt, velocity = drawn

    def mapped(r: Array) -> State:
        return weighted(wide(x1), (1, wide(xt)), (r - t, wide(field.between(t, r, xt, args))))

    x, slope = jax.jvp(mapped, (r,), (jnp.ones_like(r),))
    # The teacher's parameters are fixed, the state that it is asked at is not: it is moved along
    # the state less itself, which is zero and so takes with it what the parameters would add.
    fixed = jax.lax.stop_gradient(x)
    along = weighted(x, (1, x), (-1, fixed))
    taught, moved = jax.jvp(lambda x: wide(field(r, narrow(x, x1), args)), (fixed,), (along,))
    teacher = weighted(x, (1, jax.lax.stop_gradient(taught)), (1, moved))
    on_diagonal = mean_square(wide(field(t, xt, args)), velocity)
    return (on_diagonal + mean_square(slope, teacher)).astype(t.dtype)


def _drawn(
    model: Any, x1: Any, key: Array, schedule: Any, x0: Any, time: Any, instant: Any
) -> tuple[TwoTime, State, tuple[Array, Array, State, State]]:
    """The field, the sample, two times in order, the state at the first, its wide velocity."""
    _check.single_key(key)
    field = model if isinstance(model, TwoTime) else two_time(model)
    x1 = _check.state(x1, "x1")
    _check.elements(x1, "x1")
    schedule = checked_schedule(CondOT() if schedule is None else schedule)
    instant = _check.number(instant, "instant")
    _check.require(lambda p: 0 <= p <= 1, instant, message="instant must lie within [0, 1]")
    dtype = widest(x1)
    time_key, noise_key, instant_key = jax.random.split(key, 3)
    u = jax.random.uniform(time_key, (2,), dtype) + jnp.finfo(dtype).eps / 2
    times = [time_of(time, u[i]) for i in (0, 1)]
    t, r = jnp.minimum(*times), jnp.maximum(*times)
    # By a key of its own: what else is drawn with the pair, such as a label, must not hang on it.
    at_once = jax.random.bernoulli(instant_key, instant)
    t, r = jnp.where(at_once, times[0], t), jnp.where(at_once, times[0], r)
    x0, path = start_of(x0, x1, noise_key), path_at(schedule, t, dtype)
    xt = narrow(on_path(path, x0, wide(x1)), x1)
    velocity = target_of("velocity", path, x0, wide(x1))
    return field, x1, (t, r, xt, velocity)
