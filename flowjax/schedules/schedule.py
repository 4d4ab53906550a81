"""What a schedule is, and the few functions that the schedules are written with."""

import abc

import equinox as eqx
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


class Schedule(eqx.Module):
    r"""The pair (alpha, sigma) of a path `x_t = alpha x_1 + sigma x_0`; t = 0 is noise, 1 is data.

    Every method takes times of any shape and returns arrays of that shape and of t's dtype, which
    is at least float32. A schedule of one's own need not derive from this: wherever flowjax takes
    a schedule, any object with `schedule(t)` and `schedule.rates(t)` will do, unless the docstring
    asks for more. If sigma' is infinite at a time that is used it needs `half_variance_rate` too,
    and `variance(t)`, sigma squared, for derivatives in time there.

    A number among a schedule's parameters may be a Python float, which is part of the compiled
    program, or an array of shape (), which may be traced and differentiated.
    """

    @abc.abstractmethod
    def __call__(self, t: ArrayLike) -> tuple[Array, Array]:
        """The pair `(alpha, sigma)`.

        Args:
            t: time, 0 (noise) to 1 (data), of any shape.

        Returns:
            alpha and sigma. Where sigma falls to zero like a square root, its derivative there
            is given as zero.
        """

    @abc.abstractmethod
    def rates(self, t: ArrayLike) -> tuple[Array, Array]:
        """The time derivatives `(d alpha/dt, d sigma/dt)`.

        Args:
            t: time, of any shape.

        Returns:
            The two rates. Sigma's is -inf where sigma falls to zero like a square root.
        """

    @abc.abstractmethod
    def half_variance_rate(self, t: ArrayLike) -> Array:
        """The product `sigma sigma' = (d sigma^2/dt) / 2`, finite at both ends.

        Args:
            t: time, of any shape.

        Returns:
            The product.
        """

    @abc.abstractmethod
    def log_snr(self, t: ArrayLike) -> Array:
        """The logarithm of the signal-to-noise ratio, `log(alpha^2 / sigma^2)`; it increases.

        Args:
            t: time, of any shape.

        Returns:
            The logarithm: -inf where alpha is zero and +inf where sigma is, with a derivative of
            zero there.
        """

    @abc.abstractmethod
    def time_at(self, log_snr: ArrayLike) -> Array:
        """The time of a signal-to-noise ratio, the inverse of `log_snr`.

        Args:
            log_snr: `log(alpha^2 / sigma^2)`, of any shape; it may be infinite.

        Returns:
            The time: 0 or 1 where the ratio lies beyond the schedule's own.
        """


def falling_rate(half_variance_rate: Array, sigma: Array) -> Array:
    """`sigma' = (sigma sigma') / sigma`, -inf where sigma is zero."""
    positive = sigma > 0
    return jnp.where(positive, half_variance_rate / jnp.where(positive, sigma, 1), -jnp.inf)
