"""Field transformers: from a network to a velocity, and from one schedule to another."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowjax import _check
from flowjax._check import number, require, time
from flowjax._numerics import clip, log, quotient, widest
from flowjax._same_schedule import check_same, check_velocity, given_by
from flowjax._types import Field
from flowjax.fields.predictions import (
    check_name,
    convert,
    data_and_noise_from,
    on_leaves,
    refuse_calls,
    score_from,
)
from flowjax.schedules.point import PathPoint, check_end, path_at
from flowjax.schedules.schedule import checked_schedule
from flowjax.solver import SDE

# The bounds of ln(sigma / alpha) that a preconditioned network is shown.
_LOG_NOISE_RANGE = (-10.0, 10.0)


def velocity(model: Field, schedule: Any, predicts: str = "velocity") -> Field:
    r"""The velocity field of a model that predicts any of the five.

    $$u_t(x) = \dot\alpha D + \dot\sigma E$$

    with D and E from the model's output at (t, x); see `convert`, also for the ends of a schedule,
    where a prediction may not determine the velocity: a model of the noise or the score says
    nothing of it where alpha is 0, so start its grid after t = 0 there. `solve` refuses what is
    wrong in this where it sees the times.

    Args:
        model: a callable `(t, x, args)` with an output like x, such as a network.
        schedule: the one it was trained under, such as `fj.CondOT()`.
        predicts: what it predicts: "velocity", "data", "noise", "score" or "v".

    Returns:
        A field `(t, x, args) -> u`. It keeps the arrays of the model and of the schedule as
        leaves, so one can differentiate with respect to them, and new values compile nothing.

    Raises:
        TypeError: the model is not callable or schedule is not a schedule.
        ValueError: predicts is none of the five names or not what the model is known to give, or
            the model holds another schedule; when it is called, the model's output is unlike x, or
            the velocity does not exist at a t that is not traced; in `solve`, times leave [0, 1],
            or a step calls it where the velocity does not exist. Values are looked at only where
            they are not traced.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> def model(t, x, args):  # all data at 3
        ...     return jnp.full_like(x, 3.0)
        >>> field = fj.velocity(model, fj.CondOT(), predicts="data")
        >>> float(field(0.5, jnp.array(1.0), None))
        4.0

    References:
        Lipman et al., "Flow matching guide and code", 2024, arXiv 2412.06264, section 4.
    """
    check_name(predicts, "predicts")
    callable_field(model, "model")
    check_same(model, checked_schedule(schedule), "model", "velocity was given")
    if given_by(model) not in (None, predicts):
        raise ValueError(
            f"predicts must be {given_by(model)!r}, which this model gives, got {predicts!r}."
        )
    return _Velocity(model, schedule, predicts)


def precondition(network: Field, schedule: Any, sigma_data: ArrayLike = 0.5) -> Field:
    r"""A model of the data whose network sees and returns numbers of unit size at every time.

    $$D(t, x) = \frac{\alpha\,\sigma_d^2}{\sigma^2 + \alpha^2\sigma_d^2}\,x
    + \frac{\sigma\,\sigma_d}{\sqrt{\sigma^2 + \alpha^2\sigma_d^2}}\,
    F\Big(\tfrac14\ln\tfrac\sigma\alpha,\; \frac{x}{\sqrt{\sigma^2 + \alpha^2\sigma_d^2}}\Big)$$

    It is EDM's preconditioning at the noise level `sigma / alpha` and the state `x / alpha`,
    multiplied out, so it is finite at both ends of every schedule. Train it as a prediction of the
    data with the weight `(sigma^2 + alpha^2 sigma_d^2) / (sigma sigma_d)^2`: that is a mean square
    for F, whose target has unit variance.

    Args:
        network: F, a callable `(c_noise, x, args)` with an output like x. Its first argument is
            `ln(sigma / alpha) / 4`, where the logarithm is kept between -10 and 10.
        schedule: such as `fj.CondOT()`.
        sigma_data: the standard deviation of one element of the data, positive.

    Returns:
        A callable `(t, x, args) -> D`, for `fj.velocity(..., predicts="data")`. It keeps the
        network's arrays as leaves.

    Raises:
        TypeError: network is not callable, schedule is not a schedule or sigma_data no number.
        ValueError: sigma_data is not positive, or the network's output is unlike x (when it is
            called).

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> network = lambda c_noise, x, args: jnp.zeros_like(x)  # as it is initialised
        >>> model = fj.precondition(network, fj.CondOT(), sigma_data=1.0)
        >>> print(f"{model(0.8, jnp.array(1.0), None):.3f}")  # the best linear guess
        1.176
        >>> field = fj.velocity(model, fj.CondOT(), predicts="data")

    References:
        Karras, Aittala, Aila, Laine, "Elucidating the design space of diffusion-based generative
        models", 2022, arXiv 2206.00364, table 1 and equation 7.
    """
    sigma_data = number(sigma_data, "sigma_data")
    require(lambda sigma: sigma > 0, sigma_data, message="sigma_data must be positive")
    return _Preconditioned(
        callable_field(network, "network"), checked_schedule(schedule), sigma_data
    )


def change_schedule(velocity: Field, old: Any, new: Any) -> Field:
    r"""The velocity under a new schedule, from one that was trained under an old schedule.

    The state of the new path at t is that of the old path at the time of the same signal-to-noise
    ratio, but for a factor:

    $$\frac{\alpha_{old}(\tau)}{\sigma_{old}(\tau)} = \frac{\alpha_{new}(t)}{\sigma_{new}(t)},
    \quad x_{old} = c\,x, \quad c = \frac{\sigma_{old}}{\sigma_{new}}
    = \frac{\alpha_{old}}{\alpha_{new}}$$

    Both expect the same data D and noise E, so `u = alpha' D + sigma' E` with the new rates.

    The flows end at the same samples where both schedules reach the ratios of the new one's ends,
    and start at the same noise times `c`. A ratio out of the old schedule's reach is taken to be
    that of its nearest end. At t = 0 the old velocity does not determine D where it stands still
    (`Polynomial(n)` with n > 1), and at t = 1 it does not determine the new one where sigma' is
    infinite in the new schedule alone: the value is finite there, with what is missing taken as
    zero. At a ratio of zero or infinity the derivative in t leaves out that of tau.

    Args:
        velocity: a field `(t, x, args) -> u` under the old schedule.
        old: its schedule, with `time_at`, such as `fj.VariancePreserving()`.
        new: the schedule to solve on, with `log_snr`.

    Returns:
        A field `(t, x, args) -> u` under the new schedule.

    Raises:
        TypeError: velocity is not callable or is known to be no velocity, or a schedule lacks a
            method.
        ValueError: velocity holds another schedule than old; the velocity is unlike x (when it is
            called); in `solve`, times leave [0, 1]. Values are looked at only where they are not
            traced.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> target = fj.Gaussian(jnp.array([2.0]), 0.5)
        >>> trained = target.velocity(fj.VariancePreserving())
        >>> field = fj.change_schedule(trained, fj.VariancePreserving(), fj.CondOT())
        >>> x = jnp.array([0.3])
        >>> print(
        ...     f"{field(0.5, x, None)[0]:.3f} {target.velocity(fj.CondOT())(0.5, x, None)[0]:.3f}"
        ... )
        2.840 2.840

    References:
        Lipman et al., "Flow matching guide and code", 2024, arXiv 2412.06264, section 4 (post-
        training change of the scheduler); Karras et al., 2022, arXiv 2206.00364, section 2.
    """
    checked_schedule(old, name="old")
    checked_schedule(new, name="new")
    check_velocity(callable_field(velocity, "velocity"), "velocity")
    check_same(velocity, old, "velocity", "old is")
    return _ChangedSchedule(velocity, old, new)


class _Velocity(eqx.Module):
    model: Callable[..., Any]
    schedule: Any
    predicts: str = eqx.field(static=True)

    def __call__(self, t: ArrayLike, x: Any, args: Any) -> Any:
        x = _check.state(x, "x")
        value = _check.alike(self.model(t, x, args), x, "the model's output")
        return convert(value, t, x, self.schedule, source=self.predicts, target="velocity")

    def check_times(self, ts: np.ndarray, called: np.ndarray) -> None:
        """Refuses times where there is no schedule, or the prediction gives no velocity."""
        _check.within_schedule(ts)
        check_end(self.schedule, called)
        refuse_calls(called, self.schedule, self.predicts)


class _Preconditioned(eqx.Module):
    gives = "data"
    network: Callable[..., Any]
    schedule: Any
    sigma_data: ArrayLike

    def __call__(self, t: ArrayLike, x: Any, args: Any) -> Any:
        x = _check.state(x, "x")

        def spread(path: PathPoint) -> tuple[Array, Array]:
            """The data's standard deviation, and the state's."""
            data = jnp.asarray(self.sigma_data, path.alpha.dtype)
            return data, jnp.sqrt(path.variance + (path.alpha * data) ** 2)

        def into(path: PathPoint, x: Array) -> Array:
            return x / spread(path)[1]

        def out(path: PathPoint, x: Array, value: Array) -> Array:
            data, state = spread(path)
            skip = path.alpha * (data / state) ** 2
            return skip * x + path.sigma * data / state * value

        path = path_at(self.schedule, t, widest(x))
        c_noise = clip(log(path.sigma) - log(path.alpha), *_LOG_NOISE_RANGE) / 4
        value = self.network(c_noise, on_leaves(into, path, x), args)
        value = _check.alike(value, x, "the network's output")
        return on_leaves(out, path, x, value)


class _ChangedSchedule(eqx.Module):
    velocity: Callable[..., Any]
    old: Any
    new: Any

    def __call__(self, t: ArrayLike, x: Any, args: Any) -> Any:
        x = _check.state(x, "x")
        dtype = widest(x)
        t = time(t)
        t = t.astype(jnp.promote_types(t.dtype, dtype))
        old_time = self.old.time_at(self.new.log_snr(t))
        paths = path_at(self.old, old_time, dtype), path_at(self.new, t, dtype)

        def scale(paths: Any) -> Array:
            old, new = paths
            by_noise = new.sigma > new.alpha
            return jnp.where(
                by_noise, quotient(old.sigma, new.sigma), quotient(old.alpha, new.alpha)
            )

        def into(paths: Any, x: Array) -> Array:
            return scale(paths) * x

        def out(paths: Any, x: Array, value: Array) -> Array:
            old, new = paths
            data, noise = data_and_noise_from("velocity", old, x, value)
            # Where sigma' is infinite, sigma' E is -sigma sigma' times the score, which scales.
            score = scale(paths) * score_from("velocity", old, x, value)
            finite = jnp.isfinite(new.sigma_rate)
            along_noise = jnp.where(finite, new.sigma_rate, 0) * noise
            along_noise = jnp.where(finite, along_noise, -new.half_variance_rate * score)
            return new.alpha_rate * data + along_noise

        x_old = on_leaves(into, paths, x)
        value = _check.alike(self.velocity(old_time, x_old, args), x, "the velocity's output")
        return on_leaves(out, paths, x_old, value)

    @property
    def schedule(self) -> Any:
        """The schedule that this is a velocity under."""
        return self.new

    def check_times(self, ts: np.ndarray, called: np.ndarray) -> None:
        """Refuses times where there is no schedule, and what the velocity refuses of its own."""
        _check.within_schedule(ts)
        try:
            _check.times_of(self.velocity, ts, called)
        except ValueError:
            # It refuses an end of the old schedule, which an end of the new need not be.
            ends = called.min(), called.max()
            old = _check.concrete(lambda: [self.old.time_at(self.new.log_snr(t)) for t in ends])
            if old is not None:
                _check.times_of(self.velocity, np.array(old), np.array(old))


def callable_field(field: Any, name: str) -> Any:
    """The field itself, refused unless it can be called."""
    if isinstance(field, SDE):
        raise TypeError(
            f"{name} must be a callable (t, x, args), got an SDE: give the velocity field that it "
            f"was made from, or a field of its own."
        )
    if isinstance(field, type) or not callable(field):
        raise TypeError(f"{name} must be a callable (t, x, args), got {field!r}.")
    return field
