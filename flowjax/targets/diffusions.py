"""Diffusions whose laws are known: Ornstein-Uhlenbeck and Langevin."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from flowjax import _check
from flowjax.solver.sde import SDE
from flowjax.targets._arrays import map_state, parameters
from flowjax.targets.linear import linear_field


def ornstein_uhlenbeck(theta: Any, sigma: Any) -> SDE:
    r"""The Ornstein-Uhlenbeck process.

    $$dX_t = -\theta X_t\,dt + \sigma\,dW_t, \quad
    X_t \mid X_0 \sim N\Big(X_0 e^{-\theta t},\;
    \tfrac{\sigma^2}{2\theta}\,(1 - e^{-2\theta t})\Big)$$

    For theta > 0 it forgets its start and settles at N(0, sigma^2 / (2 theta)).

    Args:
        theta: the rate in 1/time: a number, an array that broadcasts to the state's shape, or,
            for a pytree state, a pytree of those that is a prefix of it.
        sigma: the noise per square root of time, given like theta. Only its square matters to
            the law.

    Returns:
        The SDE. Its fields hold theta and sigma as leaves. One can differentiate with respect
        to them, and a change of their values compiles nothing again.

    Raises:
        TypeError: theta or sigma is not a number.
        ValueError: theta or sigma is not finite (where it is not traced), or does not fit the state
            (when the SDE is solved).

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> sde = fj.ornstein_uhlenbeck(theta=2.0, sigma=0.5)
        >>> sde.drift(0.0, jnp.array([1.0, -1.0]), None).tolist()
        [-2.0, 2.0]
        >>> sde.diffusion(0.0, jnp.array([1.0, -1.0]), None).tolist()
        [0.5, 0.5]

    References:
        Uhlenbeck, Ornstein, "On the theory of the Brownian motion", 1930, Physical Review 36.
    """
    drift = _LinearDrift(parameters(theta, "theta"))
    return SDE(drift, _ConstantDiffusion(parameters(sigma, "sigma")))


def langevin(score: Callable[[Any], Any], sigma: Any) -> SDE:
    r"""Overdamped Langevin dynamics.

    $$dX_t = \tfrac{\sigma^2}{2}\,\mathrm{score}(X_t)\,dt + \sigma\,dW_t$$

    With score = grad log p, the density p is stationary for every constant sigma, which sets the
    speed alone. The form dX = grad log p dt + sqrt(2) dW is sigma = sqrt(2).

    Args:
        score: a function of one sample x that returns grad log p(x), with x's structure and
            shapes. An `equinox.Module`, or a method of one such as `fj.Gaussian(...).score`,
            keeps its arrays as leaves of the SDE.
        sigma: the noise per square root of time: a number, an array that broadcasts to the
            state's shape, or, for a pytree state, a pytree of those that is a prefix of it.

    Returns:
        The SDE.

    Raises:
        TypeError: score is not a function of x alone, or sigma is not a number.
        ValueError: sigma is not finite (where it is not traced), or sigma or the score does not fit
            the state (when the SDE is solved).

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> sde = fj.langevin(fj.Gaussian(jnp.zeros(2), 0.5).score, sigma=2.0)
        >>> sde.drift(0.0, jnp.array([1.0, -1.0]), None).tolist()
        [-8.0, 8.0]

    References:
        Roberts, Tweedie, "Exponential convergence of Langevin distributions and their discrete
        approximations", 1996, Bernoulli 2(4).
    """
    _check.function(score, "score", "of x alone, such as fj.Gaussian(...).score", takes=1)
    sigma = parameters(sigma, "sigma")
    return SDE(_LangevinDrift(score, sigma), _ConstantDiffusion(sigma))


class _LinearDrift(eqx.Module):
    gives = "drift"
    theta: Any

    def __call__(self, t: ArrayLike, x: Any, args: Any) -> Any:
        return linear_field(t, x, self.theta)


class _ConstantDiffusion(eqx.Module):
    sigma: Any

    def __call__(self, t: ArrayLike, x: Any, args: Any) -> Any:
        return map_state(lambda leaf, sigma: sigma, x, sigma=self.sigma)


class _LangevinDrift(eqx.Module):
    gives = "drift"
    score: Callable[[Any], Any]
    sigma: Any

    def __call__(self, t: ArrayLike, x: Any, args: Any) -> Any:
        score = self.score(x)
        expected, got = _shapes(x), _shapes(score)
        if expected != got:
            raise ValueError(f"score(x) must have x's structure and shapes {expected}, got {got}.")

        def drift(leaf: Array, score: Array, sigma: Array) -> Array:
            return sigma**2 / 2 * score

        return map_state(drift, x, score=score, sigma=self.sigma)


def _shapes(tree: Any) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [jnp.shape(leaf) for leaf in leaves]
