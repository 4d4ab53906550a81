"""Newton's method for one equation in a vector, differentiable.

Not optimistix's: without a search along the step it goes round in circles on steps of a sampler
that have a root, and the end of the search here is the rounding of the equation, not a tolerance.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

# Of the inversions of Euler steps the median takes 2, and 30 solved the hardest.
_MAX_TRIES = 50


def root(residual: Callable, start: Array, eps: float) -> tuple[Array, Array, Array]:
    """Where the residual is zero, its Jacobian there, and whether such a point was found.

    The root is differentiated implicitly, through what the residual closes over.

    Args:
        residual: ``y -> r`` of shape (d,), the difference of numbers as large as y and start.
        start: where to begin, (d,).
        eps: the relative rounding of the function in it, which may be more than that of y.
    """

    def tangent_solve(linear: Callable, b: Array) -> Array:
        return jnp.linalg.solve(jax.jacfwd(linear)(b), b)

    search = functools.partial(_search, eps=eps)
    y = jax.lax.custom_root(residual, start, search, tangent_solve)
    distance, jacobian = _value_and_jacobian(residual, y)
    return y, jacobian, norm(distance) <= _small(jacobian, y, start, eps)


def norm(array: Array) -> Array:
    """The largest element of a vector, the largest sum of a row of a matrix, in absolute value."""
    return jnp.max(jnp.sum(jnp.abs(array.reshape(array.shape[0], -1)), axis=1))


def inverse_norm(matrix: Array) -> Array:
    """The norm of the inverse."""
    # Not by jnp.linalg.inv, which fails on a mesh of explicit axes. The factors leave the order of
    # the columns open, which does not matter to the norm.
    lu, _, _ = jax.lax.linalg.lu(jax.lax.stop_gradient(matrix))
    solve = functools.partial(jax.lax.linalg.triangular_solve, lu, left_side=True)
    identity = jnp.diag(jnp.ones_like(matrix[0]))
    return norm(solve(solve(identity, lower=True, unit_diagonal=True)))


class _Search(NamedTuple):
    """The best point of the Newton iteration, and the part of its Newton step to try next."""

    y: Array
    distance: Array
    small: Array
    newton_step: Array
    part: Array
    tries: Array
    finished: Array


def _search(residual: Callable, start: Array, eps: float) -> Array:
    """The root by Newton's method, each step halved until it reduces the residual.

    The iteration ends where the residual is one of rounding, or is small and no longer halved.
    """

    def iterate(at: _Search) -> _Search:
        y = at.y - at.part * at.newton_step
        value, jacobian = _value_and_jacobian(residual, y)
        distance = norm(value)
        stagnant = at.small & ~(distance < at.distance / 2)
        finished = stagnant | (distance <= 2 * jnp.finfo(y.dtype).eps * (norm(y) + norm(start)))
        small = distance <= _small(jacobian, y, start, eps)
        better = distance <= (1 - at.part / 4) * at.distance
        step, longer = jnp.linalg.solve(jacobian, value), jnp.minimum(2 * at.part, 1)
        taken = _Search(y, distance, small, step, longer, at.tries + 1, finished)
        refused = at._replace(part=at.part / 2, tries=taken.tries, finished=finished)
        return jax.tree.map(lambda new, old: jnp.where(better, new, old), taken, refused)

    def going(at: _Search) -> Array:
        return ~at.finished & (at.tries < _MAX_TRIES)

    # Made from start, so that they lie on the same devices.
    one = norm(jnp.ones_like(start))
    no, none = one < 0, jnp.int32(0 * one)
    hopeless = jnp.any(jnp.isnan(start))
    first = _Search(start, jnp.inf * one, no, jnp.zeros_like(start), one, none, hopeless)
    return jax.lax.while_loop(going, iterate, first).y


def _small(jacobian: Array, y: Array, start: Array, eps: float) -> Array:
    """How far from zero the residual of a root may be: what rounding makes of it, and more."""
    return eps ** (2 / 3) * (1 + norm(start) + norm(jacobian) * (1 + norm(y)))


def _value_and_jacobian(function: Callable, y: Array) -> tuple[Array, Array]:
    value, jvp = jax.linearize(function, y)
    return value, jax.vmap(jvp, out_axes=1)(jnp.diag(jnp.ones_like(y)))
