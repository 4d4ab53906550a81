"""flowjax beside a hand-written `lax.scan` and its peers: ``python benchmarks/run.py --help``."""

import argparse
import datetime as dt
import importlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# In place of this script's own folder, whose modules are benchmarks.something.
sys.path[0] = str(ROOT)
# Other libraries and processes share the accelerator's memory.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
from tqdm import tqdm

from benchmarks import machine, plot, record, report
from benchmarks.problems import SEED
from benchmarks.record import Result
from benchmarks.rows import ROWS, Case
from benchmarks.timing import FULL, SHORT, Settings

RESULTS = ROOT / "benchmarks" / "results"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    options = _options(arguments)
    # Compiling is measured too, and float32 products are float32 on every device.
    jax.config.update("jax_enable_compilation_cache", False)
    jax.config.update("jax_default_matmul_precision", "highest")
    start = time.perf_counter()
    about, limits = _about(options.settings), machine.limits()
    _greet(about)
    results = _measured(_cases(options.rows, options.case), options.settings)
    found = report.fractions(results, limits)
    print(report.table(results), "", report.summary(results), sep="\n")
    if about["machine"]["accelerator"]:
        print("", report.fractions_table(found, limits), sep="\n")
    print(f"\nTook {(time.perf_counter() - start) / 60:.1f} minutes.")
    whole = options.rows == ROWS and not options.case
    folder = RESULTS if options.settings is FULL else ROOT / "out"
    path = options.json or (folder / f"{about['machine']['kind']}.json" if whole else None)
    if path:
        about = {**about, "limits": limits, "fractions": found}
        record.write(path, record.document(results, about))
        print(f"Wrote {path.name}.")
    picture = options.plot or (path and path.with_suffix(".png"))
    if picture:
        plot.draw(results, _title(about), picture)
        print(f"Wrote {picture.name}.")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--short",
        action="store_const",
        const=SHORT,
        dest="settings",
        help="under ten minutes on two CPU cores (the default)",
    )
    length.add_argument(
        "--full",
        action="store_const",
        const=FULL,
        dest="settings",
        help="more rounds of everything, for figures that are quoted",
    )
    parser.add_argument(
        "--rows", type=_rows, default=ROWS, help=f"some of {','.join(ROWS)}; all by default"
    )
    parser.add_argument("--case", default="", help="only the cases whose name holds this text")
    parser.add_argument(
        "--json",
        type=Path,
        help="where to write the results; of all rows by default <machine>.json in "
        "benchmarks/results, or in out if they are short",
    )
    parser.add_argument("--plot", type=Path, help="where to draw them; beside the JSON by default")
    parser.set_defaults(settings=SHORT)
    return parser.parse_args(arguments)


def _rows(text: str) -> tuple[str, ...]:
    rows = tuple(text.split(","))
    unknown = [row for row in rows if row not in ROWS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(ROWS)}")
    return rows


def _cases(rows: Sequence[str], text: str) -> list[Case]:
    modules = [importlib.import_module(f"benchmarks.rows.{row}") for row in rows]
    return [case for module in modules for case in module.cases() if text in case.name]


def _measured(cases: Sequence[Case], settings: Settings) -> list[Result]:
    results = []
    with tqdm(total=len(cases), unit="case", leave=False, dynamic_ncols=True) as bar:
        for case in cases:
            bar.set_description_str(f"{case.row}, {case.name}")
            results += case.measure(settings, bar.set_postfix_str)
            bar.update()
            # What one case compiled is of no use to the next.
            jax.clear_caches()
    return results


def _about(settings: Settings) -> dict:
    return {
        "machine": machine.machine(),
        "versions": machine.versions(),
        "commit": machine.commit(),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "settings": settings._asdict(),
        "seed": SEED,
    }


def _greet(about: dict) -> None:
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    print(f"{_title(about)}\n{versions}\n")


def _title(about: dict) -> str:
    here = about["machine"]
    device = f"{here['accelerators']} x {here['accelerator']}, " if here["accelerator"] else ""
    where = f"{device}{here['cores']} cores of {here['cpu']}"
    return (
        f"flowjax {about['commit'][:10]} on {where}, {about['date']}, {about['settings']['name']}"
    )


if __name__ == "__main__":
    main()
