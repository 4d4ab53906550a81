"""What a method is to the loop: a `Stepper`, which a plain step is lifted to."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jax.core import Tracer

from flowjax.solver.ode_steps import euler, heun, rk4
from flowjax.solver.sde_steps import SDE, euler_maruyama, stochastic_heun


class Stepper(NamedTuple):
    r"""A method that remembers, such as a multistep method.

    Args:
        init: ``(field, t0, x0, args) -> memory``, called once before the first step; the memory
            is any pytree of arrays.
        step: ``(field, t0, t1, x, args, dw, memory) -> (x, memory)``; as in a plain step, `dw`
            has the default None in an ODE method (and so has `memory` then) and none in an SDE
            method.
        symmetric: whether the step over (t1, t0) with -dw, given what the step over (t0, t1) with
            dw returned, gives back what that was given: x and memory, up to rounding. Such a
            method can be solved backward, as `Reversible` does.

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
    symmetric: bool = False


def as_stepper(step: Any, sde: bool) -> tuple[Stepper, bool]:
    """The method as a `Stepper`, and whether it asks for Brownian increments."""
    if step is None:
        step = euler_maruyama if sde else euler
    noisy = needs_noise(step, sde)
    function = _function(step)
    name = getattr(function, "__name__", repr(function))
    if sde and not noisy:
        raise TypeError(
            f"step {name} is for an ODE: it takes no Brownian increment (dw has a default). "
            f"For an SDE use euler_maruyama, milstein or stochastic_heun, or make dw required; for "
            f"one of with_noise there is exponential_euler too."
        )
    if isinstance(step, Stepper):
        return step, noisy
    return Stepper(lambda *_: None, lambda *a: (step(*a[:6]), None)), noisy


def needs_noise(step: Any, sde: bool) -> bool:
    """Whether a step asks for Brownian increments: its sixth argument, dw, has no default.

    A step that takes ``*args`` does not say; then `sde`, whether it is given an SDE, decides.
    """
    remembers, function = isinstance(step, Stepper), _function(step)
    if not callable(function):
        raise TypeError(f"step must be a function or a Stepper, got {step!r}.")
    parameters = list(inspect.signature(function).parameters.values())
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return sde
    if len(parameters) < 6 + remembers:
        form = "(field, t0, t1, x, args, dw" + (", memory)" if remembers else ")")
        raise TypeError(f"step must take {form}, got {[p.name for p in parameters]}.")
    return parameters[5].default is inspect.Parameter.empty


def check_call(field_or_sde: Any, step: Any, ts: Any) -> None:
    """Lets a field (or the drift of an SDE) and a step refuse each other, and the times.

    A step that has the method ``check_field(field)`` is shown the field, and one that has
    ``check_times(ts)`` the times. A field that has ``check_times(ts, called)`` is shown them too,
    and those among them at which the step calls it for certain. Times that are traced are not.
    """
    field = field_or_sde.drift if isinstance(field_or_sde, SDE) else field_or_sde
    function = _function(step)
    # Of the types: to bind a method of an equinox.Module takes longer than to run it.
    of_field: Any = type(field)
    of_step: Any = type(function)
    if hasattr(of_step, "check_field"):
        of_step.check_field(function, field)
    by_step, by_field = hasattr(of_step, "check_times"), hasattr(of_field, "check_times")
    if not (by_step or by_field) or isinstance(ts, Tracer):
        return
    times = np.asarray(ts).reshape(-1)
    if times.size < 2:  # which the loop refuses
        return
    if by_step:
        of_step.check_times(function, times)
    if by_field:
        of_field.check_times(field, times, times if _calls_at_the_end(step) else times[:-1])


def _calls_at_the_end(step: Any) -> bool:
    """Whether a step is known to call the field at the end of its interval too."""
    if isinstance(step, Stepper):
        # A step that is itself backward does at one end what it does at the other.
        return step.symmetric
    return step is heun or step is rk4 or step is stochastic_heun


def _function(step: Any) -> Any:
    return step.step if isinstance(step, Stepper) else step
