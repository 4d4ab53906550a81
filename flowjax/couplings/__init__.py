"""Couplings: which noise goes with which data in a batch, and reflow's pairs of a trained flow."""

from flowjax.couplings.assigned import conditional as conditional
from flowjax.couplings.assigned import exact as exact
from flowjax.couplings.drawn import entropic as entropic
from flowjax.couplings.drawn import unbalanced as unbalanced
from flowjax.couplings.pairs import Pairs as Pairs
from flowjax.couplings.pairs import independent as independent
from flowjax.couplings.reflow import reflow as reflow

__all__ = [
    "Pairs",
    "conditional",
    "entropic",
    "exact",
    "independent",
    "reflow",
    "unbalanced",
]
