"""Fields made from models: velocities, the SDEs with their marginals, and guidance."""

from flowjax.fields import guidance as guidance
from flowjax.fields.change_schedule import change_schedule as change_schedule
from flowjax.fields.precondition import precondition as precondition
from flowjax.fields.predictions import convert as convert
from flowjax.fields.velocity import Velocity as Velocity
from flowjax.fields.velocity import velocity as velocity
from flowjax.fields.with_noise import memoryless as memoryless
from flowjax.fields.with_noise import with_noise as with_noise

__all__ = [
    "Velocity",
    "change_schedule",
    "convert",
    "guidance",
    "memoryless",
    "precondition",
    "velocity",
    "with_noise",
]
