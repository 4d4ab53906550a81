"""Times that noise, a step or a field do not have, refused where they are known."""

import weakref
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from flowjax._types import Domain
from flowjax.solver.sde import SDE
from flowjax.solver.stepper import fact, name_of, needs_noise


class _Grid(NamedTuple):
    """What is to be known of a grid's values: which way it goes, and its bounds."""

    rises: bool
    falls: bool
    low: float
    high: float
    starts_low: float
    """The least of the times at which a step begins."""
    starts_high: float


# While a grid lives: to look at it again would take a third of the time of a short solve.
_grids: dict[int, tuple[Any, _Grid]] = {}


def _grid(ts: Any) -> _Grid | None:
    """The facts of a grid, refused if it is not finite; None if it is traced, or no grid."""
    number = id(ts)
    found = _grids.get(number)
    if found is not None and found[0]() is ts:
        return found[1]
    if isinstance(ts, Tracer) or ts.size < 2 or not jnp.issubdtype(ts.dtype, jnp.floating):
        return None
    times = np.asarray(ts).astype(float).reshape(-1)
    if not np.isfinite(times).all():
        raise ValueError(f"ts must be finite, got times from {times.min()} to {times.max()}.")
    steps, starts = times[1:] - times[:-1], times[:-1]
    grid = _Grid(
        bool(not (steps < 0).any()),
        bool(not (steps > 0).any()),
        *(float(f(part)) for part in (times, starts) for f in (np.min, np.max)),
    )
    _grids[number] = weakref.ref(ts, lambda _: _grids.pop(number, None)), grid
    return grid


def check_times(ts: Any, field: Any, step: Any, *, drawn: bool) -> None:
    """Refuses times that noise, the step or the field do not have, where they are not traced."""
    grid = _grid(ts)
    if grid is None:
        return
    reads = fact(step, "reads")
    if drawn and not grid.rises:
        raise ValueError(
            "ts must not decrease where noise is drawn: an SDE cannot run backward in time. "
            "Write the reverse-time SDE on an increasing grid instead"
            + (", or give increments." if field is not None else ".")
        )
    if reads and not grid.rises and needs_noise(step, True):
        raise ValueError(
            f"ts must not decrease for step {name_of(step)}, which draws noise by a schedule, got "
            f"times from {grid.low} to {grid.high}."
        )
    if fact(step, "one_way") and not (grid.rises or grid.falls):
        raise ValueError(f"ts must go one way, up or down, for this step, got {ts}.")
    domain = domain_of(field, reads)
    if domain is None:
        return
    # Negated, because NaN is in no order.
    if not (grid.low >= 0 and grid.high <= 1):
        raise ValueError(
            f"ts must lie within [0, 1], the times of a schedule (0 is noise, 1 is data), got "
            f"times from {grid.low} to {grid.high}."
        )
    low, high = grid.starts_low, grid.starts_high
    if fact(step, "calls_end"):
        low, high = grid.low, grid.high
    if domain.at_start and low == 0:
        raise ValueError(
            f"{domain.at_start}, and the step calls it there: start the grid later, as by "
            f"fj.uniform_grid(n, 1e-3) or fj.karras_grid(n, schedule)."
        )
    if domain.at_end and high == 1:
        raise ValueError(
            f"{domain.at_end}, and the step calls it there: end the grid earlier, as by "
            f"fj.uniform_grid(n, 0.0, 0.995), or, to go forward, take a step that calls the field "
            f"at its start alone, such as fj.ddim."
        )


def domain_of(field: Any, reads: str = "") -> Domain | None:
    """The domain of what a step reads of a field; None if it says nothing of one."""
    if isinstance(field, SDE):
        field = field.drift
        if reads == "with_noise":
            field = field.velocity
    domain = getattr(field, "pair_domain" if reads else "domain", None)
    return domain if isinstance(domain, Domain) else None


def check_from_noise(ts: Any, field: Any) -> None:
    """Refuses a grid towards noise where samples are drawn by a schedule."""
    grid = _grid(ts)
    if grid is not None and domain_of(field) is not None and not grid.rises:
        first, last = np.asarray(ts)[[0, -1]]
        raise ValueError(
            f"ts must not decrease where samples are drawn by a schedule: t = 0 is noise, which "
            f"init draws, and t = 1 is data, got times from {first!s} to {last!s}. To take data "
            f"back to noise, use solve."
        )


def indices_within(value: Any, steps: int, name: str) -> tuple[int, ...]:
    """Indices of times of so many steps, as static ints, refused unless they increase."""
    wanted = f"{name} must be static ints from 0 to the number of steps, {steps}, that increase"
    if isinstance(value, Tracer) or np.ndim(value) != 1:
        raise TypeError(f"{wanted}, got {value!r}.")
    places = np.asarray(value)
    if len(places) == 0:
        raise ValueError(f"{wanted}, got none.")
    if places.dtype.kind not in "iu":
        raise TypeError(f"{wanted}, got {value!r}.")
    places = places.astype(int)
    if places[0] < 0 or places[-1] > steps or np.any(np.diff(places) <= 0):
        raise ValueError(f"{wanted}, got {value!r}.")
    return tuple(map(int, places))
