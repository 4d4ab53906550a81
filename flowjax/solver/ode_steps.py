"""Steps for ODEs: each is the formula of its paper, from t0 to t1, and nothing else.

An ODE step is ``(field, t0, t1, x, args, dw=None) -> x``. Any function of that form is a method;
nothing is registered.
"""

from typing import Any

from flowjax._numerics import plus
from flowjax._types import Field, Scalar, State
from flowjax.solver.stepper import facts


def euler(field: Field, t0: Scalar, t1: Scalar, x: State, args: Any, dw: None = None) -> State:
    r"""Euler's method: order 1, one field call.

    $$x_{t+h} = x_t + h\,u_t(x_t)$$

    Args:
        field: ``(t, x, args) -> dx``.
        t0: start of the step, a scalar.
        t1: end of the step, a scalar; before t0 to go backward.
        x: state at t0, a floating array or a pytree of them.
        args: passed on to the field.
        dw: unused; ODE steps take it so that all steps have one signature.

    Returns:
        State at t1, like x.

    Raises:
        TypeError: in `solve`, if the field is an `SDE`.

    Example:
        >>> import flowjax as fj
        >>> float(fj.solve(fj.linear_field, 1.0, fj.uniform_grid(2), args=1.0, step=fj.euler))
        0.25

    References:
        Holderrieth, Erives, "An introduction to flow matching and diffusion models" (MIT
        6.S184), 2025, arXiv 2506.02070, Algorithm 1.
    """
    return plus(x, (t1 - t0, field(t0, x, args)))


@facts(calls_end=True)
def heun(field: Field, t0: Scalar, t1: Scalar, x: State, args: Any, dw: None = None) -> State:
    r"""Heun's method (the explicit trapezoidal rule): order 2, two field calls.

    $$k_1 = u_t(x), \quad k_2 = u_{t+h}(x + h k_1), \quad x_{t+h} = x + \tfrac h2 (k_1 + k_2)$$

    Args:
        field: ``(t, x, args) -> dx``.
        t0: start of the step, a scalar.
        t1: end of the step, a scalar.
        x: state at t0, a floating array or a pytree of them.
        args: passed on to the field.
        dw: unused.

    Returns:
        State at t1, like x.

    Raises:
        TypeError: in `solve`, if the field is an `SDE`.

    Example:
        >>> import flowjax as fj
        >>> float(fj.solve(fj.linear_field, 1.0, fj.uniform_grid(1), args=1.0, step=fj.heun))
        0.5

    References:
        Holderrieth, Erives, "An introduction to flow matching and diffusion models" (MIT
        6.S184), 2025, arXiv 2506.02070, section 2.1.
        Hairer, Norsett, Wanner (1993), "Solving Ordinary Differential Equations I", section II.1.
    """
    h = t1 - t0
    k1 = field(t0, x, args)
    k2 = field(t1, plus(x, (h, k1)), args)
    return plus(x, (h / 2, k1), (h / 2, k2))


def midpoint(field: Field, t0: Scalar, t1: Scalar, x: State, args: Any, dw: None = None) -> State:
    r"""The explicit midpoint method: order 2, two field calls.

    $$x_{t+h} = x + h\,u_{t+h/2}\big(x + \tfrac h2 u_t(x)\big)$$

    Args:
        field: ``(t, x, args) -> dx``.
        t0: start of the step, a scalar.
        t1: end of the step, a scalar.
        x: state at t0, a floating array or a pytree of them.
        args: passed on to the field.
        dw: unused.

    Returns:
        State at t1, like x.

    Raises:
        TypeError: in `solve`, if the field is an `SDE`.

    Example:
        >>> import flowjax as fj
        >>> float(fj.solve(fj.linear_field, 1.0, fj.uniform_grid(1), args=1.0, step=fj.midpoint))
        0.5

    References:
        Hairer, Norsett, Wanner (1993), "Solving Ordinary Differential Equations I", section II.1.
    """
    h = t1 - t0
    k1 = field(t0, x, args)
    k2 = field(t0 + h / 2, plus(x, (h / 2, k1)), args)
    return plus(x, (h, k2))


@facts(calls_end=True)
def rk4(field: Field, t0: Scalar, t1: Scalar, x: State, args: Any, dw: None = None) -> State:
    r"""The classical Runge-Kutta method: order 4, four field calls.

    $$k_1 = u_t(x),\; k_2 = u_{t+h/2}(x + \tfrac h2 k_1),\; k_3 = u_{t+h/2}(x + \tfrac h2 k_2),\;
    k_4 = u_{t+h}(x + h k_3)$$

    $$x_{t+h} = x + \tfrac h6 (k_1 + 2 k_2 + 2 k_3 + k_4)$$

    Args:
        field: ``(t, x, args) -> dx``.
        t0: start of the step, a scalar.
        t1: end of the step, a scalar.
        x: state at t0, a floating array or a pytree of them.
        args: passed on to the field.
        dw: unused.

    Returns:
        State at t1, like x.

    Raises:
        TypeError: in `solve`, if the field is an `SDE`.

    Example:
        >>> import flowjax as fj
        >>> x = fj.solve(fj.linear_field, 1.0, fj.uniform_grid(1), args=1.0, step=fj.rk4)
        >>> round(float(x), 4)
        0.375

    References:
        Hairer, Norsett, Wanner (1993), "Solving Ordinary Differential Equations I", table II.1.2.
    """
    h = t1 - t0
    k1 = field(t0, x, args)
    k2 = field(t0 + h / 2, plus(x, (h / 2, k1)), args)
    k3 = field(t0 + h / 2, plus(x, (h / 2, k2)), args)
    k4 = field(t1, plus(x, (h, k3)), args)
    return plus(x, (h / 6, k1), (h / 3, k2), (h / 3, k3), (h / 6, k4))
