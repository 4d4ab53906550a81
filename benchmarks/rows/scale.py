"""Row scale: time against the number of steps, of samples and of devices; jaxpr size."""

from collections.abc import Callable
from functools import partial

import jax

from benchmarks import contenders, devices, problems
from benchmarks.compiled import compiled, equations
from benchmarks.problems import SEED, Problem
from benchmarks.record import Result, counted, timed
from benchmarks.rows import Case, Say
from benchmarks.timing import AGAIN, Settings, interleaved

_STEPS = (100, 200, 400, 800)
_BATCHES = (1024, 2048, 4096, 8192)
_FEW, _MANY = 10, 10_000

Sizes = dict[int, Problem]


def cases() -> list[Case]:
    """The cases of this row."""
    sweeps: dict[str, Callable[[], Sizes]] = {
        "steps: MLP (256, 2)": lambda: {n: problems.mlp(256, n) for n in _STEPS},
        "steps: diffusion (64, 2)": lambda: {n: problems.linear((64, 2), n, 1) for n in _STEPS},
        "batch: MLP, n=20": lambda: {b: problems.mlp(b, 20) for b in _BATCHES},
        "batch: keys of (2), n=200": lambda: {b: problems.linear((2,), 200, b) for b in _BATCHES},
    }
    name = f"devices: {devices.NUM} keys of (2), n={devices.STEPS}"
    return [
        *(Case("scale", name, partial(_sweep, name, sizes)) for name, sizes in sweeps.items()),
        Case("scale", name, partial(_devices, name)),
        Case("scale", f"n={_MANY} over n={_FEW}", _growth),
    ]


def _sweep(name: str, sizes: Callable[[], Sizes], settings: Settings, say: Say) -> list[Result]:
    """flowjax's time for one unit of work, which is constant if time is linear in units."""
    calls, units = {}, {}
    for size, problem in sizes().items():
        contender = f"{name.split(':')[0]} {size}"
        say(f"compiling {contender}")
        calls[contender] = compiled(*_flowjax(problem)).run
        calls[contender]()
        units[contender] = size
    say("timing")
    floor = next(iter(calls))
    units[floor + AGAIN] = units[floor]
    # The largest take several times as long as the floor, and need their rounds too.
    samples = interleaved(calls, floor, settings._replace(seconds=3 * settings.seconds))
    per_unit = {one: [seconds / units[one] for seconds in samples[one]] for one in samples}
    return [timed("scale", name, per_unit, (floor,), "time per unit")]


def _flowjax(problem: Problem) -> tuple[Callable, tuple]:
    start = (problem.x0, problem.args)
    if problem.keys is None:
        return contenders.ode(problem)["flowjax"], start
    keys = jax.random.split(jax.random.key(SEED), problem.keys)
    return contenders.sde(problem)["flowjax"], (keys, *start)


def _devices(name: str, settings: Settings, say: Say) -> list[Result]:
    samples = devices.times_by_devices(settings.process_rounds, say)
    floor = next(iter(samples))
    return [timed("scale", name, samples, (floor,), "time per unit")]


def _growth(settings: Settings, say: Say) -> list[Result]:
    """How the jaxpr grows with the number of steps: not at all, if it is a loop."""
    del settings
    problem = problems.linear((64, 2), _FEW)
    start = (problem.x0, problem.args)
    results = []
    for kind, make, inputs, floor in (
        ("forward", contenders.ode, start, contenders.FLOOR),
        ("gradient", contenders.gradient, start, contenders.FLOOR),
        ("diffusion", contenders.sde, (jax.random.key(SEED), *start), contenders.IDIOMS[0]),
    ):
        counts: dict[int, dict[str, int]] = {}
        for n in (_FEW, _MANY):
            say(f"tracing {kind}, n={n}")
            functions = make(problem._replace(steps=n))
            counts[n] = {name: equations(one, *inputs) for name, one in functions.items()}
        growth = {name: counts[_MANY][name] / few for name, few in counts[_FEW].items()}
        name = f"{kind}, n={_MANY} over n={_FEW}"
        results.append(counted("scale", name, "growth of equations", "", growth, (floor,)))
    return results
