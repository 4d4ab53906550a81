"""The table in the terminal."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.record import Result
from benchmarks.targets import FLOOR, Outcome, Target, outcomes

_CASE, _COLUMN = 37, 8


def table(results: Sequence[Result]) -> str:
    """All results, one line for each, in the groups of `grouped`."""
    return "\n\n".join(map(_group, grouped(results)))


def grouped(results: Iterable[Result]) -> list[list[Result]]:
    """Those of the same row and metric, with the same contenders, together."""
    groups: dict[tuple, list[Result]] = {}
    for result in results:
        groups.setdefault((result.row, result.metric, *result.ratios), []).append(result)
    return list(groups.values())


def summary(results: Sequence[Result]) -> str:
    """How many targets are reached, and which are not."""
    judged = [(result, outcome) for result in results for outcome in outcomes(result)]
    missed = [(result, outcome) for result, outcome in judged if outcome.verdict != "PASS"]
    ties = sum(outcome.verdict == "tie" for _, outcome in missed)
    lines = [
        f"{len(judged) - len(missed)} of {len(judged)} targets reached; "
        f"{ties} of the others missed by less than the noise."
    ]
    lines += [
        f"  {result.row}, {result.case}, {result.metric}: "
        f"{_verdict(outcome)} ({_in_words(outcome.target)})"
        for result, outcome in missed
    ]
    return "\n".join(lines)


def fractions(
    results: Iterable[Result], limits: Mapping[str, float]
) -> dict[str, dict[str, dict[str, float]]]:
    """What part of the device's limits flowjax and the floor reach, by row and case.

    Only the arithmetic of the step and the traffic of the state count, noise does not: what stays
    in the cache or in registers between two steps can reach more than all of the bandwidth.
    """
    found = {}
    for result in results:
        if result.work is None:
            continue
        floor = min(result.floors, key=lambda name: result.ratios[name])
        found[f"{result.row}, {result.case}"] = {
            name: {
                "memory": result.work["bytes"] / seconds / limits["copy_bytes_per_second"],
                "arithmetic": result.work["flops"] / seconds / limits["product_flops"],
            }
            for name, seconds in ((one, result.values[one].median) for one in (floor, "flowjax"))
        }
    return found


def fractions_table(found: Mapping[str, Mapping[str, Any]], limits: Mapping[str, float]) -> str:
    """The fractions of the limits, and the limits."""
    lines = [
        f"limits: a large copy {limits['copy_bytes_per_second'] / 1e9:.4g} GB/s, "
        f"a large product {limits['product_flops'] / 1e9:.4g} Gflop/s; reached:"
    ]
    for case, parts in found.items():
        reached = "; ".join(
            f"{name} {part['memory']:.1%} of memory, {part['arithmetic']:.1%} of arithmetic"
            for name, part in parts.items()
        )
        lines.append(f"  {case:<{_CASE + 10}} {reached}")
    return "\n".join(lines)


def quantity(value: float, unit: str) -> str:
    """A value with three digits and a prefix of its unit."""
    scales = {
        "s": ((1, "s"), (1e-3, "ms"), (1e-6, "us")),
        "bytes": ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B")),
    }.get(unit, ((1, unit),))
    scale, name = next((pair for pair in scales if value >= pair[0]), scales[-1])
    return f"{value / scale:.3g} {name}".strip()


def _group(group: Sequence[Result]) -> str:
    first = group[0]
    names = list(first.ratios)
    words = [_in_words(outcome.target) for result in group for outcome in outcomes(result)]
    labels = dict(zip(dict.fromkeys(words), "abcdefghijkl", strict=False))
    best = "" if len(first.floors) == 1 else "the best of "
    heading = f"{first.row}: {first.metric}, as ratios to {best}{', '.join(first.floors)}"
    columns = _columns(names)
    lines = [heading, *_header(columns)]
    lines += [_line(result, names, columns, labels) for result in group]
    lines += [f"  {label}: {target}" for target, label in labels.items()]
    return "\n".join(lines)


def _columns(names: Sequence[str]) -> list[list[str]]:
    """The heading of each column, in lines no wider than its longest word or the figures."""
    headings = ("the floor", "noise", *names)
    widths = [max(_COLUMN, *map(len, heading.split(" "))) for heading in headings]
    return [textwrap.wrap(*one) for one in zip(headings, widths, strict=True)]


def _header(columns: Sequence[Sequence[str]]) -> list[str]:
    height = max(map(len, columns))
    padded = [[""] * (height - len(column)) + list(column) for column in columns]
    return [f"{'':<{_CASE}}{_cells(line, columns)}" for line in zip(*padded, strict=True)]


def _cells(cells: Iterable[str], columns: Sequence[Sequence[str]]) -> str:
    pairs = zip(cells, columns, strict=True)
    return "".join(f" {cell:>{max(_COLUMN, *map(len, column))}}" for cell, column in pairs)


def _line(
    result: Result,
    names: Sequence[str],
    columns: Sequence[Sequence[str]],
    labels: Mapping[str, str],
) -> str:
    best = min(result.floors, key=lambda name: result.ratios[name])
    noise = "" if result.noise is None else f"{result.noise:.1%}"
    cells = [quantity(result.values[best].median, result.unit), noise]
    cells += [_ratio(result.ratios[name]) for name in names]
    verdicts = [f"{labels[_in_words(o.target)]}: {_verdict(o)}" for o in outcomes(result)]
    return f"{result.case:<{_CASE}}{_cells(cells, columns)}   {'  '.join(verdicts)}".rstrip()


def _verdict(outcome: Outcome) -> str:
    return f"{_ratio(outcome.value)} <= {outcome.target.at_most:.3g} {outcome.verdict}"


def _in_words(target: Target) -> str:
    who = "every one" if target.contender == "*" else target.contender
    if target.against == FLOOR:
        return f"{who} at most {target.at_most:.3g} of the floor"
    if not target.against:
        return f"{who} at most {target.at_most:.3g} as it is"
    several = len(target.against) > 1
    reference = f"the best of {', '.join(target.against)}" if several else target.against[0]
    return f"{who} at most {target.at_most:.3g} of {reference}"


def _ratio(ratio: float) -> str:
    return f"{ratio:.4g}" if 1 <= ratio < 10 else f"{ratio:.3g}" if ratio < 1000 else f"{ratio:.0f}"
