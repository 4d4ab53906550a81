"""Row quality: error against the number of field calls, on flows whose map is known."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import flowjax as fj
from benchmarks import diffusers_contenders as peer
from benchmarks.known_maps import KnownMap, known_maps
from benchmarks.record import Result, counted
from benchmarks.rows import Case, Say
from benchmarks.timing import FULL, Settings

_CALLS = (5, 10, 20, 50)
_SCHEDULES = {"CondOT": fj.CondOT(), "Trigonometric": fj.Trigonometric()}
_CONDOT = _SCHEDULES["CondOT"]
EULER = "Euler"


class Method(NamedTuple):
    """A step and a grid, for the flow under a schedule.

    Args:
        step: for `solve`.
        grid: the times, of a number of steps.
        calls: of the field, in a step.
        schedule: its name.
    """

    step: Any
    grid: Callable[[int], jax.Array]
    calls: int = 1
    schedule: str = "CondOT"


_BETA = {
    f"beta_grid {alpha:g} {beta:g}": partial(fj.beta_grid, alpha=alpha, beta=beta)
    for alpha, beta in ((0.7, 0.6), (0.7, 0.5), (0.8, 0.8), (1.0, 0.75), (1.0, 0.6))
}
_GRIDS = {
    "uniform_grid": fj.uniform_grid,
    "beta_grid 0.7 0.6": fj.beta_grid,
    "karras_grid": partial(fj.karras_grid, schedule=_CONDOT),
    "log_snr_grid": partial(fj.log_snr_grid, schedule=_CONDOT),
}

# By contender, all that it may choose from.
METHODS: dict[str, dict[str, Method]] = {
    EULER: {"uniform_grid": Method(fj.euler, fj.uniform_grid)},
    "flowjax default": {"adams(4), beta_grid 0.7 0.6": Method(fj.adams(), fj.beta_grid)},
    "flowjax adams": {
        f"adams({order}), {name}, {schedule}": Method(fj.adams(order), grid, schedule=schedule)
        for order in (2, 4, 5)
        for name, grid in {**_BETA, "uniform_grid": fj.uniform_grid}.items()
        for schedule in _SCHEDULES
    },
    "flowjax unipc": {f"unipc, {n}": Method(fj.unipc, g) for n, g in _GRIDS.items()},
    "flowjax dpmpp_2m": {f"dpmpp_2m, {n}": Method(fj.dpmpp_2m, g) for n, g in _GRIDS.items()},
    "flowjax edm_heun": {f"edm_heun, {n}": Method(fj.edm_heun(), g, 2) for n, g in _GRIDS.items()},
}


def cases() -> list[Case]:
    """The cases of this row."""
    return [Case("quality", "few steps", _measure)]


def _measure(settings: Settings, say: Say) -> list[Result]:
    found = errors(peer.settings(every=settings.name == FULL.name), say)
    return [_result(name, calls, choices) for (name, calls), choices in found.items()]


def _result(name: str, calls: int, choices: dict[str, dict[str, float]]) -> Result:
    """Of every contender what is best, and for "flowjax" the best of all methods here."""
    best = {contender: min(of.values()) for contender, of in choices.items()}
    best["flowjax"] = min(value for one, value in best.items() if one.startswith("flowjax"))
    return counted("quality", f"{name}, {calls} calls", "error", "", best, (EULER,))


def errors(
    diffusers: Sequence[peer.Setting], say: Say
) -> dict[tuple[str, int], dict[str, dict[str, float]]]:
    """The error of every choice of every contender, by target and number of calls."""
    maps = known_maps()
    ends = [one.states(np.pi / 2) for one in maps]
    found = {(one.name, calls): {} for calls in _CALLS for one in maps}

    def add(calls: int, contender: str, choice: str, states: Sequence[np.ndarray] | None) -> None:
        for one, end, state in zip(maps, ends, states or (), strict=states is not None):
            error = float(np.mean(np.abs(state - end)))
            found[one.name, calls].setdefault(contender, {})[choice] = error

    for (step, schedule), methods in _by_program().items():
        say(f"{methods[-1][0]}, {schedule}")
        run = _flowjax(step, _SCHEDULES[schedule], maps)
        for calls in _CALLS:
            for contender, choice, method in methods:
                # Heun's method of EDM takes a single call in the step to the data.
                ts = method.grid((calls + method.calls - 1) // method.calls)
                add(calls, contender, choice, run(ts))
    if peer.diffusers:
        for setting in diffusers:
            say(f"diffusers {setting.scheduler}")
            for calls in _CALLS:
                add(calls, "diffusers", str(setting), peer.end_states(setting, calls, maps))
    return found


def _by_program() -> dict[tuple[Any, str], list[tuple[str, str, Method]]]:
    """The methods that are compiled together."""
    groups: dict[tuple[Any, str], list[tuple[str, str, Method]]] = {}
    for contender, choices in METHODS.items():
        for choice, method in choices.items():
            program = (method.step, method.schedule)
            groups.setdefault(program, []).append((contender, choice, method))
    return groups


def _flowjax(step: Any, schedule: fj.Schedule, maps: Sequence[KnownMap]) -> Callable:
    """The end states on a grid, from the flow's own state at its first time."""
    targets = [
        fj.GaussianMixture(*map(jnp.float32, (one.weights, one.means, one.stds))) for one in maps
    ]
    fields = [target.velocity(schedule) for target in targets]

    def joint(t, x, args):
        parts = zip(fields, x, strict=True)
        return [jax.vmap(partial(field, t, args=args))(part) for field, part in parts]

    v = fj.velocity(joint, schedule)
    # A grid is filled up with steps of no length, so that all numbers of steps are one program.
    path = jax.jit(lambda ts, x0: fj.trajectory(v, x0, ts, step=step))

    def run(ts: jax.Array) -> list[np.ndarray]:
        alpha, sigma = map(float, schedule(ts[0]))
        angle, scale = np.arctan2(alpha, sigma), np.hypot(alpha, sigma)
        start = [jnp.float32(one.states(angle) * scale) for one in maps]
        filled = jnp.concatenate([ts, jnp.ones(max(_CALLS) + 1 - len(ts))])
        return [np.asarray(states[len(ts) - 1], float) for states in path(filled, start)]

    return run
