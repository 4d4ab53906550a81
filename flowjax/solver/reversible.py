"""Reversible solves: exact gradients in constant memory, by running the discrete solve backward."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from flowjax._numerics import leafwise
from flowjax._types import Scalar, State
from flowjax.solver.blocks import Intervals, scan_in_blocks
from flowjax.solver.loop import Steps
from flowjax.solver.sde import diffusion_of, fields_of
from flowjax.solver.stepper import Stepper


class Reversible(NamedTuple):
    r"""Reconstructs the states backward instead of storing them: constant memory in n.

    An explicit ODE step Psi, as the increment it adds, is carried by a pair of states that can be
    solved backward in closed form:

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

    Reverse mode only: forward mode (`jax.jvp`, and `jax.hessian` with it) raises JAX's own error.

    Args:
        coupling: lambda, a Python float in (0, 1].

    Raises:
        ValueError: if coupling is not in (0, 1], or no digit of the gradient would be left.
        TypeError: in a solve with noise, if the method is not symmetric; in one without, if it is
            not and the state has less than 32 bits.

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
        x, memory = carry
        if steps.symmetric:
            solve = _solution(steps.one, lambda carry, x: steps.one(carry, x, True))
            state = carry
        elif memory is None and not steps.noisy:
            solve = _solution(*_coupled(steps, self._checked_coupling(x, len(xs))))
            state = (x, x)
        else:
            raise TypeError(
                "adjoint Reversible needs a symmetric method where there is noise or memory, such "
                "as reversible_heun; see Stepper."
            )
        if every is None:
            state = solve(state, xs)
            return (state[0], None), None

        def block(state: PyTree, xs: PyTree) -> tuple[PyTree, PyTree]:
            state = solve(state, xs)
            return state, jax.tree.map(lambda leaf: leaf[None], state[0])

        state, path = scan_in_blocks(block, state, xs, every)
        return (state[0], None), path

    def _checked_coupling(self, x: State, n: int) -> float:
        if not isinstance(self.coupling, (int, float)) or not 0 < self.coupling <= 1:
            raise ValueError(f"coupling must be a float in (0, 1], got {self.coupling!r}.")
        dtypes = [leaf.dtype for leaf in jax.tree.leaves(x)]
        if min(jnp.finfo(dtype).bits for dtype in dtypes) < 32:
            raise TypeError(
                f"adjoint Reversible needs a state of 32 bits or more, in which coupling is not "
                f"rounded to 1, got dtypes {sorted({str(dtype) for dtype in dtypes})}."
            )
        digits = max(-math.log(jnp.finfo(dtype).eps) for dtype in dtypes)
        if -n * math.log(self.coupling) > digits:
            raise ValueError(
                f"coupling must be closer to 1 for {n} steps: going backward multiplies rounding "
                f"by coupling ** -n, got {self.coupling!r}, which leaves no digit of the gradient."
            )
        return float(self.coupling)


def _coupled(steps: Steps, coupling: float) -> tuple[Callable, Callable]:
    """The step of the pair (y, z) and its inverse."""

    def increment(x: State, interval: PyTree, backward: bool) -> State:
        x_next, _ = steps.one((x, None), interval, backward)
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


def _solution(forward: Callable, inverse: Callable) -> Callable[[PyTree, PyTree], PyTree]:
    """``(state, xs) -> state`` over all steps, with a backward pass that runs `inverse`."""

    def solve(state: PyTree, xs: PyTree) -> PyTree:
        first = jax.tree.map(lambda leaf: leaf[0], xs)
        # What the steps close over (parameters, args, a key) becomes an argument, which the
        # backward pass can be given and can give a cotangent.
        functions = tuple(
            eqx.filter_closure_convert(function, state, first) for function in (forward, inverse)
        )
        arrays, static = eqx.partition(functions, eqx.is_array)
        return _reversible_scan(static, state, xs, arrays)

    return solve


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _reversible_scan(static: PyTree, state: PyTree, xs: PyTree, arrays: PyTree) -> PyTree:
    forward, _ = eqx.combine(arrays, static)
    return jax.lax.scan(lambda state, x: (forward(state, x), None), state, xs)[0]


