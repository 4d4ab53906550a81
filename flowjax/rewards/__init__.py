"""Fine-tuning on rewards: losses of one sample or one stored path."""

from flowjax.rewards.adjoint_matching import adjoint_matching as adjoint_matching

__all__ = ["adjoint_matching"]
