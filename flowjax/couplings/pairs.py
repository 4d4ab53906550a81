"""Pairs of a batch, what is asked of a batch, and the costs of all its pairs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from flowjax import _check
from flowjax._numerics import wide, widest

# Up to so many numbers a sample, differences are taken one by one: more exact, and as fast.
_FEW = 16


class Pairs(NamedTuple):
    """The pairs of a batch, along one leading axis, with the label of each x1."""

    x0: Any
    x1: Any
    labels: Any = None


def independent(key: Array, x0: Any, x1: Any, labels: Any = None) -> Pairs:
    r"""Pairs without regard to each other: x0 in a random order.

    $$(x_0, x_1) \sim p_0 \otimes p_1$$

    Args:
        key: one JAX key; it names the order.
        x0: a batch of noise, or of any other samples: a floating array or a pytree of them, with
            one leading axis of samples.
        x1: a batch of data, of x0's structure, shapes and dtypes.
        labels: arrays with the same leading axis, which stay with their x1.

    Returns:
        ``Pairs(x0, x1, labels)``, of which x0 is permuted.

    Raises:
        TypeError: x0 or x1 is not real floating, labels holds no numbers, or key is no key.
        ValueError: x0 is unlike x1, a leaf has another number of samples, or key is a batch of
            keys.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> x0, x1 = jnp.array([1.0, 2.0, 3.0]), jnp.array([10.0, 20.0, 30.0])
        >>> pairs = fj.couplings.independent(jax.random.key(0), x0, x1)
        >>> sorted(pairs.x0.tolist()), pairs.x1.tolist()
        ([1.0, 2.0, 3.0], [10.0, 20.0, 30.0])

    References:
        Tong et al., "Improving and generalizing flow-based generative models with minibatch
        optimal transport", 2023, arXiv 2302.00482, its independent coupling (I-CFM).
    """
    x0, x1, labels = checked(key, x0, x1, labels)
    return Pairs(rows(x0, jax.random.permutation(key, batch_size(x1))), x1, labels)


def checked(key: Any, x0: Any, x1: Any, labels: Any) -> tuple[Any, Any, Any]:
    """The batch as arrays, refused by its key, structure, shapes and dtypes."""
    _check.single_key(key)
    x1 = _check.state(x1, "x1")
    for name, leaf in _check.leaves_with_names(x1, "x1"):
        if leaf.ndim == 0 or leaf.shape[0] == 0:
            raise ValueError(
                f"{name} must have a leading axis of at least one sample, got shape {leaf.shape}."
            )
    count = batch_size(x1)
    x0 = _check.alike(x0, x1, "x0", of="x1")
    for name, leaf in _check.leaves_with_names(labels, "labels"):
        array = isinstance(leaf, (np.ndarray, jax.Array))
        if not array or not (_check.is_real(leaf) or leaf.dtype == bool):
            got = getattr(leaf, "dtype", type(leaf).__name__)
            raise TypeError(f"{name} must be an array of real numbers, got {got}.")
    for name, leaf in (
        *_check.leaves_with_names(x1, "x1"),
        *_check.leaves_with_names(labels, "labels"),
    ):
        if leaf.ndim == 0 or leaf.shape[0] != count:
            raise ValueError(
                f"{name} must have {count} entries along its leading axis, one for each sample of "
                f"x1, got shape {leaf.shape}."
            )
    return x0, x1, jax.tree.map(jnp.asarray, labels)


def batch_size(x: Any) -> int:
    """How many samples a batch holds."""
    return jax.tree.leaves(x)[0].shape[0]


def rows(tree: Any, indices: Array) -> Any:
    """The samples of these indices; NaN for an index that there is not."""
    return jax.tree.map(lambda leaf: jnp.take(leaf, indices, axis=0, mode="fill"), tree)


def costs(
    x0: Any,
    x1: Any,
    cost: Callable[[Any, Any], Any] | None,
    name: str = "cost",
    dtype: Any = None,
) -> Array:
    """The cost of each pair, (N, N) of (x0_i, x1_j).

    One that is not finite is refused, and NaN where it cannot be seen. No derivative passes through
    a cost, since none passes through a choice of pairs.
    """
    if cost is not None:
        _check.function(cost, name, "(x0, x1) -> scalar of two samples", takes=2)
    x0, x1 = jax.lax.stop_gradient((x0, x1))
    dtype = widest(x1) if dtype is None else dtype
    matrix = jax.lax.stop_gradient(_costs(x0, x1, cost, name, dtype))
    if isinstance(matrix, Tracer):
        return jnp.where(jnp.isfinite(matrix), matrix, jnp.nan)
    if not np.all(np.isfinite(matrix)):
        for side, tree in (("x0", x0), ("x1", x1)):
            for leaf_name, leaf in _check.leaves_with_names(tree, side):
                bad = np.argwhere(~np.isfinite(np.asarray(leaf, np.float64)))
                if bad.size and name == "cost":
                    at = tuple(bad[0].tolist())
                    raise ValueError(f"{leaf_name} must be finite, got {leaf[at]} at {list(at)}.")
        i, j = np.argwhere(~np.isfinite(matrix))[0]
        raise ValueError(f"{name} must be finite, got {matrix[i, j]} of samples {i} and {j}.")
    return matrix


@eqx.filter_jit
def _costs(
    x0: Any, x1: Any, cost: Callable[[Any, Any], Any] | None, name: str, dtype: Any
) -> Array:
    if cost is not None:

        def one(a: Any, b: Any) -> Array:
            return jnp.asarray(_check.returned_scalar(cost(a, b), name), dtype)

        return jax.vmap(lambda a: jax.vmap(lambda b: one(a, b))(x1))(x0)
    a, b = (
        jnp.concatenate(
            [leaf.reshape(leaf.shape[0], -1).astype(dtype) for leaf in jax.tree.leaves(wide(x))], 1
        )
        for x in (x0, x1)
    )
    if a.shape[1] <= _FEW:
        return jnp.sum((a[:, None, :] - b[None, :, :]) ** 2, axis=-1)
    # Of centred samples, so that no digits are lost to where the origin is.
    middle = jnp.mean(b, axis=0, keepdims=True)
    a, b = a - middle, b - middle
    squares = jnp.sum(a**2, axis=1)[:, None] + jnp.sum(b**2, axis=1)[None, :]
    return jnp.maximum(squares - 2 * jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST), 0)
