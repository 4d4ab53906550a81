"""The views of the one loop over time: the end of a path, `solve`, and the path, `trajectory`."""

from typing import Any

import jax
import jax.numpy as jnp

from flowjax import _check
from flowjax._devices import typed
from flowjax._numerics import narrow, wide
from flowjax._types import Field, KeyArray, State, StateLike
from flowjax.solver.adjoints import Checkpointed
from flowjax.solver.blocks import Intervals
from flowjax.solver.brownian import path_key
from flowjax.solver.compiled import Static, prepared, unpacked
from flowjax.solver.door import Problem, admit, validate
from flowjax.solver.loop import Steps
from flowjax.solver.ode_steps import euler
from flowjax.solver.outputs import as_memory, checked
from flowjax.solver.sde import SDE
from flowjax.solver.sde_steps import euler_maruyama


def solve(
    field_or_sde: Field | SDE,
    x0: StateLike,
    ts: Any,
    args: Any = None,
    *,
    step: Any = None,
    key: KeyArray | None = None,
    increments: StateLike | None = None,
    adjoint: Any = Checkpointed(),
) -> State:
    r"""Solves an ODE or SDE from ts[0] to ts[-1] with one step per interval of the grid.

    $$dX_t = u_t(X_t)\,dt \qquad\text{or}\qquad dX_t = f(t, X_t)\,dt + g(t, X_t) \odot dW_t,
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
        increments: the Brownian increments themselves, in place of a key: leaves of shape
            (n, *leaf.shape) and of the state's dtypes. With them an SDE runs on a decreasing
            grid too, but for steps that draw noise by a schedule.
        adjoint: how the loop is differentiated: `Checkpointed`, `Direct`, `Truncated` or
            `Reversible`.

    Returns:
        X at ts[-1], with the structure, shapes and dtypes of x0. NaN and Inf propagate.

    Raises:
        TypeError: if a leaf of x0 is not real floating, `key` is not a key, an ODE step is given
            an SDE, or an SDE step a plain field, or a sampler something else than a `Velocity`.
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
        MIT 6.S184, "Flow Matching and Diffusion Models", lecture notes, Algorithms 1 and 3.
    """
    problem = Problem(field_or_sde, x0, ts, args, step, key, increments, adjoint)
    run, arrays = prepared(_solve, admit(problem), None)
    return run(arrays)


def trajectory(
    field_or_sde: Field | SDE,
    x0: StateLike,
    ts: Any,
    args: Any = None,
    *,
    step: Any = None,
    key: KeyArray | None = None,
    increments: StateLike | None = None,
    adjoint: Any = Checkpointed(),
    every: int = 1,
) -> State:
    r"""The solution of `solve` at the times ``ts[::every]``: the whole path, not only its end.

    $$X_{t_0} = x_0,\; X_{t_k},\; X_{t_{2k}},\; \dots \qquad (k = \text{every})$$

    The states between them are not stored, and steps after the last of them are not taken.

    Args:
        field_or_sde: as in `solve`.
        x0: as in `solve`.
        ts: as in `solve`.
        args: as in `solve`.
        step: as in `solve`.
        key: as in `solve`: the same key gives the same path.
        increments: as in `solve`.
        adjoint: as in `solve`.
        every: keep every k-th state, a static positive int of at most n.

    Returns:
        X at ts[::every], the first entry x0: every leaf has shape (n // every + 1, *leaf.shape).

    Raises:
        TypeError, ValueError: as `solve`, and if `every` is not a positive int of at most n.

    Example:
        >>> import flowjax as fj
        >>> fj.trajectory(fj.linear_field, 1.0, fj.uniform_grid(4), args=1.0, every=2)
        Array([1.       , 0.5625   , 0.3164...], dtype=float32)

    References:
        MIT 6.S184, "Flow Matching and Diffusion Models", lecture notes, Algorithms 1 and 3.
    """
    every = _check.positive_int(every, "every")
    problem = Problem(field_or_sde, x0, ts, args, step, key, increments, adjoint)
    run, arrays = prepared(_solve, admit(problem), every)
    return run(arrays)


def _solve(static: Static, arrays: list[Any]) -> State:
    """X at ts[-1] or, unless `every` is None, at ts[::every]."""
    problem, every = unpacked(static, arrays)
    step: Any = problem.step
    if step is None:
        step = euler_maruyama if isinstance(problem.field, SDE) else euler
    problem, noisy = validate(problem._replace(step=step))
    x0, ts, key = problem.x0, problem.ts, problem.key
    n = ts.shape[0] - 1
    starts, ends = (jax.lax.slice_in_dim(ts, i, n + i) for i in (0, 1))
    step_index = None if key is None else jax.lax.iota(jnp.uint32, n)
    intervals = Intervals(step_index, starts, ends, problem.increments, from_even=True)
    if every is not None:
        _check.at_most(every, n, "every", "the number of steps")
        intervals = intervals.between(0, n // every * every)

    path = None if key is None else path_key(key)
    steps = Steps(checked(problem.field, x0), problem.args, step, noisy, path, x0)
    x = wide(x0)
    memory = as_memory(step.init(steps.field, ts[0], x, problem.args)) if steps.remembers else None
    start = typed(
        lambda carry: steps.one(carry, jax.tree.map(lambda leaf: leaf[0], intervals)), (x, memory)
    )
    (x, _), states = problem.adjoint.scan(steps, start, intervals, every)
    if every is None:
        return narrow(x, x0)
    path = jax.tree.map(lambda x0, x: jnp.concatenate([x0[None], x]), start[0], states)
    return narrow(path, x0)
