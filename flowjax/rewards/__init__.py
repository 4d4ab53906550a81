"""Fine-tuning on rewards: losses of one sample or one stored path."""

from flowjax.rewards.adjoint_matching import adjoint_matching as adjoint_matching
from flowjax.rewards.policy_gradient import group_advantages as group_advantages
from flowjax.rewards.policy_gradient import policy_gradient as policy_gradient

__all__ = ["adjoint_matching", "group_advantages", "policy_gradient"]
