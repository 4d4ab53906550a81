"""Steps for SDEs: each is the formula of its paper, from t0 to t1, and nothing else.

An SDE step is ``(sde, t0, t1, x, args, dw) -> x``: it asks for the Brownian increment by giving
`dw` no default. Any function of that form is a method; nothing is registered.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flowjax._numerics import leafwise
from flowjax._types import Field, Scalar, State


class SDE(NamedTuple):
    r"""A stochastic differential equation, as its two fields.

    $$dX_t = f(t, X_t)\,dt + g(t, X_t) \odot dW_t$$

    Whether it is read as Ito's or Stratonovich's is the step's affair (`euler_maruyama` and
    `milstein` are Ito, `stochastic_heun` is Stratonovich); for a diffusion that does not depend
    on x the two are the same.

    Args:
        drift: field f, ``(t, x, args) -> dx`` with the state's structure, shapes and dtypes.
        diffusion: field g, ``(t, x, args) -> g``: a scalar for all elements, or the state's
            structure with leaves that are scalars or have the state's shapes. It multiplies
            the Brownian increment elementwise.

    Example:
        >>> import flowjax as fj
        >>> brownian_motion = fj.SDE(lambda t, x, args: 0 * x, lambda t, x, args: 1.0)

    References:
        MIT 6.S184, "Flow Matching and Diffusion Models", lecture notes, section 2.2.
    """

    drift: Field
    diffusion: Field


def euler_maruyama(sde: SDE, t0: Scalar, t1: Scalar, x: State, args: Any, dw: State) -> State:
    r"""The Euler-Maruyama method for an Ito SDE: strong order 1/2, 1 for additive noise.

    $$X_{t+h} = X_t + h\,f(t, X_t) + g(t, X_t) \odot dW, \qquad dW \sim N(0, h I)$$

    Args:
        sde: drift f and diffusion g.
        t0: start of the step.
        t1: end of the step, not before t0.
        x: state at t0.
        args: passed on to both fields.
        dw: Brownian increment over the step, with the state's structure and shapes.

    Returns:
        State at t1.

    Raises:
        TypeError: if `sde` is not an SDE.

    Example:
        >>> import jax, flowjax as fj
        >>> sde, ts = fj.ornstein_uhlenbeck(theta=1.0, sigma=0.5), fj.uniform_grid(100)
        >>> x = fj.solve(sde, 1.0, ts, key=jax.random.key(0), step=fj.euler_maruyama)

    References:
        MIT 6.S184, "Flow Matching and Diffusion Models", lecture notes, Algorithm 3.
        Maruyama (1955), "Continuous Markov processes and stochastic equations".
    """
    drift, diffusion = fields_of(sde, "euler_maruyama")
    h = t1 - t0
    f, g = drift(t0, x, args), diffusion_of(diffusion, t0, x, args)
    return leafwise(lambda h, x, f, g, dw: x + h * f + g * dw, h, x, f, g, dw)


def milstein(sde: SDE, t0: Scalar, t1: Scalar, x: State, args: Any, dw: State) -> State:
    r"""Milstein's method for an Ito SDE with diagonal noise: strong order 1.

    $$X_{t+h} = X + h f + g \odot dW + \tfrac12\, g\, \partial_x g \odot (dW^2 - h)$$

    with f and g at (t, X). The noise must be diagonal: element i of g depends on element i of x
    alone (not checked). The derivative is taken forward through the diffusion.

    Args:
        sde: drift f and diffusion g.
        t0: start of the step.
        t1: end of the step, not before t0.
        x: state at t0.
        args: passed on to both fields.
        dw: Brownian increment over the step.

    Returns:
        State at t1.

    Raises:
        TypeError: if `sde` is not an SDE.

    Example:
        >>> import jax, flowjax as fj
        >>> sde = fj.SDE(lambda t, x, args: 0.1 * x, lambda t, x, args: 0.2 * x)
        >>> ts = fj.uniform_grid(100)
        >>> x = fj.solve(sde, 1.0, ts, key=jax.random.key(0), step=fj.milstein)

    References:
        Milstein (1975), "Approximate integration of stochastic differential equations".
        Kloeden, Platen (1992), "Numerical Solution of SDEs", equation 10.3.1.
    """
    drift, diffusion = fields_of(sde, "milstein")
    h = t1 - t0
    f, g = drift(t0, x, args), diffusion_of(diffusion, t0, x, args)
    _, g_dg = jax.jvp(lambda x: diffusion_of(diffusion, t0, x, args), (x,), (g,))
    return leafwise(
        lambda h, x, f, g, g_dg, dw: x + h * f + g * dw + g_dg * (dw * dw - h) / 2,
        *(h, x, f, g, g_dg, dw),
    )


def stochastic_heun(sde: SDE, t0: Scalar, t1: Scalar, x: State, args: Any, dw: State) -> State:
    r"""Heun's method for a Stratonovich SDE: strong order 1 for diagonal noise.

    $$\bar X = X + h f_0 + g_0 \odot dW, \qquad
    X_{t+h} = X + \tfrac h2 (f_0 + f_1) + \tfrac12 (g_0 + g_1) \odot dW$$

    with f_0, g_0 at (t, X) and f_1, g_1 at (t + h, \bar X).

    Args:
        sde: drift f and diffusion g, read in Stratonovich's sense.
        t0: start of the step.
        t1: end of the step, not before t0.
        x: state at t0.
        args: passed on to both fields.
        dw: Brownian increment over the step.

    Returns:
        State at t1.

    Raises:
        TypeError: if `sde` is not an SDE.

    Example:
        >>> import jax, flowjax as fj
        >>> sde = fj.SDE(lambda t, x, args: 0.1 * x, lambda t, x, args: 0.2 * x)
        >>> ts = fj.uniform_grid(100)
        >>> x = fj.solve(sde, 1.0, ts, key=jax.random.key(0), step=fj.stochastic_heun)

    References:
        Rumelin (1982), "Numerical treatment of stochastic differential equations".
        Kloeden, Platen (1992), "Numerical Solution of SDEs", section 15.1.
    """
    drift, diffusion = fields_of(sde, "stochastic_heun")
    h = t1 - t0
    f0, g0 = drift(t0, x, args), diffusion_of(diffusion, t0, x, args)
    y = leafwise(lambda h, x, f, g, dw: x + h * f + g * dw, h, x, f0, g0, dw)
    f1, g1 = drift(t1, y, args), diffusion_of(diffusion, t1, y, args)
    return leafwise(
        lambda h, x, f0, f1, g0, g1, dw: x + h / 2 * (f0 + f1) + (g0 + g1) / 2 * dw,
        *(h, x, f0, f1, g0, g1, dw),
    )


def diffusion_of(field: Field, t: Scalar, x: State, args: Any) -> State:
    """The diffusion at x, with the state's structure, shapes and dtypes."""
    g = field(t, x, args)
    if jax.tree.structure(g) != jax.tree.structure(x):
        g = jax.tree.map(lambda _: g, x)
    return jax.tree.map(
        lambda leaf, value: jnp.broadcast_to(jnp.asarray(value, leaf.dtype), leaf.shape), x, g
    )


def fields_of(sde: Any, step: str) -> SDE:
    """The two fields, refused if `sde` is not an SDE."""
    if not isinstance(sde, SDE):
        raise TypeError(
            f"{step} is a step for an SDE: it needs an SDE(drift, diffusion), got a plain field."
        )
    return sde
