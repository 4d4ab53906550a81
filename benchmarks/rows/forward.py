"""Row forward: Euler's method, nothing differentiated."""

from functools import partial

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
    for name, run in torch_contenders.ode(problem).items():
        say(f"warming {name}")
        calls[name] = run
        results[name] = torch_contenders.to_numpy(run())
    say("verifying")
    verify.end_states(problem, results)
    say("timing")
    samples = interleaved(calls, contenders.FLOOR, settings)
    return [timed("forward", problem.name, samples, (contenders.FLOOR,), work=problem.work())]
