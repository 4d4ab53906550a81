"""An observation with Gaussian noise, its log-likelihood, and its linearisation at some data."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from flowjax import _check
from flowjax._numerics import dot, narrow, plus, quotient, root, wide
from flowjax._types import State, StateLike


class Observation(eqx.Module):
    r"""What was observed of the data, with independent Gaussian noise: its log-likelihood.

    $$y = A(x_1) + \sigma_y \epsilon, \qquad
    \log p(y \mid x_1) = \sum_i \Big[-\frac{(y_i - A(x_1)_i)^2}{2\sigma_{y,i}^2}
    - \log\big(\sqrt{2\pi}\,\sigma_{y,i}\big)\Big]$$

    A is any differentiable function, linear or not: a mask and a selection of elements are those of
    inpainting.

    Args:
        observed: y, a floating array or a pytree of them.
        operator: A, a function `x -> y` of one sample.
        sigma: standard deviation of the noise, above 0: a number, or like observed for one of each
            element.

    Raises:
        TypeError: observed is not real floating, operator is no function of one argument, or sigma
            holds no real numbers.
        ValueError: sigma is not positive and finite (where it is not traced) or is unlike observed;
            when it is called: the operator's output is unlike observed.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> first_of_two = fj.inverse.Observation(jnp.array(1.0), lambda x: x[0], sigma=0.5)
        >>> print(f"{first_of_two(jnp.array([1.0, 7.0])):.3f}")  # -log(0.5 sqrt(2 pi))
        -0.226

    References:
        Chung, Kim, Mccann, Klasky, Ye, "Diffusion posterior sampling for general noisy inverse
        problems", 2022, arXiv 2209.14687.
    """

    observed: State
    operator: Callable[..., Any]
    sigma: State

    def __init__(self, observed: StateLike, operator: Callable[..., Any], sigma: Any):
        self.observed = wide(_check.state(observed, "observed"))
        _check.elements(self.observed, "observed")
        self.operator = _check.function(operator, "operator", "of the data alone, x -> y", takes=1)
        self.sigma = _deviations(sigma, self.observed)

    def __call__(self, x: StateLike) -> Array:
        """The log-likelihood log p(y | x).

        Args:
            x: one sample of the data.

        Returns:
            A scalar.
        """
        residual = self.residual(_check.state(x, "x"))
        logs = (jnp.sum(jnp.log(part)) for part in jax.tree.leaves(self.sigma))
        count = sum(part.size for part in jax.tree.leaves(residual))
        return -dot(residual, residual) / 2 - sum(logs) - count * math.log(2 * math.pi) / 2

    def residual(self, x: State) -> State:
        """`(y - A(x)) / sigma`, in units of the noise.

        Args:
            x: one sample of the data.

        Returns:
            An array, or a pytree, like the observation.
        """
        try:
            value = self.operator(x)
        except Exception as error:
            error.add_note(f"operator was given data of {eqx.tree_pformat(x)}.")
            raise
        value = _check.alike(
            value, self.observed, "the operator's output", exact=False, of="observed"
        )
        return jax.tree.map(lambda y, a, s: (y - a) / s, self.observed, value, self.sigma)


class Linearised(eqx.Module):
    """An observation near some data, in units of its noise: `residual(x + z) = residual - A z`."""

    observation: Observation
    data: State
    residual: State
    pull: Callable[..., Any]
    """The transpose, from the observation to the data."""

    def push(self, tangent: State) -> State:
        """A, from the data to the observation."""
        moved = jax.jvp(self.observation.residual, (self.data,), (tangent,))[1]
        return jax.tree.map(jnp.negative, moved)


def linearised(observation: Observation, data: State) -> Linearised:
    """The observation near the data; its operator is called once."""
    residual, pull_residual = jax.vjp(observation.residual, data)

    def pull(cotangent: State) -> State:
        return pull_residual(jax.tree.map(jnp.negative, cotangent))[0]

    return Linearised(observation, data, residual, pull)


def conjugate_gradients(matrix: Callable[[State], State], b: State, iterations: int) -> State:
    """The solution of `matrix(x) = b` after so many iterations from zero.

    They are written out, so that the derivative is that of what is computed. A residual that has
    come to rounding counts as zero, and changes nothing: the derivatives of quotients of rounding
    are not finite. So that it is known from its size, b has length one.
    """
    size = jax.lax.stop_gradient(root(dot(b, b)))
    b = jax.tree.map(lambda leaf: quotient(leaf, size.astype(leaf.dtype)), b)
    x, residual, direction, square = jax.tree.map(jnp.zeros_like, b), b, b, dot(b, b)
    rounding = (16 * jnp.finfo(square.dtype).eps) ** 2
    for _ in range(iterations):
        image = narrow(matrix(direction), b)
        length = quotient(square, dot(direction, image))
        x, residual = plus(x, (length, direction)), plus(residual, (-length, image))
        remains = dot(residual, residual) > rounding
        residual = jax.tree.map(lambda leaf, on=remains: jnp.where(on, leaf, 0), residual)
        square, before = dot(residual, residual), square
        direction = plus(residual, (quotient(square, before), direction))
    return jax.tree.map(lambda leaf: size.astype(leaf.dtype) * leaf, x)


def _deviations(sigma: Any, observed: State) -> State:
    """The standard deviations of the noise, one for each element of the observation."""
    if _check.is_leaf(sigma) and np.ndim(sigma) == 0:
        sigma = _check.number(sigma, "sigma")
        sigma = jax.tree.map(
            lambda y: jnp.broadcast_to(jnp.asarray(sigma, y.dtype), y.shape), observed
        )
    else:
        sigma = _check.alike(sigma, observed, "sigma", exact=False, of="observed")
    for name, leaf in _check.leaves_with_names(sigma, "sigma"):
        if isinstance(leaf, Tracer):
            continue
        values = np.asarray(leaf)
        if not np.all((values > 0) & (values < np.inf)):
            raise ValueError(f"{name} must be above 0 and finite, got {values.min()}.")
    return sigma
