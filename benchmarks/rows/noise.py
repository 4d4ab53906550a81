"""Row noise: Euler-Maruyama on a linear drift, each contender drawing its own noise.

And gradients through some of it, which keep the states of the path or make them again: where these
rule, the noise is a smaller part of the work.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from benchmarks import contenders, problems, torch_contenders, verify
from benchmarks.compiled import compiled
from benchmarks.contenders import IDIOMS
from benchmarks.problems import SEED, Problem
from benchmarks.record import Result, counted, timed
from benchmarks.rows import Case, Say
from benchmarks.timing import Settings, interleaved
from benchmarks.torch_contenders import to_numpy

# Statistics are taken over so many draws, of so many numbers in all, or of so many seconds.
_DRAWS, _NUMBERS, _SECONDS = 256, 100_000, 0.25

# The shapes whose gradients are timed.
_GRADIENTS = ((2,), (64, 2))


def cases() -> list[Case]:
    """The cases of this row."""
    elementwise = [p for vmapped in (False, True) for p in problems.noise_problems(vmapped)]
    forward = [*elementwise, *problems.matrix_problems()]
    backward = [problem for problem in elementwise if problem.x0.shape in _GRADIENTS]
    return [
        *(Case("noise", problem.name, partial(_measure, problem)) for problem in forward),
        *(Case("noise", problem.name, partial(_gradient, problem)) for problem in backward),
    ]


def _measure(problem: Problem, settings: Settings, say: Say) -> list[Result]:
    inputs = [(key, problem.x0, problem.args) for key in _keys(problem)]
    calls: dict[str, Callable[[int], Any]] = {}
    temporary = {}
    solvers = contenders.sde(problem)
    if problem.keys is not None and not settings.slow_ones:
        del solvers["diffrax tree"]
    for name, solve in solvers.items():
        say(f"compiling {name}")
        made = compiled(solve, *inputs)
        calls[name] = made.run
        if made.temporary_bytes is not None:
            temporary[name] = made.temporary_bytes
    calls.update(torch_contenders.sde(problem))
    seconds = {}
    for name, run in calls.items():
        say(f"verifying {name}")
        seconds[name], draws = _draws(run, len(inputs))
        verify.statistics(problem, name, draws)
    say("timing")
    samples = interleaved(
        {name: partial(run, 0) for name, run in calls.items()},
        IDIOMS[0],
        settings,
        known={name: taken for name, taken in seconds.items() if taken > settings.seconds / 2},
    )
    results = [timed("noise", problem.name, samples, IDIOMS, work=problem.work())]
    if temporary:
        results.append(
            counted("noise", problem.name, "temporary bytes", "bytes", temporary, IDIOMS)
        )
    return results


def _gradient(problem: Problem, settings: Settings, say: Say) -> list[Result]:
    """Time of the gradient of the sum of squares of X by (x0, args)."""
    x0 = problem.x0 if problem.keys is None else np.stack([problem.x0] * problem.keys)
    inputs = (_keys(problem)[0], x0, problem.args)
    # By x0 it is X times this, which has the law of X to be held to.
    factor = np.float32(2 * (1 - problems.THETA / problem.steps) ** problem.steps)
    calls = {}
    for name, gradient in contenders.sde_gradient(problem).items():
        say(f"compiling {name}")
        calls[name] = compiled(gradient, inputs).run
        by_x0, _ = calls[name]()
        verify.statistics(problem, name, [np.asarray(by_x0) / factor])
    say("timing")
    samples = interleaved(calls, IDIOMS[0], settings)
    return [timed("noise", problem.name, samples, IDIOMS, "gradient time")]


def _keys(problem: Problem) -> list[Any]:
    """A key, or a batch of them, for each draw."""
    size = problem.x0.size * (problem.keys or 1)
    draws = max(1, min(_DRAWS, _NUMBERS // size))
    shape = (draws,) if problem.keys is None else (draws, problem.keys)
    return list(jax.random.split(jax.random.key(SEED), shape))


def _draws(run: Callable[[int], Any], most: int) -> tuple[float, list[np.ndarray]]:
    """The seconds of the first draw, and the end states of all."""
    start = time.perf_counter()
    draws = [to_numpy(run(0))]
    first = time.perf_counter() - start
    while len(draws) < most and time.perf_counter() - start < _SECONDS:
        draws.append(to_numpy(run(len(draws))))
    return first, draws
