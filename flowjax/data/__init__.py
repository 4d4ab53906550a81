"""Small data sets that need no download: real digits, and toy data in the plane."""

from flowjax.data.images import Digits as Digits
from flowjax.data.images import LabelledImages as LabelledImages
from flowjax.data.images import digits as digits
from flowjax.data.toys import checkerboard as checkerboard
from flowjax.data.toys import eight_gaussians as eight_gaussians
from flowjax.data.toys import moons as moons
from flowjax.data.toys import s_curve as s_curve
from flowjax.data.toys import spirals as spirals

__all__ = [
    "Digits",
    "LabelledImages",
    "checkerboard",
    "digits",
    "eight_gaussians",
    "moons",
    "s_curve",
    "spirals",
]
