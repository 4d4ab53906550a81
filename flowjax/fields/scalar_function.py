"""A number or a function of time, as a function of time."""

import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax import Array

from flowjax._check import function, number, require


class ScalarFunction(eqx.Module):
    """A number, or a function of time with scalar values, as a function of time."""

    value: Any
    name: str = eqx.field(static=True)

    def __init__(self, value: Any, name: str, least: float = -math.inf):
        if callable(value):
            function(value, name, "of time alone, t -> scalar, or a number", takes=1)
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
