"""The rows of the table, a module each; `ROWS` is the order in which they run.

A module has ``cases() -> list[Case]``. The work of a case begins when it is measured.
"""

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.record import Result
from benchmarks.timing import Settings

Say = Callable[[str], None]


class Case(NamedTuple):
    """A line or more of the table.

    Args:
        row: of the table.
        name: the work.
        measure: ``(settings, say) -> results``; `say` is told what is going on.
    """

    row: str
    name: str
    measure: Callable[[Settings, Say], list[Result]]


ROWS = (
    *("forward", "noise", "gradient", "compile", "scale", "quality", "training", "learning"),
    *("guidance", "posterior"),
)
