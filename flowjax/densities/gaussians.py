"""The noise of a Gaussian step, element by element or as a matrix, and densities by it."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from flowjax._numerics import widest
from flowjax._types import State
from flowjax.densities.backward import flat, like


class Diagonal(NamedTuple):
    """Independent elements, of these standard deviations."""

    deviations: State

    def log_prob(self, off: State) -> Array:
        r"""The log density at the mean and `off`: $-|z|^2/2 - \\sum_i \\log s_i - d/2 \\log 2\\pi$."""
        parts = jax.tree.map(_log_prob_of_leaf, off, self.deviations)
        return total(jax.tree.leaves(parts), widest(off))

    def divide(self, off: State) -> tuple[list[Array], State]:
        """Z = off / s, zero where there is no noise, and what of `off` the noise does not reach."""
        z = jax.tree.map(_quotient, off, self.deviations)
        rest = jax.tree.map(lambda off, s: jnp.where(s == 0, off, 0), off, self.deviations)
        return jax.tree.leaves(z), rest

    def silent(self, x: State) -> State:
        """Which elements have no noise at all."""
        return jax.tree.map(lambda s: s == 0, self.deviations)

    def lacks(self) -> Array:
        """Whether the noise leaves out a direction, so that there is no density."""
        return jnp.any(jnp.stack([jnp.any(s == 0) for s in jax.tree.leaves(self.deviations)]))

    def is_that_of(self, other: Any) -> Array:
        """Whether both have the same covariance, to rounding."""
        if not isinstance(other, Diagonal):
            return jnp.asarray(False)
        pairs = zip(
            jax.tree.leaves(self.deviations), jax.tree.leaves(other.deviations), strict=True
        )
        return jnp.all(jnp.stack([_near(a, b, jnp.maximum(a, b)) for a, b in pairs]))


class Matrix(NamedTuple):
    """Elements that share noise: the covariance is A A^T, of this A."""

    rows: Array
    """(elements, noises)."""

    def log_prob(self, off: State) -> Array:
        r"""The log density, as of `Diagonal`, with $A A^\\top = R^\\top R$ and $z = R^{-\\top}$ off."""
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
            return [z], like(row - self.rows @ z, off)

    def silent(self, x: State) -> State:
        """Which elements have no noise at all."""
        return jax.tree.map(
            lambda leaf: leaf == 0, like(jnp.max(jnp.abs(self.rows), axis=1, initial=0.0), x)
        )

    def lacks(self) -> Array:
        """Whether the noise leaves out a direction, so that there is no density."""
        return _singular(_triangle(self.rows)) if self.full else jnp.asarray(True)

    @property
    def full(self) -> bool:
        """Whether there is noise enough for all elements."""
        return self.rows.shape[1] >= self.rows.shape[0]

    def is_that_of(self, other: Any) -> Array:
        """Whether both have the same covariance, to rounding."""
        if not isinstance(other, Matrix):
            return jnp.asarray(False)
        with jax.default_matmul_precision("highest"):
            a, b = self.rows @ self.rows.T, other.rows @ other.rows.T
        return _near(a, b, jnp.maximum(jnp.max(jnp.abs(a)), jnp.max(jnp.abs(b))))


def total(parts: list[Array], dtype: Any) -> Array:
    """The sum of numbers."""
    return jnp.sum(jnp.stack([part.astype(dtype) for part in parts]))


def tolerance(dtype: Any) -> float:
    """What is rounding, as a part of the numbers at hand."""
    return math.sqrt(jnp.finfo(dtype).eps)


def _near(a: Array, b: Array, size: Array) -> Array:
    return jnp.all(jnp.abs(a - b) <= tolerance(a.dtype) * size)


def _quotient(off: Array, deviation: Array) -> Array:
    exists = deviation != 0
    return jnp.where(exists, off / jnp.where(exists, deviation, 1), 0)


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
    # Negated, because NaN is in no order and is no lack of noise.
    return jnp.any(pivots <= rounding * jnp.max(jnp.abs(triangle)))
