"""Fields of two times: the average velocity between them, which takes a long step at once."""

from collections.abc import Callable
from typing import Any

import equinox as eqx

from flowjax import _check
from flowjax._types import State
from flowjax.solver.door import described


def two_time(model: Callable[[Any, Any, Any, Any], Any]) -> "TwoTime":
    r"""A field out of a model of the average velocity between two times.

    $$u(t, r, x) = \frac{1}{r - t} \int_t^r v_s(X_s)\,ds, \qquad X_t = x, \qquad
    v_t(x) = u(t, t, x)$$

    As a field it is the velocity v, which any step solves; the step `fj.flow_map` asks for the
    average over its interval instead, and takes it at once. `losses.mean_flow` and
    `losses.flow_map` train it.

    Args:
        model: u, a callable ``(t, r, x, args)`` with an output like x, where t is the time of x
            and r that to which it is taken.

    Returns:
        A field ``(t, x, args) -> v``. It keeps the model's arrays as leaves.

    Raises:
        TypeError: the model is not a function of four arguments.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> def model(t, r, x, args):  # of dx = -x dt
        ...     h = r - t
        ...     return jnp.where(h == 0, -x, x * jnp.expm1(-h) / jnp.where(h == 0, 1.0, h))
        >>> field, ts = fj.two_time(model), fj.uniform_grid(1)
        >>> print(f"{fj.solve(field, 1.0, ts, step=fj.flow_map):.4f}")  # exp(-1), by one step
        0.3679

    References:
        Geng, Deng, Bai, Kolter, He, "Mean flows for one-step generative modeling", 2025, arXiv
        2505.13447, equation 3; Boffi, Albergo, Vanden-Eijnden, "How to build a consistency model:
        learning flow maps via self-distillation", 2025, arXiv 2505.18825, section 2.
    """
    if hasattr(type(model), "gives"):
        raise TypeError(f"model must be a function (t, r, x, args), got {described(model)}.")
    return TwoTime(_check.function(model, "model", "(t, r, x, args)", takes=4))


class TwoTime(eqx.Module):
    """A field of two times; see `two_time`."""

    gives = "velocity"
    model: Callable[[Any, Any, Any, Any], Any]

    def __call__(self, t: Any, x: State, args: Any) -> State:
        """The velocity at time t and state x."""
        return self.between(t, t, x, args)

    def between(self, t: Any, r: Any, x: State, args: Any) -> State:
        """The average velocity from time t, where the state is x, to time r."""
        return _check.alike(self.model(t, r, x, args), x, "the model's output")
