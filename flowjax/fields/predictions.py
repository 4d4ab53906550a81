"""What a network may predict, all converted through the pair (data, noise)."""

import functools
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from flowjax import _check
from flowjax._numerics import computing_dtype, widest
from flowjax._remembered import remembered
from flowjax._types import Domain, State
from flowjax.schedules.point import PathPoint, path_at
from flowjax.schedules.schedule import ScheduleLike, checked_schedule


def convert(
    value: Any, t: Any, x: Any, schedule: ScheduleLike, *, source: str, target: str
) -> State:
    r"""One prediction at (t, x) as another.

    With the expected data D and noise E, given that the state at time t is x,

    $$x = \alpha D + \sigma E, \quad u = \dot\alpha D + \dot\sigma E, \quad
    \mathrm{score} = -E / \sigma, \quad v = \alpha E - \sigma D$$

    and from the velocity, with the determinant $\Delta = \dot\alpha\sigma - \alpha\dot\sigma$,

    $$D = \frac{\sigma u - \dot\sigma x}{\Delta}, \quad
    E = \frac{\dot\alpha x - \alpha u}{\Delta}, \quad
    \mathrm{score} = \frac{\alpha u - \dot\alpha x}{\dot\alpha\sigma^2 - \alpha\,\sigma\dot\sigma}$$

    Nothing is divided by alpha or sigma that need not be, so most of it exists at both ends of a
    schedule. What does not exist:

    ================  ===================================================================
    where             what is not determined by x and the prediction
    ================  ===================================================================
    sigma = 0         score: from data, noise and v; from the velocity where sigma' is finite.
                      velocity: from data, noise and v where sigma' is infinite.
    alpha = 0         data and v: from noise and score, and from a velocity where alpha' = 0.
                      velocity: from noise and score where alpha' is not 0.
    ================  ===================================================================

    There a time that is not traced is refused. Where t is traced, as in `solve`, the value and
    its gradient are NaN. At sigma = 0 the state is the data, so that D = x / alpha and E = 0
    whatever is predicted, since X_0 is Gaussian and independent of the data; where alpha is 0 the
    state is the noise.

    Args:
        value: the prediction, a pytree with x's structure, shapes and dtypes.
        t: time, a scalar, 0 (noise) to 1 (data).
        x: the state at t: one sample, a floating array or a pytree of them.
        schedule: such as `fj.CondOT()`.
        source: what value is: "velocity", "data", "noise", "score" or "v".
        target: what to return, one of the same names.

    Returns:
        The prediction asked for, with x's structure, shapes and dtypes.

    Raises:
        TypeError: schedule is not a schedule, or a leaf of x is not real floating.
        ValueError: a name is none of the five, value is unlike x, t is not a scalar within
            [0, 1], or what is asked for is not determined at t (where t is not traced).

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> x, noise = jnp.array([1.0, 2.0]), jnp.array([0.5, 0.5])
        >>> fj.convert(noise, 0.5, x, fj.CondOT(), source="noise", target="data").tolist()
        [1.5, 3.5]
        >>> fj.convert(noise, 0.5, x, fj.CondOT(), source="noise", target="velocity").tolist()
        [1.0, 3.0]

    References:
        Salimans, Ho, "Progressive distillation for fast sampling of diffusion models", 2022,
        arXiv 2202.00512, section 4 and appendix D (v); Lipman et al., "Flow matching guide and
        code", 2024, arXiv 2412.06264, table 1.
    """
    check_name(source, "source")
    check_name(target, "target")
    checked_schedule(schedule)
    x = _check.state(x, "x")
    value = _check.alike(value, x, "value")
    path = path_at(schedule, t, widest(x))
    refuse_time(t, lambda end: missing_at(end, schedule, source, target))
    return on_leaves(functools.partial(converted, source, target), path, x, value)


def on_leaves(function: Callable[..., Array], path: Any, x: State, *others: State) -> State:
    """`function(path, leaf of x, *leaves)` on every leaf, in at least float32.

    path is a point of a path, or several of them.
    """

    def on_leaf(leaf: Array, *rest: Array) -> Array:
        dtype = computing_dtype(leaf.dtype)
        values = (jnp.asarray(value, dtype) for value in (leaf, *rest))
        point = jax.tree.map(lambda value: value.astype(dtype), path)
        return function(point, *values).astype(leaf.dtype)

    return jax.tree.map(on_leaf, x, *others)


