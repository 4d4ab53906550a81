"""Row forward: Euler's method, nothing differentiated."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flowjax as fj
from benchmarks import contenders, problems, torch_contenders, verify
from benchmarks.compiled import compiled
from benchmarks.problems import Problem
from benchmarks.record import Result, timed
from benchmarks.rows import Case, Say
from benchmarks.timing import Settings, interleaved


def cases() -> list[Case]:
    """The cases of this row."""
    return [
        Case("forward", problem.name, partial(_measure, problem))
        for problem in problems.forward_problems()
    ]


def _measure(problem: Problem, settings: Settings, say: Say) -> list[Result]:
    calls, results = {}, {}
    for name, solve in contenders.ode(problem).items():
        say(f"compiling {name}")
        calls[name] = compiled(solve, (problem.x0, problem.args)).run
        results[name] = calls[name]()
    calls["flowjax check_finite"] = _looked_at(problem)
    results["flowjax check_finite"] = calls["flowjax check_finite"]()
    for name, run in torch_contenders.ode(problem).items():
        say(f"warming {name}")
        calls[name] = run
        results[name] = torch_contenders.to_numpy(run())
    say("verifying")
    verify.end_states(problem, results)
    say("timing")
    # On a network all do the same products, and few rounds would leave only noise between them.
    more = settings._replace(min_rounds=3 * settings.min_rounds)
    samples = interleaved(calls, contenders.FLOOR, more)
    return [timed("forward", problem.name, samples, (contenders.FLOOR,), work=problem.work())]


def _looked_at(problem: Problem) -> Callable[[], Any]:
    """The solve that keeps all states and looks for the first that is not finite."""
    run = compiled(
        lambda x0, args: fj.trajectory(problem.field, x0, problem.ts, args),
        (problem.x0, problem.args),
    ).run
    return lambda: fj.check_finite(run(0), problem.ts)[-1]
