"""Losses and the training loop."""

from flowjax.training.fit import fit as fit
from flowjax.training.losses import flow_matching_loss as flow_matching_loss

__all__ = ["fit", "flow_matching_loss"]
