"""Reversible solves: exact gradients in constant memory, by running the discrete solve backward."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir
from jaxtyping import PyTree

from flowjax._numerics import wide
from flowjax._types import State
from flowjax.solver.adjoints import Direct
from flowjax.solver.blocks import Intervals, where_taken
from flowjax.solver.loop import Steps
from flowjax.solver.outputs import as_value
from flowjax.solver.stepper import fact, name_of


class Reversible(NamedTuple):
    r"""Reconstructs the states backward instead of storing them: constant memory in n.

    An explicit ODE step $\Psi$, as the increment it adds, is carried by a pair of states that can
    be solved backward in closed form:

    $$y_{n+1} = \lambda y_n + (1 - \lambda) z_n + \Psi_h(t_n, z_n), \qquad
    z_{n+1} = z_n - \Psi_{-h}(t_{n+1}, y_{n+1}), \qquad y_0 = z_0 = x_0$$

    The solution y is a discrete scheme of its own, of the order of Psi, and its gradient is exact
    up to rounding. A method that is symmetric already (see `Stepper`), such as `reversible_heun`
    for Stratonovich SDEs, is taken as it is.

    Cost for a step of c field calls: 2nc field calls forward (nc for a symmetric method), and for
    a gradient 6nc (3nc) and 2nc (nc) transposed ones; two states (for a symmetric method one and
    its memory: four for `reversible_heun`), whatever n is.

    Stability: the coupled pair has a second, parasitic mode, which a field that contracts at rate
    theta multiplies by about ``lambda exp(h theta)`` at each step. It dies out only where
    ``n (1 - lambda) > theta (t1 - t0)``; where the field contracts faster than that, it grows and
    spoils the solution itself. Backward, rounding grows by ``lambda ** -n`` in all. So choose
    ``n (1 - lambda)`` above the contraction of the problem and well below 16 in float32 (36 in
    float64), where no digit is left. The parasitic mode starts at the size of the step's error:
    prefer `midpoint` or `heun` to `euler`. Strongly contracting fields want another adjoint.

    Reverse mode only: forward mode (`jax.jvp`, `jax.jacfwd`) raises JAX's own error. Second
    derivatives of a reverse mode inside are right, in any mode (`jax.hessian`), and store what
    the backward pass computes at each step.

    Under `jax.vmap` the backward pass is that of a batched state: what the samples share has one
    cotangent, not one for each.

    Args:
        coupling: lambda, a Python float in (0, 1].

    Raises:
        ValueError: if coupling is not in (0, 1], or no digit of the gradient would be left.
        TypeError: in a solve with noise or memory, if the method is not symmetric; or it takes
            Levy areas.

    Example:
        >>> import jax, flowjax as fj
        >>> ts = fj.uniform_grid(1000)
        >>> end = lambda x0: fj.solve(
        ...     fj.linear_field, x0, ts, args=1.0, step=fj.midpoint, adjoint=fj.Reversible()
        ... )
        >>> round(float(jax.grad(end)(1.0)), 3)
        0.368

    References:
        McCallum, Foster (2024), "Efficient, Accurate and Stable Gradients for Neural ODEs",
        arXiv 2410.11648, definition 2.1.
        Kidger, Foster, Li, Lyons (2021), "Efficient and Accurate Gradients for Neural SDEs",
        arXiv 2105.13493, algorithms 1 and 2.
    """

    coupling: float = 0.999

    def scan(
        self, steps: Steps, carry: PyTree, xs: Intervals, every: int | None
    ) -> tuple[PyTree, PyTree]:
        """Runs the loop; see `flowjax.solver.adjoints`."""
        # Of a step backward the increment is the negative one, and the area the same.
        if fact(steps.step, "levy_area"):
            raise TypeError(
                f"adjoint Reversible does not take steps with Levy areas, got step "
                f"{name_of(steps.step)}: leave adjoint out, or take fj.Direct()."
            )
        x, (memory, value) = carry
        update: Any = steps.update
        steps = steps._replace(update=None)
        dtypes = map(jnp.result_type, jax.tree.leaves(memory))
        if steps.symmetric and all(jnp.issubdtype(dtype, jnp.floating) for dtype in dtypes):
            pair, state = _alone(steps), (x, memory)
        elif memory is None and not steps.noisy:
            pair, state = _coupled(steps, self._checked_coupling(x, len(xs))), (x, x)
        else:
            raise TypeError(
                "adjoint Reversible needs a symmetric method where there is noise or memory, such "
                "as reversible_heun, and a memory of floating arrays; see Stepper."
            )
        xs = dataclasses.replace(xs, from_even=False)  # one structure for all blocks of steps

        def fold(values: PyTree, interval: Intervals) -> PyTree:
            value, (x0, _), (x1, _) = values
            if update is None:
                return value

            def new(value: PyTree) -> PyTree:
                dw = wide(steps.increment_of(interval))
                return as_value(update(value, interval.t0, interval.t1, x0, x1, dw), value)

            return where_taken(interval, new, value)

        pair = tuple(
            lambda state, interval, step=step: where_taken(
                interval, lambda state: step(state, interval), state
            )
            for step in pair
        )
        undone: Any = _Undone(
            _undone(*pair, fold, state=state, value=value, xs=xs, watch=steps.watched)
        )
        x, memory = state
        carry = x, (memory, value, jax.lax.stop_gradient(state))
        (x, (_, value, copy)), path = Direct().scan(undone, carry, xs, every)
        (x, value), path = _end((x, value), copy, path)
        return (x, (None, value)), path

    def _checked_coupling(self, x: State, n: int) -> float:
        if not isinstance(self.coupling, (int, float)) or not 0 < self.coupling <= 1:
            raise ValueError(f"coupling must be a float in (0, 1], got {self.coupling!r}.")
        dtypes = [leaf.dtype for leaf in jax.tree.leaves(x)]
        digits = max(-math.log(jnp.finfo(dtype).eps) for dtype in dtypes)
        if -n * math.log(self.coupling) > digits:
            raise ValueError(
                f"coupling must be closer to 1 for {n} steps: going backward multiplies rounding "
                f"by coupling ** -n, got {self.coupling!r}, which leaves no digit of the gradient."
            )
        return float(self.coupling)


def _alone(steps: Steps) -> tuple[Callable, Callable]:
    """The step of (x, memory) of a symmetric method, and its inverse."""

    def taken(state: PyTree, interval: PyTree, backward: bool) -> PyTree:
        x, (memory, _) = steps.one((state[0], (state[1], None)), interval, backward=backward)
        return x, memory

    return functools.partial(taken, backward=False), functools.partial(taken, backward=True)


def _coupled(steps: Steps, coupling: float) -> tuple[Callable, Callable]:
    """The step of the pair (y, z) and its inverse."""

    def increment(x: State, interval: PyTree, backward: bool) -> State:
        x_next, _ = steps.one((x, (None, None)), interval, backward=backward)
        return jax.tree.map(jnp.subtract, x_next, x)

    def forward(pair: PyTree, interval: PyTree) -> PyTree:
        y, z = pair
        psi = increment(z, interval, False)
        y = jax.tree.map(lambda y, z, psi: coupling * y + (1 - coupling) * z + psi, y, z, psi)
        return y, jax.tree.map(jnp.subtract, z, increment(y, interval, True))

    def inverse(pair: PyTree, interval: PyTree) -> PyTree:
        y, z = pair
        z = jax.tree.map(jnp.add, z, increment(y, interval, True))
        psi = increment(z, interval, False)
        y = jax.tree.map(lambda y, z, psi: (y - (1 - coupling) * z - psi) / coupling, y, z, psi)
        return y, z

    return forward, inverse


class _Undone(NamedTuple):
    """Steps that are undone in the backward pass."""

    run: Callable


def _undone(
    *parts: Callable, state: PyTree, value: PyTree, xs: Intervals, watch: Callable
) -> Callable:
    """The loop ``run(carry, xs, wrap, record)`` of `Steps`, for a carry (x, (memory, value, copy)).

    Its parts are a step of (x, memory), that which undoes it, and what a fold makes of its value.
    The copy of (x, memory) is there for the backward pass alone, where its cotangent is not one
    but the state itself: each step turns the state after it, which it is given in that place, into
    the state before it. So of a step nothing is stored but the value of a fold before it, and the
    rest, such as the sum over steps of the cotangent of a parameter, is JAX's own transpose of a
    scan.
    """
    first = jax.tree.map(lambda leaf: leaf[0], xs)
    # What the steps close over (parameters, args, a key) becomes an argument with a cotangent.
    arguments = state, state, (value, state, state)
    closed = [
        jax.make_jaxpr(part)(argument, first)
        for part, argument in zip(parts, arguments, strict=True)
    ]
    structures = [jax.tree.structure(tree) for tree in (state, state, value)]
    pair = tuple(
        functools.partial(_evaluated, step.jaxpr, structure)
        for step, structure in zip(closed, structures, strict=True)
    )
    arrays = tuple(step.consts for step in closed)

    def run(carry: PyTree, xs: Intervals, wrap: Any, record: bool) -> tuple[PyTree, PyTree]:
        def body(carry: PyTree, interval: Intervals) -> tuple[PyTree, PyTree]:
            leaves, structure = jax.tree.flatten((carry, interval, arrays))
            leaves = _step_p.bind(*leaves, pair=pair, structure=structure)
            carry = jax.tree.unflatten(jax.tree.structure(carry), leaves)
            return carry, carry[0] if record else None

        def watched(carry: PyTree, xs: tuple[Intervals]) -> tuple[PyTree, PyTree]:
            return body(carry, *xs)

        return jax.lax.scan(watch(watched), carry, (xs,))

    return run


def _evaluated(
    jaxpr: Any, structure: Any, arrays: PyTree, argument: PyTree, interval: PyTree
) -> PyTree:
    run = jaxpr_as_fun(ClosedJaxpr(jaxpr, arrays))
    return jax.tree.unflatten(structure, run(*jax.tree.leaves((argument, interval))))


_end = jax.custom_vjp(lambda x, copy, path: (x, path))
_end.defvjp(
    lambda x, copy, path: ((x, path), copy),
    lambda state, cotangents: (cotangents[0], state, cotangents[1]),
)


def _step_forward(pair: Any, carry: PyTree, interval: PyTree, arrays: PyTree) -> PyTree:
    x, (memory, value, _) = carry
    (x, memory), new = _step_and_fold(pair, arrays, (x, memory), value, interval)
    return (x, (memory, new, (x, memory))), (interval, arrays, value)


def _step_and_fold(
    pair: Any, arrays: PyTree, state: PyTree, value: PyTree, interval: PyTree
) -> tuple[PyTree, PyTree]:
    after = pair[0](arrays[0], state, interval)
    return after, pair[2](arrays[2], (value, state, after), interval)


def _step_backward(pair: Any, residuals: PyTree, cotangents: PyTree) -> PyTree:
    interval, arrays, value = residuals
    of_x, (of_memory, of_value, state) = cotangents
    state = pair[1](arrays[1], state, interval)
    _, pull = jax.vjp(functools.partial(_step_and_fold, pair), arrays, state, value, interval)
    of_arrays, (of_x, of_memory), of_value, of_interval = pull(((of_x, of_memory), of_value))
    return (of_x, (of_memory, of_value, state)), of_interval, of_arrays


_step = jax.custom_vjp(lambda *step: _step_forward(*step)[0], nondiff_argnums=(0,))
_step.defvjp(_step_forward, _step_backward)

# As a primitive, a step becomes under `jax.vmap` the step of a batch, the transpose of which sums
# the cotangents of what all samples share. A batch of `custom_vjp` would have one for each sample.
_step_p = Primitive("reversible_step")
_step_p.multiple_results = True


def _flat_step(*leaves: Any, pair: Any, structure: Any) -> list[Any]:
    return jax.tree.leaves(_step(pair, *structure.unflatten(leaves)))


def _jvp(primals: Any, tangents: Any, **step: Any) -> tuple[list[Any], list[Any]]:
    tangents = tuple(map(ad.instantiate_zeros, tangents))
    return jax.jvp(functools.partial(_flat_step, **step), tuple(primals), tangents)


def _batch(
    axis: Any, leaves: Any, axes: Any, *, pair: Any, structure: Any
) -> tuple[list[Any], list[int]]:
    carry, *_ = structure.unflatten(leaves)
    batched = [i < len(jax.tree.leaves(carry)) or a is not None for i, a in enumerate(axes)]
    leaves = [
        batching.bdim_at_front(leaf, a, axis.size) if at_front else leaf
        for leaf, a, at_front in zip(leaves, axes, batched, strict=True)
    ]
    axes = [0 if at_front else None for at_front in batched]
    _, of_interval, of_arrays = structure.unflatten(axes)
    settings = {"axis_size": axis.size, "axis_name": axis.name, "spmd_axis_name": axis.spmd_name}
    pair = tuple(
        jax.vmap(step, (axes, 0, of_interval), **settings)
        for step, axes in zip(pair, of_arrays, strict=True)
    )
    leaves = _step_p.bind(*leaves, pair=pair, structure=structure)
    return leaves, [0] * len(leaves)


_step_p.def_impl(_flat_step)
_step_p.def_abstract_eval(
    lambda *shapes, structure, **_: jax.tree.leaves(structure.unflatten(shapes)[0])
)
ad.primitive_jvps[_step_p] = _jvp
batching.fancy_primitive_batchers[_step_p] = _batch
mlir.register_lowering(_step_p, mlir.lower_fun(_flat_step, multiple_results=True))