def score_denominator(path: PathPoint) -> Array:
    """`alpha' sigma^2 - alpha sigma sigma'`: the score is `(alpha u - alpha' x)` over it."""
    return path.alpha_rate * path.variance - path.alpha * path.half_variance_rate


def per_score(predicts: str, path: PathPoint) -> Array:
    """By how much a prediction changes with the score; NaN where alpha is 0."""
    alpha, sigma, variance = path.alpha, path.sigma, path.variance
    known = alpha != 0
    over_alpha = {
        "velocity": score_denominator(path),
        "data": variance,
        "noise": -sigma * alpha,
        "score": alpha,
        "v": -sigma * (alpha**2 + variance),
    }[predicts]
    return jnp.where(known, over_alpha / jnp.where(known, alpha, 1), jnp.nan)


def converted(
    source: str, target: str, path: PathPoint, x: Array, value: Array, unless: Any = None
) -> Array:
    """One prediction as another, for a leaf; NaN where it is not determined, 0 where `unless`."""
    if source == target:
        return value
    of_x, of_value, scale = _weights(source, target, path)
    if unless is not None:
        # Not the result, whose derivative would still be one of NaN.
        scale = jnp.where(unless & jnp.isnan(scale), 0, scale)
    return scale * (of_x * x + of_value * value)


def _weights(source: str, target: str, path: PathPoint) -> tuple:
    r"""The numbers (p, q, c) of `target = c (p x + q source)`; c is NaN if it is not determined.

    The larger of p and q is 1 or -1. If both are, as from the data to the velocity under `CondOT`,
    the difference of x and the source is exact near an end. The state and the predictions are
    rows of two numbers, their coefficients of D and of E, and
    three of them are in the proportion of (Cramer's rule)

    $$(X \wedge S)\,T = (T \wedge S)\,X + (X \wedge T)\,S, \quad
    (a, b) \wedge (c, d) = ad - bc$$
    """
    alpha, sigma, variance, alpha_rate, sigma_rate, half_variance_rate = path
    unit, x2, of_rates = 1, sigma, (alpha_rate, sigma_rate)
    if "score" in (source, target):
        # The second number is that of E / sigma, which is minus the score.
        unit, x2, of_rates = sigma, variance, (alpha_rate, half_variance_rate)
    elif "velocity" in (source, target):
        # And it is beside an infinite sigma', at sigma = 0.
        finite = jnp.isfinite(sigma_rate)
        unit, x2 = jnp.where(finite, 1, sigma), jnp.where(finite, sigma, variance)
        of_rates = alpha_rate, jnp.where(finite, sigma_rate, half_variance_rate)
    if source == "velocity":
        # What is not known is taken for zero: it then says nothing.
        of_rates = tuple(jnp.where(jnp.isnan(rate), 0, rate) for rate in of_rates)
    rows = {"velocity": of_rates, "data": (1, 0), "noise": (0, unit), "score": (0, -1)}
    (s1, s2), (t1, t2) = (
        (-sigma, alpha * unit) if one == "v" else rows[one] for one in (source, target)
    )
    p, q, r = t1 * s2 - t2 * s1, alpha * t2 - x2 * t1, alpha * s2 - x2 * s1

    # Where the source and the state say the same: (p, q, r), and whether that is enough.
    same, at_data, at_noise = r == 0, sigma == 0, alpha == 0
    limit, enough = (0, 0, 1), False
    if source == "data" and target != "score":
        # At sigma = 0 it is E = 0.
        limit, enough = (0, t1, 1), half_variance_rate == 0 if target == "velocity" else True
    elif source in ("noise", "score") and target not in ("data", "v"):
        limit = (0, t2, s2)
        enough = at_noise & (alpha_rate == 0) if target == "velocity" else at_noise
    elif source == "velocity":
        limit = (jnp.where(at_data, t1, t2), 0, jnp.where(at_data, alpha, x2))
        enough = {"noise": at_data | at_noise, "score": at_noise}.get(target, at_data)
    p, q, r = (jnp.where(same, a, b) for a, b in zip(limit, (p, q, r), strict=True))
    larger = jax.lax.stop_gradient(jnp.maximum(jnp.abs(p), jnp.abs(q)))
    larger = jnp.where(larger == 0, 1, larger)
    return p / larger, q / larger, jnp.where(same & ~jnp.asarray(enough), jnp.nan, larger / r)


