"""Log densities: of what a flow makes of its initial distribution, and of the paths of an SDE."""

from flowjax.densities.along import kl, log_prob, log_ratio

__all__ = ["kl", "log_prob", "log_ratio"]
