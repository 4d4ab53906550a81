"""What a network may predict, all converted through the pair (data, noise)."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from flowjax import _check
from flowjax._numerics import computing_dtype, quotient, widest
from flowjax._types import State
from flowjax.schedules.point import PathPoint, path_at
from flowjax.schedules.schedule import checked_schedule


def convert(value: Any, t: Any, x: Any, schedule: Any, *, source: str, target: str) -> State:
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
    its gradient are finite all the same: data that is not determined is taken as 0, a score that
    is not as 0, and `sigma' E` that is not as 0. At sigma = 0 the noise from data is 0: the state
    is then the data, and says nothing of the noise.

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
        ValueError: a name is none of the five, value is unlike x, t is not a scalar, or what is
            asked for does not exist at t (where t is not traced).

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
    if source == target:
        return value
    _refuse_what_does_not_exist(t, x, schedule, source, target)
    path = path_at(schedule, t, widest(x))
    return on_leaves(_CONVERSIONS[target](source), path, x, value)


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


def data_and_noise_from(source: str, path: PathPoint, x: Array, value: Array) -> tuple:
    """The pair (D, E), for a leaf; what is not determined is zero."""
    alpha, sigma = path.alpha, path.sigma
    if source == "data":
        return value, quotient(x - alpha * value, sigma)
    if source == "noise":
        return quotient(x - sigma * value, alpha), value
    if source == "score":
        return quotient(x + path.variance * value, alpha), -sigma * value
    if source == "v":
        norm = alpha**2 + path.variance
        return (alpha * x - sigma * value) / norm, (sigma * x + alpha * value) / norm
    # Where sigma' is infinite, all is multiplied by sigma.
    finite = jnp.isfinite(path.sigma_rate)
    weight = jnp.where(finite, 1, sigma)
    weighted_sigma = jnp.where(finite, sigma, path.variance)
    weighted_rate = jnp.where(finite, path.sigma_rate, path.half_variance_rate)
    determinant = path.alpha_rate * weighted_sigma - alpha * weighted_rate
    data = quotient(weighted_sigma * value - weighted_rate * x, determinant)
    noise = quotient(weight * (path.alpha_rate * x - alpha * value), determinant)
    # A path that stands still has a velocity that says nothing; the state at an end still does.
    still = determinant == 0
    data = jnp.where(still & (sigma == 0), quotient(x, alpha), data)
    noise = jnp.where(still & (alpha == 0), quotient(x, sigma), noise)
    return data, noise


def score_from(source: str, path: PathPoint, x: Array, value: Array) -> Array:
    """The score, for a leaf; zero where it is not determined."""
    if source == "score":
        return value
    _, noise = data_and_noise_from(source, path, x, value)
    score = -quotient(noise, path.sigma)
    if source == "velocity":
        denominator = score_denominator(path)
        direct = quotient(path.alpha * value - path.alpha_rate * x, denominator)
        score = jnp.where(denominator == 0, score, direct)
    return score


def score_denominator(path: PathPoint) -> Array:
    """`alpha' sigma^2 - alpha sigma sigma'`: the score is `(alpha u - alpha' x)` over it."""
    return path.alpha_rate * path.variance - path.alpha * path.half_variance_rate


def velocity_from(source: str, path: PathPoint, x: Array, value: Array) -> Array:
    """The velocity, for a leaf."""
    if source == "velocity":
        return value
    data, noise = data_and_noise_from(source, path, x, value)
    if source == "score":
        return path.alpha_rate * data - path.half_variance_rate * value
    finite = jnp.isfinite(path.sigma_rate)
    return path.alpha_rate * data + jnp.where(finite, path.sigma_rate, 0) * noise


def _to_v(source: str) -> Callable[..., Array]:
    def v(path: PathPoint, x: Array, value: Array) -> Array:
        data, noise = data_and_noise_from(source, path, x, value)
        return path.alpha * noise - path.sigma * data

    return v


_CONVERSIONS: dict[str, Callable[[str], Callable[..., Array]]] = {
    "velocity": lambda source: lambda *leaves: velocity_from(source, *leaves),
    "data": lambda source: lambda *leaves: data_and_noise_from(source, *leaves)[0],
    "noise": lambda source: lambda *leaves: data_and_noise_from(source, *leaves)[1],
    "score": lambda source: lambda *leaves: score_from(source, *leaves),
    "v": _to_v,
}
PREDICTIONS = tuple(_CONVERSIONS)


def check_name(value: Any, name: str) -> None:
    """Refuses what is none of the five names."""
    if value not in PREDICTIONS:
        raise ValueError(f"{name} must be one of {', '.join(PREDICTIONS)}, got {value!r}.")


def _refuse_what_does_not_exist(t: Any, x: State, schedule: Any, source: str, target: str) -> None:
    """The table of `convert`, where the time and the schedule can be looked at."""
    if isinstance(t, Tracer):
        return
    missing = _what_is_missing(t, widest(x), schedule, source, target)
    if missing:
        raise ValueError(
            f"the {target} is not determined by the {source} and x at t = {float(t)}, where "
            f"{missing}; take a time inside the schedule."
        )


def refuse_calls(times: np.ndarray, schedule: Any, source: str) -> None:
    """Refuses to call a model for its velocity at an end where it does not determine it."""
    if source == "velocity":
        return
    for t, called, instead in (
        (0.0, times.min() == 0, _START_LATER),
        (1.0, times.max() == 1, _END_EARLIER),
    ):
        missing = missing_at(t, schedule, source, "velocity") if called else ""
        if missing:
            raise ValueError(
                f"a model of the {source} says nothing of the velocity at t = {t:g}, where "
                f"{missing}, and the field is called there: {instead}."
            )


_START_LATER = "start the grid later, as by fj.uniform_grid(n, 1e-3) or fj.karras_grid(n, schedule)"
_END_EARLIER = (
    "end the grid earlier, as by fj.uniform_grid(n, 0.0, 0.995), or, to go forward, take a step "
    "that calls the field at its start alone, such as fj.ddim(schedule)"
)


def missing_at(t: float, schedule: Any, source: str, target: str) -> str:
    """What the target lacks at an end, looked up where the schedule's numbers have values."""
    schedule = jax.tree.map(_plain, schedule)
    plain = all(isinstance(leaf, float) for leaf in jax.tree.leaves(schedule))
    find = _remembered if plain else _what_is_missing
    return find(t, jnp.float32, schedule, source, target)


