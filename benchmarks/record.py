"""What a run leaves behind: results, and the JSON document that holds them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.timing import AGAIN, Spread, noise_level, paired_ratio, spread

SCHEMA = 1


class Result(NamedTuple):
    """One case, in one metric.

    Args:
        row: of the table: forward, noise, gradient, compile, scale, quality.
        case: the work.
        metric: what is counted, such as "time" or "temporary bytes".
        unit: of the values.
        floors: the contenders whose best is the floor.
        values: `Spread` by contender.
        ratios: to the floor, by contender.
        noise: what a ratio may be off by, as a fraction, from measuring the floor twice; None
            for what does not vary.
        work: arithmetic and traffic of one call, where it is known, by "flops" and "bytes".
    """

    row: str
    case: str
    metric: str
    unit: str
    floors: tuple[str, ...]
    values: dict[str, Spread]
    ratios: dict[str, float]
    noise: float | None = None
    work: dict[str, int] | None = None


def timed(
    row: str,
    case: str,
    samples: Mapping[str, Sequence[float]],
    floors: tuple[str, ...],
    metric: str = "time",
    work: dict[str, int] | None = None,
) -> Result:
    """The result of `timing.interleaved`; the first of `floors` was measured twice."""
    first = floors[0]
    ratios = {name: paired_ratio(taken, samples[first]) for name, taken in samples.items()}
    del ratios[first + AGAIN]
    best = min(ratios[name] for name in floors)
    return Result(
        *(row, case, metric, "s", floors),
        values={name: spread(taken) for name, taken in samples.items() if name in ratios},
        ratios={name: ratio / best for name, ratio in ratios.items()},
        noise=noise_level(samples[first + AGAIN], samples[first]),
        work=work,
    )


def counted(
    row: str,
    case: str,
    metric: str,
    unit: str,
    values: Mapping[str, float],
    floors: tuple[str, ...],
) -> Result:
    """The result of something that does not vary from run to run."""
    best = min(values[name] for name in floors)
    return Result(
        *(row, case, metric, unit, floors),
        values={name: Spread(value, 0.0, value, 1) for name, value in values.items()},
        ratios={name: value / (best or 1) for name, value in values.items()},
    )


def document(results: Sequence[Result], about: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON document; `about` holds machine, versions, commit, date, settings and seed."""
    cases = [
        {
            "row": result.row,
            "case": result.case,
            "metric": result.metric,
            "unit": result.unit,
            "floors": list(result.floors),
            "noise": result.noise,
            "work": result.work,
            "contenders": {
                name: {**value._asdict(), "ratio": result.ratios[name]}
                for name, value in result.values.items()
            },
        }
        for result in results
    ]
    return {"schema": SCHEMA, **about, "cases": cases}


def results_of(document: Mapping[str, Any]) -> list[Result]:
    """The results in a document, which is checked on the way.

    Raises:
        ValueError: if something is missing or is not what it should be; it says where.
    """
    if document.get("schema") != SCHEMA:
        raise ValueError(f"schema must be {SCHEMA}, got {document.get('schema')!r}.")
    for name in ("machine", "versions", "commit", "date", "settings", "seed"):
        if name not in document:
            raise ValueError(f"{name} is missing.")
    results = []
    for i, case in enumerate(document["cases"]):
        try:
            results.append(_result_of(case))
        except (KeyError, TypeError) as error:
            raise ValueError(f"cases[{i}] is malformed: {error!r}.") from error
    return results


def _result_of(case: Mapping[str, Any]) -> Result:
    contenders = case["contenders"]
    values = {
        name: Spread(*(float(value[field]) for field in ("median", "iqr", "min")), value["samples"])
        for name, value in contenders.items()
    }
    missing = set(case["floors"]) - set(values)
    if missing:
        raise ValueError(f"{case['row']}, {case['case']}: no values of the floor {missing}.")
    return Result(
        *(case[name] for name in ("row", "case", "metric", "unit")),
        floors=tuple(case["floors"]),
        values=values,
        ratios={name: float(value["ratio"]) for name, value in contenders.items()},
        noise=case["noise"],
        work=case["work"],
    )


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Writes the document as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, sort_keys=False) + "\n")


def read(path: Path) -> dict[str, Any]:
    """Reads a document, and checks it."""
    content = json.loads(path.read_text())
    results_of(content)
    return content
