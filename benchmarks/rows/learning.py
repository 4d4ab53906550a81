"""Row learning: how good what was learnt is, where the truth is known or was published."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import flowjax as fj
from benchmarks import torch_contenders
from benchmarks.record import Result
from benchmarks.rows import Case, Say
from benchmarks.rows.training import Network
from benchmarks.timing import FULL, Settings, spread

_BATCH, _TESTED, _PEER_SEEDS = 256, 1000, 2
_TS = fj.uniform_grid(100)


class Task(NamedTuple):
    """Two laws, and what was published of a flow between them.

    Args:
        name: of both.
        start: draws so many samples of the one.
        end: draws so many samples of the other.
        distances: mean of the squared 2-Wasserstein distance to the data, by the coupling.
        energies: the same of the normalised path energy, where there is one.
    """

    name: str
    start: Callable[[jax.Array, int], jax.Array]
    end: Callable[[jax.Array, int], jax.Array]
    distances: dict[str, float]
    energies: dict[str, float]


def _noise(key: jax.Array, num: int) -> jax.Array:
    return jax.random.normal(key, (num, 2))


# Tong et al., 2023, arXiv 2302.00482, tables 2 and 3: five seeds.
TASKS = (
    Task(
        *("noise to 8 Gaussians", _noise, fj.data.eight_gaussians),
        {"independent": 1.284, "exact": 1.262},
        {"independent": 0.222, "exact": 0.018},
    ),
    Task(
        *("moons to 8 Gaussians", fj.data.moons, fj.data.eight_gaussians),
        {"independent": 1.977, "exact": 1.923},
        {"independent": 2.738, "exact": 0.053},
    ),
    Task(
        *("noise to moons", _noise, fj.data.moons),
        {"independent": 0.338, "exact": 0.239},
        {},
    ),
)


def cases() -> list[Case]:
    """The cases of this row."""
    return [
        *(Case("learning", task.name, partial(_published, task)) for task in TASKS),
        Case("learning", "8 Gaussians to labelled moons", _labelled),
        *(
            Case("learning", f"flow map, {name}", partial(_flow_map, name, target))
            for name, target in _targets().items()
        ),
    ]


def _effort(settings: Settings) -> tuple[int, int]:
    """How many seeds, and steps of training."""
    return (5, 1500) if settings.name == FULL.name else (1, 100)


# --- the table of torchcfm ------------------------------------------------------------------------


def _pair_loss(model: Any, pair: fj.couplings.Pairs, key: jax.Array) -> jax.Array:
    return fj.losses.flow_matching(model, pair.x1, key, pair.labels, x0=pair.x0)


def _published(task: Task, settings: Settings, say: Say) -> list[Result]:
    seeds, steps = _effort(settings)
    distances: dict[str, list[float]] = {"two samples": []}
    energies: dict[str, list[float]] = {}
    for seed in range(seeds):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), seed), 4)
        starts, ends = task.start(keys[0], _TESTED), task.end(keys[1], _TESTED)
        distances["two samples"].append(_distance(task.end(keys[2], _TESTED), ends))
        least = _distance(starts, ends)
        for coupling in ("independent", "exact"):
            say(f"seed {seed}, {coupling}")
            learnt = _learnt(coupling, task, keys[3], steps)
            v = fj.velocity(learnt, fj.CondOT(), coupled=True)
            paths = {f"flowjax {coupling}": _paths(v, starts)}
            if seed < _PEER_SEEDS:
                batches = _batches(task, keys[3], steps)
                paths |= torch_contenders.learning(
                    coupling, *batches, np.asarray(starts), len(_TS) - 1
                )
            for name, path in paths.items():
                energy = (len(_TS) - 1) * float(jnp.sum(jnp.diff(path, axis=1) ** 2)) / _TESTED
                distances.setdefault(name, []).append(_distance(path[:, -1], ends))
                energies.setdefault(name, []).append(abs(energy - least) / least)
    for coupling in ("independent", "exact"):
        distances[f"paper {coupling}"] = [task.distances[coupling]]
        if task.energies:
            energies[f"paper {coupling}"] = [task.energies[coupling]]
    return [
        _result(task.name, "squared 2-Wasserstein distance", distances, "two samples"),
        _result(task.name, "normalised path energy", energies, "flowjax exact"),
    ]


def _result(name: str, metric: str, values: dict[str, list[float]], floor: str) -> Result:
    spreads = {who: spread(of) for who, of in values.items()}
    ratios = {who: of.median / spreads[floor].median for who, of in spreads.items()}
    return Result("learning", name, metric, "", (floor,), spreads, ratios)


def _distance(x: jax.Array, y: jax.Array) -> float:
    pairs = fj.couplings.exact(jax.random.key(0), jnp.asarray(x), jnp.asarray(y))
    return float(jnp.sum((pairs.x0 - pairs.x1) ** 2)) / len(x)


def _learnt(coupling: str, task: Task, key: jax.Array, steps: int) -> Any:
    couple = getattr(fj.couplings, coupling)

    def batch(key: jax.Array, i: jax.Array) -> Any:
        keys = jax.random.split(key, 3)
        return couple(keys[2], task.start(keys[0], _BATCH), task.end(keys[1], _BATCH))

    how = {"optimizer": optax.adam(1e-3), "steps": steps}
    return fj.training.fit(Network(64, key), _pair_loss, batch, key, **how)[0].model


def _paths(v: Any, starts: jax.Array, args: Any = None) -> jax.Array:
    return jax.jit(jax.vmap(lambda x: fj.trajectory(v, x, _TS, args)))(starts)


def _batches(task: Task, key: jax.Array, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends for a peer that couples them itself."""
    keys = jax.random.split(key)
    drawn = (draw(k, steps * _BATCH) for draw, k in zip((task.start, task.end), keys, strict=True))
    start, end = (np.asarray(x).reshape(steps, _BATCH, 2) for x in drawn)
    return start, end


