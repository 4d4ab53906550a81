"""Multilevel Monte Carlo: most samples on coarse grids, few on fine ones."""

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from flowjax import _check
from flowjax._numerics import wide, widest
from flowjax._progress import progress_bar
from flowjax._types import State
from flowjax.sampling.chunks import (
    automatic,
    drawn_start,
    has_explicit_axes,
    keys_of,
    takes_args,
    threefry,
)
from flowjax.solver.brownian import brownian_increments, coarsen
from flowjax.solver.compiled import Number, Static, prepared, unpacked
from flowjax.solver.door import First, check_pair, is_shown, traced
from flowjax.solver.sde import SDE, noise_like
from flowjax.solver.stepper import Stepper, name_of
from flowjax.solver.times import check_from_noise, check_times
from flowjax.solver.views import solve

# Coarse steps that one compiled program takes. Levels with more call it several times, so that they
# compile nothing; each with fewer has a program of its own.
_SEGMENT = 32
# How many more samples an allocation must ask for to be worth another round, as a part of them.
_WORTH = 0.01


class Levels(NamedTuple):
    """What multilevel Monte Carlo has measured on each level, on the leading axis.

    Args:
        steps: of the (fine) path.
        num: how many samples were drawn.
        cost: steps that one sample takes: those of the fine path and of the coarse one.
        mean: of f on level 0, and of the difference of f between fine and coarse path after it.
        variance: of the same.
        plain_variance: of f on the fine path: what plain Monte Carlo has there.
    """

    steps: Any
    num: Any
    cost: Any
    mean: State
    variance: State
    plain_variance: State


class MultilevelEstimate(NamedTuple):
    """An estimate by multilevel Monte Carlo.

    Args:
        mean: the estimate, like what f returns, but of at least float32.
        standard_error: of each element of the mean, from the variances of the levels.
        bias: an estimate of the absolute error of the finest grid.
        levels: what was measured on each level.
    """

    mean: State
    standard_error: State
    bias: State
    levels: Levels


