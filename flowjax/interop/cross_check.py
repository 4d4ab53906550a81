"""The same solve by flowjax and by diffrax, on the same increments, side by side."""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flowjax import _check
from flowjax._numerics import narrow
from flowjax.interop.from_diffrax import refuse_state
from flowjax.interop.order import measured_order
from flowjax.interop.to_diffrax import checked_increments, refuse_noise, to_diffrax
from flowjax.solver.brownian import brownian_increments
from flowjax.solver.door import noise_of
from flowjax.solver.ode_steps import euler, heun, midpoint
from flowjax.solver.sde import SDE, noise_like
from flowjax.solver.sde_steps import (
    euler_maruyama,
    milstein,
    reversible_heun,
    stochastic_heun,
)
from flowjax.solver.stepper import Stepper, fact, name_of
from flowjax.solver.views import solve

_SAME = (
    (euler, diffrax.Euler),
    (heun, diffrax.Heun),
    (midpoint, diffrax.Midpoint),
    (euler_maruyama, diffrax.Euler),
    (milstein, diffrax.ItoMilstein),
    (stochastic_heun, diffrax.Heun),
    (reversible_heun, diffrax.ReversibleHeun),
)

# How often a compiled program runs for its time, of which the least counts.
_RUNS = 5


class Cost(NamedTuple):
    """What a program costs: seconds to compile and to run, and bytes of temporaries (or None)."""

    compile_seconds: float
    run_seconds: float
    temporary_bytes: int | None


class CrossCheck(NamedTuple):
    """What `cross_check` found; printed, a table.

    Args:
        steps: how many.
        step: the name of the step here.
        solver: the name of the solver of diffrax.
        difference: of X at ts[-1]: of each array the largest difference, over the largest number
            in it, and of these the largest. Of a solve in 16 bits both ends are rounded to them
            first, so that one of their roundings is the least that is seen. Infinities that are
            equal are no difference; NaN is one, and then it is NaN.
        gradient_difference: the same of the gradient of |X|^2 / 2 at ts[-1], with respect to x0,
            args and the arrays of the field. One that is a small sum of large terms has few digits,
            and one that is zero but for rounding none.
        order: of convergence, measured here; None where the grid cannot be coarsened twice, an end
            is not finite, or the finest two differ by rounding (less than 50 units of it).
        solves: the `Cost` of one solve, by flowjax and by diffrax.
        gradients: the same of the value with its gradient.
    """

    steps: int
    step: str
    solver: str
    difference: float
    gradient_difference: float
    order: float | None
    solves: tuple[Cost, Cost]
    gradients: tuple[Cost, Cost]

    def __str__(self) -> str:
        def row(name: str, costs: tuple[Cost, Cost], of: Callable[[Cost], str]) -> str:
            return f"{name:<28}{of(costs[0]):>12}{of(costs[1]):>12}"

        def seconds(value: float) -> str:
            return f"{value:.2f} s" if value >= 0.1 else f"{1e6 * value:.0f} us"

        def size(cost: Cost) -> str:
            return "unknown" if cost.temporary_bytes is None else f"{cost.temporary_bytes} B"

        lines = [
            f"{self.steps} steps of {self.step} beside diffrax.{self.solver}",
            f"{'':<28}{'flowjax':>12}{'diffrax':>12}",
        ]
        for name, costs in (("solve", self.solves), ("gradient", self.gradients)):
            lines += [
                row(f"{name}: compile", costs, lambda cost: seconds(cost.compile_seconds)),
                row(f"{name}: run", costs, lambda cost: seconds(cost.run_seconds)),
                row(f"{name}: temporaries", costs, size),
            ]
        order = "not measured" if self.order is None else f"{self.order:.2f}"
        lines += [
            f"{'difference, relative':<28}{self.difference:>12.1e}",
            f"{'difference of the gradient':<28}{self.gradient_difference:>12.1e}",
            f"{'order':<28}{order:>12}",
        ]
        return "\n".join(lines)


