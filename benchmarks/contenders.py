"""The contenders on JAX: the same Euler or Euler-Maruyama steps, by the best documented settings.

Each function here takes a problem and gives, by contender, a pure function that a user would
write: ``(x0, args) -> X`` for an ODE, ``(key, x0, args) -> X`` for an SDE. Those on torch are in
`torch_contenders`.
"""

from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import lineax

import flowjax as fj
from benchmarks.problems import SIGMA, Problem

try:
    import tinydiffeq
except ImportError:
    tinydiffeq = None

FLOOR = "scan"
IDIOMS = ("scan split", "scan keys first", "scan fold_in", "scan drawn first")

ADJOINTS = {
    "flowjax": fj.Checkpointed(),
    "flowjax Direct": fj.Direct(),
    "flowjax Reversible": fj.Reversible(),
}


def ode(problem: Problem) -> dict[str, Callable]:
    """Forward solves that nobody differentiates."""
    contenders = {
        FLOOR: lambda x0, args: _scan(problem, x0, args),
        "scan constant step": lambda x0, args: _scan_constant_step(problem, x0, args),
        "flowjax": lambda x0, args: fj.solve(problem.field, x0, problem.ts, args),
        "diffrax constant": lambda x0, args: _diffrax_ode(problem, x0, args, False),
        "diffrax StepTo": lambda x0, args: _diffrax_ode(problem, x0, args, True),
    }
    if tinydiffeq is not None:
        contenders["tinydiffeq"] = lambda x0, args: _tinydiffeq_ode(problem, x0, args)
    return contenders


def gradient(problem: Problem) -> dict[str, Callable]:
    """Gradients of the sum of squares of X, with respect to (x0, args)."""
    solves: dict[str, Callable] = {
        FLOOR: lambda x0, args: _scan(problem, x0, args),
        "scan checkpoint": lambda x0, args: _scan(problem, x0, args, jax.checkpoint),
    }
    for name, adjoint in ADJOINTS.items():
        solves[name] = _flowjax_with(problem, adjoint)
    for name, adjoint in (
        ("diffrax", diffrax.RecursiveCheckpointAdjoint()),
        ("diffrax Direct", diffrax.DirectAdjoint()),
    ):
        solves[name] = _diffrax_with(problem, adjoint)
    if tinydiffeq is not None:
        solves["tinydiffeq"] = lambda x0, args: _tinydiffeq_ode(problem, x0, args)
    return {name: _gradient_of(solve) for name, solve in solves.items()}


def sde(problem: Problem) -> dict[str, Callable]:
    """SDE solves that draw their own noise, from one key or, if the problem says so, from many."""
    solvers = _SDE if problem.matrix is None else _ANY_NOISE
    return {name: _over_keys(solve, problem) for name, solve in solvers.items()}


def sde_gradient(problem: Problem) -> dict[str, Callable]:
    """Gradients of the sum of squares of X by (x0, args), each sample with an x0 of its own."""

    def gradient_of(solve: Callable) -> Callable:
        batch = _over_keys(solve, problem, x0_axis=0)
        return jax.grad(lambda *inputs: jnp.sum(batch(*inputs) ** 2), argnums=(1, 2))

    return {name: gradient_of(_SDE[name]) for name in (*IDIOMS, "flowjax")}


# --- ordinary differential equations --------------------------------------------------------------


def _scan(problem: Problem, x0: Any, args: Any, wrap: Callable = lambda step: step) -> Any:
    field, ts = problem.field, problem.ts

    def step(x: Any, interval: Any) -> Any:
        t0, t1 = interval
        return x + (t1 - t0) * field(t0, x, args), None

    return jax.lax.scan(wrap(step), x0, (ts[:-1], ts[1:]))[0]


def _scan_constant_step(problem: Problem, x0: Any, args: Any) -> Any:
    field, h = problem.field, 1 / problem.steps
    return jax.lax.scan(lambda x, t: (x + h * field(t, x, args), None), x0, problem.ts[:-1])[0]


def _flowjax_with(problem: Problem, adjoint: Any) -> Callable:
    return lambda x0, args: fj.solve(problem.field, x0, problem.ts, args, adjoint=adjoint)


def _diffrax_ode(problem: Problem, x0: Any, args: Any, step_to: bool) -> Any:
    # Without max_steps the loop keeps nothing for a backward pass.
    terms = diffrax.ODETerm(problem.field)
    return _diffrax(problem, terms, x0, args, diffrax.DirectAdjoint(), None, step_to)


def _diffrax_with(problem: Problem, adjoint: Any) -> Callable:
    terms = diffrax.ODETerm(problem.field)
    return lambda x0, args: _diffrax(problem, terms, x0, args, adjoint, problem.steps, False)


def _diffrax(
    problem: Problem,
    terms: Any,
    x0: Any,
    args: Any,
    adjoint: Any,
    max_steps: int | None,
    step_to: bool,
) -> Any:
    controller = diffrax.StepTo(problem.ts) if step_to else diffrax.ConstantStepSize()
    solution = diffrax.diffeqsolve(
        *(terms, diffrax.Euler(), 0.0, 1.0, None if step_to else 1 / problem.steps, x0, args),
        stepsize_controller=controller,
        adjoint=adjoint,
        max_steps=max_steps,
        throw=False,
    )
    return solution.ys[0]


