"""Solvers of diffrax as steps of a solve."""

from typing import Any, ClassVar, get_args, get_origin

import diffrax
import jax
import jax.numpy as jnp

from flowjax._types import Scalar, State
from flowjax.interop.to_diffrax import terms_of
from flowjax.solver.sde import SDE
from flowjax.solver.stepper import Stepper


def from_diffrax(solver: Any) -> Stepper:
    r"""A solver of diffrax as a step of `solve`: of an ODE, or of an SDE on the increments here.

    $$k_i = f\Big(t_0 + c_i h,\; x + h \sum_j a_{ij} k_j\Big), \qquad
    x_1 = x + h \sum_i b_i k_i$$

    with the coefficients of the solver, for explicit and implicit Runge-Kutta methods (`Tsit5`,
    `Dopri5`, `Kvaerno5`, ...); and the methods for SDEs that need no more of the noise than its
    increment (`Euler`, `Heun`, `ItoMilstein`, `EulerHeun`, `StratonovichMilstein`, `Midpoint`,
    `Ralston`, `ReversibleHeun`). Its steps are those of the grid; its error estimate is left alone.
    What it computes for the next step (FSAL) travels as the memory of a `Stepper`. Every adjoint
    but `Reversible` goes through it, so its gradient is that of the discrete solve.

    Args:
        solver: such as ``diffrax.Tsit5()``.

    Returns:
        The step. Where the root finder of an implicit method fails, the state is NaN.

    Raises:
        TypeError: solver is not one of diffrax.
        ValueError: the solver cannot be a step: it needs Levy areas, which the increments do not
            determine, or an equation of another form; in `solve`, an SDE is given to a solver that
            does not converge for SDEs, a field to one for SDEs alone, or the solver asks for the
            noise of a part of a step.

    Example:
        >>> import diffrax
        >>> import flowjax as fj
        >>> import flowjax.interop
        >>> step = fj.interop.from_diffrax(diffrax.Tsit5())
        >>> x1 = fj.solve(fj.linear_field, 1.0, fj.uniform_grid(4), args=1.0, step=step)
        >>> print(f"{x1:.5f}")
        0.36788

    References:
        Kidger, "On neural differential equations", 2021, arXiv 2202.02435, section 5 (diffrax).
    """
    if not isinstance(solver, diffrax.AbstractSolver):
        raise TypeError(f"solver must be one of diffrax, such as diffrax.Tsit5(), got {solver!r}.")
    why = _why_no_step(solver)
    if why:
        raise ValueError(f"solver cannot be a step: {type(solver).__name__} {why}.")

    def init(field: Any, t0: Scalar, x0: State, args: Any) -> Any:
        # Of what a solver begins with, only the kind depends on the end of the first step.
        return solver.init(_terms(solver, field, None), t0, t0, x0, args)

    def step(field: Any, t0: Scalar, t1: Scalar, x: State, args: Any, *rest: Any) -> Any:
        dw, memory = rest
        noise = None if dw is None else _Increment(dw, (t0, t1))
        terms = _terms(solver, field, noise)
        x1, _, _, memory, result = solver.step(terms, t0, t1, x, args, memory, made_jump=False)
        done = result == diffrax.RESULTS.successful
        return jax.tree.map(lambda leaf: jnp.where(done, leaf, jnp.nan), x1), memory

    return Stepper(init, step, calls_end=_calls_end(solver))


class _Increment(diffrax.AbstractBrownianPath):
    """The increment of one step."""

    dw: Any
    ends: Any
    levy_area: ClassVar[Any] = diffrax.BrownianIncrement
    t0: ClassVar[Any] = None
    t1: ClassVar[Any] = None

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True, use_levy: bool = False) -> Any:
        if t0 is not self.ends[0] or t1 is not self.ends[1]:
            raise ValueError(
                "solver must take the noise of a whole step, but asks for that of a part of it."
            )
        return self.dw


def _terms(solver: Any, field: Any, noise: _Increment | None) -> Any:
    if not isinstance(field, SDE):
        if get_origin(solver.term_structure) is diffrax.MultiTerm:
            raise ValueError(f"{type(solver).__name__} is a solver for an SDE, got a plain field.")
        return diffrax.ODETerm(field)
    if not isinstance(solver, (diffrax.AbstractItoSolver, diffrax.AbstractStratonovichSolver)):
        raise ValueError(
            f"{type(solver).__name__} is a solver for ODEs: it does not converge for an SDE."
        )
    path: Any = noise if noise is not None else _Increment(None, (None, None))
    return terms_of(field, path)


def _why_no_step(solver: Any) -> str:
    """Why a solver cannot be a step, or nothing."""
    if hasattr(solver, "minimal_levy_area"):
        area = solver.minimal_levy_area.__name__.removeprefix("Abstract")
        if area != "BrownianIncrement":
            return f"needs the {area} of each step, which its increment does not determine"
    structure = solver.term_structure
    parts = get_args(structure)
    imex = isinstance(getattr(solver, "tableau", None), diffrax.MultiButcherTableau)
    if imex or isinstance(structure, tuple) or (parts and len(get_args(parts[0])) > 2):
        return "is for an equation of two parts, which a field is not"
    if "Langevin" in str(structure):
        return "is for underdamped Langevin equations alone"
    return ""


def _calls_end(solver: Any) -> bool:
    """Whether it calls the field at the end of a step."""
    if isinstance(solver, (diffrax.Euler, diffrax.ItoMilstein, diffrax.StratonovichMilstein)):
        return False
    tableau = getattr(solver, "tableau", None)
    return tableau is None or bool((tableau.c == 1).any())
