"""Log densities of what a flow makes of its initial distribution."""

from flowjax.densities.likelihood import log_likelihood as log_likelihood

__all__ = ["log_likelihood"]
