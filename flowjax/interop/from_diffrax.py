"""Solvers of diffrax as steps of a solve."""

import inspect
from typing import Any, ClassVar, get_args, get_origin

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flowjax import _check
from flowjax._numerics import widest
from flowjax._types import Scalar, State
from flowjax.interop.grid_path import area_of, with_area
from flowjax.interop.to_diffrax import levy_area_of, needs_area, terms_of
from flowjax.solver.sde import SDE
from flowjax.solver.sde_steps import refuse_mixing
from flowjax.solver.stepper import Stepper


def from_diffrax(solver: Any) -> Stepper:
    r"""A solver of diffrax as a step of `solve`: of an ODE, or of an SDE on the increments here.

    $$X_{t_{i+1}} = \Psi(t_i, t_{i+1}, X_{t_i}, dW_i), \qquad \Psi \text{ one step of the solver}$$

    Its steps are those of the grid; its error estimate is left alone. What it computes for the
    next step (FSAL) travels as the memory of a `Stepper`. Every adjoint but `Reversible` goes
    through it, so its gradient is that of the discrete solve. Forward mode goes through a
    Runge-Kutta method made with ``scan_kind="bounded"``, a stochastic one with ``"lax"``, at some
    cost to reverse mode.

    - Explicit and implicit Runge-Kutta methods for ODEs: `Tsit5`, `Dopri5`, `Kvaerno5`, ... An
      implicit one wants tolerances of its own for its root finder, as in
      ``diffrax.Kvaerno5(root_finder=diffrax.VeryChord(rtol=1e-3, atol=1e-6))``.
    - Methods for SDEs that need the increment alone: `Euler`, `ItoMilstein` (Ito); `Heun`,
      `Midpoint`, `Ralston`, `EulerHeun`, `StratonovichMilstein`, `ReversibleHeun` (Stratonovich).
      The two of Milstein are for commutative noise alone, and have a lower order for other; that
      of a matrix is not looked at.
    - Methods for Stratonovich SDEs that need the space-time Levy area of each step too: `ShARK`,
      `SRA1`, `SEA` (additive noise), `GeneralShARK`, `SlowRK`, `SPaRK`. The area is drawn by the
      key, beside the increment, which stays what it is:

    $$H_i = \frac1{h_i} \int_{t_i}^{t_{i+1}} \Big(W_t - W_{t_i} - \frac{t - t_i}{h_i} dW_i\Big) dt
    \sim N\Big(0, \frac{h_i}{12} I\Big) \text{ independent of } dW_i$$

    Args:
        solver: such as ``diffrax.Tsit5()``.

    Returns:
        The step. Where the root finder of an implicit method fails, the state is NaN.

    Raises:
        TypeError: solver is not one of diffrax.
        ValueError: the solver cannot be a step: it is for an equation of another form, its root
            finder has no tolerances of its own, or it needs more of the noise than space-time Levy
            areas; in `solve`, an SDE is given to a solver that does not converge for SDEs, a field
            to one for SDEs alone, a pytree to `ItoMilstein`, an elementwise diffusion that is seen
            to mix elements of the state to either of Milstein, or the solver asks for the noise of
            a part of a step.

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
        Foster, Lyons, Oberhauser, "An optimal polynomial approximation of Brownian motion", 2020,
        arXiv 1904.06998, theorem 3.4 and definition 3.5 (space-time Levy area).
    """
    _refuse_no_solver(solver)
    why = _why_no_step(solver)
    if why:
        raise ValueError(f"solver cannot be a step: {type(solver).__name__} {why}.")
    calls_end, levy_area = _calls_end(solver), needs_area(solver)
    return Stepper(_Init(solver), _Step(solver), calls_end=calls_end, levy_area=levy_area)


class _Init(eqx.Module):
    """What a solver begins with."""

    solver: Any

    def __call__(self, field: Any, t0: Scalar, x0: State, args: Any) -> Any:
        t0 = jnp.asarray(t0, widest(x0))
        # Of it only the kind depends on the end of the first step.
        return self.solver.init(_terms(self.solver, field, None), t0, t0, x0, args)


