r"""What the samplers share: a schedule over one step.

Their papers write a step in the coefficients of the path at its two ends and in

$$\lambda = \log(\alpha / \sigma), \qquad h = \lambda_1 - \lambda_0, \qquad
e^{-h} = \frac{\alpha_0 \sigma_1}{\sigma_0 \alpha_1}$$

where h is infinite on a step from alpha = 0 or to sigma = 0 and most of what it occurs in is not.
`Interval` holds what is finite.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from flowjax._numerics import quotient, root, weighted, widest
from flowjax._types import Scalar, State
from flowjax.schedules.point import PathPoint, path_at


class Interval(NamedTuple):
    """A schedule over one step; but for sigma's rate all of it is finite, also at its ends."""

    start: PathPoint
    a0: Array
    s0: Array
    a1: Array
    s1: Array
    decay: Array
    """`e^{-h}`, going forward: 0 from alpha = 0 and to sigma = 0."""
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
    a0, s0, a1, s1 = start.alpha, start.sigma, end.alpha, end.sigma
    later, earlier = a1 * s0, a0 * s1
    finite = (later > 0) & (earlier > 0)
    h = jnp.log(jnp.where(finite, later, 1) / jnp.where(finite, earlier, 1))
    # A step of no length forgets nothing, at the ends too.
    decay = jnp.where(later > 0, quotient(earlier, later), 1)
    gain = a1 - quotient(earlier, s0)
    return Interval(start, a0, s0, a1, s1, decay, gain, h, quotient(jnp.ones_like(h), h))


def noise_weight(forgotten: Array, t0: Scalar, t1: Scalar) -> Array:
    r"""`\sqrt{forgotten / (t_1 - t_0)}`: what dW is multiplied by to have that variance.

    NaN on a step back in time, which these methods do not take.
    """
    length = jnp.asarray(t1 - t0, forgotten.dtype)
    # A step of no length adds no noise, and has a derivative.
    return jnp.where(length < 0, jnp.nan, root(quotient(forgotten, length)))


def ancestral_end(
    i: Interval, t0: Scalar, t1: Scalar, x: State, data: State, noise: State, dw: State
) -> State:
    """The end of a step that draws from the posterior of the next state: line 4 of Algorithm 2."""
    fresh = noise_weight((1 - i.decay) * (1 + i.decay), t0, t1)
    return weighted(x, (i.a1, data), (i.s1 * i.decay, noise), (i.s1 * fresh, dw))


def extrapolation(h: Array, inverse_h_before: Array) -> Array:
    """H over that of the step before, by which a two-step method extrapolates; 0 for order 1.

    A step that is far longer than the one before, as the last of a uniform grid that stops short of
    sigma = 0, goes where the data expected do not change as they have done. A uniform grid is at
    most at 1.7 else, and one that is even in lambda at 1. NaN where the two go different ways.
    """
    ratio = h * inverse_h_before
    ratio = jnp.where(ratio < 0, jnp.nan, ratio)
    return jnp.where((ratio > 2) & (jnp.abs(h) > 1.5), 0, ratio)
