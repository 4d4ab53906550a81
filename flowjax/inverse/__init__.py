"""Posterior sampling: data of a flow or diffusion model, given an observation of them."""

from flowjax.inverse.observation import Observation as Observation
from flowjax.inverse.twisted import twisted_smc as twisted_smc
from flowjax.inverse.velocities import dps as dps
from flowjax.inverse.velocities import mmps as mmps
from flowjax.inverse.velocities import pigdm as pigdm
from flowjax.particles import Particles as Particles

__all__ = ["Observation", "Particles", "dps", "mmps", "pigdm", "twisted_smc"]
