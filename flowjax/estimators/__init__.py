"""Expectations over paths, their gradients, and multilevel Monte Carlo, with standard errors."""

from flowjax.estimators.expectations import expectation as expectation
from flowjax.estimators.expectations import path_expectation as path_expectation
from flowjax.estimators.gradients import log_density_gradient as log_density_gradient
from flowjax.estimators.gradients import pathwise_gradient as pathwise_gradient
from flowjax.estimators.moments import Estimate as Estimate

__all__ = [
    "Estimate",
    "expectation",
    "log_density_gradient",
    "path_expectation",
    "pathwise_gradient",
]