def _plain(leaf: Any) -> Any:
    """An array of one number as a float, where it has a value."""
    is_array = isinstance(leaf, (jax.Array, np.ndarray, np.generic))
    return float(leaf) if is_array and not isinstance(leaf, Tracer) and leaf.shape == () else leaf


def _what_is_missing(t: Any, dtype: Any, schedule: Any, source: str, target: str) -> str:
    """Why the target is not determined at t; empty if it is, or a value is traced."""

    def values() -> tuple[Array, ...]:
        path = path_at(schedule, t, dtype)
        return (*path, score_denominator(path))

    known = _check.concrete(values)
    if known is None:
        return ""
    alpha, sigma, _, alpha_rate, sigma_rate, _, denominator = map(float, known)
    missing = ""
    if sigma == 0:
        if target == "score" and (source != "velocity" or denominator == 0):
            missing = "sigma = 0"
        if target == "velocity" and source != "score" and math.isinf(sigma_rate):
            missing = "sigma = 0 and sigma' is infinite"
    if alpha == 0 and target in ("data", "v", "velocity"):
        if source in ("noise", "score") and (target != "velocity" or alpha_rate != 0):
            missing = "alpha = 0"
        if source == "velocity" and alpha_rate == 0:
            missing = "alpha = alpha' = 0"
    return missing


# A solve of few steps takes less time than to look at a schedule at one time.
_remembered = functools.lru_cache(maxsize=128)(_what_is_missing)