def cross_check(
    field_or_sde: Any,
    x0: Any,
    ts: Any,
    args: Any = None,
    *,
    step: Any = None,
    solver: Any = None,
    key: Any = None,
    increments: Any = None,
    paths: int = 256,
) -> CrossCheck:
    r"""Solves a problem by flowjax and by diffrax, by one method on the same increments.

    $$p = \frac{\log E|X^{(4h)} - X^{(2h)}| - \log E|X^{(2h)} - X^{(h)}|}{\log 2}$$

    is the order, measured by the ends of the same paths on the grid and on every second and fourth
    of its times, with the increments between them added up (and on every eighth, where that
    divides: then it is the slope through all). Where 4 does not divide the number of steps, 3, 5
    or 7 is in the place of 2.

    Args:
        field_or_sde: as in `solve`.
        x0: as in `solve`.
        ts: as in `solve`, known when it is called.
        args: as in `solve`.
        step: as in `solve`.
        solver: the solver of diffrax. Default: the same method as step, where diffrax has it: for
            `euler`, `heun`, `midpoint`, `euler_maruyama`, `milstein`, `stochastic_heun`,
            `reversible_heun` and what `from_diffrax` makes.
        key: as in `solve`, for an SDE.
        increments: as in `solve`, in the place of a key. The order of an SDE is then that along
            this one path.
        paths: over how many Brownian paths the order of an SDE is measured, if a key is given. Of
            three grids it has a standard error of about ``0.6 / sqrt(paths)``.

    Returns:
        A `CrossCheck`.

    Raises:
        TypeError: solver is not one of diffrax, or paths is no static int.
        ValueError: diffrax has no such method and solver is not given, or the solver is
            `ItoMilstein` and the state a pytree; or as `to_diffrax`.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> import flowjax.interop
        >>> sde = fj.ornstein_uhlenbeck(theta=1.0, sigma=1.0)
        >>> ts, key = fj.uniform_grid(64), jax.random.key(0)
        >>> found = fj.interop.cross_check(sde, jnp.ones(2), ts, key=key)
        >>> found.difference < 1e-6 and found.gradient_difference < 1e-4
        True

    References:
        Kloeden, Platen (1992), "Numerical Solution of SDEs", section 9.3 (strong order).
    """
    x0, ts = _check.state(x0), _check.time_grid(ts)
    paths = _check.positive_int(paths, "paths")
    is_sde = isinstance(field_or_sde, SDE)
    if step is None:
        step = euler_maruyama if is_sde else euler
    solver = _same(step) if solver is None else solver
    if not isinstance(solver, diffrax.AbstractSolver):
        raise TypeError(f"solver must be one of diffrax, such as diffrax.Heun(), got {solver!r}.")
    refuse_state(solver, x0)
    given: Any = None
    drawn: Any = None
    keys: Any = None
    like = noise_of(step, field_or_sde, x0)
    if not is_sde:
        to_diffrax(field_or_sde, x0, ts, args, key=key, increments=increments)
    elif key is not None:
        refuse_noise(key, increments)
        _check.single_key(key)
        # What names the other paths is not what names this one.
        others = jax.random.split(jax.random.fold_in(key, 1), paths - 1)
        keys = jnp.concatenate([key[None], others])

        drawn = functools.partial(brownian_increments, ts=ts, like=like)
        given = drawn(key)
    else:
        refuse_noise(key, increments)
        noise = noise_like(field_or_sde, x0)
        given, other = checked_increments(increments, noise, len(ts) - 1, field_or_sde)
        given = (given, other) if fact(step, "levy_area") else given

    def ours(problem: Any, dw: Any, ts: Any = ts) -> Any:
        field, x0, args = problem
        return solve(field, x0, ts, args, step=step, increments=dw)

    def theirs(problem: Any, dw: Any) -> Any:
        field, x0, args = problem
        options = {"solver": solver, "max_steps": ts.shape[0] - 1}
        kwargs = to_diffrax(field, x0, ts, args, increments=dw, **options)
        ys = diffrax.diffeqsolve(**kwargs).ys
        # Diffrax carries a state of at least the precision of the times.
        return narrow(jax.tree.map(lambda leaf: leaf[0], ys), x0)

    problem = (field_or_sde, x0, jax.tree.map(_as_array, args))
    values, gradients, solves, slopes = [], [], [], []
    for run in (ours, theirs):
        value, cost = _measured(lambda problem, dw, run=run: run(problem, dw), problem, given)
        values.append(value)
        solves.append(cost)
        gradient, cost = _measured(
            lambda problem, dw, run=run: eqx.filter_grad(_half_square)(problem, run, dw),
            *(problem, given),
        )
        gradients.append(gradient)
        slopes.append(cost)
    return CrossCheck(
        ts.shape[0] - 1,
        name_of(step),
        type(solver).__name__,
        _difference(*values),
        _difference(*gradients),
        measured_order(ours, problem, ts, given, drawn, keys, fact(step, "levy_area")),
        tuple(solves),
        tuple(slopes),
    )


def _same(step: Any) -> Any:
    own = getattr(step.step, "solver", None) if isinstance(step, Stepper) else None
    if isinstance(own, diffrax.AbstractSolver):
        return own
    for ours, theirs in _SAME:
        if step is ours:
            return theirs()
    names = ", ".join(dict.fromkeys(name_of(ours) for ours, _ in _SAME))
    raise ValueError(
        f"solver must be given for a step that diffrax has not: it has {names}, got "
        f"{name_of(step)}."
    )


def _as_array(leaf: Any) -> Any:
    return jnp.asarray(leaf) if isinstance(leaf, float) else leaf


def _half_square(problem: Any, run: Callable[..., Any], dw: Any) -> Any:
    return sum(jnp.sum(leaf**2) / 2 for leaf in jax.tree.leaves(run(problem, dw)))


def _measured(function: Callable[..., Any], *arguments: Any) -> tuple[Any, Cost]:
    """What a function returns, and what its program costs."""
    arrays, static = eqx.partition(arguments, eqx.is_array)

    def run(arrays: Any) -> Any:
        return eqx.filter(function(*eqx.combine(arrays, static)), eqx.is_array)

    start = time.perf_counter()
    compiled = jax.jit(run).lower(arrays).compile()
    compile_seconds = time.perf_counter() - start
    result = jax.block_until_ready(compiled(arrays))
    seconds = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        jax.block_until_ready(compiled(arrays))
        seconds.append(time.perf_counter() - start)
    memory = compiled.memory_analysis()
    temporary = None if memory is None else int(memory.temp_size_in_bytes)
    return result, Cost(compile_seconds, min(seconds), temporary)


def _difference(a: Any, b: Any) -> float:
    """Of each leaf the largest difference, over the largest number of the second; the largest."""
    trees = (map(np.asarray, jax.tree.leaves(tree)) for tree in (a, b))
    off = [_of_leaf(ours, theirs) for ours, theirs in zip(*trees, strict=True) if ours.size]
    # Not by `max`, which passes over NaN.
    return float(np.max(off, initial=0.0))


def _of_leaf(ours: np.ndarray, theirs: np.ndarray) -> float:
    ours, theirs = ours.astype(float), theirs.astype(float)
    with np.errstate(invalid="ignore"):
        off = np.max(np.where(ours == theirs, 0.0, np.abs(ours - theirs)))
    largest = np.max(np.abs(theirs), initial=0.0, where=np.isfinite(theirs))
    return float(off / largest if largest else off)
