"""Guidance by the gradient of a log-likelihood or a reward."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from flowjax import _check
from flowjax._check import time
from flowjax._numerics import widest
from flowjax._types import Domain, State
from flowjax.fields.predictions import (
    converted,
    missing_at,
    on_leaves,
    per_score,
    without_noise_alone,
)
from flowjax.fields.scalar_function import ScalarFunction
from flowjax.fields.velocity import Velocity
from flowjax.guidance.guided import Guided, output
from flowjax.schedules.point import path_at
from flowjax.solver.door import as_velocity, refuse_coupled


def by_gradient(
    v: Velocity,
    log_likelihood: Callable[[Any, Any, Any], Any],
    scale: ArrayLike | Callable[[Any], Any] = 1.0,
    *,
    of: str = "state",
) -> Velocity:
    r"""A velocity guided by the gradient of a log-likelihood, or of a reward.

    $$\tilde u_t(x) = u_t(x) + w\,\kappa_t\,g, \quad g = \nabla_x \log p_t(y \mid x), \quad
    \kappa_t = \sigma^2\frac{\dot\alpha}{\alpha} - \sigma\dot\sigma$$

    $$\tilde D = D + w\frac{\sigma^2}{\alpha}g, \quad \tilde E = E - w\,\sigma\,g, \quad
    \widetilde{\mathrm{score}} = \mathrm{score} + w\,g, \quad
    \tilde v = v - w\,\frac{\sigma(\alpha^2 + \sigma^2)}{\alpha}\,g$$

    With w = 1 and the exact `log p_t(y | x) = log E[p(y | x_1) | x_t = x]` it is the velocity of
    the posterior `p(x | y)`, by Bayes's rule for the scores. With anything else (a classifier of
    noisy data that was learnt, a likelihood or a reward r of the expected data D, another w) it is
    an approximation: the flow does not end at `p(x) exp(w r(x))`.

    Args:
        v: the velocity to guide.
        log_likelihood: a function `(t, x, args)` with a real floating scalar as its value, which
            JAX can differentiate in x.
        scale: w, a number, or a function `t -> w`.
        of: what log_likelihood is given as x: "state", the state at t, or "data", the expected
            data D there. Then `g = J^T grad`, with J the Jacobian of D in x, by one reverse pass
            through the model, which is called once.

    Returns:
        The guided velocity. It keeps the arrays of v, of log_likelihood and of scale as leaves.
        Where alpha is 0 at t = 0 it is not determined there: the posterior's mean is needed, which
        no gradient tells. Start the grid later, or let `fj.guidance.interval` begin later.

    Raises:
        TypeError: v is not a `Velocity`, log_likelihood not such a function or scale neither a
            number nor a function of t alone; when it is called, log_likelihood does not return a
            real floating scalar.
        ValueError: v is of coupled pairs, which have no score, of is neither "state" nor "data", or
            scale is not finite (where it is not traced); when it is called, the model's output is
            unlike x; in `solve`, a step calls it at a time where it is not determined.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> prior, path = fj.Gaussian(jnp.array([0.0]), 1.0), fj.CondOT()
        >>> def log_likelihood(t, x, y):  # of y = x_1 + noise of variance 1, exactly
        ...     alpha, sigma = path(t)
        ...     spread = sigma**2 / (alpha**2 + sigma**2)
        ...     mean = alpha / (alpha**2 + sigma**2) * x
        ...     return -jnp.sum((y - mean) ** 2) / (2 * (1 + spread))
        >>> v = fj.guidance.by_gradient(prior.velocity(path), log_likelihood)
        >>> posterior = fj.Gaussian(jnp.array([1.5]), jnp.sqrt(0.5))  # of y = 3
        >>> x, y = jnp.array([0.4]), jnp.array([3.0])
        >>> exact = posterior.velocity(path)
        >>> print(f"{v(0.3, x, y)[0]:.3f} {exact(0.3, x, None)[0]:.3f}")
        1.551 1.551

    References:
        Dhariwal, Nichol, "Diffusion models beat GANs on image synthesis", 2021, arXiv 2105.05233,
        section 4; Chung, Kim, Mccann, Klasky, Ye, "Diffusion posterior sampling for general noisy
        inverse problems", 2022, arXiv 2209.14687, equation 10 (of the expected data).
    """
    v = as_velocity(v, "by_gradient")
    if v.coupled:
        refuse_coupled("by_gradient")
    log_likelihood = _check.function(log_likelihood, "log_likelihood", "(t, x, args) -> scalar")
    if of not in ("state", "data"):
        raise ValueError(f'of must be "state" or "data", got {of!r}.')
    guided = v.with_model(_ByGradient(v, log_likelihood, ScalarFunction(scale, "scale"), of))
    own = without_noise_alone(v.schedule, "a gradient of the log-likelihood", "velocity")
    if of == "data":
        own = own.within(Domain.of(lambda t: missing_at(t, v.schedule, v.predicts, "data")))
    return dataclasses.replace(
        guided,
        domain=guided.domain.within(own),
        pair_domain=guided.pair_domain.within(own),
    )


class _ByGradient(Guided):
    velocity: Velocity
    log_likelihood: Callable[..., Any]
    scale: ScalarFunction
    of: str

    def both(self, t: Any, x: Any, args: Any) -> tuple[State, State]:
        v = self.velocity
        path = path_at(v.schedule, t, widest(x))

        def likelihood(x: State) -> tuple[Array, State]:
            value = output(v.model, t, x, args) if self.of == "data" else None
            seen = x
            if self.of == "data":
                seen = on_leaves(partial(converted, v.predicts, "data"), path, x, value)
            log_p = self.log_likelihood(t, seen, args)
            return jnp.asarray(_check.returned_scalar(log_p, "log_likelihood")), value

        gradient, value = jax.grad(likelihood, has_aux=True)(x)
        value = output(v.model, t, x, args) if self.of == "state" else value
        w = self.scale(time(t)).astype(path.alpha.dtype)

        def shifted(numbers: Any, x: Array, value: Array, gradient: Array) -> Array:
            path, w = numbers
            return value + w * per_score(v.predicts, path) * gradient

        return on_leaves(shifted, (path, w), x, value, gradient), value
