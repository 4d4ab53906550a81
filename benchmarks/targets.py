"""What is to be reached, and how far a later run may fall back: all numbers in one place."""

import fnmatch
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.contenders import IDIOMS
from benchmarks.record import Result


class Target(NamedTuple):
    """A bound on flowjax's value over that of the best of `against`.

    Args:
        row: of the table.
        case: a pattern of the case's name, in which * stands for anything.
        metric: of the result.
        against: contenders; the smallest of their values is what the bound is relative to.
            `FLOOR` is the floor of the result; empty is for a bound on the value itself.
        at_most: the bound.
        contender: a pattern of whose value is bound; of several, the largest.
    """

    row: str
    case: str
    metric: str
    against: tuple[str, ...]
    at_most: float
    contender: str = "flowjax"


class Outcome(NamedTuple):
    """A target beside what was measured."""

    target: Target
    value: float
    noise: float

    @property
    def verdict(self) -> str:
        """PASS if the target is reached, tie if it is missed by less than the noise, or short."""
        if self.value <= self.target.at_most:
            return "PASS"
        return "tie" if self.value <= self.target.at_most * (1 + self.noise) else "short"


FLOOR = ("the floor",)
SCAN = ("scan",)
PEERS = ("diffrax constant", "diffrax StepTo", "tinydiffeq", "torchdiffeq", "flow_matching")
DIFFRAX = ("diffrax",)
DIFFUSERS = ("diffusers",)
SPLIT = ("scan split",)
DRAWN_FIRST = ("scan drawn first",)
LARGE = ("*(64, 2)*", "*(4096, 2)*", "*(64, 3072)*")
SMALL = ("*(1)*", "*(2)*")
MATRIX_OF_ONE, MATRIX_OF_MANY = "matrix*one key*", "matrix*keys*"

TARGETS = (
    Target("forward", "*", "time", SCAN, 1.05),
    Target("forward", "*", "time", PEERS, 1.0),
    *(Target("noise", case, "time", IDIOMS, 1 / 3) for case in LARGE),
    *(Target("noise", case, "time", SPLIT, 1 / 10) for case in SMALL),
    *(Target("noise", case, "time", DRAWN_FIRST, 1.0) for case in SMALL),
    # "And with gradients taken."
    Target("noise", "* (64, 2)*", "gradient time", IDIOMS, 1 / 3),
    Target("noise", "* (2)*", "gradient time", SPLIT, 1 / 10),
    Target("noise", "* (2)*", "gradient time", DRAWN_FIRST, 1.0),
    # "Without its memory": half of what drawing everything first takes, or less.
    *(
        Target("noise", f"*keys {shape}*", "temporary bytes", DRAWN_FIRST, 1 / 2)
        for shape in ("(1)", "(2)")
    ),
    Target("noise", "*key* (*", "time", ("diffrax tree",), 1 / 20),
    # Noise by a matrix: as the scan where the products rule, a third where the noise does.
    Target("noise", MATRIX_OF_ONE, "time", IDIOMS, 1.05),
    Target("noise", MATRIX_OF_MANY, "time", IDIOMS, 1 / 3),
    Target("gradient", "MLP*(4096, 2)*", "time", SCAN, 0.6),
    Target("gradient", "MLP*(4096, 2)*", "time", DIFFRAX, 0.75),
    Target("gradient", "MLP*(4096, 2)*", "temporary bytes", SCAN, 1 / 40),
    Target("gradient", "*4096 over*", "growth of bytes", (), 12.0),
    Target("gradient", "*4096 over*", "growth of bytes", (), 1.5, "flowjax Reversible"),
    *(Target("compile", f"{case}*", "first call", SCAN, 1.3) for case in ("forward", "gradient")),
    *(
        Target("compile", f"{case}*", "first call", DIFFRAX, 0.4)
        for case in ("forward", "gradient")
    ),
    # "About what a jitted call costs".
    Target("compile", "dispatch*", "time", ("flowjax in jit",), 2.0),
    Target("compile", "dispatch*", "traces of a second call", (), 0.0),
    Target("scale", "*", "growth of equations", (), 1.0),
    # "Linear within 10 %": the time for one unit of work, over that of the smallest case, which has
    # to bear what a call costs by itself.
    Target("scale", "*", "time per unit", FLOOR, 1.1, "*"),
    # To be ahead, and to aim for half of the error.
    Target("quality", "*", "error", DIFFUSERS, 1.0),
    Target("quality", "*", "error", DIFFUSERS, 0.5),
    Target("training", "a step*3 x 64*", "time", SCAN, 1.05),
    Target("training", "a step*3 x 1024*", "time", ("loop",), 1.0),
    Target("training", "a step*", "time", ("torchcfm",), 1.0),
    Target("training", "pairs*", "time", ("SciPy", "POT", "optax"), 1.0),
    Target("guidance", "*", "time", ("not guided",), 2.05),
    # Where reading the weights is what a call costs. Of many samples two calls have one condition
    # in common, and work out once what depends on it.
    Target("guidance", "*3 x 1024, 1 sample", "time", ("two calls",), 1.0),
)

# A later run may be worse than the committed one by this fraction, and by the noise of both.
TOLERANCES = {
    "time": 0.25,
    "gradient time": 0.25,
    "first call": 0.25,
    "time per unit": 0.25,
    "temporary bytes": 0.05,
    "growth of bytes": 0.05,
    "equations": 0.0,
    "growth of equations": 0.0,
    "traces of a second call": 0.0,
    "error": 0.05,
}


def outcomes(result: Result, targets: Sequence[Target] = TARGETS) -> list[Outcome]:
    """The targets that this result speaks of; those whose contenders are absent are left out."""
    here = [
        target
        for target in targets
        if (target.row, target.metric) == (result.row, result.metric)
        and fnmatch.fnmatchcase(result.case, target.case)
    ]
    valued = [(target, _value(target, result)) for target in here]
    noise = result.noise or 0.0
    return [Outcome(target, value, noise) for target, value in valued if value is not None]


def _value(target: Target, result: Result) -> float | None:
    names = [name for name in result.ratios if fnmatch.fnmatchcase(name, target.contender)]
    if not names:
        return None
    if not target.against:
        return max(result.values[name].median for name in names)
    largest = max(result.ratios[name] for name in names)
    if target.against == FLOOR:
        return largest
    against = [result.ratios[name] for name in target.against if name in result.ratios]
    return largest / min(against) if against else None
