"""The one loop over time: `solve` and `trajectory`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from flowjax import _check
from flowjax._numerics import computing_dtype
from flowjax._types import Field, KeyArray, State, StateLike
from flowjax.solver.adjoints import Checkpointed, Steps
from flowjax.solver.blocks import Intervals, scan_in_blocks
from flowjax.solver.brownian import draw, increment, path_key, root_of_step
from flowjax.solver.compiled import Number, Static, prepared, unpacked
from flowjax.solver.noise import Words, block_length
from flowjax.solver.sde_steps import SDE
from flowjax.solver.stepper import as_stepper, check_call


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
    compiled once for a given field, step and shapes: define a field once, outside any loop (a new
    lambda is a new field, which compiles again and is kept), and pass what changes through `args`,
    or hold it in a field that is a pytree (an `equinox.Module`). As under `jax.jit`, whatever else
    a field reads from outside (a global, an attribute) is read once, when it is compiled. Arrays in
    the field, and arrays and Python floats in `args`, are traced; anything else is static.

    Args:
        field_or_sde: a field ``(t, x, args) -> dx``, or an `SDE` of two. dx must have the
            structure, shapes and dtypes of x.
        x0: initial state, an array or any pytree of real floating arrays.
        ts: (n + 1,) times, of a floating dtype; halves are taken as float32. Increasing, or
            decreasing to run an ODE backward in time.
        args: passed on to the field. The field is given t in the state's precision (at least
            float32), whatever that of ts is.
        step: the method: a step such as `heun`, a function of the same form, or a
            `Stepper`. Default: `euler` for a field, `euler_maruyama` for an SDE.
        key: one JAX key, which names the Brownian path; see `brownian_increments`.
        increments: the Brownian increments themselves, in place of a key: leaves of shape
            (n, *leaf.shape) and of the state's dtypes.
        adjoint: how the loop is differentiated: `Checkpointed`, `Direct`, `Truncated` or
            `Reversible`.

    Returns:
        X at ts[-1], with the structure, shapes and dtypes of x0. NaN and Inf propagate.

    Raises:
        TypeError: if a leaf of x0 is not real floating, `key` is not a key, an ODE step is given
            an SDE, or an SDE step a plain field.
        ValueError: if ts is not a grid, or decreases where noise is drawn (times that are traced
            cannot be looked at; there the result is NaN); if noise is needed and
            not exactly one of key and increments is given, or none is needed and one is; if key
            is a batch of keys; if increments, a field's output or a step's output do not match
            the state; if a field or a step that belongs to a schedule is given one of another,
            or times that the schedule does not have.

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
    return _call(field_or_sde, x0, ts, args, step, key, increments, adjoint, None)


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
    return _call(field_or_sde, x0, ts, args, step, key, increments, adjoint, every)


def _call(
    field_or_sde: Any,
    x0: Any,
    ts: Any,
    args: Any,
    step: Any,
    key: Any,
    increments: Any,
    adjoint: Any,
    every: int | None,
) -> State:
    """What needs the values of the arguments, before all else is compiled."""
    if not isinstance(ts, jax.Array):
        ts = _check.as_times(ts)
    if isinstance(field_or_sde, SDE) or key is not None or increments is not None:
        _check.increasing(ts)
    check_call(field_or_sde, step, ts)
    x0, args = _traced(x0), _traced(args)
    run, arrays = prepared(
        _solve, field_or_sde, x0, ts, args, step, key, increments, adjoint, every
    )
    return run(arrays)


def _traced(tree: Any) -> Any:
    """`tree` with every Python float traced, so that a new value of it compiles nothing."""
    if tree is None or isinstance(tree, jax.Array):
        return tree
    return jax.tree.map(
        lambda leaf: Number(leaf) if isinstance(leaf, (float, np.generic)) else leaf, tree
    )


def _solve(static: Static, arrays: list[Array]) -> State:
    """X at ts[-1] or, unless `every` is None, at ts[::every]."""
    field_or_sde, x0, ts, args, step, key, increments, adjoint, every = unpacked(static, arrays)
    x0, ts = _check.state(x0), _check.time_grid(ts)
    n = ts.shape[0] - 1
    stepper, noisy = as_stepper(step, isinstance(field_or_sde, SDE))
    _check_noise(noisy, isinstance(field_or_sde, SDE), key, increments)
    if increments is not None:
        increments = _check.increments_of(increments, x0, n)
    if isinstance(adjoint, type) or not hasattr(adjoint, "scan"):
        raise TypeError(f"adjoint must be one of flowjax's adjoints, got {adjoint!r}.")
    field = _checked(field_or_sde)
    starts, ends = (jax.lax.slice_in_dim(ts, i, n + i) for i in (0, 1))
    step_index = None if key is None else jax.lax.iota(jnp.uint32, n)
    intervals = Intervals(step_index, starts, ends, increments, from_even=True)
    if every is not None:
        _check.at_most(every, n, "every", "the number of steps")
        intervals = intervals.between(0, n // every * every)

    def advance(carry: PyTree, t0: Array, t1: Array, dw: State | None) -> PyTree:
        x, memory = carry
        x_next, memory = stepper.step(field, t0, t1, x, args, dw, memory)
        return _check.next_state(x_next, x), memory

    shapes = [leaf.shape for leaf in jax.tree.leaves(x0)]
    run, one = _steps(advance, None if key is None else path_key(key), x0)
    block = 1 if key is None else block_length(shapes, n)
    carry = (x0, stepper.init(field, ts[0], x0, args))
    steps = Steps(run, one, block, stepper.symmetric, noisy)
    (x, _), path = adjoint.scan(steps, carry, intervals, every)
    if every is None:
        return x
    return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), x0, path)


def _steps(advance: Callable, path: Words | None, x0: State) -> tuple[Callable, Callable]:
    """How steps are taken, each with its increment: given, or drawn from the path's key."""

    def one(carry: PyTree, interval: Intervals, backward: bool = False) -> PyTree:
        t0, t1, dw = interval.t0, interval.t1, interval.increments
        if path is not None:
            drawn = draw(path, interval.step_index, 1, x0, False)
            dw = increment(drawn, interval.step_index, root_of_step(t0, t1), x0)
        if backward:
            return advance(carry, t1, t0, jax.tree.map(jnp.negative, dw))
        return advance(carry, t0, t1, dw)

    def run(
        carry: PyTree, intervals: Intervals, wrap: Callable, record: bool
    ) -> tuple[PyTree, PyTree]:
        if path is None:
            return _scan(wrap(one), carry, intervals, record)
        words = path

        def block(carry: PyTree, intervals: Intervals) -> tuple[PyTree, PyTree]:
            first = intervals.step_index[0]
            drawn = draw(words, first, len(intervals), x0, intervals.from_even)

            def drawn_before(carry: PyTree, x: tuple[Intervals, Array]) -> PyTree:
                interval, root = x
                dw = increment(drawn, interval.step_index, root, x0)
                return advance(carry, interval.t0, interval.t1, dw)

            roots = root_of_step(intervals.t0, intervals.t1)
            return _scan(wrap(drawn_before), carry, (intervals, roots), record)

        shapes = [leaf.shape for leaf in jax.tree.leaves(x0)]
        return scan_in_blocks(block, carry, intervals, block_length(shapes, len(intervals)))

    return run, one


