"""A number or a function of time, as a function of time."""

import inspect
import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax import Array

from flowjax._check import number, require


class ScalarFunction(eqx.Module):
    """A number, or a function of time with scalar values, as a function of time."""

    value: Any
    name: str = eqx.field(static=True)

    def __init__(self, value: Any, name: str, least: float = -math.inf):
        if isinstance(value, type):
            raise TypeError(f"{name} must be a number or a function of t, got {value!r}.")
        if callable(value):
            of_one_argument(value, name, "a number or a function of time alone, t -> scalar")
        else:
            value = number(value, name)
            bound = "" if least == -math.inf else f" and at least {least:g}"
            require(
                lambda x: math.isfinite(x) and x >= least,
                value,
                message=f"{name} must be finite{bound}",
            )
            value = jnp.asarray(value)
        self.value, self.name = value, name

    def __call__(self, t: Array) -> Array:
        """The value at time t."""
        value: Any = self.value(t) if callable(self.value) else self.value
        return jnp.asarray(number(value, f"{self.name}(t)"), t.dtype)


def of_one_argument(function: Any, name: str, wanted: str) -> None:
    """Refuses a function that cannot be called with one argument, where that can be seen."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # as of some functions written in C
        return
    try:
        signature.bind(0.0)
    except TypeError:
        raise TypeError(f"{name} must be {wanted}, got a function of {signature}.") from None
