"""Few-step methods for schedules: steps for `solve`."""

from flowjax.samplers.adams import adams as adams
from flowjax.samplers.dpm_solver import dpmpp_2m as dpmpp_2m
from flowjax.samplers.dpm_solver import dpmpp_2m_sde as dpmpp_2m_sde
from flowjax.samplers.edm import edm_heun as edm_heun
from flowjax.samplers.first_order import ancestral as ancestral
from flowjax.samplers.first_order import ddim as ddim
from flowjax.samplers.first_order import exponential_euler as exponential_euler
from flowjax.samplers.first_order import stochastic_ddim as stochastic_ddim
from flowjax.samplers.unipc import unipc as unipc

__all__ = [
    "adams",
    "ancestral",
    "ddim",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "edm_heun",
    "exponential_euler",
    "stochastic_ddim",
    "unipc",
]
