"""The types that every floor speaks in."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax.numpy as jnp
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


def computing_dtype(dtype: Any) -> Any:
    """`dtype`, but at least float32: the dtype in which a state of `dtype` is computed."""
    return jnp.dtype(jnp.float32) if jnp.finfo(dtype).bits < 32 else jnp.dtype(dtype)
