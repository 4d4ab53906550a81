"""What a schedule is, and all that follows from its alpha and sigma."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import stop_gradient
from jax.typing import ArrayLike

from flowjax._check import time
from flowjax._numerics import log, root

# How many roundings a level may be from zero at its end and count as zero there.
_ROUNDINGS = 16
# Over this part of the path from an end, a level that falls to zero there is seen to fall.
_LAST_PART = 1 / 256
_ENDS = {"alpha": 0, "sigma": 1}


class Schedule(eqx.Module):
    r"""The pair (alpha, sigma) of a path `x_t = alpha x_1 + sigma x_0`; t = 0 is noise, 1 is data.

    A schedule of one's own is a subclass with the methods `alpha(t)` and `sigma(t)`, or `alpha(t)`
    and `variance(t)`, sigma squared. They are given an array of times of any shape and return one
    number for each; all else follows. A closed form that is better, of `rates` for example,
    overrides what follows.

    `schedule(t)` and all that follows take zero for what is within rounding of it at its end: for
    alpha at t = 0 and for sigma at t = 1. So counts a level that would reach zero within 16
    roundings of the time; and one whose square is within 16 roundings of zero, beside its square at
    the other end, while its rate is not how it falls: it is the root of a difference that should
    be zero, as in `sqrt(1 - alpha**2)`. A level that is small, and meant, falls as its rate says,
    and stays. Where a rate says nothing it is not known: sigma's is then -inf, and alpha's NaN.

    If sigma falls like a square root, as `sqrt(1 - t)` does, give its square: at sigma = 0 no more
    than that has a rate. A number among a schedule's parameters may be a Python float, which is
    part of the compiled program, or an array of shape (), which may be traced and differentiated.

    Raises:
        TypeError: when it is made, it has no `alpha`, or neither `sigma` nor `variance`; when it
            is called, one of them returns no real number for each time.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> class Cosine(fj.Schedule):
        ...     def alpha(self, t):
        ...         return jnp.sin(jnp.pi / 2 * t)
        ...
        ...     def variance(self, t):
        ...         return 1 - self.alpha(t) ** 2
        >>> alpha, sigma = Cosine()(1 / 3)
        >>> print(f"{alpha:.3f} {sigma:.3f}")
        0.500 0.866
        >>> print(f"{Cosine().time_at(Cosine().log_snr(0.7)):.3f}")
        0.700
    """

    def __check_init__(self):
        missing = [] if defines(self, "alpha") else ["alpha(t)"]
        if not (defines(self, "sigma") or defines(self, "variance")):
            missing += ["sigma(t) or variance(t), sigma squared"]
        if missing:
            raise TypeError(
                f"a schedule has methods alpha(t) and sigma(t), or alpha(t) and variance(t): "
                f"{type(self).__name__} lacks {' and '.join(missing)}."
            )

    def alpha(self, t: Any) -> Any:
        """How much of the data there is at time t, of any shape."""
        raise NotImplementedError

    def sigma(self, t: Any) -> Any:
        """How much of the noise there is at time t, of any shape."""
        return root(self.variance(t))

    def variance(self, t: Any) -> Any:
        """Sigma squared at time t, of any shape."""
        return self(t)[1] ** 2

    def __call__(self, t: ArrayLike) -> tuple[Array, Array]:
        """The pair `(alpha, sigma)`.

        Args:
            t: time, 0 (noise) to 1 (data), of any shape.

        Returns:
            alpha and sigma, of t's shape and of its dtype, but of at least float32. Where sigma
            falls to zero like a square root, its derivative there is given as zero.
        """
        t = time(t)
        alpha_end, sigma_end = self._end("alpha", t), self._end("sigma", t)
        return (
            alpha_end.taken(self._read("alpha"), t, alpha_end.zero, 0.0),
            sigma_end.taken(self._read("sigma"), t, sigma_end.zero, 0.0),
        )

    def rates(self, t: ArrayLike) -> tuple[Array, Array]:
        """The time derivatives `(d alpha/dt, d sigma/dt)`.

        Args:
            t: time, of any shape.

        Returns:
            The two rates. Sigma's is -inf where sigma falls to zero like a square root, or its
            rate at zero is not known.
        """
        t = time(t)
        alpha_end, sigma_end = self._end("alpha", t), self._end("sigma", t)
        alpha_rate = alpha_end.taken(_rate(self._read("alpha")), t, alpha_end.still, jnp.nan)
        if defines(self, "variance"):
            return alpha_rate, falling_rate(self.half_variance_rate(t), self(t)[1])
        sigma_rate = sigma_end.taken(_rate(self._read("sigma")), t, sigma_end.still, -jnp.inf)
        return alpha_rate, jnp.where(jnp.isfinite(sigma_rate), sigma_rate, -jnp.inf)

    def half_variance_rate(self, t: ArrayLike) -> Array:
        """The product `sigma sigma' = (d sigma^2/dt) / 2`, finite at both ends.

        Args:
            t: time, of any shape.

        Returns:
            The product; NaN where sigma is zero, its rate not known, and its square not given.
        """
        t = time(t)
        sigma = self(t)[1]
        if not defines(self, "variance"):
            return product(sigma, self.rates(t)[1])
        variance = self._read("variance")
        slope = _rate(variance)(t)
        rounding = _ROUNDINGS * jnp.finfo(t.dtype).eps * variance(jnp.zeros((), t.dtype))
        return jnp.where((sigma == 0) & (jnp.abs(slope) <= rounding), 0, slope / 2)

    def log_snr(self, t: ArrayLike) -> Array:
        """The logarithm of the signal-to-noise ratio, `log(alpha^2 / sigma^2)`; it increases.

        Args:
            t: time, of any shape.

        Returns:
            The logarithm: -inf where alpha is zero and +inf where sigma is, with a derivative of
            zero there.
        """
        alpha, sigma = self(t)
        return 2 * (log(alpha) - log(sigma))

    def time_at(self, log_snr: ArrayLike) -> Array:
        """The time of a signal-to-noise ratio, the inverse of `log_snr`.

        Args:
            log_snr: `log(alpha^2 / sigma^2)`, of any shape; it may be infinite.

        Returns:
            The time: 0 or 1 where the ratio lies beyond the schedule's own.
        """
        log_snr = time(log_snr)
        first, last = (self.log_snr(jnp.full((), end, log_snr.dtype)) for end in (0, 1))
        within = (first < log_snr) & (log_snr < last)

        def ratio(t: Array) -> Array:
            # Between the ends, without what is done for them.
            if defines(self, "log_snr"):
                return self.log_snr(t)
            return 2 * (log(self._read("alpha")(t)) - log(self._read("sigma")(t)))

        middle = jnp.full_like(log_snr, 0.5)
        target = jnp.where(within, log_snr, stop_gradient(ratio(middle)))
        t = jax.lax.custom_root(
            lambda t: ratio(t) - target, middle, _first_at_least_zero, _over_slope
        )
        beyond = jnp.where(log_snr >= last, 1, jnp.where(log_snr <= first, 0, jnp.nan))
        return jnp.where(within, t, beyond)

    def _read(self, name: str) -> Callable[[Array], Array]:
        """One of the methods that a subclass has, as arrays of t's shape and dtype."""

        def read(t: Array) -> Array:
            value = getattr(self, name)(t)
            is_number = isinstance(value, (int, float, np.ndarray, np.generic, jax.Array))
            if not is_number or np.shape(value) not in ((), t.shape) or np.iscomplexobj(value):
                raise TypeError(
                    f"{type(self).__name__}.{name}(t) must return one real number for each time, "
                    f"of shape {t.shape}, got {value!r}."
                )
            return jnp.broadcast_to(jnp.asarray(value, t.dtype), t.shape)

        return read

    def _end(self, name: str, like: Array) -> "_End":
        """How alpha comes to t = 0 and sigma to t = 1, in the dtype of `like`."""
        read, end = self._read(name), _ENDS[name]
        at, inside, other = (jnp.asarray(t, like.dtype) for t in (end, _inside(end), 1 - end))
        value, rate, size = read(at), _rate(read)(at), jnp.abs(read(other))
        secant = (value - read(inside)) / (at - inside)
        rounding = _ROUNDINGS * jnp.finfo(like.dtype).eps

        falls_so = jnp.abs(rate - secant) <= jnp.abs(secant) / 2
        root_of_nothing = ~falls_so & (value**2 <= rounding * size**2)
        zero = (jnp.abs(value) <= rounding * jnp.abs(rate)) | root_of_nothing
        still = jnp.maximum(jnp.abs(value), jnp.abs(rate)) <= rounding * size
        still &= zero & (jnp.abs(secant) <= size / 4)
        return _End(end, zero, still, zero & ~still & ~falls_so)