def _scan_forward(static: PyTree, state: PyTree, xs: PyTree, arrays: PyTree) -> PyTree:
    last = _reversible_scan(static, state, xs, arrays)
    return last, (last, xs, arrays)


def _scan_backward(static: PyTree, residuals: PyTree, cotangent: PyTree) -> PyTree:
    last, xs, arrays = residuals
    parameters, rest = eqx.partition(arrays, eqx.is_inexact_array)
    _, inverse = eqx.combine(arrays, static)

    def step(state: PyTree, times: PyTree, indices: PyTree, parameters: PyTree) -> PyTree:
        forward, _ = eqx.combine(parameters, rest, static)
        return forward(state, eqx.combine(times, indices))

    def body(carry: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
        state, cotangent, total = carry
        state = inverse(state, x)
        times, indices = eqx.partition(x, eqx.is_inexact_array)
        _, pull = jax.vjp(lambda s, t, p: step(s, t, indices, p), state, times, parameters)
        cotangent, of_times, of_parameters = pull(cotangent)
        return (state, cotangent, jax.tree.map(jnp.add, total, of_parameters)), of_times

    carry = (last, cotangent, jax.tree.map(jnp.zeros_like, parameters))
    (_, cotangent, total), of_xs = jax.lax.scan(body, carry, xs, reverse=True)
    # None where an input is not differentiable: partition has put it there.
    return cotangent, of_xs, total


_reversible_scan.defvjp(_scan_forward, _scan_backward)


def _init_heun(sde: Any, t0: Scalar, x0: State, args: Any) -> PyTree:
    drift, diffusion = fields_of(sde, "reversible_heun")
    return x0, drift(t0, x0, args), diffusion_of(diffusion, t0, x0, args)


def _step_heun(
    sde: Any, t0: Scalar, t1: Scalar, x: State, args: Any, dw: State, memory: PyTree
) -> tuple[State, PyTree]:
    drift, diffusion = fields_of(sde, "reversible_heun")
    h = t1 - t0
    y, f0, g0 = memory
    y = leafwise(lambda h, x, y, f, g, dw: 2 * x - y + h * f + g * dw, h, x, y, f0, g0, dw)
    f1, g1 = drift(t1, y, args), diffusion_of(diffusion, t1, y, args)
    x = leafwise(
        lambda h, x, f0, f1, g0, g1, dw: x + h / 2 * (f0 + f1) + (g0 + g1) / 2 * dw,
        *(h, x, f0, f1, g0, g1, dw),
    )
    return x, (y, f1, g1)


reversible_heun = Stepper(_init_heun, _step_heun, symmetric=True, calls_end=True)
r"""Reversible Heun for a Stratonovich SDE: symmetric, strong order 1/2 (1 for additive noise).

$$\hat X_{n+1} = 2 X_n - \hat X_n + h f_n + g_n \odot dW, \qquad
X_{n+1} = X_n + \tfrac h2 (f_n + f_{n+1}) + \tfrac12 (g_n + g_{n+1}) \odot dW$$

with f_n and g_n at (t_n, \hat X_n): one call of each field a step. Run backward it is itself, so
that `Reversible` can solve it backward.

Stability: on dX = -theta X dt the pair has the eigenvalues exp(-a) and -exp(a) with
a = arsinh(h theta). The second, parasitic, grows by exp(theta (t_1 - t_0)) over the whole solve,
whatever the step: where the drift contracts by more than the digits that the solution is to keep,
it takes them. On a rotation, where theta is imaginary, both stay on the unit circle up to
h |theta| = 1. Strongly contracting drifts want `stochastic_heun` and another adjoint.

References:
    Kidger, Foster, Li, Lyons (2021), "Efficient and Accurate Gradients for Neural SDEs",
    arXiv 2105.13493, algorithm 1.
"""
