"""Numbers that a method is made with, known when it is traced."""

import numbers
from typing import Any

import jax
import numpy as np
from jax.core import Tracer


def static_number(value: Any, name: str) -> float:
    """A real number, or an array of shape () that is not traced, as a float."""
    if isinstance(value, Tracer):
        raise TypeError(
            f"{name} must be a static number, got a traced value of shape {value.shape}; under "
            f"jit, mark the argument as static."
        )
    if isinstance(value, (np.ndarray, jax.Array)) and value.shape == ():
        value = np.asarray(value)[()]
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a static number, such as a float, got {value!r}.")
    return float(value)
