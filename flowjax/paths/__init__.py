"""Probability paths between noise (t = 0) and data (t = 1)."""

from flowjax.paths.schedules import CondOT as CondOT

__all__ = ["CondOT"]
