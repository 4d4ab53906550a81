"""Steps: each is the formula of its paper, from t0 to t1, and nothing else.

An ODE step is ``(field, t0, t1, x, args, dw=None) -> x``; an SDE step is
``(sde, t0, t1, x, args, dw) -> x``: it asks for the Brownian increment by giving `dw` no
default. Any function of that form is a method; nothing is registered.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

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


class Stepper(NamedTuple):
    r"""A method that remembers, such as a multistep method.

    Args:
        init: ``(field, t0, x0, args) -> memory``, called once before the first step; the memory
            is any pytree of arrays.
        step: ``(field, t0, t1, x, args, dw, memory) -> (x, memory)``; as in a plain step, `dw`
            has the default None in an ODE method (and so has `memory` then) and none in an SDE
            method.

    Example:
        The two-step Adams-Bashforth method, which starts with an Euler step:

        >>> import flowjax as fj
        >>> def step(field, t0, t1, x, args, dw=None, previous=None):
        ...     slope = field(t0, x, args)
        ...     return x + (t1 - t0) * (3 * slope - previous) / 2, slope
        >>> adams_bashforth = fj.Stepper(lambda field, t0, x0, args: field(t0, x0, args), step)
        >>> x = fj.solve(fj.linear_field, 1.0, fj.uniform_grid(100), args=1.0, step=adams_bashforth)
        >>> round(float(x), 4)
        0.3679

    References:
        Hairer, Norsett, Wanner (1993), "Solving Ordinary Differential Equations I", section III.1.
    """

    init: Callable[..., Any]
    step: Callable[..., Any]


def euler(field: Field, t0: Scalar, t1: Scalar, x: State, args: Any, dw: None = None) -> State:
    r"""Euler's method: order 1, one field call.

    $$x_{t+h} = x_t + h\,u_t(x_t)$$

    Args:
        field: ``(t, x, args) -> dx``.
        t0: start of the step, a scalar.
        t1: end of the step; before t0 to go backward.
        x: state at t0, a pytree of floating arrays.
        args: passed on to the field.
        dw: unused; ODE steps take it so that all steps have one signature.

    Returns:
        State at t1.

    Raises:
        TypeError: if `field` is an SDE.

    Example:
        >>> import flowjax as fj
        >>> float(fj.solve(fj.linear_field, 1.0, fj.uniform_grid(2), args=1.0, step=fj.euler))
        0.25

    References:
        MIT 6.S184, "Flow Matching and Diffusion Models", lecture notes, Algorithm 1.
    """
    h = t1 - t0
    u = _field(field, "euler")(t0, x, args)
    return _leafwise(lambda h, x, u: x + h * u, h, x, u)


def heun(field: Field, t0: Scalar, t1: Scalar, x: State, args: Any, dw: None = None) -> State:
    r"""Heun's method (the explicit trapezoidal rule): order 2, two field calls.

    $$k_1 = u_t(x), \quad k_2 = u_{t+h}(x + h k_1), \quad x_{t+h} = x + \tfrac h2 (k_1 + k_2)$$

    Args:
        field: ``(t, x, args) -> dx``.
        t0: start of the step.
        t1: end of the step.
        x: state at t0.
        args: passed on to the field.
        dw: unused.

    Returns:
        State at t1.

    Raises:
        TypeError: if `field` is an SDE.

    Example:
        >>> import flowjax as fj
        >>> float(fj.solve(fj.linear_field, 1.0, fj.uniform_grid(1), args=1.0, step=fj.heun))
        0.5

    References:
        MIT 6.S184, "Flow Matching and Diffusion Models", lecture notes, section 2.1.
        Hairer, Norsett, Wanner (1993), "Solving Ordinary Differential Equations I", section II.1.
    """
    h = t1 - t0
    k1 = _field(field, "heun")(t0, x, args)
    k2 = field(t1, _leafwise(lambda h, x, k1: x + h * k1, h, x, k1), args)
    return _leafwise(lambda h, x, k1, k2: x + h / 2 * (k1 + k2), h, x, k1, k2)


def midpoint(field: Field, t0: Scalar, t1: Scalar, x: State, args: Any, dw: None = None) -> State:
    r"""The explicit midpoint method: order 2, two field calls.

    $$x_{t+h} = x + h\,u_{t+h/2}\big(x + \tfrac h2 u_t(x)\big)$$

    Args:
        field: ``(t, x, args) -> dx``.
        t0: start of the step.
        t1: end of the step.
        x: state at t0.
        args: passed on to the field.
        dw: unused.

    Returns:
        State at t1.

    Raises:
        TypeError: if `field` is an SDE.

    Example:
        >>> import flowjax as fj
        >>> float(fj.solve(fj.linear_field, 1.0, fj.uniform_grid(1), args=1.0, step=fj.midpoint))
        0.5

    References:
        Hairer, Norsett, Wanner (1993), "Solving Ordinary Differential Equations I", section II.1.
    """
    h = t1 - t0
    k1 = _field(field, "midpoint")(t0, x, args)
    k2 = field(t0 + h / 2, _leafwise(lambda h, x, k1: x + h / 2 * k1, h, x, k1), args)
    return _leafwise(lambda h, x, k2: x + h * k2, h, x, k2)


def rk4(field: Field, t0: Scalar, t1: Scalar, x: State, args: Any, dw: None = None) -> State:
    r"""The classical Runge-Kutta method: order 4, four field calls.

    $$k_1 = u_t(x),\; k_2 = u_{t+h/2}(x + \tfrac h2 k_1),\; k_3 = u_{t+h/2}(x + \tfrac h2 k_2),\;
    k_4 = u_{t+h}(x + h k_3)$$

    $$x_{t+h} = x + \tfrac h6 (k_1 + 2 k_2 + 2 k_3 + k_4)$$

    Args:
        field: ``(t, x, args) -> dx``.
        t0: start of the step.
        t1: end of the step.
        x: state at t0.
        args: passed on to the field.
        dw: unused.

    Returns:
        State at t1.

    Raises:
        TypeError: if `field` is an SDE.

    Example:
        >>> import flowjax as fj
        >>> float(fj.solve(fj.linear_field, 1.0, fj.uniform_grid(1), args=1.0, step=fj.rk4))
        0.375

    References:
        Hairer, Norsett, Wanner (1993), "Solving Ordinary Differential Equations I", table II.1.2.
    """
    h = t1 - t0
    middle = t0 + h / 2
    k1 = _field(field, "rk4")(t0, x, args)
    k2 = field(middle, _leafwise(lambda h, x, k1: x + h / 2 * k1, h, x, k1), args)
    k3 = field(middle, _leafwise(lambda h, x, k2: x + h / 2 * k2, h, x, k2), args)
    k4 = field(t1, _leafwise(lambda h, x, k3: x + h * k3, h, x, k3), args)
    return _leafwise(
        lambda h, x, k1, k2, k3, k4: x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), h, x, k1, k2, k3, k4
    )


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
    drift, diffusion = _fields(sde, "euler_maruyama")
    h = t1 - t0
    f, g = drift(t0, x, args), _diffusion(diffusion, t0, x, args)
    return _leafwise(lambda h, x, f, g, dw: x + h * f + g * dw, h, x, f, g, dw)


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
    drift, diffusion = _fields(sde, "milstein")
    h = t1 - t0
    f, g = drift(t0, x, args), _diffusion(diffusion, t0, x, args)
    _, g_dg = jax.jvp(lambda x: _diffusion(diffusion, t0, x, args), (x,), (g,))
    return _leafwise(
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
    drift, diffusion = _fields(sde, "stochastic_heun")
    h = t1 - t0
    f0, g0 = drift(t0, x, args), _diffusion(diffusion, t0, x, args)
    y = _leafwise(lambda h, x, f, g, dw: x + h * f + g * dw, h, x, f0, g0, dw)
    f1, g1 = drift(t1, y, args), _diffusion(diffusion, t1, y, args)
    return _leafwise(
        lambda h, x, f0, f1, g0, g1, dw: x + h / 2 * (f0 + f1) + (g0 + g1) / 2 * dw,
        *(h, x, f0, f1, g0, g1, dw),
    )


def _leafwise(formula: Callable[..., Array], h: Scalar, x: State, *others: State) -> State:
    """The formula ``(h, x, *others)`` leaf by leaf, computed in at least float32.

    The result has the dtypes of x: neither a float32 time nor a float64 grid promotes a state.
    """

    def on_leaf(leaf: Array, *rest: Array) -> Array:
        dtype = jnp.promote_types(leaf.dtype, jnp.float32)
        values = (jnp.asarray(value, dtype) for value in (h, leaf, *rest))
        return formula(*values).astype(leaf.dtype)

    return jax.tree.map(on_leaf, x, *others)


def _diffusion(field: Field, t: Scalar, x: State, args: Any) -> State:
    """The diffusion at x, with the state's structure, shapes and dtypes."""
    g = field(t, x, args)
    if jax.tree.structure(g) != jax.tree.structure(x):
        g = jax.tree.map(lambda _: g, x)
    return jax.tree.map(
        lambda leaf, value: jnp.broadcast_to(jnp.asarray(value, leaf.dtype), leaf.shape), x, g
    )


def _fields(sde: Any, step: str) -> SDE:
    if not isinstance(sde, SDE):
        raise TypeError(
            f"{step} is a step for an SDE: it needs an SDE(drift, diffusion), got a plain field."
        )
    return sde


def _field(field: Any, step: str) -> Field:
    if isinstance(field, SDE):
        raise TypeError(
            f"{step} is a step for an ODE: it needs a field (t, x, args) -> dx, got an SDE. "
            f"For an SDE use euler_maruyama, milstein or stochastic_heun."
        )
    return field
