"""The views of the one loop over time: the end, `solve`, the path, `trajectory`, and a `fold`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowjax import _check
from flowjax._devices import typed
from flowjax._numerics import narrow, wide
from flowjax._types import AdjointLike, Field, KeyArray, State, StateLike, TimesLike
from flowjax.solver.adjoints import Checkpointed, Direct
from flowjax.solver.blocks import Intervals
from flowjax.solver.brownian import path_key, step_numbers
from flowjax.solver.compiled import Static, prepared, unpacked
from flowjax.solver.door import Problem, admit, noise_of, traced, validate
from flowjax.solver.loop import Steps
from flowjax.solver.ode_steps import euler
from flowjax.solver.outputs import as_memory, checked, first_value
from flowjax.solver.progress import of_steps
from flowjax.solver.sde import SDE
from flowjax.solver.sde_steps import euler_maruyama
from flowjax.solver.stepper import Method
from flowjax.solver.times import indices_within


def solve(
    field_or_sde: Field | SDE,
    x0: StateLike,
    ts: TimesLike,
    args: Any = None,
    *,
    step: Method | None = None,
    key: KeyArray | None = None,
    increments: StateLike | None = None,
    adjoint: AdjointLike = Checkpointed(),
    first_step: Any = 0,
    progress: bool = False,
) -> State:
    r"""Solves an ODE or SDE from ts[0] to ts[-1] with one step per interval of the grid.

    $$dX_t = u_t(X_t)\,dt \qquad\text{or}\qquad dX_t = f(t, X_t)\,dt + g(t, X_t)\,dW_t,
    \qquad X_{t_0} = x_0$$

    One sample is solved; a batch is `jax.vmap` over x0 or over keys. The call is compiled, and
    compiled once for a given field, step and shapes, for as long as the field lives: define it
    once, outside any loop (a new lambda is a new field, which compiles again), and pass what
    changes through `args`, or hold it in a field that is a pytree (an `equinox.Module`). As under
    `jax.jit`, whatever else a field reads from outside (a global, an attribute) is read once, when
    it is compiled. Arrays in the field, and arrays and Python floats in `args`, are traced;
    anything else is static.

    Args:
        field_or_sde: a field ``(t, x, args) -> dx``, or an `SDE` of two. dx must have the
            structure, shapes and dtypes of x.
        x0: initial state, an array or any pytree of real floating arrays. States of half precision
            are carried in float32, and the field sees their own dtype.
        ts: (n + 1,) times, of a floating dtype; half precision is taken as float32. Increasing, or
            decreasing to run an ODE backward in time.
        args: passed on to the field. The field is given t in the state's precision (at least
            float32), whatever that of ts is.
        step: the method: a step such as `heun`, a function of the same form, or a
            `Stepper`. Default: `euler` for a field, `euler_maruyama` for an SDE.
        key: one JAX key, which names the Brownian path; see `brownian_increments`.
        increments: the Brownian increments themselves, in place of a key: of the structure of the
            noise, leaves of shape (n, *leaf.shape) and of its dtypes, the state's where it
            multiplies elementwise. With them an SDE runs on a decreasing
            grid too, but for steps that draw noise by a schedule.
        adjoint: how the loop is differentiated: `Checkpointed`, `Direct`, `Truncated` or
            `Reversible`.
        first_step: the number that the first step has in the path that `key` names: 0, or m to go
            on from a solve of m steps by the same key. A solve in two halves is then the solve in
            one, bit for bit; without it both halves would have the same noise.
        progress: show a bar (tqdm) of steps, also from inside `jit`.

    Returns:
        X at ts[-1], with the structure, shapes and dtypes of x0. NaN and Inf propagate.

    Raises:
        TypeError: if a leaf of x0 is not real floating, `key` is not a key, an ODE step is given
            an SDE, or an SDE step a plain field, or a sampler something else than a `Velocity`.
        ImportError: if progress is asked for and tqdm is not installed.
        ValueError: if ts is not a grid, or decreases where a key draws the noise (where ts is
            traced, the result is NaN); if noise is needed and not exactly one of key and
            increments is given, or none is needed and one is; if key is a batch of keys; if
            increments, a field's output or a step's output do not match the state; if the field
            is not determined at a time at which the step calls it (where ts is traced, the result
            is NaN), or ts leaves its times.

    Example:
        >>> import jax, flowjax as fj
        >>> ts = fj.uniform_grid(1000)
        >>> round(float(fj.solve(fj.linear_field, 1.0, ts, args=2.0)), 3)
        0.135
        >>> sde = fj.ornstein_uhlenbeck(theta=1.0, sigma=0.5)
        >>> keys = jax.random.split(jax.random.key(0), 100)
        >>> jax.vmap(lambda key: fj.solve(sde, 1.0, ts, key=key))(keys).shape
        (100,)

    References:
        Holderrieth, Erives, "An introduction to flow matching and diffusion models" (MIT
        6.S184), 2025, arXiv 2506.02070, sections 2.1 and 2.2.
    """
    problem = Problem(
        field_or_sde, x0, ts, args, step, key, increments, adjoint, first_step, progress
    )
    run, arrays = prepared(_solve, admit(problem), None)
    return run(arrays)


def trajectory(
    field_or_sde: Field | SDE,
    x0: StateLike,
    ts: TimesLike,
    args: Any = None,
    *,
    step: Method | None = None,
    key: KeyArray | None = None,
    increments: StateLike | None = None,
    adjoint: AdjointLike = Checkpointed(),
    first_step: Any = 0,
    progress: bool = False,
    every: int = 1,
    at: Any = None,
) -> State:
    r"""The solution of `solve` at the times ``ts[::every]``: the whole path, not only its end.

    $$X_{t_0} = x_0,\; X_{t_k},\; X_{t_{2k}},\; \dots \qquad (k = \text{every})$$

    or at the times ``ts[at]``, such as those of observations; see `grid_through`. The states
    between them are not stored, and steps after the last of them are not taken. With `at`, while it
    runs up to five states are kept for one that is returned, and up to a quarter more steps are
    gone through, without calls of the field.

    Args:
        field_or_sde: as in `solve`.
        x0: as in `solve`.
        ts: as in `solve`.
        args: as in `solve`.
        step: as in `solve`.
        key: as in `solve`: the same key gives the same path.
        increments: as in `solve`.
        adjoint: as in `solve`.
        first_step: as in `solve`.
        progress: as in `solve`.
        every: keep every k-th state, a static positive int of at most n.
        at: the indices of the times at which the states are kept, in place of `every`: static
            ints from 0 to n, increasing.

    Returns:
        X at ts[::every], of which the first is x0, with leaves of shape
        (n // every + 1, *leaf.shape). With `at`, X at ts[at], of (len(at), *leaf.shape).

    Raises:
        TypeError, ValueError: as `solve`, and if `every` is not a positive int of at most n, `at`
            not such indices, or both are given.

    Example:
        >>> import flowjax as fj
        >>> fj.trajectory(fj.linear_field, 1.0, fj.uniform_grid(4), args=1.0, every=2)
        Array([1.       , 0.5625   , 0.3164...], dtype=float32)

    References:
        Holderrieth, Erives, "An introduction to flow matching and diffusion models" (MIT
        6.S184), 2025, arXiv 2506.02070, sections 2.1 and 2.2.
    """
    every = _check.positive_int(every, "every")
    wanted = indices_of(at, every, ts) or every
    problem = Problem(
        field_or_sde, x0, ts, args, step, key, increments, adjoint, first_step, progress
    )
    run, arrays = prepared(_solve, admit(problem), wanted)
    return run(arrays)


def indices_of(at: Any, every: int, ts: Any) -> tuple[int, ...] | None:
    """The indices at which the path is kept, refused unless they are those of times; or None."""
    if at is None:
        return None
    if np.ndim(ts) == 0:
        _check.as_times(ts)
    indices = indices_within(at, np.shape(ts)[0] - 1 if np.ndim(ts) else 0, "at")
    if every != 1:
        raise ValueError(f"at and every = {every} were both given: one of them says what to keep.")
    return indices


def fold(
    field_or_sde: Field | SDE,
    x0: StateLike,
    ts: TimesLike,
    args: Any = None,
    *,
    init: Any,
    update: Callable[[Any, Any, Any, Any, Any, Any], Any],
    step: Method | None = None,
    key: KeyArray | None = None,
    increments: StateLike | None = None,
    adjoint: AdjointLike = Checkpointed(),
    first_step: Any = 0,
    progress: bool = False,
) -> tuple[State, Any]:
    r"""The solution of `solve`, and what is computed along its path without storing it: a fold.

    $$v_0 = \mathrm{init}, \qquad
    v_{i+1} = \mathrm{update}(v_i,\, t_i,\, t_{i+1},\, X_{t_i},\, X_{t_{i+1}},\, dW_i)$$

    The value travels beside the state in the same loop, and draws no noise of its own. A cost, an
    average, a log density or a second equation on the same noise are folds; `flowjax.observers` has
    some ready-made.

    Args:
        field_or_sde: as in `solve`.
        x0: as in `solve`.
        ts: as in `solve`.
        args: as in `solve`.
        init: the value before the first step: a pytree of arrays, or a function of x0.
        update: ``(value, t0, t1, x0, x1, dw) -> value``, called once a step, with the states at
            its ends (those of half precision in float32), and the Brownian increment over it, which
            has the structure and shapes of the noise, or is None for a field. The value keeps its
            structure, shapes and dtypes.
        step: as in `solve`.
        key: as in `solve`.
        increments: as in `solve`.
        adjoint: as in `solve`. `Reversible` stores the values of the fold, not the states.
        first_step: as in `solve`.
        progress: as in `solve`.

    Returns:
        X at ts[-1], and the value after the last step.

    Raises:
        TypeError, ValueError: as `solve`; and if update is not a function of six arguments, or
            returns a value of another structure, shape or dtype.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> def length(value, t0, t1, x0, x1, dw):
        ...     return value + jnp.abs(x1 - x0)
        >>> ts = fj.uniform_grid(4)
        >>> x1, travelled = fj.fold(fj.linear_field, 1.0, ts, args=1.0, init=0.0, update=length)
        >>> print(f"{x1:.4f} {travelled:.4f}")
        0.3164 0.6836

    References:
        Holderrieth, Erives, "An introduction to flow matching and diffusion models" (MIT
        6.S184), 2025, arXiv 2506.02070, sections 2.1 and 2.2.
    """
    form = "(value, t0, t1, x0, x1, dw) -> value"
    _check.function(update, "update", form, takes=6)
    if callable(init):
        _check.function(init, "init", "x0 -> value, or the value itself", takes=1)
    problem = Problem(
        *(field_or_sde, x0, ts, args, step, key, increments, adjoint, first_step, progress),
        init=traced(init),
        update=update,
    )
    run, arrays = prepared(_solve, admit(problem), None)
    return run(arrays)


def _solve(static: Static, arrays: list[Any]) -> Any:
    """X at ts[-1], with the value of a fold, if any; or X where it is wanted: `every`, or `at`."""
    problem, wanted = unpacked(static, arrays)
    step: Any = problem.step
    if step is None:
        step = euler_maruyama if isinstance(problem.field, SDE) else euler
    problem, noisy = validate(problem._replace(step=step))
    x0, ts, key, first = problem.x0, problem.ts, problem.key, problem.first_step
    n = ts.shape[0] - 1
    starts, ends = (jax.lax.slice_in_dim(ts, i, n + i) for i in (0, 1))
    step_index: Any = None
    if key is not None or problem.progress:
        step_index = step_numbers(first, n)
    intervals = Intervals(
        step_index, starts, ends, problem.increments, None, from_even=first is None or first.even
    )
    every, blocks = wanted, None
    if isinstance(wanted, tuple):
        after = wanted[wanted[0] == 0 :]
        if not after:
            # Of x0 alone no more is needed than that the rest is looked at.
            problem = problem._replace(adjoint=Direct())
        intervals, every, blocks = intervals.ending_at(after or (1,))
    elif every is not None:
        _check.at_most(every, n, "every", "the number of steps")
        intervals = intervals.between(0, n // every * every)
    bar = None
    if problem.progress:
        bar, intervals = of_steps(intervals)

    path = None if key is None else path_key(key)
    field, noise = checked(problem.field, x0), noise_of(step, problem.field, x0)
    steps = Steps(field, problem.args, step, noisy, path, noise, problem.update, bar)
    x = wide(x0)
    memory = as_memory(step.init(field, ts[0], x, problem.args)) if steps.remembers else None
    value = None
    if problem.update is not None:
        value = first_value(problem.init, x)
    start = typed(
        lambda carry: steps.one(carry, jax.tree.map(lambda leaf: leaf[0], intervals)),
        (x, (memory, value)),
    )
    (x, (_, value)), states = problem.adjoint.scan(steps, start, intervals, every)
    if problem.update is not None:
        return narrow(x, x0), value
    if wanted is None:
        return narrow(x, x0)
    if blocks is not None:
        states = jax.tree.map(lambda leaf: leaf[blocks], states)
    path = jax.tree.map(lambda x0, x: jnp.concatenate([x0[None], x]), start[0], states)
    if isinstance(wanted, tuple):
        path = jax.tree.map(lambda leaf: leaf[wanted[0] > 0 : len(wanted) + (wanted[0] > 0)], path)
    return narrow(path, x0)
