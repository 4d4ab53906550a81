"""Multilevel Monte Carlo: most samples on coarse grids, few on fine ones."""

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Sharding

from flowjax import _check
from flowjax._progress import progress_bar
from flowjax._types import State
from flowjax.estimators.levels import Level, Problem, draw, halved, shapes_of_value
from flowjax.sampling.chunks import automatic, has_explicit_axes, takes_args, threefry
from flowjax.solver.door import check_pair, is_shown, traced
from flowjax.solver.sde import SDE
from flowjax.solver.stepper import Stepper, fact, name_of
from flowjax.solver.times import check_from_noise, check_times

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
        levels: a `Levels`, what was measured on each level.
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

    $X^l$ is the solution on the grid of level l: ts, halved l times. The two paths of a difference
    have the same start and the same Brownian motion: the increments of the coarse one are the fine
    ones added in pairs, by `coarsen`. Their variance V_l falls like h^2 (additive noise, or
    `milstein`, and f Lipschitz) or like h (`euler_maruyama` with a diffusion that depends on x), so
    that fine levels need few samples: the cost is of order $\epsilon^{-2}$ or
    $\epsilon^{-2} \log(\epsilon)^2$, in place of $\epsilon^{-3}$ for plain Monte Carlo.

    Half of the tolerance's square is for the variance and half for the bias: the numbers N_l of
    samples, for costs C_l in steps, make the variance at most $\epsilon^2 / 2$, and levels are
    added until the bias is at most $\epsilon / \sqrt2$, as estimated for the weak order alpha by

    $$\max\big(|\bar Y_L|,\, 2^{-\alpha} |\bar Y_{L-1}|\big) / (2^\alpha - 1)$$

    The coarsest grid must be fine enough for a stable solve. Levels that differ only where f jumps,
    or on rare paths, may have no difference in the first samples: take a larger batch_size. For
    a function of the path, make what it needs a part of the state.

    How many samples are drawn depends on the variances measured before, so the call is not for
    `jit` or `grad`. It compiles a program for each level of up to 32 coarse steps, and no more for
    finer ones.

    Args:
        f: ``f(x1)``, as in `expectation`; the tolerance is for each element of what it returns.
        key: one JAX key. Level l has samples of its own, by ``fold_in(key, l)``.
        sde: the SDE.
        init: as in `sample`.
        ts: (n + 1,) times, the grid of level 0, increasing.
        tolerance: epsilon, the root of the mean squared error that is asked for, above 0.
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
            step remembers or takes Levy areas; and as `sample`.
        ValueError: tolerance or weak_order is not above 0; max_levels is below 2; ts is traced, or
            has a step that cannot be halved; and as `sample`.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> stock = fj.SDE(lambda t, x, args: 0.05 * x, lambda t, x, args: 0.2 * x)
        >>> start, ts = lambda key: jnp.array(1.0), fj.uniform_grid(2)
        >>> estimate = fj.estimators.multilevel(
        ...     lambda x: x, jax.random.key(0), stock, start, ts, tolerance=0.01
        ... )
        >>> bool(abs(estimate.mean - jnp.exp(0.05)) < 0.04)
        True

    References:
        Giles (2008), "Multilevel Monte Carlo path simulation", Operations Research 56, section 5;
        Giles (2015), "Multilevel Monte Carlo methods", Acta Numerica 24, algorithm 1.
    """
    _check.function(f, "f", "(x1)", takes=1)
    _check.single_key(key)
    if not isinstance(sde, SDE):
        raise TypeError(f"sde must be an SDE(drift, diffusion), which has noise, got {sde!r}.")
    if fact(step, "levy_area"):
        raise TypeError(
            f"step must take the increments alone, got {name_of(step)}, which takes Levy areas."
        )
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
    explicit: Any = sharding if has_explicit_axes(sharding) else None
    how = (with_args, size, layout, explicit)
    problem = Problem(f, sde, init, traced(args), step, *how)
    bar = progress_bar(0, "multilevel", "sample") if shown else None
    levels = [Level(threefry(key), level, grid) for level in range(min(3, max_levels))]
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
        levels.append(Level(threefry(key), len(levels), grid))
    if bar is not None:
        bar.close()
    if not enough:
        warnings.warn(
            f"the bias on the last of {len(levels)} levels is about {np.max(bias):.3g}, above "
            f"tolerance / sqrt(2) = {tolerance / math.sqrt(2):.3g}: raise max_levels.",
            stacklevel=2,
        )
    return _record(problem, levels, bias)


def _fill(problem: Problem, levels: list[Level], tolerance: float, bar: Any) -> None:
    """Draws until every level has the samples that the variances ask for."""
    missing = [0 if level.num else 1 for level in levels]
    while any(missing):
        if bar is not None:
            bar.total = bar.n + problem.size * sum(missing)
        for level, batches in zip(levels, missing, strict=True):
            draw(problem, level, batches, bar)
        costs = np.array([level.cost for level in levels])[:, None]
        variances = np.array([level.variance[0] for level in levels])
        work = np.sum(np.sqrt(variances * costs), axis=0)
        wanted = np.max(2 / tolerance**2 * np.sqrt(variances / costs) * work, axis=1)
        have = np.array([level.num for level in levels])
        wanted = np.where(np.isfinite(wanted), np.ceil(wanted), have)
        missing = np.ceil((wanted - (1 + _WORTH) * have) / problem.size)
        missing = [max(int(batches), 0) for batches in missing]


def _record(problem: Problem, levels: list[Level], bias: np.ndarray) -> MultilevelEstimate:
    """What was measured, in the structure of what f returns."""
    like = shapes_of_value(problem, levels[0].key)
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


def _known(ts: Any) -> np.ndarray:
    """The grid of level 0, which is looked at."""
    times = _check.time_grid(ts)
    if isinstance(times, Tracer):
        raise ValueError("ts must be known, since it is halved as often as needed, got a tracer.")
    return halved(np.asarray(times))[::2]


def _positive(value: Any, name: str) -> float:
    number = _check.static_number(value, name)
    if not 0 < number < math.inf:
        raise ValueError(f"{name} must be a finite number above 0, got {number}.")
    return number
