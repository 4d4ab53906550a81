"""Expectations over paths, their gradients, and multilevel Monte Carlo, with standard errors."""

from flowjax.estimators.expectations import expectation as expectation
from flowjax.estimators.expectations import path_expectation as path_expectation
from flowjax.estimators.moments import Estimate as Estimate

__all__ = ["Estimate", "expectation", "path_expectation"]
