"""A schedule at one time: what every formula of a path needs of it.

Sigma's rate is infinite where sigma falls to zero like a square root; sigma squared and half its
rate are not. So those are what the formulas are written in.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from flowjax import _check
from flowjax._check import scalar_time


class PathPoint(NamedTuple):
    """A schedule at one time; `sigma_rate` may be infinite, the rest is finite."""

    alpha: Array
    sigma: Array
    variance: Array
    alpha_rate: Array
    sigma_rate: Array
    half_variance_rate: Array


def path_at(schedule: Any, t: Any, dtype: Any) -> PathPoint:
    """The schedule at time t, evaluated in the wider of t's dtype and `dtype`, in `dtype`."""
    t = scalar_time(t)
    if jnp.finfo(t.dtype).bits < jnp.finfo(dtype).bits:
        t = t.astype(dtype)
    alpha, sigma = _pair(schedule(t), "schedule(t)", "(alpha, sigma)")
    alpha_rate, sigma_rate = _pair(schedule.rates(t), "schedule.rates(t)", "their time derivatives")
    # A schedule of the user's own may have no more than these two methods.
    variance = schedule.variance(t) if hasattr(schedule, "variance") else sigma**2
    values = (alpha, sigma, variance, alpha_rate, sigma_rate, half_variance_rate(schedule, t))
    return PathPoint(*(jnp.asarray(value).astype(dtype) for value in values))


def _pair(values: Any, name: str, meaning: str) -> tuple[Any, Any]:
    try:
        first, second = values
    except (TypeError, ValueError):
        raise TypeError(f"{name} must return a pair, {meaning}, got {values!r}.") from None
    return first, second


def half_variance_rate(schedule: Any, t: Any) -> Array:
    """`sigma sigma' = (d sigma^2 / dt) / 2`, the only form in which sigma' enters a velocity."""
    if hasattr(schedule, "half_variance_rate"):
        return schedule.half_variance_rate(t)
    return schedule(t)[1] * schedule.rates(t)[1]


def check_end(schedule: Any, called: np.ndarray) -> None:
    """Refuses a call at t = 1 where sigma' is infinite and the schedule does not say sigma sigma'.

    Those of flowjax all do; one of the user's own would give NaN there.
    """
    # Of the type first: to bind a method of an equinox.Module takes longer than all else here.
    known = (hasattr(one, "half_variance_rate") for one in (type(schedule), schedule))
    if called.max() < 1 or any(known):
        return
    rates = _check.concrete(lambda: schedule.rates(jnp.ones(())))
    if rates is not None and np.isinf(rates[1]):
        raise ValueError(
            f"the schedule {schedule!r} has an infinite rate of sigma at t = 1, where the field is "
            f"called: give it a method half_variance_rate(t), sigma times that rate, which is "
            f"finite, or end the grid earlier."
        )
