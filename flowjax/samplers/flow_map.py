"""The step of a flow map: as far as one likes, at once."""

from typing import Any

from flowjax._numerics import plus
from flowjax._types import Scalar, State


def flow_map(field: Any, t0: Scalar, t1: Scalar, x: State, args: Any, dw: None = None) -> State:
    r"""The step of a field of two times, by its average velocity over the interval.

    $$X_{t_1} = x + (t_1 - t_0)\, u(t_0, t_1, x)$$

    Args:
        field: what `fj.two_time` makes of a model.
        t0: start of the step, a scalar.
        t1: end of the step, a scalar.
        x: state at t0, a floating array or a pytree of them.
        args: passed on to the model.
        dw: unused.

    Returns:
        State at t1, like x.

    Raises:
        TypeError: the field is not one of two times.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> field = fj.two_time(lambda t, r, x, args: jnp.ones_like(x))
        >>> float(fj.solve(field, 0.0, fj.uniform_grid(2), step=fj.flow_map))
        1.0

    References:
        Geng, Deng, Bai, Kolter, He, "Mean flows for one-step generative modeling", 2025, arXiv
        2505.13447, equation 12.
    """
    if not hasattr(field, "between"):
        raise TypeError(
            "step flow_map needs a field of two times: make one by fj.two_time(model), of a model "
            "(t, r, x, args)."
        )
    return plus(x, (t1 - t0, field.between(t0, t1, x, args)))
