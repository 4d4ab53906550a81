"""The levels of multilevel Monte Carlo: coupled paths, drawn in batches."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from flowjax import _check
from flowjax._numerics import wide, widest
from flowjax._types import State
from flowjax.sampling.chunks import drawn_start, keys_of
from flowjax.solver.adjoints import Direct
from flowjax.solver.brownian import brownian_increments, coarsen
from flowjax.solver.compiled import Number, Static, prepared, unpacked
from flowjax.solver.door import First
from flowjax.solver.sde import SDE, noise_like
from flowjax.solver.views import solve

# Coarse steps that one compiled program takes. Levels with more call it several times, so that they
# compile nothing; each with fewer has a program of its own.
_SEGMENT = 32


class Problem(eqx.Module):
    """What all levels have in common."""

    f: Callable[[Any], Any]
    sde: SDE
    init: Callable[..., Any]
    args: Any
    step: Any
    with_args: bool
    size: int
    layout: Sharding | None
    explicit: NamedSharding | None

    def run(self, program: Callable[..., Any], *arguments: Any, spread: bool = True) -> Any:
        """What a program returns, spread over the devices by its leading axis or on all of them."""
        run, arrays = prepared(program, self, *arguments)
        if self.explicit is None:
            return run(arrays)
        mesh, spec = self.explicit.mesh, self.explicit.spec[:1] if spread else ()
        out = NamedSharding(mesh, PartitionSpec(*spec))
        return jax.sharding.auto_axes(run, out_sharding=out)(list(map(jnp.asarray, arrays)))

    def spread(self, tree: Any) -> Any:
        """`tree` with its leading axis laid out over the devices."""
        return tree if self.layout is None else jax.lax.with_sharding_constraint(tree, self.layout)


class Level:
    """The grid of a level and its samples so far: their number, means and sums of squares.

    Of f or its difference first, and of f on the fine path second: (2, elements) each.
    """

    def __init__(self, key: Array, level: int, ts: np.ndarray):
        self.key, self.level, coarsest = jax.random.fold_in(key, level), level, len(ts) - 1
        for _ in range(level):
            ts = halved(ts)
        self.ts, self.steps = ts, len(ts) - 1
        self.cost = self.steps if level == 0 else self.steps + self.steps // 2
        # So many coarse steps at once, which divide their number.
        self.segment = coarsest
        while 2 * self.segment <= min(_SEGMENT, self.steps // 2):
            self.segment *= 2
        self.num, self.mean, self.squares = 0, np.zeros(()), np.zeros(())
        self.structure: Any = None

    @property
    def variance(self) -> np.ndarray:
        """The variances, from so many samples."""
        return self.squares / (self.num - 1)

    def add(self, num: int, mean: np.ndarray, squares: np.ndarray) -> None:
        """Merges a batch, as `moments.merged` does."""
        share, off = num / (self.num + num), mean - self.mean
        self.squares = self.squares + squares + self.num * share * off**2
        self.mean, self.num = self.mean + share * off, self.num + num


def draw(problem: Problem, level: Level, batches: int, bar: Any) -> None:
    """Draws so many batches of a level."""
    size, drawn = problem.size, []
    for i in range(batches):
        first = Number(np.uint32(level.num + i * size))
        keys, fine = problem.run(_started, level.key, first)
        coarse = None
        if level.level == 0:
            fine = problem.run(_single, keys, fine, level.ts)
        else:
            coarse = fine
            for at in range(0, level.steps, 2 * level.segment):
                part = level.ts[at : at + 2 * level.segment + 1]
                first = Number(np.uint32(at))
                fine, coarse = problem.run(_paired, keys, fine, coarse, part, first)
        drawn.append(problem.run(_summary, fine, coarse, spread=False))
    for mean, squares in drawn:
        level.add(size, *(np.asarray(part, np.float64) for part in (mean, squares)))
        if bar is not None:
            bar.update(size)


def _started(static: Static, arrays: list[Any]) -> Any:
    """The keys of the paths of a batch, and where they begin."""
    problem, key, first = unpacked(static, arrays)
    indices = problem.spread(first + jnp.arange(problem.size, dtype=jnp.uint32))

    def one(index: Array) -> Any:
        init_key, path_key = keys_of(key, index)
        return path_key, drawn_start(problem.init, init_key, problem.args, problem.with_args)

    return problem.spread(jax.vmap(one)(indices))


def _single(static: Static, arrays: list[Any]) -> Any:
    """The ends of the paths of level 0."""
    problem, keys, x0, ts = unpacked(static, arrays)

    def one(key: Array, x0: Any) -> Any:
        how = {"args": problem.args, "step": problem.step, "adjoint": Direct()}
        return solve(problem.sde, x0, ts, key=key, **how)

    return jax.vmap(one)(keys, x0)


def _paired(static: Static, arrays: list[Any]) -> Any:
    """A part of the fine paths and of the coarse ones, on the same Brownian paths."""
    problem, keys, fine, coarse, ts, first = unpacked(static, arrays)

    def one(key: Array, fine: Any, coarse: Any) -> Any:
        how = {"args": problem.args, "step": problem.step, "adjoint": Direct()}
        dw = brownian_increments(key, ts, noise_like(problem.sde, fine), First(first, even=True))
        fine = solve(problem.sde, fine, ts, increments=dw, **how)
        return fine, solve(problem.sde, coarse, ts[::2], increments=coarsen(dw, 2), **how)

    return jax.vmap(one)(keys, fine, coarse)


def _summary(static: Static, arrays: list[Any]) -> Any:
    """Means and sums of squares of a batch, of f or its difference, and of f on the fine path."""
    problem, fine, coarse = unpacked(static, arrays)
    plain = _values(problem, fine)
    both = jnp.stack([plain if coarse is None else plain - _values(problem, coarse), plain])
    mean = jnp.mean(both, axis=1)
    return mean, jnp.sum((both - mean[:, None]) ** 2, axis=1)


def _values(problem: Problem, x1: Any) -> Array:
    """The elements of f of each sample of a batch, (size, elements)."""
    values = jax.vmap(lambda x1: _value(problem, x1))(x1)
    dtype = widest(values)
    rows = [leaf.reshape(problem.size, -1).astype(dtype) for leaf in jax.tree.leaves(values)]
    return jnp.concatenate(rows, axis=1)


def _value(problem: Problem, x1: Any) -> State:
    return wide(_check.state(problem.f(x1), "what f returns"))


def shapes_of_value(problem: Problem, key: Array) -> Any:
    """The shapes and dtypes of what f returns."""
    run, arrays = prepared(_shaped, problem, key)
    return jax.eval_shape(run, arrays)


def _shaped(static: Static, arrays: list[Any]) -> Any:
    problem, key = unpacked(static, arrays)
    return _value(problem, drawn_start(problem.init, key, problem.args, problem.with_args))


def halved(ts: np.ndarray) -> np.ndarray:
    """The grid with the middle of each step."""
    finer = np.empty(2 * len(ts) - 1, ts.dtype)
    finer[::2], finer[1::2] = ts, (ts[:-1] + ts[1:]) / 2
    if np.any(np.diff(finer) == 0):
        raise ValueError(
            f"ts must have steps that can be halved, got one of {len(ts) - 1} whose ends are one "
            f"time, or neighbours in {ts.dtype}: raise the tolerance or turn on jax_enable_x64."
        )
    return finer
