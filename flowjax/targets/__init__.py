"""Processes whose truth is known in closed form."""

from flowjax.targets.bridge import gaussian_bridge as gaussian_bridge
from flowjax.targets.diffusions import langevin as langevin
from flowjax.targets.diffusions import ornstein_uhlenbeck as ornstein_uhlenbeck
from flowjax.targets.gaussian import Gaussian as Gaussian
from flowjax.targets.linear import linear_field as linear_field
from flowjax.targets.linear import linear_flow as linear_flow
from flowjax.targets.mixture import GaussianMixture as GaussianMixture

__all__ = [
    "Gaussian",
    "GaussianMixture",
    "gaussian_bridge",
    "langevin",
    "linear_field",
    "linear_flow",
    "ornstein_uhlenbeck",
]
