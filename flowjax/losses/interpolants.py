"""Losses of paths between any two data sets, with noise of their own."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from flowjax import _check
from flowjax._numerics import narrow, weighted, wide, widest
from flowjax.losses.regression import drawn_time, mean_square, on_path, start_of, target_of
from flowjax.losses.times import uniform
from flowjax.losses.weights import weight_at
from flowjax.schedules.interpolations import CondOT
from flowjax.schedules.point import path_at
from flowjax.schedules.schedule import checked_schedule


def squared_sine(t: Array) -> Array:
    """The noise of an interpolant, `sin(pi t)^2`."""
    return jnp.sin(jnp.pi * t) ** 2


def interpolant(
    model: Callable[[Any, Any, Any], Any],
    x1: Any,
    key: Array,
    args: Any = None,
    *,
    x0: Any,
    gamma: Callable[[Array], Array] = squared_sine,
    schedule: Any = None,
    t: Any = None,
    time: Callable[[Array], Array] = uniform,
    weight: Any = None,
) -> Array:
    r"""The loss of a stochastic interpolant of one pair: its velocity, and its noise.

    $$\frac{w(t)}{d} \Big(\| b(t, x_t) - \dot x_t \|^2 + \| \eta(t, x_t) - z \|^2\Big), \qquad
    x_t = \alpha_t x_1 + \sigma_t x_0 + \gamma_t z, \quad z \sim N(0, I)$$

    It is least where b is the velocity of a flow from the law of x_0 to that of x_1, and
    $-\eta / \gamma$ its score: with them, for any g, the SDE of drift $b - \frac{g^2}{2\gamma}\eta$
    and diffusion g has the same marginals.

    Args:
        model: a callable ``(t, x, args) -> (b, eta)``, a pair of two like x.
        x1: one sample of the data at t = 1: a floating array or a pytree of them.
        key: one JAX key.
        args: passed on to the model.
        x0: one sample of the data at t = 0, like x1, or a function ``key -> x0``.
        gamma: a function of t, zero at both ends. Default: sin(pi t)^2. Where its slope is infinite
            at the ends, as that of sqrt(t (1 - t)), so is the mean of the loss.
        schedule: alpha and sigma. Default: `CondOT()`.
        t: as in `flow_matching`.
        time: as in `flow_matching`.
        weight: as in `flow_matching`; predicts is "velocity".

    Returns:
        The loss, a scalar of at least 32 bits.

    Raises:
        TypeError, ValueError: as `flow_matching`; or the model does not return a pair, or gamma is
            no function of t or not a scalar.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> model = lambda t, x, args: (jnp.zeros_like(x), jnp.zeros_like(x))
        >>> x0, x1 = jnp.zeros(2), jnp.full(2, 3.0)
        >>> loss = fj.losses.interpolant(model, x1, jax.random.key(0), x0=x0)
        >>> loss.shape
        ()

    References:
        Albergo, Boffi, Vanden-Eijnden, "Stochastic interpolants: a unifying framework for flows and
        diffusions", 2023, arXiv 2303.08797, equations 2.13 and 2.16.
    """
    _check.single_key(key)
    _check.function(model, "model", "(t, x, args) -> (b, eta)")
    _check.function(gamma, "gamma", "t -> scalar", takes=1)
    x1 = _check.state(x1, "x1")
    _check.elements(x1, "x1")
    schedule = checked_schedule(CondOT() if schedule is None else schedule)
    time_key, start_key, noise_key = jax.random.split(key, 3)
    dtype = widest(x1)
    t, x0 = drawn_time(t, time, time_key, dtype), start_of(x0, x1, start_key)
    z = start_of(None, x1, noise_key)
    path, data = path_at(schedule, t, dtype), wide(x1)
    level, rate = jax.jvp(
        lambda t: _check.returned_scalar(gamma(t), "gamma"), (t,), (jnp.ones_like(t),)
    )
    xt = narrow(weighted(data, (1, on_path(path, x0, data)), (level, z)), x1)
    velocity = weighted(data, (1, target_of("velocity", path, x0, data)), (rate, z))
    pair = model(t, xt, args)
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise TypeError(
            f"model must return a pair (b, eta), of the velocity and noise, got {pair}."
        )
    b, eta = (_check.alike(part, xt, "the model's output") for part in pair)
    factor = weight_at(weight, t, schedule, "velocity")
    return (factor * (mean_square(wide(b), velocity) + mean_square(wide(eta), z))).astype(dtype)


def bridge(
    model: Callable[[Any, Any, Any], Any],
    x1: Any,
    key: Array,
    args: Any = None,
    *,
    x0: Any,
    sigma: Any,
    t: Any = None,
    time: Callable[[Array], Array] = uniform,
) -> Array:
    r"""The loss of bridge matching of one pair: the drift of an SDE that joins two data sets.

    $$\frac{w(t)}{d} \Big\| u(t, x_t) - \frac{x_1 - x_t}{1 - t} \Big\|^2, \qquad
    x_t = (1 - t)\,x_0 + t\,x_1 + \sigma\sqrt{t (1 - t)}\,z, \quad
    w = \Big(1 + \frac{\sigma^2 t}{1 - t}\Big)^{-1}$$

    The target is $x_1 - x_0 - \sigma\sqrt{t / (1 - t)}\,z$, the drift of a Brownian bridge to x_1;
    the weight keeps its variance bounded as t goes to 1, and does not move the minimiser.
    $dX = u\,dt + \sigma\,dW$ then takes the law of x_0 to that of x_1. Schroedinger bridge matching
    alternates: the reverse is trained by the same loss with x_0 and x_1 changed over, in its own
    time from data to noise, on pairs that the other one draws.

    Args:
        model: the drift u, a field ``(t, x, args)``.
        x1: one sample of the data at t = 1: a floating array or a pytree of them.
        key: one JAX key.
        args: passed on to the model.
        x0: one sample of the data at t = 0, like x1, or a function ``key -> x0``.
        sigma: of the Brownian motion, positive.
        t: as in `flow_matching`.
        time: as in `flow_matching`.

    Returns:
        The loss, a scalar of at least 32 bits.

    Raises:
        TypeError, ValueError: as `flow_matching`; or sigma is not positive.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> x0, x1 = jnp.zeros(2), jnp.ones(2)
        >>> def exact(t, x, args):  # all pairs are this one
        ...     return (x1 - x) / (1 - t)
        >>> loss = fj.losses.bridge(exact, x1, jax.random.key(0), x0=x0, sigma=1.0)
        >>> bool(loss < 1e-10)
        True

    References:
        Shi, De Bortoli, Campbell, Doucet, "Diffusion Schroedinger bridge matching", 2023, arXiv
        2303.16852, algorithm 1; Peluchetti, "Diffusion bridge mixture transports, Schroedinger
        bridge problems and generative modeling", 2023, arXiv 2304.00917.
    """
    _check.single_key(key)
    _check.function(model, "model", "(t, x, args) -> u")
    x1 = _check.state(x1, "x1")
    _check.elements(x1, "x1")
    sigma = _check.number(sigma, "sigma")
    _check.require(lambda s: 0 < s < jnp.inf, sigma, message="sigma must be positive and finite")
    time_key, start_key, noise_key = jax.random.split(key, 3)
    dtype = widest(x1)
    t, x0 = drawn_time(t, time, time_key, dtype), start_of(x0, x1, start_key)
    z, data = start_of(None, x1, noise_key), wide(x1)
    spread = sigma * jnp.sqrt(t * (1 - t))
    xt = narrow(weighted(data, (1 - t, x0), (t, data), (spread, z)), x1)
    given = _check.alike(model(t, xt, args), xt, "the model's output")
    # The root of the weight, and that times the target, whose noise is infinite at t = 1.
    total = (1 - t) + sigma**2 * t
    root, noise = jnp.sqrt((1 - t) / total), sigma * jnp.sqrt(t / total)
    target = weighted(data, (root, data), (-root, x0), (-noise, z))
    return mean_square(weighted(data, (root, wide(given))), target).astype(dtype)