def _tinydiffeq_ode(problem: Problem, x0: Any, args: Any) -> Any:
    n, field = problem.steps, problem.field
    solution = tinydiffeq.solve_ode(
        lambda x, t, _, p: field(t, x, p),
        *(tinydiffeq.Euler(), 0.0, 1.0, x0),
        p=args,
        dt_0=1 / n,
        max_steps=n,
    )
    return solution.xs


def _gradient_of(solve: Callable) -> Callable:
    return jax.grad(lambda x0, args: jnp.sum(solve(x0, args) ** 2), argnums=(0, 1))


# --- stochastic differential equations ------------------------------------------------------------


def _over_keys(solve: Callable, problem: Problem, x0_axis: int | None = None) -> Callable:
    def one(key: Any, x0: Any, args: Any) -> Any:
        return solve(problem, key, x0, args)

    return one if problem.keys is None else jax.vmap(one, in_axes=(0, x0_axis, None))


def _euler_maruyama(problem: Problem, x: Any, args: Any, t0: Any, t1: Any, z: Any) -> Any:
    h, dw = t1 - t0, jnp.sqrt(t1 - t0) * z
    by_noise = SIGMA * dw if problem.matrix is None else problem.matrix @ dw
    return x + h * problem.field(t0, x, args) + by_noise


def _scan_split(problem: Problem, key: Any, x0: Any, args: Any) -> Any:
    def step(carry: Any, interval: Any) -> Any:
        x, key = carry
        key, now = jax.random.split(key)
        z = jax.random.normal(now, problem.motions)
        return (_euler_maruyama(problem, x, args, *interval, z), key), None

    return jax.lax.scan(step, (x0, key), (problem.ts[:-1], problem.ts[1:]))[0][0]


def _scan_keys_first(problem: Problem, key: Any, x0: Any, args: Any) -> Any:
    def step(x: Any, slot: Any) -> Any:
        t0, t1, key = slot
        z = jax.random.normal(key, problem.motions)
        return _euler_maruyama(problem, x, args, t0, t1, z), None

    keys = jax.random.split(key, problem.steps)
    return jax.lax.scan(step, x0, (problem.ts[:-1], problem.ts[1:], keys))[0]


def _scan_fold_in(problem: Problem, key: Any, x0: Any, args: Any) -> Any:
    def step(x: Any, slot: Any) -> Any:
        t0, t1, i = slot
        z = jax.random.normal(jax.random.fold_in(key, i), problem.motions)
        return _euler_maruyama(problem, x, args, t0, t1, z), None

    return jax.lax.scan(step, x0, (problem.ts[:-1], problem.ts[1:], jnp.arange(problem.steps)))[0]


def _scan_drawn_first(problem: Problem, key: Any, x0: Any, args: Any) -> Any:
    def step(x: Any, slot: Any) -> Any:
        return _euler_maruyama(problem, x, args, *slot), None

    z = jax.random.normal(key, (problem.steps, *problem.motions))
    return jax.lax.scan(step, x0, (problem.ts[:-1], problem.ts[1:], z))[0]


def _flowjax_sde(problem: Problem, key: Any, x0: Any, args: Any) -> Any:
    equation = fj.SDE(problem.field, lambda t, x, args: SIGMA)
    if problem.matrix is not None:
        diffusion = lambda t, x, args: jnp.asarray(problem.matrix)  # noqa: E731
        equation = fj.SDE(problem.field, diffusion, noise=problem.motions)
    return fj.solve(equation, x0, problem.ts, args, key=key)


def _diffrax_tree(problem: Problem, key: Any, x0: Any, args: Any) -> Any:
    tolerance = 1 / (2 * problem.steps)
    path = diffrax.VirtualBrownianTree(0.0, 1.0, tolerance, problem.motions, key)
    return _diffrax_sde(problem, path, x0, args)


def _diffrax_unsafe(problem: Problem, key: Any, x0: Any, args: Any) -> Any:
    return _diffrax_sde(problem, diffrax.UnsafeBrownianPath(problem.motions, key), x0, args)


def _diffrax_sde(problem: Problem, path: Any, x0: Any, args: Any) -> Any:
    def diffusion(t: Any, x: Any, args: Any) -> Any:
        if problem.matrix is not None:
            return lineax.MatrixLinearOperator(jnp.asarray(problem.matrix))
        return lineax.DiagonalLinearOperator(jnp.full_like(x, SIGMA))

    drift = diffrax.ODETerm(problem.field)
    terms = diffrax.MultiTerm(drift, diffrax.ControlTerm(diffusion, path))
    return _diffrax(problem, terms, x0, args, diffrax.DirectAdjoint(), None, False)


def _tinydiffeq_sde(problem: Problem, key: Any, x0: Any, args: Any) -> Any:
    solution = tinydiffeq.solve_sde(
        lambda x, t, _, p: problem.field(t, x, p),
        lambda x: jnp.full_like(x, SIGMA),
        *(tinydiffeq.EulerMaruyama(), 0.0, 1.0, x0),
        key=key,
        n_steps=problem.steps,
        p=args,
    )
    return solution.xs


_SDE = {
    "scan split": _scan_split,
    "scan keys first": _scan_keys_first,
    "scan fold_in": _scan_fold_in,
    "scan drawn first": _scan_drawn_first,
    "flowjax": _flowjax_sde,
    "diffrax tree": _diffrax_tree,
    "diffrax unsafe": _diffrax_unsafe,
    **({} if tinydiffeq is None else {"tinydiffeq": _tinydiffeq_sde}),
}

# tinydiffeq's noise is elementwise.
_ANY_NOISE = {name: solve for name, solve in _SDE.items() if name != "tinydiffeq"}
