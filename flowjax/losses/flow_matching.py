"""Losses of one sample; `jax.vmap` and a mean make the loss of a batch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from flowjax._check import alike, single_key, state
from flowjax._numerics import computing_dtype
from flowjax.schedules import CondOT


def flow_matching(
    model: Callable[[Any, Any, Any], Any],
    x1: Any,
    key: Array,
    args: Any = None,
    *,
    schedule: Any = CondOT(),
) -> Array:
    r"""The conditional flow matching loss of one sample, at one random time and noise.

    $$\frac1d \left\| u_t(x_t) - (\dot\alpha_t x_1 + \dot\sigma_t x_0) \right\|^2, \qquad
    x_t = \alpha_t x_1 + \sigma_t x_0, \quad t \sim U(0, 1), \quad x_0 \sim N(0, I)$$

    with d the number of elements. Its expectation over the data is least at the marginal velocity
    $u_t(x) = E[\dot\alpha_t x_1 + \dot\sigma_t x_0 \mid x_t = x]$, where it equals the mean
    variance of the target given x_t: in general that is not zero.

    Args:
        model: the velocity to train, a field ``(t, x, args) -> u`` with x's structure, shapes
            and dtypes.
        x1: one data sample: a floating array or a pytree of them.
        key: one JAX key; it names the time and the noise.
        args: passed on to the model, such as the sample's label.
        schedule: the path from noise (t = 0) to data (t = 1), ``schedule(t) -> (a, s)`` and
            ``schedule.rates(t) -> (a', s')``.

    Returns:
        The loss, a scalar of at least 32 bits. For a batch, `jax.vmap` over samples and keys,
        and the mean.

    Raises:
        TypeError: x1 is not floating, or key is not a JAX key.
        ValueError: key is a batch of keys, or the model's output is unlike its input.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> keys = jax.random.split(jax.random.key(0), 1000)
        >>> x1 = jnp.full((1000, 2), 3.0)
        >>> def exact(t, x, args):  # all data at 3: the straight line from x to there
        ...     return (3.0 - x) / (1 - t)
        >>> losses = jax.vmap(lambda x1, key: fj.losses.flow_matching(exact, x1, key))(x1, keys)
        >>> bool(losses.mean() < 1e-6)
        True

    References:
        Lipman, Chen, Ben-Hamu, Nickel, Le, "Flow matching for generative modeling", 2022,
        arXiv 2210.02747, equation 14; Holderrieth, Erives (MIT 6.S184), 2025, arXiv 2506.02070,
        section 4.1.
    """
    single_key(key)
    x1 = state(x1, "x1")
    leaves, structure = jax.tree.flatten(x1)
    # Times and noise are as wide as the widest leaf, and of at least 32 bits.
    dtypes = [computing_dtype(leaf.dtype) for leaf in leaves]
    time_dtype = max(dtypes, key=lambda dtype: jnp.finfo(dtype).bits)

    time_key, noise_key = jax.random.split(key)
    t = jax.random.uniform(time_key, dtype=time_dtype)
    noise = [
        jax.random.normal(leaf_key, leaf.shape, time_dtype)
        for leaf_key, leaf in zip(jax.random.split(noise_key, len(leaves)), leaves, strict=True)
    ]
    alpha, sigma = schedule(t)
    alpha_rate, sigma_rate = schedule.rates(t)

    xt = [
        (alpha * leaf.astype(time_dtype) + sigma * x0).astype(leaf.dtype)
        for leaf, x0 in zip(leaves, noise, strict=True)
    ]
    xt = jax.tree.unflatten(structure, xt)
    velocity = alike(model(t, xt, args), xt, "the model's output")

    squares = jnp.zeros((), time_dtype)
    for u, leaf, x0 in zip(jax.tree.leaves(velocity), leaves, noise, strict=True):
        target = alpha_rate * leaf.astype(time_dtype) + sigma_rate * x0
        squares += jnp.sum((u.astype(time_dtype) - target) ** 2)
    return squares / sum(leaf.size for leaf in leaves)
