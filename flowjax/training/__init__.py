"""Training: a state, the pure step that takes it on, and the loop over it."""

from flowjax.training.files import restore as restore
from flowjax.training.files import save as save
from flowjax.training.loop import fit as fit
from flowjax.training.state import Info as Info
from flowjax.training.state import TrainState as TrainState
from flowjax.training.state import averaged as averaged
from flowjax.training.state import init as init
from flowjax.training.state import step as step

__all__ = ["Info", "TrainState", "averaged", "fit", "init", "restore", "save", "step"]