def multilevel(
    f: Callable[[Any], Any],
    key: Any,
    sde: SDE,
    init: Callable[..., Any],
    ts: Any,
    tolerance: float,
    *,
    args: Any = None,
    step: Any = None,
    weak_order: float = 1.0,
    max_levels: int = 12,
    batch_size: int = 1024,
    sharding: Sharding | None = None,
    progress: bool = False,
) -> MultilevelEstimate:
    r"""The expectation of a function of X_1 in continuous time, to a tolerance.

    $$E f(X^L) = E f(X^0) + \sum_{l=1}^L E\big[f(X^l) - f(X^{l-1})\big], \qquad
    N_l = \Big\lceil 2\,\epsilon^{-2} \sqrt{V_l / C_l}\, \sum_k \sqrt{V_k C_k} \Big\rceil$$

    X^l is the solution on the grid of level l: ts, halved l times. The two paths of a difference
    have the same start and the same Brownian motion: the increments of the coarse one are the fine
    ones added in pairs, by `coarsen`. Their variance V_l falls like h^2 (additive noise, or
    `milstein`, and f Lipschitz) or like h (`euler_maruyama` with a diffusion that depends on x), so
    that fine levels need few samples: the cost is of order eps^-2 or eps^-2 log(eps)^2, in place
    of eps^-3 for plain Monte Carlo.

    Half of the tolerance's square is for the variance and half for the bias: the numbers N_l of
    samples, for costs C_l in steps, make the variance at most `eps^2 / 2`, and levels are added
    until the bias is at most `eps / sqrt(2)`, as estimated for the weak order alpha by

    $$\max\big(|\bar Y_L|,\, 2^{-\alpha} |\bar Y_{L-1}|\big) / (2^\alpha - 1)$$

    The coarsest grid must be fine enough for a stable solve. Levels that differ only where f jumps,
    or on rare paths, may have no difference in the first samples: take a larger batch_size. For
    a function of the path, make what it needs a part of the state.

    How many samples are drawn depends on the variances measured before, so the call is not for
    `jit` or `grad`. It compiles a program for each level of up to 32 coarse steps, and then no more.

    Args:
        f: ``f(x1)``, as in `expectation`; the tolerance is for each element of what it returns.
        key: one JAX key. Level l has samples of its own, by ``fold_in(key, l)``.
        sde: the SDE.
        init: as in `sample`.
        ts: (n + 1,) times, the grid of level 0, increasing.
        tolerance: the root of the mean squared error that is asked for, above 0.
        args: as in `sample`.
        step: as in `solve`, without memory. Default: `euler_maruyama`.
        weak_order: alpha, 1 for all the steps of flowjax for SDEs.
        max_levels: at most how many levels, at least 2.
        batch_size: how many samples are drawn at once. A level has a whole number of batches.
        sharding: how the samples of a batch are spread over devices, as in `sample`.
        progress: show a bar (tqdm) of samples.

    Returns:
        A `MultilevelEstimate(mean, standard_error, bias, levels)`. With a warning, if the bias is
        still above its part of the tolerance on the last level.

    Raises:
        TypeError: f is not a function of x1, or returns what is not real floating; sde is no SDE;
            step remembers; and as `sample`.
        ValueError: tolerance or weak_order is not above 0; max_levels is below 2; ts is traced, or
            has a step that cannot be halved; and as `sample`.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> stock = fj.SDE(lambda t, x, args: 0.05 * x, lambda t, x, args: 0.2 * x)
        >>> start, ts = lambda key: jnp.array(1.0), fj.uniform_grid(2)
        >>> estimate = fj.estimators.multilevel(
        ...     lambda x: x, jax.random.key(0), stock, start, ts, tolerance=0.005
        ... )
        >>> bool(abs(estimate.mean - jnp.exp(0.05)) < 0.02)
        True

    References:
        Giles (2008), "Multilevel Monte Carlo path simulation", Operations Research 56, section 5;
        Giles (2015), "Multilevel Monte Carlo methods", Acta Numerica 24, algorithm 1.
    """
    _check.function(f, "f", "(x1)", takes=1)
    _check.single_key(key)
    if not isinstance(sde, SDE):
        raise TypeError(f"sde must be an SDE(drift, diffusion), which has noise, got {sde!r}.")
    if isinstance(step, Stepper):
        raise TypeError(f"step must be one without memory, got {name_of(step)}.")
    tolerance = _positive(tolerance, "tolerance")
    alpha = _positive(weak_order, "weak_order")
    max_levels = _check.positive_int(max_levels, "max_levels")
    if max_levels < 2:
        raise ValueError("max_levels must be at least 2: one level alone is plain Monte Carlo.")
    size = _check.positive_int(batch_size, "batch_size")
    if size < 2:
        raise ValueError(f"batch_size must be at least 2, for a variance, got {size}.")
    with_args, shown = takes_args(init), is_shown(progress)
    check_pair(sde, step)
    grid = _known(ts)
    check_from_noise(grid, sde)
    check_times(grid, sde, step, drawn=True)
    layout = None if sharding is None else automatic(sharding, size, size)
    how = (with_args, size, layout, sharding if has_explicit_axes(sharding) else None)
    problem = _Problem(f, sde, init, traced(args), step, *how)
    bar = progress_bar(0, "multilevel", "sample") if shown else None
    levels = [_Level(threefry(key), level, grid) for level in range(min(3, max_levels))]
    while True:
        _fill(problem, levels, tolerance, bar)
        means = np.abs([level.mean[0] for level in levels[-2:]])
        if len(levels) == 2:  # the first of them is no difference
            means[0] = 0
        bias = np.max(means * [[2.0**-alpha], [1]], axis=0) / (2**alpha - 1)
        enough = bool(np.all(bias <= tolerance / math.sqrt(2)))
        # NaN is in no order: more levels would not mend it.
        if enough or len(levels) == max_levels or np.any(np.isnan(bias)):
            break
        levels.append(_Level(threefry(key), len(levels), grid))
    if bar is not None:
        bar.close()
    if not enough:
        warnings.warn(
            f"the bias on the last of {len(levels)} levels is estimated as {np.max(bias):.3g}, above "
            f"tolerance / sqrt(2) = {tolerance / math.sqrt(2):.3g}: raise max_levels.",
            stacklevel=2,
        )
    return _record(problem, levels, bias)


class _Problem(eqx.Module):
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


class _Level:
    """The grid of a level and its samples so far: their number, means and sums of squares.

    Of f or its difference first, and of f on the fine path second: (2, elements) each.
    """

    def __init__(self, key: Array, level: int, ts: np.ndarray):
        self.key, self.level, coarsest = jax.random.fold_in(key, level), level, len(ts) - 1
        for _ in range(level):
            ts = _halved(ts)
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
        return self.squares / (self.num - 1)

    def add(self, num: int, mean: np.ndarray, squares: np.ndarray) -> None:
        """Merges a batch, as `moments.merged` does."""
        share, off = num / (self.num + num), mean - self.mean
        self.squares = self.squares + squares + self.num * share * off**2
        self.mean, self.num = self.mean + share * off, self.num + num


