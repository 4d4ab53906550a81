"""What the targets share: the two fields of their marginals."""

import dataclasses
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from flowjax import _check
from flowjax._numerics import computing_dtype
from flowjax._types import Domain
from flowjax.fields.velocity import Velocity, velocity
from flowjax.schedules.point import PathPoint, path_at, unknown_rate
from flowjax.schedules.schedule import checked_schedule

Target = TypeVar("Target", bound=eqx.Module)


# The end of a path, as those of flowjax have it: x is the data.
_NUMBERS: Any = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
AT_DATA = PathPoint(*_NUMBERS)


class _Marginal(eqx.Module):
    """The model inside a target's velocity: it predicts the velocity, and knows the pair too."""

    gives = "velocity"
    target: Any
    schedule: Any

    def __call__(self, t: ArrayLike, x: ArrayLike, args: Any) -> Array:
        path, data, whitened, _ = expected(self.target, self.schedule, t, x)
        velocity = path.alpha_rate * data + path.half_variance_rate * whitened
        return velocity.astype(jnp.result_type(x))

    def data_and_noise(self, t: ArrayLike, x: ArrayLike, args: Any) -> tuple[Array, Array]:
        """The expected data and noise, at both ends of every schedule too."""
        path, data, whitened, _ = expected(self.target, self.schedule, t, x)
        return data.astype(jnp.result_type(x)), (path.sigma * whitened).astype(jnp.result_type(x))


def marginal_velocity(target: Any, schedule: Any) -> Velocity:
    """The velocity of a target's marginals."""
    v = velocity(_Marginal(target, checked_schedule(schedule)), schedule)
    return dataclasses.replace(v, domain=Domain("", unknown_rate(schedule)))


class MarginalScore(eqx.Module):
    """The field of a target's marginal score under a schedule."""

    gives = "score"
    domain = Domain()
    target: Any
    schedule: Any

    def __call__(self, t: ArrayLike, x: ArrayLike, args: Any) -> Array:
        return expected(self.target, self.schedule, t, x)[3].astype(jnp.result_type(x))


def expected(target: Any, schedule: Any, t: ArrayLike, x: ArrayLike) -> tuple:
    """The path at t, and what is expected where the state is x; of the dtype to compute in."""
    x = one_sample(x, target.shape)
    dtype = computing_dtype(x.dtype)
    path = path_at(schedule, t, dtype)
    return path, *widened(target, dtype)._expected(path, x.astype(dtype))


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
