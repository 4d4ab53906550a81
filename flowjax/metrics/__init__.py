"""How far samples are from data: distances between sets, with intervals."""

from flowjax.metrics.geometry import bond_angles as bond_angles
from flowjax.metrics.geometry import bond_lengths as bond_lengths
from flowjax.metrics.intervals import Interval as Interval
from flowjax.metrics.intervals import bootstrap as bootstrap
from flowjax.metrics.labels import displacements as displacements
from flowjax.metrics.labels import label_accuracy as label_accuracy
from flowjax.metrics.pairwise import energy_distance as energy_distance
from flowjax.metrics.pairwise import mmd as mmd
from flowjax.metrics.transport import marginal_wasserstein as marginal_wasserstein
from flowjax.metrics.transport import sliced_wasserstein as sliced_wasserstein
from flowjax.metrics.transport import wasserstein as wasserstein

__all__ = [
    "Interval",
    "bond_angles",
    "bond_lengths",
    "bootstrap",
    "displacements",
    "energy_distance",
    "label_accuracy",
    "marginal_wasserstein",
    "mmd",
    "sliced_wasserstein",
    "wasserstein",
]
