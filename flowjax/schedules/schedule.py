"""What a schedule is, and all that follows from its alpha and sigma."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.lax import stop_gradient
from jax.typing import ArrayLike

from flowjax import _check
from flowjax._check import time
from flowjax._numerics import log, quotient, root
from flowjax._remembered import remembered
from flowjax.schedules.prior import Prior, prior_of

# How many roundings a level may be from zero at its end and count as zero there.
_ROUNDINGS = 16
# Over this part of the path from an end, a level that falls to zero there is seen to fall.
_LAST_PART = 1 / 256


class Schedule(eqx.Module):
    r"""The pair (alpha, sigma) of a path from noise at t = 0 to data at t = 1.

    $$x_t = \alpha_t\,x_1 + \sigma_t\,x_0, \qquad x_0 \sim N(0, I)$$

    A schedule of one's own is a subclass with the methods `alpha(t)` and `sigma(t)`, or `alpha(t)`
    and `variance(t)`, sigma squared. They are given an array of times of any shape and return one
    number for each; all else follows. A closed form that is better, of `rates` for example,
    overrides what follows.

    `schedule(t)` and all that follows take zero for what is within rounding of it at its end: for
    alpha at t = 0 and for sigma at t = 1. So counts a level that would reach zero within 16
    roundings of the time; and one whose square is within 4 roundings of zero, beside its square at
    the other end, while its rate is not how it falls: it is the root of a difference that should
    be zero, as in `sqrt(1 - alpha**2)`. A level that is small, and meant, stays: it falls as its
    rate says, or stands still before the end, as `maximum(1 - t, 1e-4)` does. Where a rate says
    nothing it is not known: sigma's is then -inf, and alpha's NaN.

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

    References:
        Kingma, Salimans, Poole, Ho, "Variational diffusion models", 2021, arXiv 2107.00630,
        section 3.1; Lipman et al., "Flow matching guide and code", 2024, arXiv 2412.06264,
        section 4.
    """

    def __check_init__(self):
        missing = [] if defines(self, "alpha") else ["alpha(t)"]
        for name in ("alpha", "sigma", "variance"):
            _check.function(getattr(self, name), name, "of t", takes=1)
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
        return self._level("alpha", t), self._level("sigma", t)

    def rates(self, t: ArrayLike) -> tuple[Array, Array]:
        """The time derivatives `(d alpha/dt, d sigma/dt)`.

        Args:
            t: time, of any shape.

        Returns:
            The two rates. Sigma's is -inf where sigma falls to zero like a square root, or its
            rate at zero is not known.
        """
        t = time(t)
        if defines(self, "variance"):
            sigma_rate = falling_rate(self.half_variance_rate(t), self(t)[1])
        else:
            sigma_rate = self._level("sigma", t, rate=True)
            sigma_rate = jnp.where(jnp.isfinite(sigma_rate), sigma_rate, -jnp.inf)
        return self._level("alpha", t, rate=True), sigma_rate

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

    def prior(self, like: Any, t: ArrayLike = 0.0) -> Prior:
        """What a path begins with: the noise at its first time, `N(0, sigma^2 I)`.

        Where alpha is not 0 there, some signal is left, and the true law is wider by it.

        Args:
            like: the shape of one sample, such as ``(2,)``, for JAX's default floating dtype; or a
                pytree of arrays or `jax.ShapeDtypeStruct`.
            t: the first time of the grid, `ts[0]` where that is not 0, as of `karras_grid`.

        Returns:
            A `Prior`, with `sample(key)`, for the init of `fj.sample`, and `log_prob(x)`.

        Raises:
            TypeError: a leaf of like is not real floating.
            ValueError: t is no scalar.
        """
        return prior_of(self(_check.scalar_time(t))[1], like)

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
        log_snr = time(log_snr, "log_snr")
        first, last = (self.log_snr(jnp.full((), end, log_snr.dtype)) for end in (0, 1))
        within = (first < log_snr) & (log_snr < last)

        def ratio(t: Array) -> Array:
            # Between the ends, without what is done for them.
            alpha, sigma = self._read("alpha")(t), self._read("sigma")(t)
            return 2 * (log(alpha) - log(sigma))

        ratio = self.log_snr if defines(self, "log_snr") else ratio
        middle = jnp.full_like(log_snr, 0.5)
        target = jnp.where(within, log_snr, stop_gradient(ratio(middle)))
        t = jax.lax.custom_root(
            lambda t: ratio(t) - target,
            middle,
            _first_at_least_zero,
            lambda linear, y: y / linear(jnp.ones_like(y)),
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

    def _level(self, name: str, t: Array, rate: bool = False) -> Array:
        """A level, or its rate, with what it is at the end where the level may be zero.

        The rate is NaN where it is not known.
        """
        read, end = self._read(name), 0 if name == "alpha" else 1
        at, inside, other = (jnp.asarray(e, t.dtype) for e in (end, abs(end - _LAST_PART), 1 - end))
        value, slope, size = read(at), _rate(read)(at), jnp.abs(read(other))
        secant = (value - read(inside)) / (at - inside)
        rounding = _ROUNDINGS * jnp.finfo(t.dtype).eps

        falls_so = jnp.abs(slope - secant) <= jnp.abs(secant) / 2
        # Half of the way from where the secant would have this value to the end.
        before = at + (inside - at) * jnp.abs(quotient(value, 2 * (read(inside) - value)))
        floor = _rate(read)(before) == 0
        root_of_nothing = ~falls_so & ~floor & (value**2 <= rounding / 4 * size**2)
        zero = (jnp.abs(value) <= rounding * jnp.abs(slope)) | root_of_nothing
        # As t^2 does at t = 0.
        stands = jnp.maximum(jnp.abs(value), jnp.abs(slope)) <= rounding * size
        stands &= zero & (jnp.abs(secant) <= size / 4)

        # What is not known is read inside: there, what is not taken has a derivative.
        unknown = (t == end) & zero & ~stands & ~falls_so
        taken = (_rate(read) if rate else read)(jnp.where(unknown, inside, t))
        taken = jnp.where((t == end) & (stands if rate else zero), vanishing(taken), taken)
        return jnp.where(unknown, jnp.nan if rate else 0, taken)


if TYPE_CHECKING:
    ScheduleLike: TypeAlias = Schedule
else:
    ScheduleLike: TypeAlias = Any
    """A schedule; another value is refused by `checked_schedule`."""


class ExactEnds(Schedule):
    """A schedule whose alpha and sigma are exact at both ends: nothing is taken for zero."""

    def __call__(self, t: ArrayLike) -> tuple[Array, Array]:
        """The pair `(alpha, sigma)`."""
        return self.alpha(t), self.sigma(t)


def checked_schedule(schedule: Any, name: str = "schedule") -> Any:
    """The schedule itself, refused unless it is one."""
    if isinstance(schedule, Schedule):
        # Those of flowjax do.
        seen = None if isinstance(schedule, ExactEnds) else _ratios(schedule)
        if seen is not None and not seen[0] <= seen[1] <= seen[2] > seen[0]:
            raise ValueError(
                f"{name} must go from noise at t = 0 to data at t = 1, and log_snr must increase, "
                f"got {seen[0]}, {seen[1]} and {seen[2]} at t = 0, 1/2 and 1."
            )
        return schedule
    came = f"{schedule!r}, of the type {type(schedule).__name__}"
    if isinstance(schedule, type):
        came = f"the class {schedule.__name__}, not one made by {schedule.__name__}(...)"
    raise TypeError(
        f"{name} must be a schedule such as fj.CondOT(), got {came}. A schedule of your own is a "
        f"subclass of fj.Schedule with methods alpha(t) and sigma(t); it is frozen, as every "
        f"equinox.Module is."
    )


@remembered
def _ratios(schedule: Schedule) -> tuple[float, ...] | None:
    """The log signal-to-noise ratio at t = 0, 1/2 and 1; None if the schedule is traced."""
    # Not computed, in a trace, only to be thrown away.
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(schedule)):
        return None
    times = (0.0, 0.5, 1.0)
    seen = _check.concrete(lambda: [schedule.log_snr(jnp.full((), t, float)) for t in times])
    return None if seen is None else tuple(map(float, seen))


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


def _rate(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return lambda t: jax.jvp(function, (t,), (jnp.ones_like(t),))[1]


def _first_at_least_zero(rising: Callable[[Array], Array], like: Array) -> Array:
    """The first of the floating numbers from 0 to 1 at which an increasing function is >= 0.

    Their bits, read as integers, are in the same order: halving finds the last of them.
    """
    bits = jnp.finfo(like.dtype).bits
    as_integer = functools.partial(jax.lax.bitcast_convert_type, new_dtype=np.dtype(f"int{bits}"))
    as_time = functools.partial(jax.lax.bitcast_convert_type, new_dtype=like.dtype)

    def halve(_: Any, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = low + (high - low) // 2
        below = rising(as_time(middle)) < 0
        return jnp.where(below, middle + 1, low), jnp.where(below, high, middle)

    bounds = as_integer(jnp.zeros_like(like)), as_integer(jnp.ones_like(like))
    return as_time(jax.lax.fori_loop(0, bits - 2, halve, bounds)[1])
