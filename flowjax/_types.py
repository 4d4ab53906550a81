"""The types that every floor speaks in.

What a user hands to a public function is named here for type checkers, more narrowly than the tests
check it at run time: there bad input meets flowjax's own errors, which say more.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from jaxtyping import Array, Float, Key, PyTree, UInt32

Scalar: TypeAlias = Float[Array, ""] | float
"""One floating number, such as a time."""

Times: TypeAlias = Float[Array, " times"]
"""A grid of n + 1 times."""

Field: TypeAlias = Callable[[Any, Any, Any], Any]
"""A function ``(t, x, args) -> dx``; ``dx`` has the structure, shapes and dtypes of ``x``."""

KeyArray: TypeAlias = Key[Array, ""] | UInt32[Array, " words"] | UInt32[np.ndarray, " words"]
"""One JAX key, typed (``jax.random.key``) or old style (``jax.random.PRNGKey``)."""


class Step(Protocol):
    """A method that is a function: the formula of one step, ``(field, t0, t1, x, args, dw) -> x``.

    The Brownian increment `dw` has the default None in an ODE method and none in an SDE method.
    """

    def __call__(self, field: Any, t0: Any, t1: Any, x: Any, args: Any, dw: Any, /) -> Any: ...


class Adjoint(Protocol):
    """How the loop is differentiated: it runs all the steps from a carry; see solver.adjoints."""

    def scan(self, steps: Any, carry: Any, xs: Any, every: int | None) -> tuple[Any, Any]: ...


if TYPE_CHECKING:
    # A type checker does not know the structure of a pytree.
    State: TypeAlias = Any
    StateLike: TypeAlias = Any
    TimesLike: TypeAlias = Array | np.ndarray | Sequence[float]
    AdjointLike: TypeAlias = Adjoint
else:
    State: TypeAlias = PyTree[Float[Array, "..."]]
    """One sample: an array or any pytree of floating arrays."""

    StateLike: TypeAlias = PyTree
    """What becomes a state: a pytree of floating JAX or NumPy arrays or Python floats."""

    TimesLike: TypeAlias = Any
    """What becomes a grid of n + 1 times."""

    AdjointLike: TypeAlias = Any
    """An adjoint; another value is refused by the solve."""


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
