"""Couplings that are permutations: optimal transport of a batch, and of a batch with conditions."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from flowjax import _check
from flowjax.couplings.pairs import Pairs, batch_size, checked, costs, rows
from flowjax.couplings.sinkhorn import sinkhorn

# Of the mean cost, and how many steps: what SciPy's solver begins with (measured).
_SMOOTHING, _STEPS = 0.005, 20

# Of the interval that a weight is searched in, which labels that are all but equal make long.
_HALVINGS = 150


def exact(
    key: Array,
    x0: Any,
    x1: Any,
    labels: Any = None,
    *,
    cost: Callable[[Any, Any], Any] | None = None,
) -> Pairs:
    r"""The pairs of least total cost: optimal transport between the samples of a batch.

    $$\min_{\pi} \sum_j c\big(x_0^{\pi(j)}, x_1^j\big), \qquad c(a, b) = \|a - b\|^2$$

    SciPy solves the assignment, on the host, from dual variables by a few of Sinkhorn's steps,
    which leave the solution as it is and save most of the time: in the plane 7 ms for 256
    samples, 0.1 s for 1024 and 5 s for 4096 on two cores. It may be called inside `jit` and `vmap`,
    which wait for the host. Costs that are not finite are refused; inside `jit`, x0 is then NaN.

    In a conditional model, whose labels it does not look at, it is biased: see `conditional`.

    Args:
        key: one JAX key. The solution is one, and does not depend on it.
        x0: a batch of noise, or of any other samples: a floating array or a pytree of them, with
            one leading axis of samples.
        x1: a batch of data, of x0's structure, shapes and dtypes.
        labels: arrays with the same leading axis, which stay with their x1.
        cost: of two samples, ``(x0, x1) -> scalar``. Default: the squared Euclidean distance over
            all leaves.

    Returns:
        ``Pairs(x0, x1, labels)``, of which x0 is permuted.

    Raises:
        TypeError: x0 or x1 is not real floating, labels holds no numbers, key is no key, or cost
            is no such function.
        ValueError: x0 is unlike x1, a leaf has another number of samples, key is a batch of keys,
            or x0, x1 or a cost is not finite.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> x0, x1 = jnp.array([1.0, 2.0, 3.0]), jnp.array([30.0, 10.0, 20.0])
        >>> fj.couplings.exact(jax.random.key(0), x0, x1).x0.tolist()
        [3.0, 1.0, 2.0]

    References:
        Tong et al., "Improving and generalizing flow-based generative models with minibatch
        optimal transport", 2023, arXiv 2302.00482, Algorithm 3; Pooladian et al., "Multisample
        flow matching", 2023, arXiv 2304.14772, section 4.1.
    """
    x0, x1, labels = checked(key, x0, x1, labels)
    return Pairs(rows(x0, assignment(costs(x0, x1, cost))), x1, labels)


def conditional(
    key: Array,
    x0: Any,
    x1: Any,
    labels: Any,
    *,
    share: float = 0.2,
    cost: Callable[[Any, Any], Any] | None = None,
    label_cost: Callable[[Any, Any], Any] | None = None,
) -> Pairs:
    r"""Optimal transport that leaves each condition the whole of the noise (C2OT).

    $$\min_{\pi} \sum_j c\big(x_0^{\pi(j)}, x_1^j\big) + w\,d\big(y^{\pi(j)}, y^j\big)$$

    where x0, first put in a random order, takes the label of the x1 in its place. Without the
    second term a label's data draw the noise that is nearest to them, and sampling, which draws
    any, meets noise that training has not seen with that label. Integer labels are classes: w is
    infinite, so each class is solved apart. For others w is that at which the share of pairs (i, j)
    that cost no more than (i, i) does is what is asked for.

    Args:
        key: one JAX key; it names the order of x0.
        x0: a batch of noise, as in `exact`. It must not depend on the labels.
        x1: a batch of data, of x0's structure, shapes and dtypes.
        labels: integers of shape (N,), or floating arrays with a leading axis of N.
        share: of the pairs, between 0 and 1: less is nearer to independent pairs of each label.
        cost: of two samples, as in `exact`.
        label_cost: d, of two labels, ``(y, y') -> scalar``, not negative, and zero for equal ones.
            Default: the squared Euclidean distance; of classes, whether they differ.

    Returns:
        ``Pairs(x0, x1, labels)``, of which x0 is permuted.

    Raises:
        TypeError: as `exact`; or labels are missing or hold neither classes nor floating numbers.
        ValueError: as `exact`; or classes are not of shape (N,), share is not between 0 and 1, or
            a label or a label_cost is not finite.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> x0 = jax.random.normal(jax.random.key(0), (256, 1))
        >>> labels = jnp.arange(256) % 2
        >>> x1 = 4.0 * labels[:, None].astype(x0.dtype) - 2 + x0 / 2
        >>> plain = fj.couplings.exact(jax.random.key(1), x0, x1, labels)
        >>> pairs = fj.couplings.conditional(jax.random.key(1), x0, x1, labels)
        >>> below = lambda pairs: float((pairs.x0[pairs.labels == 1] < 0).mean())
        >>> print(f"{below(plain):.1f} {below(pairs):.1f}")  # of N(0, 1) it is a half
        0.0 0.5

    References:
        Cheng, Schwing, "The curse of conditions: analyzing and improving optimal transport for
        conditional flow-based generation", 2025, arXiv 2503.10636, section 4.
    """
    x0, x1, labels = checked(key, x0, x1, labels)
    share = _check.static_number(share, "share")
    _check.require(lambda value: 0 < value < 1, share, message="share must be between 0 and 1")
    classes = label_cost is None and _are_classes(labels, batch_size(x1))
    if label_cost is None and not classes:
        labels = _check.state(labels, "labels")
    x0 = rows(x0, jax.random.permutation(key, batch_size(x1)))
    matrix = costs(x0, x1, cost)
    if classes:
        (y,) = jax.tree.leaves(labels)
        apart = jnp.where(y[:, None] == y[None, :], 0, jnp.inf).astype(matrix.dtype)
        return Pairs(rows(x0, assignment(matrix + apart, y)), x1, labels)
    apart = costs(labels, labels, label_cost, "label_cost", matrix.dtype)
    if not isinstance(apart, Tracer):
        # But for rounding.
        least = 100 * float(jnp.finfo(apart.dtype).eps) * max(float(apart.max()), 1)
        if apart.min() < -least:
            raise ValueError(f"label_cost must not be negative, got {apart.min()}.")
        if np.diagonal(apart).max() > least:
            raise ValueError(
                f"label_cost must be zero for equal labels, got {np.diagonal(apart).max()}."
            )
    apart = jnp.where(jnp.eye(len(apart), dtype=bool), 0, jnp.maximum(apart, 0))
    # Where the labels are equal, 0 also times an infinite weight.
    apart = jnp.where(apart == 0, 0, _weight(matrix, apart, share) * apart)
    return Pairs(rows(x0, assignment(matrix + apart)), x1, labels)


def _are_classes(labels: Any, count: int) -> bool:
    """Whether labels are one integer for each sample."""
    leaves = jax.tree.leaves(labels)
    if not leaves:
        raise TypeError(
            "labels must be given: integers of shape (N,) or floating arrays, got None."
        )
    if not any(leaf.dtype == bool or jnp.issubdtype(leaf.dtype, jnp.integer) for leaf in leaves):
        return False
    if len(leaves) > 1 or leaves[0].shape != (count,):
        raise ValueError(
            f"labels that are integers are classes and must have shape ({count},), got "
            f"{[leaf.shape for leaf in leaves]}: make them floating, or give label_cost."
        )
    return True


@jax.jit
def _weight(cost: Array, apart: Array, share: Any) -> Array:
    """The least w at which no more than a share of the pairs (i, j) costs no more than (i, i)."""
    own = jnp.diagonal(cost)[:, None]
    highest = jnp.max(jnp.where(apart > 0, (own - cost) / jnp.where(apart > 0, apart, 1), 0))

    def too_many(w: Array) -> Array:
        return jnp.mean(cost + w * apart <= own, dtype=cost.dtype) > share

    def halved(_: Any, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        more = too_many(middle)
        return jnp.where(more, middle, low), jnp.where(more, high, middle)

    _, weight = jax.lax.fori_loop(0, _HALVINGS, halved, (jnp.zeros_like(highest), highest))
    # Equal labels alone may be more than that: then others are not used at all.
    return jnp.where(too_many(2 * highest), jnp.inf, weight)


def assignment(cost: Array, classes: Array | None = None) -> Array:
    """For each column the row that it goes with at the least total cost, or N where it is not said.

    A pair of infinite cost, as of two classes, is not used. A cost of NaN says nothing.
    """
    count = cost.shape[0]
    epsilon = _SMOOTHING * jnp.mean(cost, where=jnp.isfinite(cost))
    epsilon = jnp.where(epsilon > 0, epsilon, 1)
    duals = sinkhorn(cost, epsilon, 1.0, 0.0, _STEPS)
    # The solution for c_ij - f_i - g_j is that for c_ij, and most of it is at hand.
    classes = jnp.zeros(count, jnp.int32) if classes is None else classes
    inputs = (cost, epsilon * duals.f, epsilon * duals.g, classes)
    if not any(isinstance(part, Tracer) for part in inputs):
        return jnp.asarray(_assigned(*inputs))
    shape = jax.ShapeDtypeStruct((count,), jnp.int32)
    return jax.pure_callback(_assigned, shape, *inputs, vmap_method="sequential")


def _assigned(cost: Any, f: Any, g: Any, classes: Any) -> np.ndarray:
    from scipy.optimize import linear_sum_assignment

    cost, f, g = (np.asarray(part, np.float64) for part in (cost, f, g))
    classes, rows = np.asarray(classes), np.full(len(cost), len(cost), np.int32)
    if np.any(np.isnan(cost)):
        return rows
    if np.all(np.isfinite(f)) and np.all(np.isfinite(g)):
        cost = cost - f[:, None] - g[None, :]
    for label in np.unique(classes):
        (members,) = np.nonzero(classes == label)
        row, column = linear_sum_assignment(cost[np.ix_(members, members)])
        rows[members[column]] = members[row]
    return rows
