"""Time grids, Brownian motion, steps, adjoints and the one loop."""

from flowjax.solver.adjoints import Checkpointed, Direct, Truncated
from flowjax.solver.brownian import brownian_increments, brownian_path, coarsen
from flowjax.solver.finite import check_finite
from flowjax.solver.ode_steps import euler, heun, midpoint, rk4
from flowjax.solver.reversible import Reversible, reversible_heun
from flowjax.solver.sde import SDE
from flowjax.solver.sde_steps import euler_maruyama, milstein, stochastic_heun
from flowjax.solver.stepper import Stepper
from flowjax.solver.views import solve, trajectory

__all__ = [
    "SDE",
    "Checkpointed",
    "Direct",
    "Reversible",
    "Stepper",
    "Truncated",
    "brownian_increments",
    "brownian_path",
    "check_finite",
    "coarsen",
    "euler",
    "euler_maruyama",
    "heun",
    "midpoint",
    "milstein",
    "reversible_heun",
    "rk4",
    "solve",
    "stochastic_heun",
    "trajectory",
]