def _fill(problem: _Problem, levels: list[_Level], tolerance: float, bar: Any) -> None:
    """Draws until every level has the samples that the variances ask for."""
    missing = [0 if level.num else 1 for level in levels]
    while any(missing):
        if bar is not None:
            bar.total = bar.n + problem.size * sum(missing)
        for level, batches in zip(levels, missing, strict=True):
            _draw(problem, level, batches, bar)
        costs = np.array([level.cost for level in levels])[:, None]
        variances = np.array([level.variance[0] for level in levels])
        work = np.sum(np.sqrt(variances * costs), axis=0)
        wanted = np.max(2 / tolerance**2 * np.sqrt(variances / costs) * work, axis=1)
        have = np.array([level.num for level in levels])
        wanted = np.where(np.isfinite(wanted), np.ceil(wanted), have)
        missing = np.ceil((wanted - (1 + _WORTH) * have) / problem.size)
        missing = [max(int(batches), 0) for batches in missing]


def _draw(problem: _Problem, level: _Level, batches: int, bar: Any) -> None:
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
        return solve(problem.sde, x0, ts, problem.args, step=problem.step, key=key)

    return jax.vmap(one)(keys, x0)


def _paired(static: Static, arrays: list[Any]) -> Any:
    """A part of the fine paths and of the coarse ones, on the same Brownian paths."""
    problem, keys, fine, coarse, ts, first = unpacked(static, arrays)

    def one(key: Array, fine: Any, coarse: Any) -> Any:
        how = {"args": problem.args, "step": problem.step}
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


def _values(problem: _Problem, x1: Any) -> Array:
    """The elements of f of each sample of a batch, (size, elements)."""
    values = jax.vmap(lambda x1: _value(problem, x1))(x1)
    dtype = widest(values)
    rows = [leaf.reshape(problem.size, -1).astype(dtype) for leaf in jax.tree.leaves(values)]
    return jnp.concatenate(rows, axis=1)


def _value(problem: _Problem, x1: Any) -> State:
    return wide(_check.state(problem.f(x1), "what f returns"))


def _record(problem: _Problem, levels: list[_Level], bias: np.ndarray) -> MultilevelEstimate:
    """What was measured, in the structure of what f returns."""
    like = _shapes(problem, levels[0].key)
    leaves, structure = jax.tree.flatten(like)

    def tree(rows: Any, leading: tuple[int, ...] = ()) -> State:
        parts, at = [], 0
        for leaf in leaves:
            part = np.asarray(rows)[..., at : at + leaf.size]
            parts.append(jnp.asarray(part.reshape((*leading, *leaf.shape)), leaf.dtype))
            at += leaf.size
        return jax.tree.unflatten(structure, parts)

    means, variances = (np.array([getattr(x, n) for x in levels]) for n in ("mean", "variance"))
    num, each = np.array([level.num for level in levels]), (len(levels),)
    error = np.sqrt(np.sum(variances[:, 0] / num[:, None], axis=0))
    steps, cost = (np.array([getattr(level, n) for level in levels]) for n in ("steps", "cost"))
    measured = [tree(x, each) for x in (means[:, 0], variances[:, 0], variances[:, 1])]
    record = Levels(steps, num, cost, *measured)
    return MultilevelEstimate(tree(np.sum(means[:, 0], axis=0)), tree(error), tree(bias), record)


def _shapes(problem: _Problem, key: Array) -> Any:
    """The shapes and dtypes of what f returns."""
    run, arrays = prepared(_shaped, problem, key)
    return jax.eval_shape(run, arrays)


def _shaped(static: Static, arrays: list[Any]) -> Any:
    problem, key = unpacked(static, arrays)
    return _value(problem, drawn_start(problem.init, key, problem.args, problem.with_args))


def _known(ts: Any) -> np.ndarray:
    """The grid of level 0, which is looked at."""
    times = _check.time_grid(ts)
    if isinstance(times, Tracer):
        raise ValueError("ts must be known, since it is halved as often as needed, got a tracer.")
    return _halved(np.asarray(times))[::2]


def _halved(ts: np.ndarray) -> np.ndarray:
    """The grid with the middle of each step."""
    finer = np.empty(2 * len(ts) - 1, ts.dtype)
    finer[::2], finer[1::2] = ts, (ts[:-1] + ts[1:]) / 2
    if np.any(np.diff(finer) == 0):
        raise ValueError(
            f"ts must have steps that can be halved, got one whose ends are one time, or neighbours "
            f"in {ts.dtype}, after {len(ts) - 1} steps: raise the tolerance or turn on "
            f"jax_enable_x64."
        )
    return finer


def _positive(value: Any, name: str) -> float:
    number = _check.static_number(value, name)
    if not 0 < number < math.inf:
        raise ValueError(f"{name} must be a finite number above 0, got {number}.")
    return number
