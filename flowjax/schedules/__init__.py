"""Schedules: alpha and sigma of the path from noise (t = 0) to data (t = 1)."""

from flowjax.schedules.diffusions import EDM as EDM
from flowjax.schedules.diffusions import VarianceExploding as VarianceExploding
from flowjax.schedules.diffusions import VariancePreserving as VariancePreserving
from flowjax.schedules.interpolations import CondOT as CondOT
from flowjax.schedules.interpolations import Polynomial as Polynomial
from flowjax.schedules.interpolations import SquareRoot as SquareRoot
from flowjax.schedules.interpolations import Trigonometric as Trigonometric
from flowjax.schedules.schedule import Schedule as Schedule

__all__ = [
    "EDM",
    "CondOT",
    "Polynomial",
    "Schedule",
    "SquareRoot",
    "Trigonometric",
    "VarianceExploding",
    "VariancePreserving",
]
