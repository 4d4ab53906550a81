"""What the targets share: a point of a path, and the two fields of its marginals."""

from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from flowjax import _check
from flowjax._types import computing_dtype
from flowjax.processes._arrays import parameter

Target = TypeVar("Target", bound=eqx.Module)


class PathPoint(NamedTuple):
    """A schedule at one time: what the closed forms need of it."""

    alpha: Array
    sigma: Array
    alpha_rate: Array
    half_variance_rate: Array


def path_at(schedule: Any, t: ArrayLike, dtype: Any) -> PathPoint:
    """The schedule at time t, evaluated in the wider of t's dtype and `dtype`, in `dtype`."""
    checked_schedule(schedule)
    t = parameter(t, "t")
    if t.ndim != 0:
        raise ValueError(f"t must be a scalar, got shape {t.shape}; use jax.vmap over many times.")
    if jnp.finfo(t.dtype).bits < jnp.finfo(dtype).bits:
        t = t.astype(dtype)
    alpha, sigma = schedule(t)
    alpha_rate, _ = schedule.rates(t)
    point = PathPoint(alpha, sigma, alpha_rate, half_variance_rate(schedule, t))
    return PathPoint(*(jnp.asarray(value).astype(dtype) for value in point))


def half_variance_rate(schedule: Any, t: Array) -> Array:
    """`sigma sigma' = (d sigma^2 / dt) / 2`, the only form in which sigma' enters a velocity."""
    _, sigma = schedule(t)
    _, sigma_rate = schedule.rates(t)
    return sigma * sigma_rate


class MarginalVelocity(eqx.Module):
    """The field of a target's marginal velocity under a schedule."""

    target: Any
    schedule: Any

    def __call__(self, t: ArrayLike, x: ArrayLike, args: Any) -> Array:
        x = one_sample(x, self.target.shape)
        dtype = computing_dtype(x.dtype)
        path = path_at(self.schedule, t, dtype)
        velocity = widened(self.target, dtype)._velocity_on(path, x.astype(dtype))
        return velocity.astype(x.dtype)


class MarginalScore(eqx.Module):
    """The field of a target's marginal score under a schedule."""

    target: Any
    schedule: Any

    def __call__(self, t: ArrayLike, x: ArrayLike, args: Any) -> Array:
        x = one_sample(x, self.target.shape)
        return widened(self.target, x.dtype).marginal(self.schedule, t).score(x)


def widened(target: Target, dtype: Any) -> Target:
    """The target with its parameters in the dtype that states of `dtype` are computed in."""
    dtype = computing_dtype(dtype)
    return jax.tree.map(lambda leaf: leaf.astype(dtype), target)


def one_sample(x: ArrayLike, shape: tuple[int, ...]) -> Array:
    """The sample x as a real floating array, refused unless it has one sample's shape."""
    x = _check.state(x, "x")
    if not isinstance(x, jax.Array):
        raise TypeError(f"x must be one array, got {type(x).__name__}.")
    if x.shape != shape:
        raise ValueError(
            f"x must be one sample, of shape {shape}, got shape {x.shape}; "
            f"for a batch, use jax.vmap."
        )
    return x


def checked_schedule(schedule: Any) -> Any:
    """The schedule itself, refused unless it has both parts of a schedule."""
    if isinstance(schedule, type) or not callable(schedule) or not hasattr(schedule, "rates"):
        raise TypeError(
            f"schedule must be a schedule such as fj.CondOT(), with schedule(t) and "
            f"schedule.rates(t), got {schedule!r}."
        )
    return schedule
