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
from flowjax._numerics import inside
from flowjax.schedules.schedule import ExactEnds, defines, product, vanishing


class PathPoint(NamedTuple):
    """A schedule at one time.

    `sigma_rate` may be infinite; the rest is finite where it is known, and NaN where it is not.
    """

    alpha: Array
    sigma: Array
    variance: Array
    alpha_rate: Array
    sigma_rate: Array
    half_variance_rate: Array


def path_at(schedule: Any, t: Any, dtype: Any) -> PathPoint:
    """The schedule at time t, evaluated in the wider of t's dtype and `dtype`, in `dtype`.

    It is NaN outside of [0, 1].
    """
    t = scalar_time(t)
    if jnp.finfo(t.dtype).bits < jnp.finfo(dtype).bits:
        t = t.astype(dtype)
    alpha, sigma = schedule(t)
    alpha_rate, sigma_rate = schedule.rates(t)
    variance, half_variance_rate = sigma**2, product(sigma, sigma_rate)
    if defines(schedule, "variance"):
        # Where sigma counts as zero, so does its square; the square has a derivative there.
        variance = jnp.asarray(schedule.variance(t), t.dtype)
        variance = jnp.where(sigma == 0, vanishing(variance), variance)
    if defines(schedule, "variance") or defines(schedule, "half_variance_rate"):
        half_variance_rate = schedule.half_variance_rate(t)
    values = (alpha, sigma, variance, alpha_rate, sigma_rate, half_variance_rate)
    beyond = (0 * inside(t)).astype(dtype)
    return PathPoint(*(jnp.asarray(value).astype(dtype) + beyond for value in values))


def unknown_rate(schedule: Any) -> str:
    """Why the velocity of a known target is not known at t = 1; empty if it is."""
    # Those of flowjax all know the rate.
    if isinstance(schedule, ExactEnds):
        return ""
    rate = _check.concrete(lambda: schedule.half_variance_rate(jnp.ones(())))
    if rate is None or not np.isnan(rate):
        return ""
    return (
        f"the schedule {schedule!r} has no known rate of sigma at t = 1 (give it variance(t), "
        f"sigma squared, or half_variance_rate(t), half the rate of that)"
    )
