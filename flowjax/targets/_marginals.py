"""What the targets share: the two fields of their marginals."""

from typing import Any, TypeVar

import equinox as eqx
import jax
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowjax import _check
from flowjax._numerics import computing_dtype
from flowjax.schedules.point import check_end, path_at

Target = TypeVar("Target", bound=eqx.Module)


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

    def check_times(self, ts: np.ndarray, called: np.ndarray) -> None:
        """Refuses times that the schedule does not have."""
        _check.within_schedule(ts)
        check_end(self.schedule, called)


class MarginalScore(eqx.Module):
    """The field of a target's marginal score under a schedule."""

    gives = "score"
    target: Any
    schedule: Any

    def __call__(self, t: ArrayLike, x: ArrayLike, args: Any) -> Array:
        x = one_sample(x, self.target.shape)
        return widened(self.target, x.dtype).marginal(self.schedule, t).score(x)

    def check_times(self, ts: np.ndarray, called: np.ndarray) -> None:
        """Refuses times that the schedule does not have."""
        _check.within_schedule(ts)


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
