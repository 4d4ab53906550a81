"""Distances by the mean of a function of all pairs: the energy distance and the MMD."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowjax import _check
from flowjax._numerics import root
from flowjax.metrics.sets import two_sets

# So many numbers of pairs are in memory at once.
_PAIRS = 2**22

# Up to so many numbers a sample, differences are taken one by one: more exact, and as fast.
_FEW = 16

# The median of distances is that between so many samples of each set, or fewer.
_MEDIAN = 1000


def energy_distance(x: Any, y: Any, *, unbiased: bool = False) -> Array:
    r"""The energy distance of two sets of samples, in its squared form.

    $$D^2 = 2\,\mathrm{E}|X - Y| - \mathrm{E}|X - X'| - \mathrm{E}|Y - Y'|$$

    It is zero where the two laws are the same and positive elsewhere, and has the unit of the
    samples; `scipy.stats.energy_distance` is its root. There is nothing to choose in it.

    Means are over all pairs, and those within a set have each sample with itself too, so that the
    distance is not negative and that of a set to itself is zero, but for rounding. It is then too
    large by E|X - X'|/N + E|Y - Y'|/M, which is what two sets of one law are apart on average:
    compare with two sets of real data of the same numbers. With `unbiased` no sample is paired with
    itself, and the mean over draws is the distance of the laws, whatever the numbers; it may be
    negative.

    Memory is bounded whatever the numbers of samples: pairs are taken in chunks. It may be called
    inside `jit`, `vmap` and `grad`.

    Args:
        x: N samples: a floating array (N, ...) or a pytree of them, whose leaves are taken as one
            long vector.
        y: M samples like those of x.
        unbiased: whether a sample is not paired with itself.

    Returns:
        The distance, a scalar of the widest dtype of x and y, at least float32.

    Raises:
        TypeError: a leaf is not real floating.
        ValueError: the samples of x and y differ in structure or shape, a set is empty (or of one
            sample, if unbiased), leaves differ in their number of samples, or a number is not
            finite; values are looked at only where they are not traced.

    Example:
        >>> import jax
        >>> import flowjax as fj
        >>> x, y = jax.random.normal(jax.random.key(0), (2, 500, 3))
        >>> same, apart = fj.metrics.energy_distance(x, y), fj.metrics.energy_distance(x, y + 1)
        >>> print(f"{same:.2f} {apart:.1f}")
        0.01 1.0

    References:
        Szekely, Rizzo, "Energy statistics: a class of statistics based on distances", 2013, Journal
        of Statistical Planning and Inference 143, doi 10.1016/j.jspi.2013.03.018.
    """
    x, y = two_sets(x, y, 2 if unbiased else 1)
    within_x, within_y, between = _means(_distance, jnp.zeros((), x.dtype), x, y, unbiased)
    return 2 * between - within_x - within_y


def mmd(x: Any, y: Any, *, bandwidths: Any = None, unbiased: bool = False) -> Array:
    r"""The maximum mean discrepancy of two sets of samples by a Gaussian kernel, squared.

    $$\mathrm{MMD}^2 = \mathrm{E}\,k(X, X') + \mathrm{E}\,k(Y, Y') - 2\,\mathrm{E}\,k(X, Y), \qquad
    k(x, y) = \frac1B\sum_{b=1}^B \exp\Big(-\frac{|x - y|^2}{2 s_b^2}\Big)$$

    What is returned is the square, without a unit, between 0 and 2. Means are over all pairs, as in
    `energy_distance`, with the same meaning of `unbiased`.

    The default bandwidth is the median distance between two different samples of x and y together
    (of at most 1000 of each, evenly spaced), and thus another one for another x: numbers that are
    to be compared, as of several models, want one and the same bandwidth, such as the median
    distance within the data.

    Args:
        x: N samples: a floating array (N, ...) or a pytree of them, whose leaves are taken as one
            long vector.
        y: M samples like those of x.
        bandwidths: s, a positive number, or several of them, of which the kernels are averaged.
        unbiased: whether a sample is not paired with itself.

    Returns:
        The squared discrepancy, a scalar of the widest dtype of x and y, at least float32.

    Raises:
        TypeError: a leaf or a bandwidth is not real floating.
        ValueError: the samples of x and y differ in structure or shape, a set is empty (or of one
            sample, if unbiased), leaves differ in their number of samples, a number is not finite,
            a bandwidth is not positive, or the median distance is zero; values are looked at only
            where they are not traced.

    Example:
        >>> import jax
        >>> import flowjax as fj
        >>> x, y = jax.random.normal(jax.random.key(0), (2, 500, 3))
        >>> same, apart = fj.metrics.mmd(x, y), fj.metrics.mmd(x, y + 1, bandwidths=2.0)
        >>> print(f"{same:.3f} {apart:.1f}")
        0.002 0.2

    References:
        Gretton, Borgwardt, Rasch, Schoelkopf, Smola, "A kernel two-sample test", 2012, Journal of
        Machine Learning Research 13, lemma 6, and section 8 (the median).
    """
    x, y = two_sets(x, y, 2 if unbiased else 1)
    if bandwidths is None:
        bandwidths = _median_distance(x, y)
        problem = "the median distance is 0, so that bandwidths must be given"
    else:
        bandwidths = _check.real(bandwidths, "bandwidths").astype(x.dtype)
        bandwidths = jnp.atleast_1d(bandwidths)
        problem = "bandwidths must be one or more positive numbers"
        if bandwidths.ndim > 1 or bandwidths.size == 0:
            raise ValueError(f"{problem}, got shape {bandwidths.shape}.")
    _check.require(lambda s: 0 < s < np.inf, jnp.min(bandwidths), message=problem)
    _check.require(lambda s: 0 < s < np.inf, jnp.max(bandwidths), message=problem)
    within_x, within_y, between = _means(_gaussian, bandwidths, x, y, unbiased)
    return within_x + within_y - 2 * between


def _distance(squared: Array, unused: Array) -> Array:
    return root(squared)


def _gaussian(squared: Array, bandwidths: Array) -> Array:
    return jnp.mean(jnp.exp(-squared[None] / (2 * bandwidths[:, None] ** 2)), axis=0)


@partial(jax.jit, static_argnames=("kernel", "unbiased"))
def _means(
    kernel: Callable[[Array, Array], Array], options: Array, x: Array, y: Array, unbiased: bool
) -> tuple[Array, Array, Array]:
    """E k(X, X'), E k(Y, Y') and E k(X, Y), of a kernel of the squared distance."""
    # What follows is exact to the rounding of the squares of these.
    centre = (jnp.mean(x, axis=0, keepdims=True) + jnp.mean(y, axis=0, keepdims=True)) / 2
    x, y = x - centre, y - centre
    mean = partial(_mean_of_pairs, kernel, options)
    within_x, within_y = (mean(z, z, within=True, unbiased=unbiased) for z in (x, y))
    return within_x, within_y, mean(x, y)


def _mean_of_pairs(
    kernel: Callable[[Array, Array], Array],
    options: Array,
    x: Array,
    y: Array,
    *,
    within: bool = False,
    unbiased: bool = False,
) -> Array:
    """The mean of k over all pairs, or of those of different samples."""
    norms, few = jnp.sum(y**2, axis=1), y.shape[1] <= _FEW

    # What is not stored is computed anew for the gradient, which is then bounded in memory too.
    @jax.checkpoint
    def row(place: tuple[Array, Array]) -> Array:
        i, x_i = place
        if few:
            squared = jnp.sum((y - x_i[None]) ** 2, axis=1)
        else:
            product = jnp.matmul(y, x_i, precision=jax.lax.Precision.HIGHEST)
            squared = jnp.maximum(jnp.sum(x_i**2) + norms - 2 * product, 0)
        itself = (jnp.arange(y.shape[0]) == i) & within
        values = kernel(jnp.where(itself, 0, squared), options)
        return jnp.sum(jnp.where(itself & unbiased, 0, values)) / (y.shape[0] - unbiased)

    chunk = max(_PAIRS // (y.size if few else y.shape[0]), 1)
    return jnp.mean(jax.lax.map(row, (jnp.arange(x.shape[0]), x), batch_size=chunk))


@jax.jit
def _median_distance(x: Array, y: Array) -> Array:
    both = jnp.concatenate([_spaced(x), _spaced(y)])
    both = jax.lax.stop_gradient(both - jnp.mean(both, axis=0, keepdims=True))
    norms = jnp.sum(both**2, axis=1)
    products = jnp.matmul(both, both.T, precision=jax.lax.Precision.HIGHEST)
    distances = root(norms[:, None] + norms[None, :] - 2 * products)
    return jnp.median(distances[np.triu_indices(both.shape[0], 1)])[None]


def _spaced(x: Array) -> Array:
    """At most so many of the samples, evenly spaced."""
    count = min(len(x), _MEDIAN)
    return x[np.arange(count) * len(x) // count]
