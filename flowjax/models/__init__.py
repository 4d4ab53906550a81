"""Small equinox networks that are fields: ``model(t, x, args) -> velocity``."""

from flowjax.models.mlp import VelocityMLP as VelocityMLP

__all__ = ["VelocityMLP"]