PREDICTIONS = ("velocity", "data", "noise", "score", "v")


def check_name(value: Any, name: str) -> None:
    """Refuses what is none of the five names."""
    if not isinstance(value, str) or value not in PREDICTIONS:
        raise ValueError(f"{name} must be one of {', '.join(PREDICTIONS)}, got {value!r}.")


def refuse_time(t: Any, why: Callable[[float], str]) -> None:
    """Refuses a time that is known, outside of [0, 1] or at an end where there is a reason why."""
    numbers = isinstance(t, (int, float, np.generic, np.ndarray, jax.Array))
    # What is no number is refused where the schedule is read.
    if isinstance(t, Tracer) or not numbers or np.ndim(t) > 0 or not _check.is_real(t):
        return
    t = float(t)
    if not 0 <= t <= 1:
        raise ValueError(f"t must lie within [0, 1], 0 is noise and 1 is data, got {t}.")
    reason = why(t) if t in (0, 1) else ""
    if reason:
        raise ValueError(f"{reason}; take a time inside the schedule.")


def missing_at(t: float, schedule: Any, source: str, target: str) -> str:
    """Why the target is not determined at an end, t = 0 or 1; empty if it is, or one is traced."""
    if source == target:
        return ""
    return _what_is_missing(t, jax.tree.map(_plain, schedule), source, target)


def without_noise_alone(schedule: Any, who: str, what: str) -> Domain:
    """That something does not determine another at t = 0, where the state is noise alone."""
    alpha = _check.concrete(lambda: _path_at(schedule, 0.0).alpha)
    if alpha is None or float(alpha) != 0:
        return Domain()
    return Domain(f"{who} does not determine the {what} at t = 0, where alpha = 0")


def _plain(leaf: Any) -> Any:
    """An array of one number as a float, where it has a value."""
    is_array = isinstance(leaf, (jax.Array, np.ndarray, np.generic))
    return float(leaf) if is_array and not isinstance(leaf, Tracer) and leaf.shape == () else leaf


# A solve of few steps takes less time than to look at a schedule at one time.
@remembered
def _what_is_missing(t: float, schedule: Any, source: str, target: str) -> str:
    # As arguments, so that other numbers compile nothing.
    schedule = jax.tree.map(
        lambda leaf: np.asarray(leaf) if isinstance(leaf, float) else leaf, schedule
    )

    def values() -> tuple[Array, ...]:
        path = _path_at(schedule, np.asarray(t, jnp.result_type(float)))
        return (*path, _scale(source, target, path))

    known = _check.concrete(values)
    if known is None or not math.isnan(known[-1]):
        return ""
    alpha, sigma, _, alpha_rate, _, half_variance_rate, _ = map(float, known)
    if sigma == 0 and math.isnan(half_variance_rate):
        where = (
            "sigma = 0 and the rate of sigma squared is not known (give the schedule variance(t), "
            "sigma squared, instead of sigma(t))"
        )
    elif sigma == 0:
        where = "sigma = 0 and sigma' is infinite" if target == "velocity" else "sigma = 0"
    elif alpha == 0 and math.isnan(alpha_rate):
        where = "alpha = 0 and alpha' is not known"
    else:
        where = "alpha = alpha' = 0" if source == "velocity" else "alpha = 0"
    return f"a model of the {source} does not determine the {target} at t = {t:g}, where {where}"


@eqx.filter_jit
def _path_at(schedule: Any, t: Any) -> PathPoint:
    return path_at(schedule, t, jnp.float32)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _scale(source: str, target: str, path: PathPoint) -> Array:
    return _weights(source, target, path)[2]
