"""Compares a run with the committed results of the same kind of machine: ratios, never times.

``python benchmarks/check.py NEW.json [--baseline OLD.json]`` exits with 1 if flowjax has fallen
back anywhere: if its value, relative to the floor or to the contenders that a target names, is
worse than it was by more than the tolerance (`targets.TOLERANCES`) and the noise of both runs. A
peer that was timed in one call alone may have been caught at a bad moment, and one that is not
installed says nothing: flowjax is compared with the floor in every case. A machine that is shared
slows down, some kinds of work more than others, for minutes: with ``--again N``, a case whose times
are worse is timed anew, up to N times, and has fallen back if it is worse each time.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)

from benchmarks import record
from benchmarks.record import Result
from benchmarks.targets import TARGETS, TOLERANCES, outcomes

RESULTS = ROOT / "benchmarks" / "results"

# Whom flowjax is compared with, beside the floor of a case.
_PEERS = {name for target in TARGETS for name in target.against}


class Change(NamedTuple):
    """One ratio before and after; `after` is None where it was not measured again.

    `timed` is the row and the case, of what varies from run to run.
    """

    what: str
    before: float
    after: float | None
    allowed: float
    timed: tuple[str, str] | None

    @property
    def worse(self) -> bool:
        """Whether flowjax has fallen back."""
        return self.after is None or self.after > self.allowed

    def __str__(self) -> str:
        after = "not measured" if self.after is None else f"{self.after:.4g}"
        return f"{self.what}: {self.before:.4g} -> {after} (at most {self.allowed:.4g})"


def compare(new: Sequence[Result], old: Sequence[Result]) -> list[Change]:
    """Every ratio of flowjax that the old results have, beside the new one."""
    ahead = {(one.row, one.case, one.metric): one for one in new}
    changes = []
    for before in old:
        # What a short run learns is another thing.
        if before.row in ("learning", "posterior"):
            continue
        after = ahead.get((before.row, before.case, before.metric))
        tolerance = TOLERANCES[before.metric]
        noise = (before.noise or 0) + ((after.noise or 0) if after else 0)
        silent = _silent(before, after) if after else set()
        found = _ratios(_without(after, silent)) if after else {}
        for what, ratio in _ratios(_without(before, silent)).items():
            allowed = ratio * (1 + tolerance) * (1 + noise)
            name = f"{before.row}, {before.case}, {before.metric}, {what}"
            timed = None if before.noise is None else (before.row, before.case)
            changes.append(Change(name, ratio, found.get(what), allowed, timed))
    return changes


def _ratios(result: Result) -> dict[str, float]:
    """Of flowjax to the floor, and to whatever the targets name."""
    ratios = {
        f"{name} over the floor": ratio
        for name, ratio in result.ratios.items()
        if name.startswith("flowjax")
    }
    for outcome in outcomes(result):
        against = " or ".join(outcome.target.against) or "one"
        ratios[f"{outcome.target.contender} over {against}"] = outcome.value
    return ratios


def _silent(before: Result, after: Result) -> set[str]:
    """The peers of which one of the two has no value, or that of one call alone."""

    def heard(result: Result) -> set[str]:
        once = 1 if result.noise is not None else 0
        return {name for name, value in result.values.items() if value.samples > once}

    peers = _PEERS - set(before.floors)
    return peers - (heard(before) & heard(after))


def _without(result: Result, names: set[str]) -> Result:
    ratios = {name: ratio for name, ratio in result.ratios.items() if name not in names}
    return result._replace(ratios=ratios)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what has become worse, and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("new", type=Path)
    parser.add_argument("--baseline", type=Path, help="default: results/<machine>.json")
    parser.add_argument("--again", type=int, default=0, help="how often to time anew what is worse")
    options = parser.parse_args(arguments)
    new = record.read(options.new)
    path = options.baseline or RESULTS / f"{new['machine']['kind']}.json"
    if not path.exists():
        print(f"There are no results to compare with: {path.name} is missing.", file=sys.stderr)
        return 2
    old = record.read(path)
    _warn(new["versions"], old["versions"])
    changes = compare(record.results_of(new), record.results_of(old))
    worse = [change for change in changes if change.worse]
    for _ in range(options.again):
        anew = compare(_timed_anew(worse), record.results_of(old))
        not_worse = {change.what for change in anew if not change.worse}
        worse = [change for change in worse if change.what not in not_worse]
    for change in worse:
        print(f"worse: {change}")
    print(f"{len(worse)} of {len(changes)} ratios are worse than at {old['commit'][:10]}.")
    return 1 if worse else 0


def _timed_anew(worse: Sequence[Change]) -> list[Result]:
    results = []
    # What this run does not have at all, another will not have either.
    there = [change for change in worse if change.after is not None]
    for row, case in dict.fromkeys(change.timed for change in there if change.timed):
        print(f"timing anew: {row}, {case}")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "anew.json"
            command = [sys.executable, ROOT / "benchmarks" / "run.py", "--rows", row]
            command += ["--case", case, "--json", path]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            results += record.results_of(record.read(path))
    return results


def _warn(new: Mapping[str, str], old: Mapping[str, str]) -> None:
    for package in sorted(new.keys() | old.keys()):
        if new.get(package) != old.get(package):
            print(f"note: {package} {old.get(package)} -> {new.get(package)}")


if __name__ == "__main__":
    sys.exit(main())
