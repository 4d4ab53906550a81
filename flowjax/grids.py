"""Time grids: an array of n + 1 times, which anything may make."""

import contextlib
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from flowjax import _check
from flowjax._check import number, require, static_number
from flowjax._numerics import computing_dtype
from flowjax._types import Times
from flowjax.schedules.schedule import checked_schedule


def uniform_grid(n: int, t0: Any = 0.0, t1: Any = 1.0) -> Times:
    """The n + 1 equally spaced times from t0 to t1.

    ``ts[i] = t0 + i h`` with ``h = (t1 - t0) / n``, each computed afresh as
    ``t0 + (i/n) (t1 - t0)``: rounding does not accumulate, both ends are exact, and no time
    comes before the one it follows. From plain numbers the grid is concrete, also under `jit`.

    Args:
        n: number of steps, a static positive int.
        t0: first time, a scalar, in the units of time of the field. May be traced.
        t1: last time, likewise. ``t1 < t0`` gives a decreasing grid, on which an ODE runs
            backward.

    Returns:
        Array of shape (n + 1,), of JAX's default floating dtype or of t0's and t1's if they
        are floating arrays, never below float32. Differentiable in t0 and t1.

    Raises:
        TypeError: if n is not a static int, or t0 or t1 is not a real number.
        ValueError: if n is less than 1, t0 or t1 is not finite or not one number, or two of the
            times are the same, because the dtype does not tell them apart. Traced ends are not
            looked at.

    Example:
        >>> import flowjax as fj
        >>> fj.uniform_grid(4)
        Array([0.  , 0.25, 0.5 , 0.75, 1.  ], dtype=float32)

    References:
        MIT 6.S184, "Flow Matching and Diffusion Models", lecture notes, Algorithm 1.
    """
    n = _check.positive_int(n, "n")
    dtypes = [
        computing_dtype(time.dtype)
        for time in (t0, t1)
        if hasattr(time, "dtype") and jnp.issubdtype(time.dtype, jnp.floating)
    ]
    dtype = max(dtypes or [jnp.result_type(float)], key=lambda dtype: jnp.finfo(dtype).bits)
    t0, t1 = number(t0, "t0"), number(t1, "t1")
    for name, time in (("t0", t0), ("t1", t1)):
        require(np.isfinite, time, message=f"{name} must be finite")
    weight = np.arange(n + 1) / n
    advice = "take fewer steps, or measure time from nearer by"
    if not isinstance(t0, jax.Array) and not isinstance(t1, jax.Array):
        times = np.clip(t0 + weight * (t1 - t0), min(t0, t1), max(t0, t1))
        times[-1] = t1
        with jax.ensure_compile_time_eval(), np.errstate(over="ignore"):
            return jnp.asarray(_distinct(times.astype(dtype), advice))
    weight, t0, t1 = (jnp.asarray(value, dtype) for value in (weight, t0, t1))
    times = jnp.clip(t0 + weight * (t1 - t0), jnp.minimum(t0, t1), jnp.maximum(t0, t1))
    # At the ends themselves: exactly, and with the derivatives 1 and 0 that clipping would halve.
    return _distinct(jnp.concatenate([t0[None], times[1:-1], t1[None]]), advice)


