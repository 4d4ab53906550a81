"""The noise of a Gaussian step, element by element or as a matrix, and densities by it."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from flowjax._numerics import quotient, widest
from flowjax._types import State
from flowjax.densities.backward import flat, like


class Diagonal(NamedTuple):
    """Independent elements, of these standard deviations."""

    deviations: State

    def log_prob(self, off: State) -> Array:
        r"""The log density at the mean and `off`, a sum over the elements.

        $$-\tfrac12 |z|^2 - \sum_i \log s_i - \tfrac d2 \log 2\pi, \qquad z = \mathrm{off} / s$$

        NaN where an element has no noise.
        """
        parts = jax.tree.map(_log_prob_of_leaf, off, self.deviations)
        return total(jax.tree.leaves(parts), widest(off))

    def divide(self, off: State) -> tuple[list[Array], State]:
        """`off` / s, zero where there is no noise; and what of `off` the noise does not reach."""
        z = jax.tree.map(quotient, off, self.deviations)
        rest = jax.tree.map(lambda off, s: jnp.where(s == 0, off, 0), off, self.deviations)
        return jax.tree.leaves(z), rest

    def silent(self, x: State) -> Any:
        """Which elements have no noise at all."""
        return jax.tree.map(lambda s: s == 0, self.deviations)

    def lacks(self) -> Array:
        """Whether the noise leaves out a direction, so that there is no density."""
        return either(jax.tree.map(lambda s: s == 0, self.deviations))

    def is_that_of(self, other: "Diagonal") -> Array:
        """Whether both have the same covariance, to rounding."""
        unlike = jax.tree.map(
            lambda a, b: _far(a, b, jnp.maximum(a, b)), self.deviations, other.deviations
        )
        return ~either(unlike)


class Matrix(NamedTuple):
    """Elements that share noise: the covariance is A A^T, of this A."""

    rows: Array
    """(elements, noises)."""

    def log_prob(self, off: State) -> Array:
        r"""The log density, as of `Diagonal`, with $A A^\top = R^\top R$ and $R^\top z$ = off.

        NaN where A has not the rank of its rows.
        """
        if self.rows.shape[1] < self.rows.shape[0]:
            raise ValueError(
                f"sde must have noise in every direction of the state, got {self.rows.shape[1]} "
                f"motions for {self.rows.shape[0]} elements: its paths have no density. (Those of "
                f"two such SDEs may have a ratio: path_log_ratio.)"
            )
        triangle = _triangle(self.rows)
        triangle = jnp.where(_singular(triangle), jnp.nan, triangle)
        z = jax.scipy.linalg.solve_triangular(triangle, flat(off, self.rows.dtype), trans=1)
        log_determinant = jnp.sum(jnp.log(jnp.abs(jnp.diag(triangle))))
        return -jnp.sum(z**2) / 2 - log_determinant - z.size * math.log(2 * math.pi) / 2

    def divide(self, off: State) -> tuple[list[Array], State]:
        """The least z of A z = off, or of what A reaches of it, and what it does not reach."""
        row = flat(off, self.rows.dtype)
        with jax.default_matmul_precision("highest"):
            z = jnp.linalg.pinv(self.rows) @ row
            rest, size = row - self.rows @ z, jnp.abs(self.rows) @ jnp.abs(z) + jnp.abs(row)
            rounding = 64 * jnp.finfo(row.dtype).eps * size
            return [z], like(jnp.where(jnp.abs(rest) > rounding, rest, 0), off)

    def silent(self, x: State) -> Any:
        """Which elements have no noise at all."""
        largest = jnp.max(jnp.abs(self.rows), axis=1, initial=0.0)
        return jax.tree.map(lambda leaf: leaf == 0, like(largest, x))

    def lacks(self) -> Array:
        """Whether noise enough for all elements leaves out a direction all the same."""
        if self.rows.shape[1] < self.rows.shape[0]:
            return jnp.asarray(False)
        return _singular(_triangle(self.rows))

    def is_that_of(self, other: "Matrix") -> Array:
        """Whether both have the same covariance, to rounding."""
        with jax.default_matmul_precision("highest"):
            a, b = self.rows @ self.rows.T, other.rows @ other.rows.T
        return ~_far(a, b, jnp.maximum(jnp.max(jnp.abs(a)), jnp.max(jnp.abs(b))))


def total(parts: list[Array], dtype: Any) -> Array:
    """The sum of numbers."""
    return jnp.sum(jnp.stack([part.astype(dtype) for part in parts]))


def either(flags: Any) -> Array:
    """Whether any element of any leaf is true."""
    return jnp.any(jnp.stack([jnp.any(flag) for flag in jax.tree.leaves(flags)]))


def tolerance(dtype: Any) -> float:
    """What is rounding, as a part of the numbers at hand."""
    return math.sqrt(jnp.finfo(dtype).eps)


def _far(a: Array, b: Array, size: Array) -> Array:
    return jnp.any(jnp.abs(a - b) > tolerance(a.dtype) * size)


def _log_prob_of_leaf(off: Array, deviation: Array) -> Array:
    # NaN, in the derivatives too, where there is no noise.
    deviation = jnp.where(deviation == 0, jnp.nan, deviation)
    each = -((off / deviation) ** 2) / 2 - jnp.log(deviation)
    return jnp.sum(each) - off.size * math.log(2 * math.pi) / 2


def _triangle(rows: Array) -> Array:
    """R of A A^T = R^T R: of A itself, since the condition of A A^T is the square of its own."""
    return jnp.linalg.qr(rows.T, mode="r")


def _singular(triangle: Array) -> Array:
    pivots = jnp.abs(jnp.diag(triangle))
    rounding = 4 * pivots.size * jnp.finfo(pivots.dtype).eps
    return jnp.any(pivots <= rounding * jnp.max(jnp.abs(triangle)))
