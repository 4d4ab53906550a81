"""Log densities of what a flow makes of its initial distribution."""

from flowjax.densities.euler import euler_log_likelihood
from flowjax.densities.likelihood import Exact, Hutchinson, log_likelihood

__all__ = ["Exact", "Hutchinson", "euler_log_likelihood", "log_likelihood"]
