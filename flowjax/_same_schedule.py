"""Whether a field is what it is taken for: a velocity, and of the schedule that is named."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.core import Tracer

from flowjax import _check

# Where two schedules are compared that are no records of the same numbers.
_TIMES = (0.2, 0.5, 0.8)

# Relative: rounding to 32 bits is less, and any difference that matters is more.
_TOLERANCE = 1e-4

_NUMBERS = (float, np.ndarray, np.generic, jax.Array)


def schedule_of(field: Any) -> Any:
    """The schedule that a field or a step holds as its attribute, or None."""
    schedule = getattr(field, "schedule", None)
    is_one = callable(schedule) and hasattr(type(schedule), "rates")
    return schedule if is_one else None


def check_same(field: Any, schedule: Any, name: str, other: str) -> None:
    """Refuses a field that holds another schedule, where that can be seen.

    `name` is what the field is called, and `other` who gave the schedule.
    """
    held = schedule_of(field)
    if held is not None and not _same(held, schedule):
        raise ValueError(
            f"{name} belongs to the schedule {_shown(held)}, but {other} {_shown(schedule)}: give "
            f"both the same one, or take the velocity to the other by fj.change_schedule."
        )


def check_velocity(field: Any, name: str) -> None:
    """Refuses a field of flowjax's own that is known to give something else."""
    given = given_by(field)
    if given not in (None, "velocity"):
        raise TypeError(
            f"{name} must be a velocity, got a field of the {given}: make it a velocity by "
            f"fj.velocity(..., predicts={given!r})."
        )


def given_by(field: Any) -> str | None:
    """Which prediction a field says that it gives, by its class's attribute `gives`."""
    return getattr(type(field), "gives", None)


def _same(one: Any, other: Any) -> bool:
    """Whether two schedules are the same, or cannot be told apart."""
    if one is other:
        return True
    (ones, structure), (others, other_structure) = jax.tree.flatten(one), jax.tree.flatten(other)
    alike = structure == other_structure
    if alike and all(map(_same_number, ones, others)):
        return True
    levels = None, None
    if not any(isinstance(leaf, Tracer) for leaf in (*ones, *others)):
        levels = _levels(one), _levels(other)
    if levels[0] is None or levels[1] is None:
        return alike and type(one) is type(other)
    return np.allclose(*levels, rtol=_TOLERANCE, atol=0)


def _same_number(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, _NUMBERS) and isinstance(other, _NUMBERS):
        traced = isinstance(one, Tracer) or isinstance(other, Tracer)
        return not traced and bool(np.array_equal(one, other))
    return False


def _levels(schedule: Any) -> Any:
    """Alpha and sigma at a few times; None where they cannot be looked at."""
    try:
        values = _check.concrete(lambda: [schedule(t) for t in _TIMES])
    # A schedule of the user's own may ask for what it is not given here.
    except Exception:
        return None
    return None if values is None else np.array(values, float)


def _shown(schedule: Any) -> str:
    """Like repr, with the values of arrays."""
    return eqx.tree_pformat(schedule, width=1000, short_arrays=False)
