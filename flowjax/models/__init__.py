"""Small networks, as equinox modules of the form of a field: ``model(t, x, args)``."""

from flowjax.models.mlp import MLP as MLP

__all__ = ["MLP"]
