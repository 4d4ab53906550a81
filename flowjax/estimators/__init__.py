"""Expectations over paths, their gradients, and multilevel Monte Carlo, with standard errors."""

from flowjax.estimators.allocation import Levels as Levels
from flowjax.estimators.allocation import MultilevelEstimate as MultilevelEstimate
from flowjax.estimators.allocation import multilevel as multilevel
from flowjax.estimators.expectations import expectation as expectation
from flowjax.estimators.expectations import path_expectation as path_expectation
from flowjax.estimators.gradients import log_density_gradient as log_density_gradient
from flowjax.estimators.gradients import pathwise_gradient as pathwise_gradient
from flowjax.estimators.moments import Estimate as Estimate

__all__ = [
    "Estimate",
    "Levels",
    "MultilevelEstimate",
    "expectation",
    "log_density_gradient",
    "multilevel",
    "path_expectation",
    "pathwise_gradient",
]
