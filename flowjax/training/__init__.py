"""The training loop."""

from flowjax.training.fit import fit as fit

__all__ = ["fit"]
