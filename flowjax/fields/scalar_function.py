"""A number or a function of time, as a function of time."""

import inspect
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax import Array

from flowjax._check import number


class ScalarFunction(eqx.Module):
    """A number, or a function of time with scalar values, as a function of time."""

    value: Any
    name: str = eqx.field(static=True)

    def __init__(self, value: Any, name: str):
        if isinstance(value, type):
            raise TypeError(f"{name} must be a number or a function of t, got {value!r}.")
        if callable(value):
            _of_time_alone(value, name)
        self.value = value if callable(value) else jnp.asarray(number(value, name))
        self.name = name

    def __call__(self, t: Array) -> Array:
        """The value at time t."""
        value: Any = self.value(t) if callable(self.value) else self.value
        kind = jnp.result_type(value)
        real = jnp.issubdtype(kind, jnp.floating) or jnp.issubdtype(kind, jnp.integer)
        if jnp.shape(value) != () or not real:
            raise ValueError(
                f"{self.name} must be a real scalar at each t, got shape {jnp.shape(value)} and "
                f"dtype {kind}."
            )
        return jnp.asarray(value, t.dtype)


def _of_time_alone(function: Any, name: str) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:  # as of some functions written in C
        return
    try:
        signature.bind(0.0)
    except TypeError:
        raise TypeError(
            f"{name} must be a number or a function of time alone, t -> scalar, got a function of "
            f"{signature}."
        ) from None
