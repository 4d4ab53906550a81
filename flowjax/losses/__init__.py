"""Losses of one sample; `jax.vmap` and a mean make the loss of a batch."""

from flowjax.losses.flow_matching import flow_matching as flow_matching

__all__ = ["flow_matching"]