# --- a conditional model --------------------------------------------------------------------------


class _Labelled(eqx.Module):
    network: eqx.nn.MLP

    def __call__(self, t: Any, x: Any, label: Any) -> Any:
        return self.network(jnp.concatenate([x, jnp.stack([t, label.astype(x.dtype)])]))


def _side(x: jax.Array) -> jax.Array:
    """The class of a point of the moons: left or right of their middle."""
    return (x[:, 0] > 0.8).astype(jnp.int32)


def _labelled(settings: Settings, say: Say) -> list[Result]:
    """What a model of two classes is off by, if a batch's pairs look at the classes or not."""
    seeds, steps = _effort(settings)
    seeds = min(seeds, 3)
    found: dict[str, list[float]] = {"two samples": []}
    for seed in range(seeds):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(1), seed), 5)
        starts = fj.data.eight_gaussians(keys[0], _TESTED)
        halves = [_of_class(key, label) for key in keys[1:3] for label in (0, 1)]
        found["two samples"].append(
            (_distance(halves[0], halves[2]) + _distance(halves[1], halves[3])) / 2
        )
        for coupling in ("independent", "exact", "conditional"):
            say(f"seed {seed}, {coupling}")
            couple = getattr(fj.couplings, coupling)

            def batch(key: jax.Array, i: jax.Array, couple: Any = couple) -> Any:
                keys = jax.random.split(key, 3)
                x1 = fj.data.moons(keys[1], _BATCH)
                return couple(keys[2], fj.data.eight_gaussians(keys[0], _BATCH), x1, _side(x1))

            model = _Labelled(eqx.nn.MLP(4, 2, 64, 3, jax.nn.selu, key=keys[3]))
            how = {"optimizer": optax.adam(1e-3), "steps": steps}
            model = fj.training.fit(model, _pair_loss, batch, keys[4], **how)[0].model
            v = fj.velocity(model, fj.CondOT(), coupled=True)
            off = [
                _distance(_paths(v, starts, jnp.int32(label))[:, -1], halves[label])
                for label in (0, 1)
            ]
            found.setdefault(coupling, []).append(sum(off) / 2)
    name = "8 Gaussians to labelled moons"
    return [_result(name, "squared 2-Wasserstein distance", found, "two samples")]


def _of_class(key: jax.Array, label: int) -> jax.Array:
    x = fj.data.moons(key, 4 * _TESTED)
    return x[_side(x) == label][:_TESTED]


# --- models of two times --------------------------------------------------------------------------


class _Average(eqx.Module):
    network: eqx.nn.MLP

    def __call__(self, t: Any, r: Any, x: Any, args: Any) -> Any:
        return self.network(jnp.concatenate([x, jnp.stack([t, r - t])]))


def _targets() -> dict[str, Any]:
    means, weights = jnp.array([[-2.0], [1.5]]), jnp.array([0.4, 0.6])
    return {
        "Gaussian": fj.Gaussian(jnp.array([2.0]), 0.5),
        "mixture": fj.GaussianMixture(weights, means, 0.5),
    }


_LOSSES = {
    "MeanFlow": fj.losses.mean_flow,
    "improved MeanFlow": partial(fj.losses.mean_flow, own_tangent=True),
    "self-distillation": fj.losses.flow_map,
}


def _flow_map(name: str, target: Any, settings: Settings, say: Say) -> list[Result]:
    """The mean error of a few steps against the exact flow map, and how far steps are apart."""
    _, steps = _effort(settings)
    keys = jax.random.split(jax.random.key(2), 4)
    data = jax.vmap(target.sample)(jax.random.split(keys[0], 2**15))
    v = target.velocity(fj.CondOT())
    starts = jax.random.normal(keys[1], (2000, 1))
    exact = _ends(v, starts, 400, fj.rk4)
    errors = {
        f"Euler, {n}": float(jnp.mean(jnp.abs(_ends(v, starts, n, fj.euler) - exact)))
        for n in (1, 2, 4)
    }
    apart = {}
    for who, loss in _LOSSES.items():
        say(who)
        model = _Average(eqx.nn.MLP(3, 1, 128, 3, jax.nn.silu, key=keys[2]))
        rate = optax.cosine_decay_schedule(2e-3, 4 * steps)
        clipped = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
        how = {"optimizer": clipped, "steps": 4 * steps, "batch_size": 512, "ema": 0.999}
        state, _ = fj.training.fit(model, loss, data, keys[3], **how)
        field = fj.two_time(fj.training.averaged(state))
        ends = {n: _ends(field, starts, n, fj.flow_map) for n in (1, 2, 4)}
        errors |= {f"{who}, {n}": float(jnp.mean(jnp.abs(x - exact))) for n, x in ends.items()}
        teacher = _ends(field, starts, 100, fj.heun)
        apart[f"{who}, 1 against 2 steps"] = float(jnp.mean(jnp.abs(ends[1] - ends[2])))
        apart[f"{who}, 1 step against its own velocity"] = float(
            jnp.mean(jnp.abs(ends[1] - teacher))
        )
    name = f"flow map, {name}"
    return [
        _result(name, "error", {who: [value] for who, value in errors.items()}, "Euler, 1"),
        _result(name, "difference", {w: [x] for w, x in apart.items()}, next(iter(apart))),
    ]


def _ends(field: Any, starts: jax.Array, n: int, step: Any) -> jax.Array:
    solve = partial(fj.solve, field, ts=fj.uniform_grid(n), step=step)
    return jax.jit(jax.vmap(lambda x: solve(x)))(starts)
