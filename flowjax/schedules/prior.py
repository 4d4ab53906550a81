"""What a schedule begins with: noise of the standard deviation that it has at t = 0."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowjax import _check
from flowjax._numerics import computing_dtype, widest


class Prior(eqx.Module):
    r"""The law of the noise where a path begins, $N(0, \sigma_t^2 I)$; `schedule.prior` makes it.

    Args:
        std: sigma at that time.
        like: the shapes and dtypes of one sample.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> v = fj.Gaussian(jnp.zeros(2), 0.5).velocity(fj.EDM())
        >>> prior, ts = v.schedule.prior((2,)), fj.karras_grid(20, v.schedule, sigma_max=80.0)
        >>> xs = fj.sample(jax.random.key(0), v, prior.sample, ts, 1000, step=fj.dpmpp_2m)
        >>> print(f"{prior.std:.0f} {xs.std():.1f}")
        80 0.5
    """

    std: Array
    like: Any = eqx.field(static=True)

    def sample(self, key: Array) -> Any:
        """One sample, of the shapes and dtypes of `like`.

        Args:
            key: one JAX key. For many samples, `jax.vmap` over keys, or `fj.sample`.
        """
        _check.single_key(key)
        structure, shapes = self.like
        keys = jax.random.split(key, len(shapes)) if len(shapes) > 1 else [key]
        leaves = []
        for (shape, dtype), one in zip(shapes, keys, strict=True):
            noise = jax.random.normal(one, shape, computing_dtype(dtype))
            leaves.append((self.std.astype(noise.dtype) * noise).astype(dtype))
        return jax.tree.unflatten(structure, leaves)

    def log_prob(self, x: Any) -> Array:
        """The log density at x.

        Args:
            x: one sample, of the shapes of `like`.

        Returns:
            A scalar of x's dtype, but at least float32.

        Raises:
            TypeError: x is not real floating.
            ValueError: x has another structure or other shapes.
        """
        x, (structure, shapes) = _check.state(x, "x"), self.like
        got = jax.tree.structure(x), [leaf.shape for leaf in jax.tree.leaves(x)]
        want = structure, [shape for shape, _ in shapes]
        if got != want:
            raise ValueError(f"x must be one sample, of shape {want[1]}, got shape {got[1]}.")
        dtype = widest(x)
        std, size = self.std.astype(dtype), sum(leaf.size for leaf in jax.tree.leaves(x))
        squares = sum(jnp.sum((leaf.astype(dtype) / std) ** 2) for leaf in jax.tree.leaves(x))
        return -squares / 2 - size * (jnp.log(std) + math.log(2 * math.pi) / 2)


def prior_of(std: Array, like: Any) -> Prior:
    """The prior of a shape, or of a pytree of arrays or of their shapes and dtypes."""
    numbers = (int, float, np.integer)
    if isinstance(like, tuple) and all(isinstance(size, numbers) for size in like):
        if not all(_check.is_int(size) and size >= 0 for size in like):
            raise TypeError(f"like must be a shape, a tuple of ints, or a pytree, got {like!r}.")
        like = jax.ShapeDtypeStruct(tuple(map(int, like)), jnp.result_type(float))
    leaves, structure = jax.tree.flatten(_check.shapes_of(like, "like"))
    return Prior(std, (structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)))
