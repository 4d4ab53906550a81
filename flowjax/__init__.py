"""Fixed-step ODE and SDE solves in JAX, gradients through them, and generative models on top."""

from flowjax import data, models
from flowjax.paths import CondOT
from flowjax.processes import (
    Gaussian,
    GaussianMixture,
    langevin,
    linear_field,
    linear_flow,
    ornstein_uhlenbeck,
)
from flowjax.sampling import sample
from flowjax.solve import (
    SDE,
    Checkpointed,
    Direct,
    Stepper,
    Truncated,
    brownian_increments,
    brownian_path,
    coarsen,
    euler,
    euler_maruyama,
    heun,
    midpoint,
    milstein,
    rk4,
    solve,
    stochastic_heun,
    trajectory,
    uniform_grid,
)
from flowjax.training import fit, flow_matching_loss

__all__ = [
    "SDE",
    "Checkpointed",
    "CondOT",
    "Direct",
    "Gaussian",
    "GaussianMixture",
    "Stepper",
    "Truncated",
    "brownian_increments",
    "brownian_path",
    "coarsen",
    "data",
    "euler",
    "euler_maruyama",
    "fit",
    "flow_matching_loss",
    "heun",
    "langevin",
    "linear_field",
    "linear_flow",
    "midpoint",
    "milstein",
    "models",
    "ornstein_uhlenbeck",
    "rk4",
    "sample",
    "solve",
    "stochastic_heun",
    "trajectory",
    "uniform_grid",
]
