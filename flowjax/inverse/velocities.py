r"""Velocities of a posterior: a flow's own, corrected by the gradient of a likelihood.

With $g = \nabla_x \log p(y \mid x_t)$ the five predictions become

$$u + \kappa g, \quad D + \frac{\sigma^2}{\alpha} g, \quad E - \sigma g, \quad \mathrm{score} + g,
\quad v - \frac{\sigma(\alpha^2 + \sigma^2)}{\alpha} g, \qquad
\kappa = \sigma^2\frac{\dot\alpha}{\alpha} - \sigma\dot\sigma$$

g is the gradient of an integral over the data that x_t may come from. The three methods are three
approximations of it, by the data D that the model expects and its Jacobian J = dD/dx.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from flowjax._check import number, positive_int, require, time
from flowjax._numerics import plus, weighted
from flowjax._types import State, StateLike
from flowjax.fields.predictions import converted, on_leaves, per_score, without_noise_alone
from flowjax.fields.scalar_function import ScalarFunction
from flowjax.fields.velocity import Velocity
from flowjax.inverse.observation import Linearised, Observation, conjugate_gradients, linearised
from flowjax.schedules.point import PathPoint
from flowjax.solver.door import as_velocity, refuse_coupled

Pull = Callable[[State], State]


def dps(
    v: Velocity,
    observed: StateLike,
    operator: Callable[..., Any],
    sigma: Any,
    *,
    scale: ArrayLike | Callable[[Any], Any] = 1.0,
) -> Velocity:
    r"""A posterior's velocity by diffusion posterior sampling: the data are taken to be D exactly.

    $$g = w\,J^T A^T\,\frac{y - A(D)}{\sigma_y^2}$$

    It is the cheapest, by one vector-Jacobian product of the model, and biased even for Gaussian
    data: far from the end the likelihood of D is much narrower than that of x_t, so that the
    posterior comes out too narrow, and steps must be short (`scale` tames it: the published form
    tunes it by hand, there as a step size over the norm of the residual).

    Args:
        v: the velocity of the prior.
        observed: y, a floating array or a pytree of them.
        operator: A, a function `x -> y` of one sample; not linear either.
        sigma: standard deviation of the observation's noise, a number or like observed.
        scale: w, a number, or a function `t -> w`.

    Returns:
        The velocity, which predicts what v does and keeps the arrays of all arguments. Where alpha
        is 0 it is not determined: start the grid after t = 0 there.

    Raises:
        TypeError: v is not a `Velocity`, operator is no function, or another argument is not of
            real numbers.
        ValueError: v is of coupled pairs, sigma is not positive, or scale is not finite (where they
            are not traced); when it is called, the operator's output is unlike observed.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> v = fj.Gaussian(jnp.zeros(2), 1.0).velocity(fj.CondOT())
        >>> posterior = fj.inverse.dps(v, jnp.array(1.0), lambda x: x[0], sigma=0.5)
        >>> x1 = fj.solve(posterior, jnp.zeros(2), fj.uniform_grid(100, 0.01))
        >>> bool(x1[0] > 0.6), float(x1[1])
        (True, 0.0)

    References:
        Chung, Kim, Mccann, Klasky, Ye, "Diffusion posterior sampling for general noisy inverse
        problems", 2022, arXiv 2209.14687.
    """
    gradient = _OfData(ScalarFunction(scale, "scale"))
    return _posterior(v, Observation(observed, operator, sigma), gradient, "dps")


def pigdm(
    v: Velocity,
    observed: StateLike,
    operator: Callable[..., Any],
    sigma: Any,
    *,
    data_std: ArrayLike = 1.0,
    iterations: int = 4,
) -> Velocity:
    r"""A posterior's velocity by pseudoinverse guidance: the data are taken to be N(D, r^2 I).

    $$g = J^T A^T (r^2 A A^T + \sigma_y^2)^{-1} (y - A(D)), \qquad
    r^2 = \frac{\sigma^2 c^2}{\sigma^2 + \alpha^2 c^2}$$

    which is the variance of data N(0, c^2 I) given x_t: exact for those. The inverse is applied by
    conjugate gradients in the space of the observation, by products with A and its transpose: no
    matrix is formed. A nonlinear operator is linearised at D. The model is differentiated once.

    Args:
        v: as in `dps`.
        observed: as in `dps`.
        operator: as in `dps`.
        sigma: as in `dps`.
        data_std: c, the standard deviation of an element of the data, a number above 0.
        iterations: of conjugate gradients, a static positive int: as many as A has different
            singular values (one for inpainting) or observations are exact.

    Returns:
        The velocity, as in `dps`.

    Raises:
        TypeError, ValueError: as `dps`, and if data_std or iterations is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> v = fj.Gaussian(jnp.zeros(2), 1.0).velocity(fj.CondOT())
        >>> posterior = fj.inverse.pigdm(v, jnp.array(1.0), lambda x: x[0], sigma=0.5)
        >>> x1 = fj.solve(posterior, jnp.zeros(2), fj.uniform_grid(500, 0.01))
        >>> print(f"{x1[0]:.2f} {x1[1]:.2f}")  # the posterior's mean is 0.8
        0.80 0.00

    References:
        Song, Vahdat, Mardani, Kautz, "Pseudoinverse-guided diffusion models for inverse problems",
        ICLR 2023.
    """
    gradient = _OfEvenSpread(positive(data_std, "data_std"), positive_int(iterations, "iterations"))
    return _posterior(v, Observation(observed, operator, sigma), gradient, "pigdm")


def mmps(
    v: Velocity,
    observed: StateLike,
    operator: Callable[..., Any],
    sigma: Any,
    *,
    iterations: int = 4,
) -> Velocity:
    r"""A posterior's velocity by moment matching: the data are taken to be N(D, C), C their own.

    $$g = J^T A^T (A C A^T + \sigma_y^2)^{-1} (y - A(D)), \qquad C = \frac{\sigma^2}{\alpha} J$$

    C is the covariance of the data given x_t, by Tweedie's formula, so that it is exact for
    Gaussian data. The inverse is applied by conjugate gradients in the space of the observation:
    each iteration is one more vector-Jacobian product of the model, and no Jacobian is formed. A
    nonlinear operator is linearised at D.

    Args:
        v: as in `dps`.
        observed: as in `dps`.
        operator: as in `dps`.
        sigma: as in `dps`.
        iterations: of conjugate gradients, a static positive int: as many as there are observations
            are exact, and few do for many. They are written out, each adds to the program. The
            Jacobian of an exact denoiser is symmetric; of a network whose is not, more iterations
            are not better.

    Returns:
        The velocity, as in `dps`.

    Raises:
        TypeError, ValueError: as `dps`, and if iterations is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> v = fj.Gaussian(jnp.zeros(2), 3.0).velocity(fj.CondOT())
        >>> posterior = fj.inverse.mmps(v, jnp.array(1.0), lambda x: x[0], sigma=0.5)
        >>> x1 = fj.solve(posterior, jnp.zeros(2), fj.uniform_grid(500, 0.01))
        >>> print(f"{x1[0]:.2f} {x1[1]:.2f}")  # the posterior's mean is 36 / 37
        0.97 0.00

    References:
        Rozet, Andry, Lanusse, Louppe, "Learning diffusion priors from observations by expectation
        maximization", 2024, arXiv 2405.13712.
    """
    gradient = _OfOwnSpread(positive_int(iterations, "iterations"))
    return _posterior(v, Observation(observed, operator, sigma), gradient, "mmps")


class _OfData(eqx.Module):
    """The gradient where the data are D."""

    scale: ScalarFunction

    def __call__(self, t: Any, path: PathPoint, near: Linearised, pull: Pull) -> State:
        return pull(near.pull(weighted(near.residual, (self.scale(time(t)), near.residual))))


class _OfEvenSpread(eqx.Module):
    """The gradient where the data are N(D, r^2 I)."""

    data_std: Array
    iterations: int = eqx.field(static=True)

    def __call__(self, t: Any, path: PathPoint, near: Linearised, pull: Pull) -> State:
        return pull(near.pull(unspread(path, near, self.data_std, self.iterations)))


class _OfOwnSpread(eqx.Module):
    """The gradient where the data are N(D, C)."""

    iterations: int = eqx.field(static=True)

    def __call__(self, t: Any, path: PathPoint, near: Linearised, pull: Pull) -> State:
        def matrix(w: State) -> State:
            spread = pull(near.pull(w))
            return plus(w, (path.variance / path.alpha, near.push(spread)))

        return pull(near.pull(conjugate_gradients(matrix, near.residual, self.iterations)))


def unspread(path: PathPoint, near: Linearised, data_std: Array, iterations: int) -> State:
    """`(r^2 A A^T + 1)^{-1} residual`, in units of the noise, for data N(D, r^2 I)."""
    c2 = jnp.asarray(data_std, path.alpha.dtype) ** 2
    r2 = path.variance * c2 / (path.variance + path.alpha**2 * c2)

    def matrix(w: State) -> State:
        return plus(w, (r2, near.push(near.pull(w))))

    return conjugate_gradients(matrix, near.residual, iterations)


def positive(value: Any, name: str) -> Array:
    """A number above 0, as an array."""
    value = number(value, name)
    require(lambda x: 0 < x < float("inf"), value, message=f"{name} must be above 0 and finite")
    return jnp.asarray(value)


def _posterior(v: Velocity, observation: Observation, gradient: Any, who: str) -> Velocity:
    """The velocity with the likelihood's gradient in the model inside."""
    if as_velocity(v, who).coupled:
        refuse_coupled(who)
    model = _Posterior(v, observation, gradient)
    posterior = v.with_model(model)
    unknown = without_noise_alone(v.schedule, who, "posterior")
    return dataclasses.replace(
        posterior,
        domain=unknown.within(posterior.domain),
        pair_domain=unknown.within(posterior.pair_domain),
    )


class _Posterior(eqx.Module):
    """The model inside: that of v, moved along the gradient of the log-likelihood."""

    velocity: Velocity
    observation: Observation
    gradient: Callable[..., State]

    def __call__(self, t: ArrayLike, x: Any, args: Any) -> Any:
        predicts = self.velocity.predicts

        def expected(x: State) -> tuple[State, Any]:
            path, x, value = self.velocity.prediction(t, x, args)
            data = on_leaves(partial(converted, predicts, "data"), path, x, value)
            return data, (path, value)

        data, pull, (path, value) = jax.vjp(expected, x, has_aux=True)
        near = linearised(self.observation, data)
        g = self.gradient(t, path, near, lambda cotangent: pull(cotangent)[0])
        return plus(value, (per_score(predicts, path), g))
