"""Toy data in the plane, drawn from keys."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from flowjax import _check


def eight_gaussians(key: Array, num: int) -> Array:
    r"""Points of eight Gaussians on a circle, all of one weight.

    $$x = 5\,(\cos \tfrac{\pi k}{4}, \sin \tfrac{\pi k}{4}) + 0.1^{1/4}\, z, \qquad
    k \sim U\{0, \dots, 7\}, \quad z \sim N(0, I)$$

    The standard deviation, 0.562, is that of torchcfm's code, which hands the root of a variance
    of 0.1 to what takes a covariance.

    Args:
        key: one JAX key.
        num: how many, a static positive int.

    Returns:
        Points, float32 of shape (num, 2).

    Raises:
        TypeError: key is no key, or num is not a static int.
        ValueError: key is a batch of keys, or num is below one.

    Example:
        >>> import jax
        >>> import flowjax as fj
        >>> x = fj.data.eight_gaussians(jax.random.key(0), 1000)
        >>> print(x.shape, f"{(x**2).sum(axis=1).mean() ** 0.5:.1f}")
        (1000, 2) 5.1

    References:
        Tong et al., "Improving and generalizing flow-based generative models with minibatch
        optimal transport", 2023, arXiv 2302.00482, section 6; torchcfm 1.0.7,
        `utils.sample_8gaussians`.
    """
    mode_key, noise_key = _keys(key, num, 2)
    angle = jnp.pi / 4 * jax.random.randint(mode_key, (num,), 0, 8).astype(jnp.float32)
    return _plane(5 * jnp.cos(angle), 5 * jnp.sin(angle)) + _noise(noise_key, num, 0.1**0.25)


def moons(key: Array, num: int) -> Array:
    r"""Points of two half circles that reach into each other.

    $$x = 3\,\big(m(\theta) + 0.2\,u\,(1, 1)\big) - 1, \qquad \theta \sim U(0, \pi), \quad
    u \sim U(0, 1)$$

    where m is one of $(\cos\theta, \sin\theta)$ and $(1 - \cos\theta, \tfrac12 - \sin\theta)$, each
    half of the time. It is the law of torchcfm's moons, whose noise is torchdyn's: one uniform
    number for both coordinates. There the angles are evenly spaced, here each is drawn, so that two
    samples are farther apart: for 256 points a 2-Wasserstein distance of 0.5 in place of 0.2.

    Args:
        key: one JAX key.
        num: how many, a static positive int.

    Returns:
        Points, float32 of shape (num, 2).

    Raises:
        TypeError: key is no key, or num is not a static int.
        ValueError: key is a batch of keys, or num is below one.

    Example:
        >>> import jax
        >>> import flowjax as fj
        >>> x = fj.data.moons(jax.random.key(0), 1000)
        >>> x.shape, bool(((x > -4) & (x < 5.6)).all())
        ((1000, 2), True)

    References:
        Tong et al., "Improving and generalizing flow-based generative models with minibatch
        optimal transport", 2023, arXiv 2302.00482, section 6; torchcfm 1.0.7,
        `utils.sample_moons`, and torchdyn 1.0.6, `generate_moons`.
    """
    side_key, angle_key, noise_key = _keys(key, num, 3)
    upper = jax.random.bernoulli(side_key, shape=(num,))
    angle = jnp.pi * jax.random.uniform(angle_key, (num,), jnp.float32)
    x, y = jnp.cos(angle), jnp.sin(angle)
    moon = _plane(jnp.where(upper, x, 1 - x), jnp.where(upper, y, 0.5 - y))
    return 3 * (moon + 0.2 * jax.random.uniform(noise_key, (num, 1), jnp.float32)) - 1


def checkerboard(key: Array, num: int) -> Array:
    r"""Points of the dark squares of a board of four by four, uniformly.

    $$x \in [-4, 4)^2, \qquad \lfloor x_1 / 2 \rfloor + \lfloor x_2 / 2 \rfloor \text{ even}$$

    Args:
        key: one JAX key.
        num: how many, a static positive int.

    Returns:
        Points, float32 of shape (num, 2).

    Raises:
        TypeError: key is no key, or num is not a static int.
        ValueError: key is a batch of keys, or num is below one.

    Example:
        >>> import jax
        >>> import flowjax as fj
        >>> x = fj.data.checkerboard(jax.random.key(0), 1000)
        >>> bool(((x // 2).sum(axis=1) % 2 == 0).all())
        True

    References:
        Grathwohl et al., "FFJORD: free-form continuous dynamics for scalable reversible generative
        models", 2018, arXiv 1810.01367, figure 2.
    """
    square_key, place_key = _keys(key, num, 2)
    square = jax.random.randint(square_key, (num,), 0, 8)
    column, half = square % 4, square // 4
    corner = _plane(column - 2, 2 * half + column % 2 - 2).astype(jnp.float32)
    return 2 * (corner + jax.random.uniform(place_key, (num, 2), jnp.float32))


def s_curve(key: Array, num: int) -> Array:
    r"""Points of a curve like an S, with noise.

    $$x = \big(\sin\theta,\; \mathrm{sign}(\theta)(\cos\theta - 1)\big) + 0.1\,z, \qquad
    \theta \sim U(-\tfrac{3\pi}{2}, \tfrac{3\pi}{2}), \quad z \sim N(0, I)$$

    It is scikit-learn's, without the coordinate along which that is flat.

    Args:
        key: one JAX key.
        num: how many, a static positive int.

    Returns:
        Points, float32 of shape (num, 2).

    Raises:
        TypeError: key is no key, or num is not a static int.
        ValueError: key is a batch of keys, or num is below one.

    Example:
        >>> import jax
        >>> import flowjax as fj
        >>> x = fj.data.s_curve(jax.random.key(0), 1000)
        >>> x.shape, bool((abs(x[:, 1]) < 2.6).all())
        ((1000, 2), True)

    References:
        Pedregosa et al., "Scikit-learn: machine learning in Python", 2012, arXiv 1201.0490,
        `sklearn.datasets.make_s_curve`.
    """
    angle_key, noise_key = _keys(key, num, 2)
    angle = 3 * jnp.pi * (jax.random.uniform(angle_key, (num,), jnp.float32) - 0.5)
    curve = _plane(jnp.sin(angle), jnp.sign(angle) * (jnp.cos(angle) - 1))
    return curve + _noise(noise_key, num, 0.1)


def spirals(key: Array, num: int) -> Array:
    r"""Points of two spiral arms, one the other turned by half a circle, with noise.

    $$x = \pm\tfrac{\theta}{3}\,(\cos\theta, \sin\theta) + 0.1\,z, \qquad
    \theta = 3\pi\sqrt{u}, \quad u \sim U(0, 1), \quad z \sim N(0, I)$$

    Args:
        key: one JAX key.
        num: how many, a static positive int.

    Returns:
        Points, float32 of shape (num, 2).

    Raises:
        TypeError: key is no key, or num is not a static int.
        ValueError: key is a batch of keys, or num is below one.

    Example:
        >>> import jax
        >>> import flowjax as fj
        >>> x = fj.data.spirals(jax.random.key(0), 1000)
        >>> x.shape, bool(((x**2).sum(axis=1) < 3.6**2).all())
        ((1000, 2), True)

    References:
        Grathwohl et al., "FFJORD: free-form continuous dynamics for scalable reversible generative
        models", 2018, arXiv 1810.01367, figure 2, whose arms are like these.
    """
    arm_key, angle_key, noise_key = _keys(key, num, 3)
    angle = 3 * math.pi * jnp.sqrt(jax.random.uniform(angle_key, (num,), jnp.float32))
    radius = jax.random.rademacher(arm_key, (num,), jnp.float32) * angle / 3
    arm = _plane(radius * jnp.cos(angle), radius * jnp.sin(angle))
    return arm + _noise(noise_key, num, 0.1)


def _keys(key: Any, num: Any, count: int) -> Array:
    """A key for each of the things to draw, refused by what key and num are."""
    _check.single_key(key)
    _check.positive_int(num, "num")
    return jax.random.split(key, count)


def _plane(x: Array, y: Array) -> Array:
    return jnp.stack([x, y], axis=1)


def _noise(key: Array, num: int, std: float) -> Array:
    return std * jax.random.normal(key, (num, 2), jnp.float32)