class _End(NamedTuple):
    """How a level comes to the end where it may be zero."""

    t: int
    zero: Array
    """It counts as zero there."""
    still: Array
    """So does its rate, as that of t^2 at t = 0."""
    unknown: Array
    """It counts as zero, and its rate is not known."""

    def taken(self, function: Callable, t: Array, zero: Array, unknown: float) -> Array:
        """The function of a level, or of its rate, with what it is at the end instead."""
        here = t == self.t
        hidden = here & self.unknown
        # What is not taken has a derivative too.
        value = function(jnp.where(hidden, _inside(self.t), t))
        value = jnp.where(here & zero, vanishing(value), value)
        return jnp.where(hidden, unknown, value)


class ExactEnds(Schedule):
    """A schedule whose alpha and sigma are exact at both ends: nothing is taken for zero."""

    def __call__(self, t: ArrayLike) -> tuple[Array, Array]:
        """The pair `(alpha, sigma)`."""
        return self.alpha(t), self.sigma(t)


def checked_schedule(schedule: Any, name: str = "schedule") -> Any:
    """The schedule itself, refused unless it is one."""
    if isinstance(schedule, Schedule):
        return schedule
    came = f"{schedule!r}, of the type {type(schedule).__name__}"
    if isinstance(schedule, type):
        came = f"the class {schedule.__name__}, not one made by {schedule.__name__}(...)"
    raise TypeError(
        f"{name} must be a schedule such as fj.CondOT(), got {came}. A schedule of your own is a "
        f"subclass of fj.Schedule with methods alpha(t) and sigma(t); it is frozen, as every "
        f"equinox.Module is."
    )


