"""Row compile: the first call, how much there is to compile, and calls outside of jit."""

import functools
import math
import time
from collections.abc import Callable
from typing import Any

import diffrax
import jax
import numpy as np

import flowjax as fj
from benchmarks import contenders, problems
from benchmarks.compiled import equations
from benchmarks.problems import SEED, SIGMA, Problem
from benchmarks.record import Result, counted, timed
from benchmarks.rows import Case, Say
from benchmarks.timing import AGAIN, Settings, interleaved

# The best or the default of each package, under one name in all cases.
_FORWARD = {
    "scan": "scan",
    "flowjax": "flowjax",
    "diffrax": "diffrax constant",
    "tinydiffeq": "tinydiffeq",
}
_GRADIENT = {name: name for name in _FORWARD}
_DIFFUSION = {**_FORWARD, "scan": "scan split", "diffrax": "diffrax tree"}
_IN_JIT = "flowjax in jit"


def cases() -> list[Case]:
    """The cases of this row."""
    scalar, _, mlp, _ = problems.forward_problems()
    diffusion = problems.linear((64, 2), 1000)
    kinds = [
        *(("forward", one, contenders.ode, _FORWARD, _start(one)) for one in (scalar, mlp)),
        *(("gradient", one, contenders.gradient, _GRADIENT, _start(one)) for one in (scalar, mlp)),
        (
            "diffusion",
            diffusion,
            contenders.sde,
            _DIFFUSION,
            (jax.random.key(SEED), *_start(diffusion)),
        ),
    ]
    made = []
    for kind, problem, make, names, inputs in kinds:
        functions = {name: make(problem).get(own) for name, own in names.items()}
        functions = {name: function for name, function in functions.items() if function}
        name = f"{kind} {problem.name}"
        made.append(Case("compile", name, functools.partial(_first_calls, name, functions, inputs)))
    for kind, key in (("ODE", None), ("SDE", jax.random.key(SEED))):
        name = f"dispatch {kind}, {scalar.name}"
        made.append(Case("compile", name, functools.partial(_dispatch, name, scalar, key)))
    return made


def _start(problem: Problem) -> tuple:
    return problem.x0, problem.args


def _first_calls(
    name: str, functions: dict[str, Callable], inputs: tuple, settings: Settings, say: Say
) -> list[Result]:
    """Tracing, compiling and one run, with all of JAX's caches empty."""
    entries = {**functions, "scan" + AGAIN: functions["scan"]}
    order = np.random.default_rng(SEED)
    samples: dict[str, list[float]] = {entry: [] for entry in entries}
    _set_up()
    start, rounds = time.perf_counter(), 0
    while rounds < settings.compile_rounds or time.perf_counter() - start < 2 * settings.seconds:
        # The slow ones, which are far off the floor, sit out what is left of the time.
        active = [
            entry
            for entry in entries
            if rounds < settings.compile_rounds or samples[entry][0] < 2 * samples["scan"][0]
        ]
        for entry in order.permutation(list(entries)):
            say(f"first call of {entry}")
            taken = _first_call(entries[entry], inputs) if entry in active else math.nan
            samples[entry].append(taken)
        rounds += 1
    counts = {entry: equations(function, *inputs) for entry, function in functions.items()}
    return [
        timed("compile", name, samples, ("scan",), "first call"),
        counted("compile", name, "equations", "", counts, ("scan",)),
    ]


@functools.cache
def _set_up() -> None:
    """What each package does once in a process, such as importing on first use, is not timed."""
    small = problems.linear((), 2)
    start = _start(small)
    for make, names, inputs in (
        (contenders.ode, _FORWARD, start),
        (contenders.gradient, _GRADIENT, start),
        (contenders.sde, _DIFFUSION, (jax.random.key(SEED), *start)),
    ):
        for name, function in make(small).items():
            if name in names.values():
                _first_call(function, inputs)


def _first_call(function: Callable, inputs: tuple) -> float:
    jax.clear_caches()
    on_device = jax.block_until_ready(jax.device_put(inputs))
    start = time.perf_counter()
    _waited_for(jax.jit(function), *on_device)
    return time.perf_counter() - start


def _dispatch(name: str, problem: Problem, key: Any, settings: Settings, say: Say) -> list[Result]:
    """Calls of a solver outside of jit, with the same field each time, beside a jitted call."""
    traced = [0]
    plain = problem.field

    def field(t: Any, x: Any, args: Any) -> Any:
        traced[0] += 1
        return plain(t, x, args)

    equation = field if key is None else fj.SDE(field, lambda t, x, args: SIGMA)

    def by_flowjax(x0: Any, ts: Any, theta: Any, key: Any) -> Any:
        return fj.solve(equation, x0, ts, theta, key=key)

    terms, solver = diffrax.ODETerm(field), diffrax.Euler()

    def by_diffrax(x0: Any, ts: Any, theta: Any, key: Any) -> Any:
        return diffrax.diffeqsolve(
            *(terms, solver, 0.0, 1.0, 1 / problem.steps, x0, theta),
            max_steps=problem.steps,
            throw=False,
        ).ys[0]

    functions = {_IN_JIT: jax.jit(by_flowjax), "flowjax": by_flowjax}
    if key is None:
        functions |= {"diffrax in jit": jax.jit(by_diffrax), "diffrax": by_diffrax}
    inputs = jax.device_put((problem.x0, problem.ts, problem.args, key))
    calls, traces = {}, {}
    for entry, function in functions.items():
        say(f"compiling {entry}")
        calls[entry] = functools.partial(_waited_for, function, *inputs)
        calls[entry]()
        before = traced[0]
        calls[entry]()
        traces[entry] = traced[0] - before
    say("timing")
    samples = interleaved(calls, _IN_JIT, settings)
    return [
        timed("compile", name, samples, (_IN_JIT,)),
        counted("compile", name, "traces of a second call", "", traces, (_IN_JIT,)),
    ]


def _waited_for(function: Callable, *arguments: Any) -> Any:
    return jax.block_until_ready(function(*arguments))
