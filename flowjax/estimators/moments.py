"""Means and variances of samples that come in chunks, with control variates."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import cho_factor, cho_solve

from flowjax._numerics import quotient, root, wide
from flowjax._types import State


class Estimate(NamedTuple):
    """An estimate of an expectation, by independent samples.

    Args:
        mean: the estimate, like what f returns, but of at least float32.
        standard_error: of each element of the mean, estimated from the same samples.
        num: how many samples were drawn.
    """

    mean: State
    standard_error: State
    num: int


class Moments(NamedTuple):
    """The first two moments of values and of their controls.

    All but the number are trees like the value, of which a leaf y of shape (*s) has q controls c of
    shape (q, *b), where b broadcasts to s. Sums are of products of distances from the means.

    Args:
        number: how many values there are.
        mean: of y, (*s).
        control: the mean of c, (q, *b).
        yy: the sum of (y - mean)^2, (*s).
        cy: of c and y, (q, *s).
        cc: of c and c, (q, q, *b).
    """

    number: Array
    mean: State
    control: State
    yy: State
    cy: State
    cc: State


def moments(values: tuple[State, State], taken: Array) -> Moments:
    """Those of values and controls on a leading axis, of the ones that are taken."""
    values = wide(values)
    count = jnp.sum(taken, dtype=jnp.uint32)

    def total(leaf: Array) -> Array:
        rows = taken.reshape(-1, *(1,) * (leaf.ndim - 1))
        return jnp.sum(jnp.where(rows, leaf, 0), axis=0)

    means = jax.tree.map(lambda leaf: total(leaf) / count.astype(leaf.dtype), values)
    y, c = jax.tree.map(lambda leaf, mean: leaf - mean[None], values, means)
    return Moments(
        count,
        means[0],
        means[1],
        jax.tree.map(lambda y: total(y * y), y),
        jax.tree.map(lambda y, c: total(c * y[:, None]), y, c),
        jax.tree.map(lambda c: total(c[:, :, None] * c[:, None]), c),
    )


def merged(a: Moments, b: Moments) -> Moments:
    r"""The moments of two sets of values together.

    $$M = M_a + M_b + \frac{n_a n_b}{n_a + n_b}(\bar y_b - \bar y_a)^2$$

    References:
        Chan, Golub, LeVeque (1983), "Algorithms for computing the sample variance", The American
        Statistician 37, equation 2.1.
    """

    def share(leaf: Array) -> Array:
        return b.number.astype(leaf.dtype) / (a.number + b.number).astype(leaf.dtype)

    def mean(a: Array, b: Array) -> Array:
        return a + share(a) * (b - a)

    def products(sum_a: Array, sum_b: Array, product: Array) -> Array:
        return sum_a + sum_b + a.number.astype(sum_a.dtype) * share(sum_a) * product

    y = jax.tree.map(jnp.subtract, b.mean, a.mean)
    c = jax.tree.map(jnp.subtract, b.control, a.control)
    return Moments(
        a.number + b.number,
        jax.tree.map(mean, a.mean, b.mean),
        jax.tree.map(mean, a.control, b.control),
        jax.tree.map(lambda m, n, y: products(m, n, y * y), a.yy, b.yy, y),
        jax.tree.map(lambda m, n, y, c: products(m, n, c * y[None]), a.cy, b.cy, y, c),
        jax.tree.map(lambda m, n, c: products(m, n, c[:, None] * c[None]), a.cc, b.cc, c),
    )


def estimated(total: Moments, known: State, count: int) -> tuple[State, State]:
    r"""The mean at the known mean of the controls, and its error, of so many independent values.

    $$\bar y - \beta^T(\bar c - \mu), \quad \beta = M_{cc}^{-1} M_{cy}, \qquad
    \mathrm{error}^2 = \frac{M_{yy} - \beta^T M_{cy}}{n - 1 - q}
    \Big(\frac1n + (\bar c - \mu)^T M_{cc}^{-1} (\bar c - \mu)\Big)$$

    the intercept of the regression of y on c - mu, and its standard error. Without controls they
    are the sample mean and its standard error.

    References:
        Glasserman (2003), "Monte Carlo Methods in Financial Engineering", sections 4.1.2 and 4.1.3.
    """

    def of_leaf(
        mean: Array, control: Array, yy: Array, cy: Array, cc: Array, known: Array
    ) -> tuple[Array, Array]:
        q, off = cy.shape[0], known.astype(control.dtype) - control
        # A control that is a constant varies by rounding.
        rounding = 8 * _eps(control) * control.reshape(q)
        varies = jnp.diagonal(cc).reshape(q) > count * rounding**2
        beta, scaled = _solved(cc, cy, varies), _solved(cc, off, varies)
        # What is left is known to the rounding of yy, which is no error of zero.
        least = 0 if q == 0 else 4 * _eps(yy) * yy
        residual = jnp.maximum(yy - jnp.sum(beta * cy, axis=0), least)
        square = residual / (count - 1 - q) * (1 / count + jnp.sum(scaled * off, axis=0))
        return mean + jnp.sum(beta * off, axis=0), root(square)

    _, *trees = total
    leaves = [jax.tree.leaves(tree) for tree in (*trees, known)]
    pairs = [of_leaf(*parts) for parts in zip(*leaves, strict=True)]
    means, errors = ([pair[i] for pair in pairs] for i in (0, 1))
    structure = jax.tree.structure(total.mean)
    return jax.tree.unflatten(structure, means), jax.tree.unflatten(structure, errors)


class Averages(eqx.Module):
    """The mean of what is kept of each sample, a value and its controls, and the standard error.

    Args:
        known: the mean of the controls, all the numbers of a pytree beside each leaf of a value;
            None for controls of mean zero.
        num: how many paths there are, `each` of them in one value.
        each: 1, or 2 for antithetic pairs.
    """

    known: Any
    num: int = eqx.field(static=True)
    each: int = eqx.field(static=True, default=1)

    def summary(self, kept: tuple[State, State], taken: Array) -> Moments:
        """The moments of a chunk."""
        return moments(kept, taken)

    def merged(self, a: Moments, b: Moments) -> Moments:
        """The moments of two sets of values together."""
        return merged(a, b)

    def result(self, total: Moments) -> tuple[State, State]:
        """The mean and its standard error."""
        for leaf in jax.tree.leaves(total.control):
            check_num(self.num, self.each, len(leaf))
        known = jax.tree.map(jnp.zeros_like, total.control)
        if self.known is not None:
            known = beside(total.mean, self.known)
        return estimated(total, known, self.num // self.each)


def _eps(leaf: Array) -> float:
    return float(jnp.finfo(leaf.dtype).eps)


def _solved(cc: Array, right: Array, varies: Array) -> Array:
    """`cc^-1 right` for (q, *s) on the right; 0 for controls that do not vary."""
    q = cc.shape[0]
    if q == 0:
        return right
    if q == 1:
        return quotient(right, jnp.broadcast_to(jnp.where(varies[0], cc[0], 0), right.shape))
    cc = cc.reshape(q, q)  # one system for all elements
    scale = jnp.where(varies, 1 / jnp.sqrt(jnp.where(varies, jnp.diagonal(cc), 1)), 0)
    factor = cho_factor(
        scale[:, None] * cc * scale[None] + jnp.diag(jnp.where(varies, 0, scale + 1))
    )
    columns = scale[:, None] * cho_solve(factor, scale[:, None] * right.reshape(q, -1))
    return columns.reshape(right.shape)


def beside(value: State, control: Any) -> State:
    """All the numbers of a control beside each leaf of a value, as `Moments` has them."""
    leaves = jax.tree.leaves(control)

    def flat(leaf: Array) -> Array:
        numbers = [c.reshape(-1).astype(leaf.dtype) for c in leaves]
        numbers = jnp.concatenate(numbers) if numbers else jnp.zeros((0,), leaf.dtype)
        return numbers.reshape(-1, *(1,) * leaf.ndim)

    return jax.tree.map(flat, value)


def check_num(num: int, each: int = 1, controls: int = 0) -> None:
    """Refuses a number of samples, `each` of them together, of which no error can be estimated."""
    least = each * (controls + 2)
    if num < least:
        fitted = f" beside {controls} fitted coefficients" if controls else ""
        raise ValueError(f"num must be at least {least} for a standard error{fitted}, got {num}.")
