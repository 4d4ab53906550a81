"""Small equinox networks that are fields: ``model(t, x, args) -> velocity``."""

from flowjax.models.mlp import MLP as MLP

__all__ = ["MLP"]
