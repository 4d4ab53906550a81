"""The types that every floor speaks in."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Array, Float, Key, PyTree, UInt32

Scalar: TypeAlias = Float[Array, ""] | float
"""One floating number, such as a time."""

Times: TypeAlias = Float[Array, " times"]
"""A grid of n + 1 times."""

State: TypeAlias = PyTree[Float[Array, "..."]]
"""One sample: an array or any pytree of floating arrays."""

StateLike: TypeAlias = PyTree
"""What becomes a state: a pytree of floating JAX or NumPy arrays or Python floats."""

Field: TypeAlias = Callable[[Any, Any, Any], Any]
"""A function ``(t, x, args) -> dx``; ``dx`` has the structure, shapes and dtypes of ``x``."""

KeyArray: TypeAlias = Key[Array, ""] | UInt32[Array, " words"] | UInt32[np.ndarray, " words"]
"""One JAX key, typed (``jax.random.key``) or old style (``jax.random.PRNGKey``)."""


class Domain(NamedTuple):
    """That a field lives on times from 0 to 1, and why it is not determined at an end of them.

    A field says so by an attribute `domain`, and a velocity by `pair_domain` of its data and noise.
    """

    at_start: str = ""
    """Why there is no value at t = 0; empty where there is."""
    at_end: str = ""
    """Why there is none at t = 1."""

    @classmethod
    def of(cls, why: Callable[[float], str]) -> "Domain":
        """That of the reason why there is no value at a time, 0 or 1."""
        return cls(why(0.0), why(1.0))

    def why(self, t: float) -> str:
        """Why there is no value at a time, 0 or 1."""
        return self.at_start if t == 0 else self.at_end

    def within(self, other: "Domain") -> "Domain":
        """What lies in both."""
        return Domain(self.at_start or other.at_start, self.at_end or other.at_end)