def karras_grid(
    n: int,
    schedule: Any,
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
    n: int, schedule: Any, log_snr_min: float = -9.0, log_snr_max: float = 9.0
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


def shifted_grid(n: int, shift: float) -> Times:
    r"""Equally spaced times, shifted towards the noise: the grid of Stable Diffusion 3.

    $$t_i = \frac{i/n}{i/n + s\,(1 - i/n)}, \quad i = 0, \dots, n$$

    With s above 1 more of the steps are at high noise, which images of higher resolution need.
    In the paper's time, where 1 is noise, with m/n pixels for each of a reference and
    $s = \sqrt{m/n}$, it is $t \mapsto s t / (1 + (s - 1) t)$. Under `CondOT` the noise level
    (1 - t) / t of every time is s times that of the uniform grid.

    Args:
        n: number of steps, a static positive int.
        shift: s, a positive number; 1 is `uniform_grid`, and 3 is Stable Diffusion 3's.

    Returns:
        Array of shape (n + 1,), increasing from 0 to 1, of JAX's default floating dtype.

    Raises:
        TypeError: n is not a static int, or shift is not a static number.
        ValueError: n is less than 1, shift is not positive and finite, or it is so large or
            small that two of the times are the same.

    Example:
        >>> import flowjax as fj
        >>> print([f"{t:.2f}" for t in fj.shifted_grid(4, 3.0)])
        ['0.00', '0.10', '0.25', '0.50', '1.00']

    References:
        Esser et al., "Scaling rectified flow transformers for high-resolution image synthesis",
        2024, arXiv 2403.03206, equation 23.
    """
    n = _check.positive_int(n, "n")
    shift = static_number(shift, "shift")
    if not 0 < shift < math.inf:
        raise ValueError(f"shift must be a positive finite number, got {shift}.")
    t = np.arange(n + 1) / n
    with jax.ensure_compile_time_eval():
        return _distinct(
            jnp.asarray(t / (t + shift * (1 - t)), float),
            "take fewer steps, or a shift nearer to 1",
        )


def beta_grid(n: int, alpha: float = 0.7, beta: float = 0.6) -> Times:
    r"""The quantiles of a Beta distribution: short steps at both ends.

    $$t_i = F^{-1}(i / n), \quad F(t) = \frac{1}{B(a, b)} \int_0^t s^{a - 1} (1 - s)^{b - 1}\,ds,
    \quad i = 0, \dots, n$$

    The first step is about as long as $n^{-1/a}$ and the last as $n^{-1/b}$. With a = b = 1 it is
    `uniform_grid`, with a = b = 1/2 the grid of Chebyshev's extrema, $t_i = (1 - \cos(\pi i/n))/2$.
    The paper has a = b = 0.6; the a = 0.7 here served `adams` better on flows that are known
    exactly, under `CondOT`.

    Args:
        n: number of steps, a static positive int.
        alpha: a, a positive number; the smaller, the shorter the first steps.
        beta: b, a positive number; the smaller, the shorter the last steps.

    Returns:
        Array of shape (n + 1,), increasing from 0 to 1, of JAX's default floating dtype.

    Raises:
        TypeError: n is not a static int, or alpha or beta is not a static number.
        ValueError: n is less than 1, alpha or beta is not positive and finite, or one is so small
            that two of the times are the same.

    Example:
        >>> import flowjax as fj
        >>> print([f"{t:.3f}" for t in fj.beta_grid(4)])
        ['0.000', '0.234', '0.562', '0.852', '1.000']

    References:
        Lee, Lee, Kang, Kim, "Beta sampling is all you need: efficient image generation strategy
        for diffusion models using stepwise spectral analysis", 2024, arXiv 2407.12173.
    """
    from scipy.special import betaincinv

    n = _check.positive_int(n, "n")
    alpha, beta = static_number(alpha, "alpha"), static_number(beta, "beta")
    if not (0 < alpha < math.inf and 0 < beta < math.inf):
        raise ValueError(f"alpha and beta must be positive finite numbers, got {alpha} and {beta}.")
    times = betaincinv(alpha, beta, np.arange(n + 1) / n)
    with jax.ensure_compile_time_eval():
        return _distinct(
            jnp.asarray(times, float), "take fewer steps, or alpha and beta nearer to 1"
        )


def grid_through(times: Any, max_step: Any) -> tuple[Times, np.ndarray]:
    r"""A grid that goes through all of the times, by steps of at most max_step.

    Between two neighbours it is uniform, of the least number of steps that are short enough.

    Args:
        times: (m,) times, increasing, not traced, such as those of observations, with that at
            which the solve begins as the first.
        max_step: the longest step, a positive static number, in the units of the times.

    Returns:
        The times of the grid, of JAX's default floating dtype, and the indices of `times` among
        them, ints, so that ``ts[indices]`` are the times: for ``trajectory(..., at=indices)``.

    Raises:
        TypeError: times or max_step is traced or no number.
        ValueError: times are not at least two, not finite or do not increase, or max_step is not
            positive.

    Example:
        >>> import flowjax as fj
        >>> ts, indices = fj.grid_through([0.0, 0.5, 0.6, 1.0], max_step=0.25)
        >>> print([f"{t:.1f}" for t in ts], indices.tolist())
        ['0.0', '0.2', '0.5', '0.6', '0.8', '1.0'] [0, 2, 3, 5]
        >>> fj.trajectory(fj.linear_field, 1.0, ts, args=1.0, at=indices).shape
        (4,)
    """
    max_step = static_number(max_step, "max_step")
    if not 0 < max_step < math.inf:
        raise ValueError(f"max_step must be positive and finite, got {max_step}.")
    if isinstance(times, Tracer):
        raise TypeError(
            "times must be static, got a traced value: how many steps there are follows."
        )
    values = np.asarray(times)
    if values.dtype.kind not in "iuf":
        raise TypeError(f"times must be numbers, got {times!r}.")
    if values.ndim != 1 or len(values) < 2 or not np.all(np.diff(values) > 0):
        raise ValueError(f"times must be at least 2, in one row that increases, got {times!r}.")
    if not np.all(np.isfinite(values)):
        raise ValueError(f"times must be finite, got {times!r}.")
    values = values.astype(np.float64)
    # A step that is longer by rounding alone is not cut.
    steps = np.ceil(np.diff(values) / max_step * (1 - 1e-6)).astype(int)
    parts = [
        np.linspace(start, stop, n, endpoint=False)
        for start, stop, n in zip(values[:-1], values[1:], steps, strict=True)
    ]
    with jax.ensure_compile_time_eval():
        grid = jnp.asarray(np.concatenate([*parts, values[-1:]]), float)
    return _distinct(grid, "take longer steps"), np.concatenate([[0], np.cumsum(steps)])


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
    return _distinct(times, f"{advice}, or take fewer steps")


def _distinct(times: Any, advice: str) -> Any:
    """The times, refused if two neighbours are the same, where they are known."""
    if isinstance(times, Tracer):
        return times
    values = np.asarray(times)
    down = values[-1] < values[0]
    # Negated, because NaN is in no order.
    same = np.flatnonzero(~(values[1:] < values[:-1] if down else values[1:] > values[:-1]))
    if same.size:
        raise ValueError(
            f"the times must {'decrease' if down else 'increase'}, but step {same[0]} starts and "
            f"ends at t = {values[same[0]]!s}: {advice}."
        )
    return times
