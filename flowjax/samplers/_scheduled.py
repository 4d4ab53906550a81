r"""What the samplers share: a schedule over one step, and a velocity read as data and noise.

Their papers write a step in the coefficients of the path at its two ends and in

$$\lambda = \log(\alpha / \sigma), \qquad h = \lambda_1 - \lambda_0, \qquad
e^{-h} = \frac{\alpha_0 \sigma_1}{\sigma_0 \alpha_1}$$

where h is infinite on a step from alpha = 0 or to sigma = 0 and most of what it occurs in is not.
`Interval` holds what is finite.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowjax import _check
from flowjax._numerics import computing_dtype, quotient, widest
from flowjax._same_schedule import check_same, check_velocity
from flowjax._types import Field, Scalar, State
from flowjax.fields.predictions import data_and_noise_from
from flowjax.schedules.point import PathPoint, path_at
from flowjax.solver import SDE


class Scheduled(eqx.Module):
    """A step made from a schedule, whose arrays it holds as leaves: new ones compile nothing."""

    schedule: Any

    def check_field(self, field: Any) -> None:
        """Refuses the velocity of another schedule, and what is known to be no velocity."""
        check_velocity(field, "the field")
        check_same(field, self.schedule, "the field", "the step was made for")

    def check_times(self, ts: np.ndarray) -> None:
        """Refuses times that the schedule does not have, or that go forth and back."""
        _check.within_schedule(ts)
        _check.one_way(ts)


class Interval(NamedTuple):
    """A schedule over one step; but for sigma's rate all of it is finite, also at its ends."""

    start: PathPoint
    end: PathPoint
    a0: Array
    s0: Array
    a1: Array
    s1: Array
    decay: Array
    """`e^{-h}`; 0 where alpha_0 or sigma_1 is."""
    gain: Array
    """`alpha_1 (1 - e^{-h})`, what the data weighs beside `(sigma_1 / sigma_0) x`."""
    h: Array
    """h, but 0 where it is infinite."""
    inverse_h: Array
    """1 / h, and 0 where h is 0 or infinite."""


def interval(schedule: Any, t0: Scalar, t1: Scalar, x: State) -> Interval:
    """The schedule over the step from t0 to t1, in the precision of the state."""
    dtype = widest(x)
    start, end = path_at(schedule, t0, dtype), path_at(schedule, t1, dtype)
    (a0, s0, *_), (a1, s1, *_) = start, end
    finite = (a0 > 0) & (s0 > 0) & (a1 > 0) & (s1 > 0)
    ratio = quotient(jnp.where(finite, a1 * s0, 1), jnp.where(finite, a0 * s1, 1))
    h = jnp.log(ratio)
    return Interval(
        *(start, end, a0, s0, a1, s1),
        decay=quotient(a0 * s1, s0 * a1),
        gain=a1 - quotient(a0 * s1, s0),
        h=h,
        inverse_h=quotient(jnp.ones_like(h), h),
    )


def predicted(
    field: Field, t: Scalar, x: State, args: Any, path: PathPoint, step: str
) -> tuple[State, State]:
    """The data D and the noise E that a velocity field expects where the state at t is x.

    `path` is the schedule at t, and `step` is who asks.
    """
    if isinstance(field, SDE):
        raise TypeError(
            f"{step} is a step for a velocity field and brings its own noise: it was given an "
            f"SDE. For the SDE of with_noise use exponential_euler."
        )
    return expected(field(t, x, args), x, path)


def expected(velocity: State, x: State, path: PathPoint) -> tuple[State, State]:
    """The data D and the noise E of a velocity's value at x."""
    # Both are linear in x and in the velocity: four numbers, found once for all elements.
    zero, one = jnp.zeros_like(path.alpha), jnp.ones_like(path.alpha)
    of_x = data_and_noise_from("velocity", path, one, zero)
    of_velocity = data_and_noise_from("velocity", path, zero, one)
    data = combined(x, (of_x[0], x), (of_velocity[0], velocity))
    noise = combined(x, (of_x[1], x), (of_velocity[1], velocity))
    return data, noise


def combined(x: State, *terms: tuple[Array, State]) -> State:
    """The sum of coefficients times states, computed in at least float32, in x's dtypes."""
    coefficients = [coefficient for coefficient, _ in terms]

    def on_leaf(leaf: Array, *values: Array) -> Array:
        dtype = computing_dtype(leaf.dtype)
        products = [
            jnp.asarray(coefficient, dtype) * jnp.asarray(value, dtype)
            for coefficient, value in zip(coefficients, values, strict=True)
        ]
        return sum(products[1:], products[0]).astype(leaf.dtype)

    return jax.tree.map(on_leaf, x, *(state for _, state in terms))


def noise_weight(forgotten: Array, t0: Scalar, t1: Scalar) -> Array:
    r"""`\sqrt{forgotten / (t_1 - t_0)}`: what dW is multiplied by to have that variance."""
    share = quotient(forgotten, jnp.asarray(t1 - t0, forgotten.dtype))
    # A step of no length adds no noise, and has a derivative.
    positive = share > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, share, 1)), 0)
