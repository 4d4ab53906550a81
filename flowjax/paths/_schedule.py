"""What a schedule is, and the few functions that the schedules are written with."""

import abc
import inspect
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
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


def number(value: Any, name: str) -> Any:
    """A real number as a Python float, or an array of shape () as it is."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(
        value, (int, float, np.generic, np.ndarray, jax.Array)
    ):
        raise TypeError(f"{name} must be a real number, got {value!r}.")
    dtype = jnp.result_type(value)
    if not jnp.issubdtype(dtype, jnp.floating) and not jnp.issubdtype(dtype, jnp.integer):
        raise TypeError(f"{name} must be a real number, got dtype {dtype}.")
    if jnp.shape(value) != ():
        raise ValueError(f"{name} must be one number, got an array of shape {jnp.shape(value)}.")
    if isinstance(value, (np.ndarray, jax.Array)):
        return value if jnp.issubdtype(dtype, jnp.floating) else jnp.asarray(value, float)
    return float(value)


def require(holds: Any, *values: Any, message: str) -> None:
    """Refuses numbers for which `holds` is false; those that are traced are not looked at."""
    if any(isinstance(value, Tracer) for value in values):
        return
    numbers = [float(value) for value in values]
    if not holds(*numbers):
        raise ValueError(f"{message}, got {', '.join(map(str, numbers))}.")


def log(x: Array) -> Array:
    """The logarithm, -inf with a derivative of zero at zero."""
    positive = x > 0
    return jnp.where(positive, jnp.log(jnp.where(positive, x, 1)), -jnp.inf)


def root(x: Array) -> Array:
    """The square root, with a derivative of zero at zero."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


def falling_rate(half_variance_rate: Array, sigma: Array) -> Array:
    """`sigma' = (sigma sigma') / sigma`, -inf where sigma is zero."""
    positive = sigma > 0
    return jnp.where(positive, half_variance_rate / jnp.where(positive, sigma, 1), -jnp.inf)


def clip(x: Array, low: Any = None, high: Any = None) -> Array:
    """The value between the bounds; at a bound itself the derivative is 1."""
    # jnp.clip halves it there.
    if low is not None:
        x = jnp.where(x < low, low, x)
    return x if high is None else jnp.where(x > high, high, x)


class ScalarFunction(eqx.Module):
    """A number, or a function of time with scalar values, as a function of time."""

    value: Any
    name: str = eqx.field(static=True)

    def __init__(self, value: Any, name: str):
        if isinstance(value, type):
            raise TypeError(f"{name} must be a number or a function of t, got {value!r}.")
        if callable(value):
            _of_time_alone(value, name)
        self.value = value if callable(value) else jnp.asarray(number(value, name))
        self.name = name

    def __call__(self, t: Array) -> Array:
        value: Any = self.value(t) if callable(self.value) else self.value
        kind = jnp.result_type(value)
        real = jnp.issubdtype(kind, jnp.floating) or jnp.issubdtype(kind, jnp.integer)
        if jnp.shape(value) != () or not real:
            raise ValueError(
                f"{self.name} must be a real scalar at each t, got shape {jnp.shape(value)} and "
                f"dtype {kind}."
            )
        return jnp.asarray(value, t.dtype)


def _of_time_alone(function: Any, name: str) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:  # as of some functions written in C
        return
    try:
        signature.bind(0.0)
    except TypeError:
        raise TypeError(
            f"{name} must be a number or a function of time alone, t -> scalar, got a function of "
            f"{signature}."
        ) from None
