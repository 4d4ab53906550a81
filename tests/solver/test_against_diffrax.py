"""The same methods on the same increments in diffrax: values and gradients agree to 1e-12.

diffrax is given the Brownian path as a control: `LinearInterpolation` through the path's values at
the grid's times, whose increment over a step is the step's increment. `StepTo` walks the grid. The
interpolation is handed over as a Brownian path, because diffrax runs ItoMilstein on nothing else
and subtracts two values of an interpolation only where they are arrays.

Same methods: Euler, Heun (the explicit trapezoidal rule), Midpoint; Euler on a drift and a control
(Euler-Maruyama), ItoMilstein, and Heun on a drift and a control (stochastic Heun). Not compared
with diffrax, for it has no such method: rk4 (its explicit Runge-Kutta methods of order 4 have
other tables) and the Adams-Bashforth Stepper. NumPy loops hold those in `test_steps.py`.
"""

import functools
from typing import ClassVar

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import flowjax as fj
from flowjax.solver.sde import SDE
from tests.solver.oracles import (
    PROBLEMS,
    assert_close,
    cast,
    leafwise,
    numpy_increments,
    uneven_grid,
)

DIFFRAX_SOLVERS = {
    "euler": diffrax.Euler,
    "heun": diffrax.Heun,
    "midpoint": diffrax.Midpoint,
    "euler_maruyama": diffrax.Euler,
    "milstein": diffrax.ItoMilstein,
    "stochastic_heun": diffrax.Heun,
}
ODE_METHODS = ("euler", "heun", "midpoint")
STEPS = 24

# diffrax and the packages under it promote dtypes in JAX's standard way.
pytestmark = pytest.mark.usefixtures("x64", "standard_promotion")


def diagonal(g):
    """The matrix of a diagonal diffusion: axes of the state, then the same axes of the control."""
    return jnp.diag(jnp.ravel(g)).reshape(*g.shape, *g.shape)


class InterpolatedPath(diffrax.AbstractBrownianPath):
    """The Brownian path through the given values, straight in between."""

    values: diffrax.LinearInterpolation
    levy_area: ClassVar = diffrax.BrownianIncrement

    @property
    def t0(self):
        return self.values.t0

    @property
    def t1(self):
        return self.values.t1

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        if t1 is None:
            return self.values.evaluate(t0)
        return leafwise(jnp.subtract, self.values.evaluate(t1), self.values.evaluate(t0))


def diffrax_solve(equation, x0, ts, args, increments, solver):
    if increments is None:
        terms = diffrax.ODETerm(equation)
    else:
        path = leafwise(
            lambda dw: jnp.concatenate([jnp.zeros_like(dw[:1]), jnp.cumsum(dw, axis=0)]), increments
        )
        noise = diffrax.ControlTerm(
            lambda t, x, args: leafwise(diagonal, equation.diffusion(t, x, args)),
            InterpolatedPath(diffrax.LinearInterpolation(ts, path)),
        )
        terms = diffrax.MultiTerm(diffrax.ODETerm(equation.drift), noise)
    solution = diffrax.diffeqsolve(
        terms,
        solver,
        t0=ts[0],
        t1=ts[-1],
        dt0=None,
        y0=x0,
        args=args,
        stepsize_controller=diffrax.StepTo(ts),
        adjoint=diffrax.DirectAdjoint(),
        max_steps=STEPS,
    )
    return leafwise(lambda leaf: leaf[0], solution.ys)


def reward(x):
    """A functional of the last state; its gradient reaches every leaf."""
    return sum(jnp.sum(leaf * leaf * (3 + leaf)) for leaf in jax.tree.leaves(x))


def gradient_by_forward_mode(function, inputs):
    """The gradient, one direction after the other: diffrax compiles this far faster than reverse
    mode, and it is independent of how flowjax differentiates."""
    flat, unflatten = ravel_pytree(inputs)
    along = jax.jit(
        lambda flat, tangent: jax.jvp(lambda v: function(unflatten(v)), (flat,), (tangent,))
    )
    results = [along(flat, direction) for direction in np.eye(flat.size)]
    (_, value), _ = results[0]
    leaves, structure = jax.tree.flatten(inputs)
    parts = np.split(
        np.array([tangent for _, (tangent, _) in results]),
        np.cumsum([leaf.size for leaf in leaves])[:-1],
    )
    parts = [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
    return value, jax.tree.unflatten(structure, parts)


def inputs_of(state):
    """The problem, its grid, its increments, and what to differentiate in: (x0, args)."""
    problem = PROBLEMS[state](jnp)
    ts = uneven_grid(STEPS)
    increments = cast(numpy_increments(ts, problem.x0), jnp.float64)
    return problem, jnp.asarray(ts), increments, cast((problem.x0, problem.args), jnp.float64)


@functools.cache
def expected_from_diffrax(method, state):
    """diffrax's last state, and the gradient of its reward in x0 and args."""
    problem, ts, increments, inputs = inputs_of(state)
    solver, equation = DIFFRAX_SOLVERS[method](), problem.sde
    if method in ODE_METHODS:
        equation, increments = problem.drift, None
    elif method == "milstein" and state == "pytree":
        # diffrax's ItoMilstein fails on a state of several leaves. Its StratonovichMilstein is the
        # same method on the same process once the drift is Stratonovich's, f - g g' / 2.
        solver, equation = (
            diffrax.StratonovichMilstein(),
            SDE(stratonovich(problem), problem.diffusion),
        )

    def end(inputs):
        x0, args = inputs
        x = diffrax_solve(equation, x0, ts, args, increments, solver)
        return reward(x), x

    return gradient_by_forward_mode(end, inputs)


def stratonovich(problem):
    def drift(t, x, args):
        fields = (problem.drift, problem.diffusion, problem.slope)
        values = (field(t, x, args) for field in fields)
        return leafwise(lambda f, g, slope: f - g * slope / 2, *values)

    return drift


def check_against_diffrax(step, method, state):
    problem, ts, increments, inputs = inputs_of(state)
    equation = problem.sde
    if method in ODE_METHODS:
        equation, increments = problem.drift, None

    def end(inputs):
        x0, args = inputs
        x = fj.solve(equation, x0, ts, args, step=step, increments=increments)
        return reward(x), x

    (_, got), got_gradient = jax.jit(jax.value_and_grad(end, has_aux=True))(inputs)
    expected, expected_gradient = expected_from_diffrax(method, state)
    assert_close(got, expected, 1e-12)
    assert_close(got_gradient, expected_gradient, 1e-12)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("method", "state"),
    [(method, "array") for method in DIFFRAX_SOLVERS]
    + [("heun", "pytree"), ("euler_maruyama", "pytree"), ("milstein", "pytree")],
)
def test_values_and_gradients_agree_with_diffrax_on_the_same_increments(method, state):
    check_against_diffrax(getattr(fj, method), method, state)


def test_the_comparison_with_diffrax_catches_the_right_end_point():
    def planted(field, t0, t1, x, args, dw=None):
        return x + (t1 - t0) * field(t1, x, args)

    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_against_diffrax(planted, "euler", "array")


def test_the_comparison_with_diffrax_catches_the_stratonovich_drift():
    def planted(sde, t0, t1, x, args, dw):
        g = sde.diffusion(t0, x, args)
        _, g_dg = jax.jvp(lambda x: sde.diffusion(t0, x, args), (x,), (g,))
        return x + (t1 - t0) * (sde.drift(t0, x, args) + g_dg / 2) + g * dw

    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_against_diffrax(planted, "euler_maruyama", "array")
