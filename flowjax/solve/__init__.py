"""Time grids, Brownian motion, steps, adjoints and the one loop."""

from flowjax.solve.adjoints import Checkpointed, Direct, Truncated
from flowjax.solve.brownian import brownian_increments, brownian_path, coarsen
from flowjax.solve.grid import uniform_grid
from flowjax.solve.loop import needs_noise, solve, trajectory
from flowjax.solve.steps import (
    SDE,
    Stepper,
    euler,
    euler_maruyama,
    heun,
    midpoint,
    milstein,
    rk4,
    stochastic_heun,
)

__all__ = [
    "SDE",
    "Checkpointed",
    "Direct",
    "Stepper",
    "Truncated",
    "brownian_increments",
    "brownian_path",
    "coarsen",
    "euler",
    "euler_maruyama",
    "heun",
    "midpoint",
    "milstein",
    "needs_noise",
    "rk4",
    "solve",
    "stochastic_heun",
    "trajectory",
    "uniform_grid",
]
