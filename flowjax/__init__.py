"""Fixed-step ODE and SDE solves in JAX, gradients through them, and generative models on top."""

from flowjax import (
    couplings,
    data,
    densities,
    estimators,
    guidance,
    inverse,
    losses,
    metrics,
    models,
    observers,
    rewards,
    training,
)
from flowjax._numerics import plus
from flowjax.densities.euler import euler_log_likelihood
from flowjax.densities.likelihood import Exact, Hutchinson, log_likelihood
from flowjax.densities.paths import path_log_prob, path_log_ratio, transition_log_probs
from flowjax.fields.change_schedule import change_schedule
from flowjax.fields.precondition import precondition
from flowjax.fields.predictions import convert
from flowjax.fields.two_time import two_time
from flowjax.fields.velocity import Velocity, velocity
from flowjax.fields.with_noise import memoryless, with_noise
from flowjax.grids.of_schedules import karras_grid, log_snr_grid
from flowjax.grids.unequal import beta_grid, shifted_grid
from flowjax.grids.uniform import grid_through, uniform_grid
from flowjax.samplers.adams import adams
from flowjax.samplers.dpm_solver import dpmpp_2m, dpmpp_2m_sde
from flowjax.samplers.edm import edm_heun
from flowjax.samplers.first_order import ancestral, ddim, exponential_euler, stochastic_ddim
from flowjax.samplers.flow_map import flow_map
from flowjax.samplers.unipc import unipc
from flowjax.sampling.views import sample, sample_pairs, sample_paths
from flowjax.schedules.diffusions import EDM, VarianceExploding, VariancePreserving
from flowjax.schedules.interpolations import CondOT, Polynomial, SquareRoot, Trigonometric
from flowjax.schedules.schedule import Schedule
from flowjax.solver.adjoints import Checkpointed, Direct, Truncated
from flowjax.solver.brownian import brownian_increments, brownian_path, coarsen, refine
from flowjax.solver.finite import check_finite
from flowjax.solver.ode_steps import euler, heun, midpoint, rk4
from flowjax.solver.reversible import Reversible
from flowjax.solver.sde import SDE
from flowjax.solver.sde_steps import euler_maruyama, milstein, reversible_heun, stochastic_heun
from flowjax.solver.stepper import Stepper
from flowjax.solver.views import fold, solve, trajectory
from flowjax.targets.bridge import gaussian_bridge
from flowjax.targets.diffusions import langevin, ornstein_uhlenbeck
from flowjax.targets.gaussian import Gaussian
from flowjax.targets.linear import linear_field, linear_flow
from flowjax.targets.mixture import GaussianMixture

__version__ = "0.1.0"

__all__ = [
    "EDM",
    "SDE",
    "Checkpointed",
    "CondOT",
    "Direct",
    "Exact",
    "Gaussian",
    "GaussianMixture",
    "Hutchinson",
    "Polynomial",
    "Reversible",
    "Schedule",
    "SquareRoot",
    "Stepper",
    "Trigonometric",
    "Truncated",
    "VarianceExploding",
    "VariancePreserving",
    "Velocity",
    "adams",
    "ancestral",
    "beta_grid",
    "brownian_increments",
    "brownian_path",
    "change_schedule",
    "check_finite",
    "coarsen",
    "convert",
    "couplings",
    "data",
    "ddim",
    "densities",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "edm_heun",
    "estimators",
    "euler",
    "euler_log_likelihood",
    "euler_maruyama",
    "exponential_euler",
    "flow_map",
    "fold",
    "gaussian_bridge",
    "grid_through",
    "guidance",
    "heun",
    "inverse",
    "karras_grid",
    "langevin",
    "linear_field",
    "linear_flow",
    "log_likelihood",
    "log_snr_grid",
    "losses",
    "memoryless",
    "metrics",
    "midpoint",
    "milstein",
    "models",
    "observers",
    "ornstein_uhlenbeck",
    "path_log_prob",
    "path_log_ratio",
    "plus",
    "precondition",
    "refine",
    "reversible_heun",
    "rewards",
    "rk4",
    "sample",
    "sample_pairs",
    "sample_paths",
    "shifted_grid",
    "solve",
    "stochastic_ddim",
    "stochastic_heun",
    "training",
    "trajectory",
    "transition_log_probs",
    "two_time",
    "uniform_grid",
    "unipc",
    "velocity",
    "with_noise",
]
