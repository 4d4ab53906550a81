"""Row gradient: of the sum of squares of X by (x0, args), in time and in temporary bytes."""

from functools import partial

import jax
import numpy as np

from benchmarks import contenders, problems, torch_contenders, verify
from benchmarks.compiled import compiled, temporary_bytes
from benchmarks.contenders import FLOOR
from benchmarks.problems import Problem
from benchmarks.record import Result, counted, timed
from benchmarks.rows import Case, Say
from benchmarks.timing import Settings, interleaved

_FEW, _MANY = 64, 4096


def cases() -> list[Case]:
    """The cases of this row."""
    growth = problems.mlp(256, _FEW)
    name = f"{growth.name.rsplit(',', 1)[0]}, n={_MANY} over n={_FEW}"
    return [
        *(
            Case("gradient", problem.name, partial(_measure, problem))
            for problem in problems.forward_problems()
        ),
        Case("gradient", name, partial(_growth, growth, name)),
    ]


def _measure(problem: Problem, settings: Settings, say: Say) -> list[Result]:
    calls, results, temporary = {}, {}, {}
    for name, function in contenders.gradient(problem).items():
        say(f"compiling {name}")
        made = compiled(function, (problem.x0, problem.args))
        calls[name] = made.run
        if made.temporary_bytes is not None:
            temporary[name] = made.temporary_bytes
        results[name] = jax.tree.map(np.asarray, made.run())
    for name, run in torch_contenders.gradient(problem).items():
        say(f"warming {name}")
        calls[name] = run
        results[name] = torch_contenders.to_numpy(run())
    say("verifying")
    verify.gradients(problem, results, FLOOR)
    say("timing")
    samples = interleaved(calls, FLOOR, settings)
    # A gradient cannot do with less than one sweep forward and two of its size backward.
    work = problem.work(passes=3)
    return [
        timed("gradient", problem.name, samples, (FLOOR,), work=work),
        *_bytes(problem.name, "temporary bytes", "bytes", temporary),
    ]


def _growth(problem: Problem, name: str, settings: Settings, say: Say) -> list[Result]:
    """How the temporary bytes grow with the number of steps; nothing is run."""
    del settings
    sizes = {}
    for steps in (_FEW, _MANY):
        for contender, function in contenders.gradient(problem._replace(steps=steps)).items():
            say(f"compiling {contender}, n={steps}")
            lowered = jax.jit(function).lower(problem.x0, problem.args)
            sizes[contender, steps] = temporary_bytes(lowered.compile())
    if None in sizes.values():
        return []
    growth = {
        contender: sizes[contender, _MANY] / max(sizes[contender, _FEW], 1)
        for contender, _ in sizes
    }
    return _bytes(name, "growth of bytes", "", growth)


def _bytes(case: str, metric: str, unit: str, values: dict) -> list[Result]:
    return [counted("gradient", case, metric, unit, values, (FLOOR,))] if values else []