@jax.custom_jvp
def vanishing(value: Array) -> Array:
    """Zero, with the derivative of the value."""
    return jnp.zeros_like(value)


vanishing.defjvp(lambda values, slopes: (jnp.zeros_like(values[0]), slopes[0]))


def defines(schedule: Schedule, name: str) -> bool:
    """Whether a method is a subclass's own, or a function among its fields."""
    return name in vars(schedule) or getattr(type(schedule), name) is not getattr(Schedule, name)


def product(sigma: Array, rate: Array) -> Array:
    """`sigma sigma'`, which zero times infinity does not tell."""
    known = jnp.isfinite(rate)
    return jnp.where(known, sigma * jnp.where(known, rate, 0), jnp.nan)


def falling_rate(half_variance_rate: Array, sigma: Array) -> Array:
    """`sigma' = (sigma sigma') / sigma`, -inf where sigma is zero."""
    positive = sigma > 0
    return jnp.where(positive, half_variance_rate / jnp.where(positive, sigma, 1), -jnp.inf)


def _inside(end: int) -> float:
    return abs(end - _LAST_PART)


def _rate(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return lambda t: jax.jvp(function, (t,), (jnp.ones_like(t),))[1]


def _first_at_least_zero(rising: Callable[[Array], Array], like: Array) -> Array:
    """The first of the floating numbers from 0 to 1 at which an increasing function is >= 0.

    Their bits, read as integers, are in the same order: halving finds the last of them.
    """
    bits = jnp.finfo(like.dtype).bits
    as_integers = np.dtype(f"int{bits}")

    def halve(_: Any, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = low + (high - low) // 2
        below = rising(jax.lax.bitcast_convert_type(middle, like.dtype)) < 0
        return jnp.where(below, middle + 1, low), jnp.where(below, high, middle)

    ends = (jax.lax.bitcast_convert_type(jnp.full_like(like, end), as_integers) for end in (0, 1))
    return jax.lax.bitcast_convert_type(
        jax.lax.fori_loop(0, bits - 2, halve, tuple(ends))[1], like.dtype
    )


def _over_slope(linear: Callable[[Array], Array], y: Array) -> Array:
    return y / linear(jnp.ones_like(y))
