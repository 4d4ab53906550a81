"""What a method is to the loop: a step, or a `Stepper` if it remembers, and the facts about it.

A fact is an attribute: of a step that is a plain function, of the class of one that is a record, or
a field of a `Stepper`. Whoever wants to know asks `fact`; nothing is registered.
"""

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from flowjax._types import Step


class Stepper(NamedTuple):
    r"""A method that remembers, such as a multistep method.

    $$m_0 = \mathrm{init}(u, t_0, x_0, \mathrm{args}), \qquad
    (x_{k+1}, m_{k+1})
    = \mathrm{step}(u, t_k, t_{k+1}, x_k, \mathrm{args}, dW_k, m_k)$$

    Args:
        init: ``(field, t0, x0, args) -> memory``, called once before the first step; the memory
            is any pytree of arrays.
        step: ``(field, t0, t1, x, args, dw, memory) -> (x, memory)``; as in a plain step, `dw`
            has the default None in an ODE method (and so has `memory` then) and none in an SDE
            method.
        symmetric: whether the step over (t1, t0) with -dw, given what the step over (t0, t1) with
            dw returned, gives back what that was given: x and memory, up to rounding. Such a
            method can be solved backward, as `Reversible` does.
        calls_end: whether it calls the field at the end of its interval, t1, too.
        one_way: whether the times must not go forth and back, as where it extrapolates from the
            steps before.
        reads: what it asks of the field: "" for any, "velocity" for a `Velocity` (with its
            schedule and its `data_and_noise`), "with_noise" for an SDE made by `with_noise`. What
            draws noise by a schedule goes forward in time only.
        noisy: whether it takes Brownian increments. None: as the signature of `step` says.
        gaussian: whether, given x, the next state is linear in dw, and so Gaussian; element by
            element where the SDE is given no noise. Only such a step has a density; see
            `path_log_prob`. One that remembers has none.
        levy_area: whether it takes space-time Levy areas too. `dw` is then a pair (dW, dB), each
            like the noise, of the increment and that of an independent motion, which makes the
            area ``H = dB / sqrt(12)``; as `increments` a solve takes such a pair. dW is what the
            key names without it.

    A plain step has the last seven too, as attributes: ``my_step.calls_end = True``.

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

    init: Callable[[Any, Any, Any, Any], Any]
    step: Callable[[Any, Any, Any, Any, Any, Any, Any], Any]
    symmetric: bool = False
    calls_end: bool = False
    one_way: bool = False
    reads: str = ""
    noisy: bool | None = None
    gaussian: bool = False
    levy_area: bool = False


if TYPE_CHECKING:
    Method: TypeAlias = Step | Stepper
else:
    Method: TypeAlias = Any
    """A step or a `Stepper`; another value is refused by the solve."""


_NOT_SAID = {
    "symmetric": False,
    "calls_end": False,
    "one_way": False,
    "reads": "",
    "noisy": None,
    "gaussian": False,
    "levy_area": False,
}


def fact(step: Any, name: str) -> Any:
    """A fact about a step, or what holds for one that does not say."""
    return getattr(behind_partial(step), name, _NOT_SAID[name])


def behind_partial(step: Any) -> Any:
    """The function of which some arguments were given by `functools.partial`."""
    while type(step) is functools.partial:
        step = step.func
    return step


def facts(**said: Any) -> Callable[[Any], Any]:
    """Says facts about the function that it decorates."""

    def say(step: Any) -> Any:
        for name, value in said.items():
            setattr(step, name, value)
        return step

    return say


def needs_noise(step: Any, sde: bool) -> bool:
    """Whether a step asks for Brownian increments: its sixth argument, dw, has no default.

    A step that takes ``*args`` does not say; then `sde`, whether it is given an SDE, decides.
    """
    if fact(step, "noisy") is not None:
        return bool(fact(step, "noisy"))
    remembers = isinstance(step, Stepper)
    function = step.step if remembers else step
    parameters = list(inspect.signature(function).parameters.values())
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return sde
    if len(parameters) < 6 + remembers:
        form = "(field, t0, t1, x, args, dw" + (", memory)" if remembers else ")")
        raise TypeError(
            f"step must take {form}, got one that takes {[p.name for p in parameters]}: what makes "
            f"a step is called first, as in step=fj.adams()."
        )
    return parameters[5].default is inspect.Parameter.empty


def name_of(step: Any) -> str:
    """A step's or field's name."""
    function = behind_partial(step.step if isinstance(step, Stepper) else step)
    return (getattr(function, "__name__", None) or type(function).__name__).lstrip("_")
