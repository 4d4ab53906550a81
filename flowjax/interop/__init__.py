"""Diffrax, both ways: its solvers here, our problems there, and both on the same increments."""

from flowjax.interop.cross_check import Cost as Cost
from flowjax.interop.cross_check import CrossCheck as CrossCheck
from flowjax.interop.cross_check import cross_check as cross_check
from flowjax.interop.from_diffrax import from_diffrax as from_diffrax
from flowjax.interop.to_diffrax import to_diffrax as to_diffrax

__all__ = ["Cost", "CrossCheck", "cross_check", "from_diffrax", "to_diffrax"]
