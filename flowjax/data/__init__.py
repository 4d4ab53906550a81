"""Small real data sets that need no download."""

from flowjax.data.images import Digits as Digits
from flowjax.data.images import LabelledImages as LabelledImages
from flowjax.data.images import digits as digits

__all__ = ["Digits", "LabelledImages", "digits"]