def _scan(step: Callable, carry: PyTree, xs: PyTree, record: bool) -> tuple[PyTree, PyTree]:
    """Takes the steps in turn and records the state after each, if it is asked to."""

    def body(carry: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
        carry = step(carry, x)
        return carry, carry[0] if record else None

    return jax.lax.scan(body, carry, xs)


def _check_noise(noisy: bool, sde: bool, key: Any, increments: Any) -> None:
    """Noise where the step asks for it, from one source, and none where it does not."""
    if key is not None and increments is not None:
        raise ValueError("key and increments were both given: one path needs just one of them.")
    if key is None and increments is None:
        if noisy and sde:
            raise ValueError("an SDE needs its noise: give key (one JAX key) or increments.")
        if noisy:
            raise TypeError(
                "the step asks for Brownian increments, as a step for an SDE does, but was given "
                "a plain field and neither key nor increments."
            )
    elif not noisy:
        given = "key" if increments is None else "increments"
        raise ValueError(f"{given} was given, but this ODE step draws no noise: leave it out.")
    if key is not None:
        _check.single_key(key)


def _checked(field_or_sde: Any) -> Any:
    """The same field or SDE, refusing an output that does not fit the state when it is traced."""
    if isinstance(field_or_sde, SDE):
        return SDE(
            _refusing(field_or_sde.drift, "drift", _check.alike),
            _refusing(field_or_sde.diffusion, "diffusion", _check.diffusion_output),
        )
    return _refusing(field_or_sde, "field", _check.alike)


def _refusing(field: Any, name: str, check: Callable[[Any, State, str], Any]) -> Field:
    if not callable(field):
        raise TypeError(f"{name} must be a callable (t, x, args) -> dx, got {field!r}.")

    def refusing(t: Any, x: State, args: Any) -> Any:
        # The time has the state's precision, so that it does not promote what it multiplies.
        dtypes = [computing_dtype(leaf.dtype) for leaf in jax.tree.leaves(x)]
        t = jnp.asarray(t, max(dtypes, key=lambda dtype: jnp.finfo(dtype).bits))
        return check(field(t, x, args), x, f"{name} output")

    return refusing
