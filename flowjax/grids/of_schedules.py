"""Grids by the noise levels of a schedule."""

import contextlib
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowjax import _check
from flowjax._check import static_number
from flowjax._types import Times
from flowjax.grids.uniform import distinct
from flowjax.schedules.schedule import ScheduleLike, checked_schedule


def karras_grid(
    n: int,
    schedule: ScheduleLike,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
) -> Times:
    r"""The times at which the noise level takes the values of EDM.

    $$\hat\sigma_i = \Big(\sigma_{max}^{1/\rho}
    + \frac{i}{n - 1}\big(\sigma_{min}^{1/\rho} - \sigma_{max}^{1/\rho}\big)\Big)^\rho,
    \quad i = 0, \dots, n - 1, \qquad \hat\sigma_n = 0$$

    where $\hat\sigma = \sigma / \alpha$ is the noise level of the schedule at a time. Of one step
    the level is sigma_max and then 0.

    The first time is 0 only if the schedule begins at sigma_max or below: a sample is started with
    the standard deviation that the schedule has at ``ts[0]``, which the example does. If sigma_min
    is the level at which the schedule ends, as it may be under `VarianceExploding`, it is the last
    of n + 1: then n stands in place of n - 1.

    Args:
        n: number of steps, a static positive int.
        schedule: such as `fj.CondOT()`.
        sigma_min: the last level before 0, a positive number. It lies within the schedule.
        sigma_max: the first level, above sigma_min. If it lies above the schedule's first, the
            grid begins at t = 0.
        rho: how much the steps shorten towards low noise, a positive number.

    Returns:
        Array of shape (n + 1,), increasing, of JAX's default floating dtype. The last time is 1.

    Raises:
        TypeError: n is not a static int, another argument is not a static number, or schedule is
            not a schedule.
        ValueError: n is less than 1; the levels are not positive and finite with
            sigma_min < sigma_max; rho is not positive; or two of the times are the same, because
            the schedule does not reach their levels or the dtype does not tell them apart.

    Example:
        >>> import jax
        >>> import flowjax as fj
        >>> schedule = fj.CondOT()
        >>> ts = fj.karras_grid(4, schedule)
        >>> print([f"{t:.4f}" for t in ts])
        ['0.0123', '0.0933', '0.6803', '0.9980', '1.0000']
        >>> init = lambda key: schedule(ts[0])[1] * jax.random.normal(key, (2,))

    References:
        Karras, Aittala, Aila, Laine, "Elucidating the design space of diffusion-based generative
        models", 2022, arXiv 2206.00364, equation 5.
    """
    n = _check.positive_int(n, "n")
    checked_schedule(schedule)
    sigma_min = static_number(sigma_min, "sigma_min")
    sigma_max = static_number(sigma_max, "sigma_max")
    rho = static_number(rho, "rho")
    if not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(
            f"sigma_min and sigma_max must be positive and finite with sigma_min < sigma_max, "
            f"got {sigma_min} and {sigma_max}."
        )
    if not 0 < rho < math.inf:
        raise ValueError(f"rho must be a positive finite number, got {rho}.")
    ratio = (sigma_min / sigma_max) ** (1 / rho)

    def log_snr(share: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return -2 * (np.log(sigma_max) + rho * np.log(1 + share * (ratio - 1)))

    return _times_at(log_snr, n, schedule, "sigma_max and sigma_min", lambda snr: np.exp(-snr / 2))


def log_snr_grid(
    n: int, schedule: ScheduleLike, log_snr_min: float = -9.0, log_snr_max: float = 9.0
) -> Times:
    r"""The times that are evenly spaced in the logarithm of the signal-to-noise ratio.

    $$\log\frac{\alpha^2}{\sigma^2}(t_i) = l_{min} + \frac{i}{n - 1} (l_{max} - l_{min}),
    \quad i = 0, \dots, n - 1, \qquad t_n = 1$$

    which is DPM-Solver's spacing in lambda, half that logarithm. Of one step the logarithm starts
    at log_snr_min. If log_snr_max is the logarithm at which the schedule ends, it is that of t_n:
    then n stands in place of n - 1.

    The first time is 0 only if the schedule begins at log_snr_min or above: a sample is started
    with the standard deviation that the schedule has at ``ts[0]``, as in `karras_grid`.

    Args:
        n: number of steps, a static positive int.
        schedule: such as `fj.CondOT()`.
        log_snr_min: the first logarithm, a finite number. If it lies below the schedule's first,
            the grid begins at t = 0.
        log_snr_max: the last logarithm before the step to t = 1, above log_snr_min. It lies
            within the schedule.

    Returns:
        Array of shape (n + 1,), increasing, of JAX's default floating dtype. The last time is 1.

    Raises:
        TypeError: n is not a static int, another argument is not a static number, or schedule is
            not a schedule.
        ValueError: n is less than 1; the ends are not finite with log_snr_min < log_snr_max; or
            two of the times are the same, as in `karras_grid`.

    Example:
        >>> import flowjax as fj
        >>> ts = fj.log_snr_grid(4, fj.CondOT())
        >>> print([f"{t:.3f}" for t in ts])
        ['0.011', '0.182', '0.818', '0.989', '1.000']

    References:
        Lu, Zhou, Bao, Chen, Li, Zhu, "DPM-Solver: a fast ODE solver for diffusion probabilistic
        model sampling in around 10 steps", 2022, arXiv 2206.00927, section 3.3.
    """
    n = _check.positive_int(n, "n")
    checked_schedule(schedule)
    log_snr_min = static_number(log_snr_min, "log_snr_min")
    log_snr_max = static_number(log_snr_max, "log_snr_max")
    if not -math.inf < log_snr_min < log_snr_max < math.inf:
        raise ValueError(
            f"log_snr_min and log_snr_max must be finite with log_snr_min < log_snr_max, got "
            f"{log_snr_min} and {log_snr_max}."
        )

    def log_snr(share: np.ndarray) -> np.ndarray:
        return log_snr_min + share * (log_snr_max - log_snr_min)

    return _times_at(log_snr, n, schedule, "log_snr_min and log_snr_max", lambda snr: snr)


def _times_at(
    log_snr: Callable[[np.ndarray], np.ndarray],
    n: int,
    schedule: Any,
    names: str,
    of_snr: Callable[[Any], Any],
) -> Times:
    """The times at which the logarithm has the values of its n shares, and t = 1.

    They are concrete unless the schedule is traced. The names are those of the grid's ends, and
    `of_snr` is what the logarithm is called by them.
    """
    ends = _check.concrete(lambda: [schedule.log_snr(jnp.full((), end, float)) for end in (0, 1)])
    last = math.inf if ends is None else float(ends[1])
    rounding = 16 * float(jnp.finfo(jnp.result_type(float)).eps) * (1 + abs(last))
    meets = math.isfinite(last) and abs(log_snr(np.ones(1))[0] - last) <= rounding
    shares = np.arange(n) / (n if meets else max(n - 1, 1))
    with contextlib.nullcontext() if ends is None else jax.ensure_compile_time_eval():
        times = schedule.time_at(jnp.asarray(log_snr(shares), float))
        times = jnp.concatenate([times, jnp.ones_like(times[:1])])
    if ends is None:
        return times
    with np.errstate(over="ignore"):
        first, last = (of_snr(np.float64(end)) for end in ends)
    advice = f"keep {names} within those of the schedule, {first:g} and {last:g}"
    return distinct(times, f"{advice}, or take fewer steps")
