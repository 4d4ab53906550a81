"""Guidance: transformations of a velocity into one that follows a condition, or a reward."""

from flowjax.guidance.conditions import cfg_zero as cfg_zero
from flowjax.guidance.conditions import classifier_free as classifier_free
from flowjax.guidance.corrected import corrected as corrected
from flowjax.guidance.gradients import by_gradient as by_gradient
from flowjax.guidance.of_guided import interval as interval
from flowjax.guidance.of_guided import rescaled as rescaled
from flowjax.guidance.two_models import autoguidance as autoguidance

__all__ = [
    "autoguidance",
    "by_gradient",
    "cfg_zero",
    "classifier_free",
    "corrected",
    "interval",
    "rescaled",
]
