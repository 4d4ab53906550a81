"""Wasserstein distances: exact by assignment, in one dimension by sorting, and along lines."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from flowjax import _check
from flowjax._numerics import root
from flowjax.metrics.sets import order_of, two_sets


def wasserstein(x: Any, y: Any, *, order: int = 2) -> Array:
    r"""The exact Wasserstein distance of two sets of samples.

    $$W_p = \Big(\min_\pi \frac1N\sum_{i=1}^N |x_i - y_{\pi(i)}|^p\Big)^{1/p}$$

    It has the unit of the samples: the root is taken. For samples of one number the solution is in
    sorted order, and the sets may differ in their numbers of samples. Otherwise they may not, and
    SciPy solves the assignment on the host from N^2 costs in float64: in the plane 0.3 s for 1000
    samples, 4 s for 4000 on one core.

    Two sets of one law are not at distance zero: of N samples in D dimensions they are apart by
    about N^(-1/D). Print the distance of two sets of real data beside it.

    It may be called inside `jit` and `vmap`, which wait for the host, and `grad`.

    Args:
        x: N samples: a floating array (N, ...) or a pytree of them, whose leaves are taken as one
            long vector.
        y: as many samples like those of x; any number of them if they are of one number.
        order: p, 1 or 2.

    Returns:
        The distance, a scalar of the widest dtype of x and y, at least float32.

    Raises:
        TypeError: a leaf is not real floating.
        ValueError: the samples of x and y differ in structure, shape or number, a set is empty,
            leaves differ in their number of samples, a number is not finite (looked at only where
            it is not traced), or order is neither 1 nor 2.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> x = jax.random.normal(jax.random.key(0), (100, 2))
        >>> print(f"{fj.metrics.wasserstein(x, x[::-1] + jnp.array([[3.0, 4.0]])):.3f}")
        5.000

    References:
        Peyre, Cuturi, "Computational optimal transport", 2018, arXiv 1803.00567, propositions 2.1
        (assignment) and 2.2, and remark 2.28 (one dimension).
    """
    order = order_of(order)
    x, y = two_sets(x, y)
    if x.shape[1] == 1:
        return _root(_in_order(x, y, order)[0], order)
    if x.shape[0] != y.shape[0]:
        raise ValueError(
            f"x and y must have one number of samples, as they are not of one number each, got "
            f"{x.shape[0]} and {y.shape[0]}: leave some out, or take sliced_wasserstein."
        )
    pairs = _assignment(jax.lax.stop_gradient(x), jax.lax.stop_gradient(y), order)
    return _of_pairs(x, y, pairs, order)


@partial(jax.jit, static_argnums=3)
def _of_pairs(x: Array, y: Array, pairs: Array, order: int) -> Array:
    y = y[pairs]
    squared = jnp.sum((x - y) ** 2, axis=1)
    return _root(jnp.mean(squared if order == 2 else root(squared)), order)


def sliced_wasserstein(
    key: Array, x: Any, y: Any, *, projections: int = 128, order: int = 2
) -> Array:
    r"""The sliced Wasserstein distance: the mean of one-dimensional ones along random lines.

    $$SW_p = \Big(\frac1L\sum_{l=1}^L W_p^p\big(\theta_l^T x, \theta_l^T y\big)\Big)^{1/p}, \qquad
    \theta_l \text{ uniform on the sphere}$$

    It has the unit of the samples: the root is taken. Numbers that are to be compared, as of
    several models, want one and the same key, which names the lines.

    It may be called inside `jit`, `vmap` and `grad`.

    Args:
        key: one JAX key.
        x: N samples: a floating array (N, ...) or a pytree of them, whose leaves are taken as one
            long vector.
        y: M samples like those of x.
        projections: L, how many lines.
        order: p, 1 or 2.

    Returns:
        The distance, a scalar of the widest dtype of x and y, at least float32.

    Raises:
        TypeError: key is no key, projections is not a static int, or a leaf is not real floating.
        ValueError: key is a batch of keys, projections is below one, the samples of x and y differ
            in structure or shape, a set is empty, leaves differ in their number of samples, a
            number is not finite (looked at only where it is not traced), or order is neither 1
            nor 2.

    Example:
        >>> import jax
        >>> import flowjax as fj
        >>> x, y = jax.random.normal(jax.random.key(0), (2, 1000, 8))
        >>> same = fj.metrics.sliced_wasserstein(jax.random.key(1), x, y)
        >>> apart = fj.metrics.sliced_wasserstein(jax.random.key(1), x, 2 * y)
        >>> print(f"{same:.1f} {apart:.0f}")
        0.1 1

    References:
        Bonneel, Rabin, Peyre, Pfister, "Sliced and Radon Wasserstein barycenters of measures",
        2015, Journal of Mathematical Imaging and Vision 51, doi 10.1007/s10851-014-0506-3.
    """
    _check.single_key(key)
    projections, order = _check.positive_int(projections, "projections"), order_of(order)
    x, y = two_sets(x, y)
    return _along_lines(key, x, y, projections, order)


@partial(jax.jit, static_argnums=(3, 4))
def _along_lines(key: Array, x: Array, y: Array, projections: int, order: int) -> Array:
    lines = jax.random.normal(key, (projections, x.shape[1]), x.dtype)
    lines = lines / jnp.linalg.norm(lines, axis=1, keepdims=True)

    def along(line: Array) -> Array:
        on_line = (jnp.matmul(z, line, precision=jax.lax.Precision.HIGHEST) for z in (x, y))
        return _in_order(*(z[:, None] for z in on_line), order)[0]

    # One line after the other, so that memory is that of one.
    return _root(jnp.mean(jax.lax.map(along, lines)), order)


def marginal_wasserstein(x: Any, y: Any, *, order: int = 1) -> Array:
    r"""The mean over coordinates of the Wasserstein distance of each.

    $$\frac1D\sum_{d=1}^D W_p\big(x^{(d)}, y^{(d)}\big)$$

    Of bond lengths it is the usual comparison of molecules: each bond beside the same bond of the
    data, `marginal_wasserstein(bond_lengths(x, bonds), bond_lengths(y, bonds))`. It has the unit
    of the samples, and does not see how coordinates hang together.

    Args:
        x: N samples: a floating array (N, ...) or a pytree of them, whose leaves are taken as one
            long vector.
        y: M samples like those of x.
        order: p, 1 or 2.

    Returns:
        The mean distance, a scalar of the widest dtype of x and y, at least float32.

    Raises:
        TypeError: a leaf is not real floating.
        ValueError: the samples of x and y differ in structure or shape, a set is empty, leaves
            differ in their number of samples, a number is not finite (looked at only where it is
            not traced), or order is neither 1 nor 2.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> x = jnp.array([[0.0, 5.0], [1.0, 7.0]])
        >>> print(fj.metrics.marginal_wasserstein(x, x + jnp.array([[1.0, 3.0]])))
        2.0

    References:
        Peyre, Cuturi, "Computational optimal transport", 2018, arXiv 1803.00567, remark 2.28.
    """
    order = order_of(order)
    return jnp.mean(_root(_in_order(*two_sets(x, y), order), order))


def _root(value: Array, order: int) -> Array:
    return root(value) if order == 2 else value


@partial(jax.jit, static_argnums=2)
def _in_order(x: Array, y: Array, order: int) -> Array:
    """W_p^p of each column: the integral of |F^-1(u) - G^-1(u)|^p over u in (0, 1)."""
    n, m = x.shape[0], y.shape[0]
    # Both are constant between the cuts, multiples of 1/n and 1/m, here of 1/(n m).
    cuts = np.union1d(np.arange(n + 1, dtype=np.int64) * m, np.arange(m + 1, dtype=np.int64) * n)
    weights = jnp.asarray(np.diff(cuts) / (n * m), x.dtype)
    x, y = (jnp.sort(z, axis=0)[cuts[:-1] // other] for z, other in ((x, m), (y, n)))
    cost = jnp.abs(x - y) if order == 1 else (x - y) ** 2
    return jnp.matmul(weights, cost, precision=jax.lax.Precision.HIGHEST)


def _assignment(x: Array, y: Array, order: int) -> Array:
    """For each row of x that of y which it goes with."""

    def solve(x: Any, y: Any) -> np.ndarray:
        from scipy.optimize import linear_sum_assignment
        from scipy.spatial.distance import cdist

        x, y = (np.asarray(z, np.float64) for z in (x, y))
        cost = cdist(x, y, "sqeuclidean" if order == 2 else "euclidean")
        if not np.all(np.isfinite(cost)):
            # Inside `jit`; the distance is then NaN.
            return np.arange(len(x), dtype=np.int32)
        return linear_sum_assignment(cost)[1].astype(np.int32)

    if not isinstance(x, Tracer) and not isinstance(y, Tracer):
        return jnp.asarray(solve(x, y))
    shape = jax.ShapeDtypeStruct((x.shape[0],), jnp.int32)
    return jax.pure_callback(solve, shape, x, y, vmap_method="sequential")
