"""The tables of the documentation, from results: ``python benchmarks/summary.py [RESULTS.json]``.

That of docs/performance.md has one line for each bound of `targets`, with the range of what was
measured over its cases; the README has some of them. That of docs/adjoints.md compares the
adjoints.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)

from benchmarks import record
from benchmarks.contenders import IDIOMS
from benchmarks.record import Result
from benchmarks.targets import (
    DIFFRAX,
    DIFFUSERS,
    DRAWN_FIRST,
    FLOOR,
    LARGE,
    MATRIX_OF_MANY,
    MATRIX_OF_ONE,
    PEERS,
    SCAN,
    SMALL,
    SPLIT,
    TARGETS,
    Outcome,
    Target,
    outcomes,
)

RESULTS = ROOT / "benchmarks" / "results" / "cpu-2-cores.json"

_AGAINST = {
    SCAN: "a hand-written `lax.scan`",
    PEERS: "the fastest of diffrax, tinydiffeq, torchdiffeq, flow_matching",
    IDIOMS: "the fastest of four `jax.random` idioms",
    SPLIT: "splitting a key in each step",
    DRAWN_FIRST: "drawing everything first",
    ("diffrax tree",): "diffrax's `VirtualBrownianTree`",
    DIFFRAX: "diffrax",
    DIFFUSERS: "the best of diffusers' schedulers",
    ("flowjax in jit",): "the same call inside of `jit`",
    FLOOR: "the smallest case",
    ("loop",): "a hand-written loop over a compiled step",
    ("torchcfm",): "torchcfm",
    ("SciPy", "POT", "optax"): "the fastest of SciPy, POT, optax",
}
_CASES = {
    **dict.fromkeys(LARGE, "states from (64, 2) up"),
    **dict.fromkeys(SMALL, "(1) and (2)"),
    "*4096 over*": "",
    "a step*3 x 64*": "a step of an MLP 3 x 64",
    "a step*3 x 1024*": "a step of an MLP 3 x 1024",
    "a step*": "a step of either",
    "pairs*": "exact pairs of a batch",
    "*key* (*": "",
    MATRIX_OF_ONE: "a matrix of 512 x 512",
    MATRIX_OF_MANY: "a matrix of 2 x 8 and of 64 x 64, many keys",
    "*keys (1)*": "keys (1)",
    "*keys (2)*": "keys (2)",
}
_METRICS = {
    "growth of bytes": "temporary bytes at n=4096 over n=64",
    "growth of equations": "equations of the jaxpr at n=10000 over n=10",
    "gradient time": "time of a gradient",
    "error": "error after 5 to 50 field calls",
}

# What the README shows: the speed, the noise and the memory of a gradient.
_THREE = {
    ("forward", "time", SCAN),
    ("noise", "time", IDIOMS),
    ("gradient", "temporary bytes", SCAN),
}

_ADJOINTS = {
    "scan": "plain scan",
    "scan checkpoint": "scan, `jax.checkpoint` on the step",
    "flowjax": "`Checkpointed`",
    "flowjax Direct": "`Direct`",
    "flowjax Reversible": "`Reversible`",
    "diffrax": "diffrax",
}


def three(results: Sequence[Result]) -> str:
    """The table of the README, in Markdown."""
    chosen = [one for one in TARGETS if (one.row, one.metric, one.against) in _THREE]
    return bounds(results, chosen)


def bounds(results: Sequence[Result], targets: Sequence[Target] = TARGETS) -> str:
    """The table of docs/performance.md, in Markdown."""
    groups: dict[tuple[str, float], list[Outcome]] = {}
    for result in results:
        for outcome in outcomes(result, targets):
            target = outcome.target
            groups.setdefault((_label(target), target.at_most), []).append(outcome)
    lines = ["| | measured | to reach |", "|---|---|---|"]
    for (label, bound), found in groups.items():
        values = sorted(outcome.value for outcome in found)
        span = " to ".join(dict.fromkeys(f"{value:.3g}" for value in (values[0], values[-1])))
        lines.append(f"| {label} | {span} | {bound:.3g} |")
    return "\n".join(lines)


def adjoints(results: Sequence[Result]) -> str:
    """The table of docs/adjoints.md, in Markdown: ratios to the plain scan."""
    lines = [f"| | {' | '.join(_ADJOINTS.values())} |", "|" + "---|" * (1 + len(_ADJOINTS))]
    for result in results:
        if result.row == "gradient" and result.metric in ("time", "temporary bytes"):
            values = " | ".join(f"{result.ratios[name]:.3g}" for name in _ADJOINTS)
            lines.append(f"| {result.case}: {result.metric} | {values} |")
    return "\n".join(lines)


def _label(target: Target) -> str:
    case = _CASES.get(target.case, target.case.replace("*", " ").strip())
    against = _AGAINST.get(target.against, ", ".join(target.against))
    who = "" if target.contender in ("flowjax", "*") else f" of `{target.contender.split()[-1]}`"
    metric = _METRICS.get(target.metric, target.metric)
    parts = [f"{target.row}{', ' * bool(case)}{case}: {metric}{who}"]
    return " over ".join(parts + [against] * bool(against))


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    results = record.results_of(record.read(path))
    print(*(table(results) for table in (three, bounds, adjoints)), sep="\n\n")
