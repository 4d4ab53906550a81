"""Small data sets that need no download, and a reader of files: images, videos, molecules, toys."""

from flowjax.data.folders import Folder as Folder
from flowjax.data.folders import folder as folder
from flowjax.data.images import Digits as Digits
from flowjax.data.images import LabelledImages as LabelledImages
from flowjax.data.images import digits as digits
from flowjax.data.molecules import Conformers as Conformers
from flowjax.data.molecules import conformers as conformers
from flowjax.data.toys import checkerboard as checkerboard
from flowjax.data.toys import eight_gaussians as eight_gaussians
from flowjax.data.toys import moons as moons
from flowjax.data.toys import s_curve as s_curve
from flowjax.data.toys import spirals as spirals
from flowjax.data.videos import LabelledVideos as LabelledVideos
from flowjax.data.videos import moving_digits as moving_digits

__all__ = [
    "Conformers",
    "Digits",
    "Folder",
    "LabelledImages",
    "LabelledVideos",
    "checkerboard",
    "conformers",
    "digits",
    "eight_gaussians",
    "folder",
    "moons",
    "moving_digits",
    "s_curve",
    "spirals",
]