class _Step(eqx.Module):
    """One step of a solver. As a record it is equal to that of an equal solver."""

    solver: Any

    @property
    def __name__(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return type(self.solver).__name__

    def __call__(self, field: Any, t0: Scalar, t1: Scalar, x: State, args: Any, *rest: Any) -> Any:
        dw, memory = rest
        refuse_state(self.solver, x)
        # Diffrax computes a step in one dtype.
        t0, t1 = (jnp.asarray(t, widest(x)) for t in (t0, t1))
        of_milstein = isinstance(self.solver, (diffrax.ItoMilstein, diffrax.StratonovichMilstein))
        if of_milstein and isinstance(field, SDE) and field.noise is None:
            refuse_mixing(field, t0, x, args, self.__name__)
        noise = None if dw is None else _Increment(dw, (t0, t1))
        terms = _terms(self.solver, field, noise)
        x1, _, _, memory, result = self.solver.step(terms, t0, t1, x, args, memory, made_jump=False)
        done = result == diffrax.RESULTS.successful
        return jax.tree.map(lambda leaf: jnp.where(done, leaf, jnp.nan), x1), memory


class _Increment(diffrax.AbstractBrownianPath):
    """The increment of one step, or the pair that a `Stepper` with `levy_area` is given."""

    dw: Any
    ends: Any
    levy_area: ClassVar[Any] = diffrax.SpaceTimeLevyArea
    t0: ClassVar[Any] = None
    t1: ClassVar[Any] = None

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True, use_levy: bool = False) -> Any:
        if t0 is not self.ends[0] or t1 is not self.ends[1]:
            raise ValueError(
                "solver must take the noise of a whole step, but asks for that of a part of it."
            )
        if not use_levy:
            return self.dw
        dw, other = self.dw
        return with_area(t1 - t0, dw, area_of(other))


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


def _refuse_no_solver(solver: Any) -> None:
    if isinstance(solver, diffrax.AbstractSolver):
        return
    wanted = "solver must be one of diffrax, such as diffrax.Tsit5(), got"
    if inspect.isclass(solver):
        raise TypeError(f"{wanted} the class {solver.__name__}: write diffrax.{solver.__name__}().")
    if isinstance(solver, diffrax.AbstractStepSizeController):
        raise TypeError(
            f"{wanted} the step size controller {type(solver).__name__}: a step takes the grid as "
            f"it is. For steps of diffrax's own choice solve there, by flowjax.interop.to_diffrax."
        )
    raise TypeError(f"{wanted} {solver!r}.")


def refuse_state(solver: Any, x: State) -> None:
    """Refuses a state that a solver does not take."""
    if isinstance(solver, diffrax.ItoMilstein) and not _check.is_leaf(x):
        raise ValueError(
            "ItoMilstein of diffrax takes a state of one array alone: for a pytree there is "
            "fj.milstein here."
        )


def _why_no_step(solver: Any) -> str:
    """Why a solver cannot be a step, or nothing."""
    structure = solver.term_structure
    parts = get_args(structure)
    imex = isinstance(getattr(solver, "tableau", None), diffrax.MultiButcherTableau)
    if imex or isinstance(structure, tuple) or (parts and len(get_args(parts[0])) > 2):
        return "is for an equation of two parts, which a field is not"
    if "Langevin" in str(structure):
        return "is for underdamped Langevin equations alone"
    if levy_area_of(solver) not in ("", "BrownianIncrement", "SpaceTimeLevyArea"):
        return f"needs the {levy_area_of(solver)} of each step, beyond the space-time Levy area"
    while isinstance(solver, diffrax.AbstractWrappedSolver):
        solver = solver.solver
    finder = getattr(solver, "root_finder", None)
    tolerances = [getattr(finder, name, 0.0) for name in ("rtol", "atol")]
    if not all(isinstance(tol, (int, float, np.ndarray, jax.Array)) for tol in tolerances):
        return (
            "takes the tolerances of its root finder from a step size controller, which a fixed "
            "grid has not: give it root_finder=diffrax.VeryChord(rtol=1e-3, atol=1e-6)"
        )
    return ""


def _calls_end(solver: Any) -> bool:
    """Whether it calls the field at the end of a step."""
    at_start = (
        diffrax.Euler,
        diffrax.ItoMilstein,
        diffrax.LeapfrogMidpoint,
        diffrax.StratonovichMilstein,
    )
    if isinstance(solver, at_start):
        return False
    tableau = getattr(solver, "tableau", None)
    if not isinstance(tableau, diffrax.ButcherTableau):
        return True
    return bool((tableau.c == 1).any())
