"""Twisted sequential Monte Carlo: posterior sampling that is exact with many particles."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from flowjax import _check
from flowjax._check import positive_int
from flowjax._numerics import dot, narrow, root, weighted, widest
from flowjax._types import Scalar, State
from flowjax.fields.velocity import Velocity
from flowjax.inverse.observation import Observation, linearised
from flowjax.inverse.velocities import positive, unspread
from flowjax.particles import (
    Cloud,
    Particles,
    check_particles,
    finished,
    moved,
    rebalanced,
    taken,
)
from flowjax.samplers._scheduled import interval, noise_weight
from flowjax.schedules.point import path_at


def twisted_smc(
    key: Any,
    v: Velocity,
    log_likelihood: Callable[..., Any],
    init: Callable[..., Any],
    ts: Any,
    particles: int,
    args: Any = None,
    *,
    data_std: ArrayLike = 1.0,
    iterations: int = 4,
    threshold: ArrayLike = 0.5,
    resampled: bool = True,
) -> Particles:
    r"""Samples of a posterior by weighted particles: exact as their number grows.

    Particles take the steps of `ancestral`, $p(x_{k+1} \mid x_k) = N(m, v^2)$, moved towards what
    the likelihood asks for, and their weights make up for it:

    $$q(x_{k+1} \mid x_k) = N\big(m + v^2\,\nabla\psi_k(x_k),\, v^2\big), \qquad
    w \mathrel{{+}{=}} \log\frac{p(x_{k+1} \mid x_k)}{q(x_{k+1} \mid x_k)}
    + \psi_{k+1}(x_{k+1}) - \psi_k(x_k)$$

    psi is a guess at log p(y | x_k) and is taken back at the end, where it is log p(y | x_n): a bad
    guess costs particles, not bias. Of a log-likelihood it is its value at D; of an `Observation`
    it is $-\tfrac12 (y - A(D))^T (r^2 A A^T + \sigma_y^2)^{-1} (y - A(D))$ with r as in `pigdm`.
    Where less than threshold of the particles count, they are resampled (systematically), and once
    more at the end. A step to sigma = 0 is that of the prior.

    It is exact for the law of the n steps, not for that of the SDE: take steps enough that
    `ancestral` alone samples the prior well. A step is one batched call of the model, with one
    vector-Jacobian product.

    Args:
        key: one JAX key; from `init_key, path_key, last_key = jax.random.split(key, 3)` are drawn
            the starts, everything within the solve, and the last resampling.
        v: the velocity of the prior.
        log_likelihood: a function `x1 -> log p(y | x1)` of one sample, up to a constant; such as
            `fj.inverse.Observation(observed, operator, sigma)`.
        init: draws the start of one particle, `init(key) -> x0`, such as
            `schedule.prior(shape).sample`.
        ts: (n + 1,) increasing times within [0, 1].
        particles: how many, a static int from 2.
        args: passed on to the model.
        data_std: of an `Observation`: as in `pigdm`.
        iterations: of an `Observation`: as in `pigdm`.
        threshold: from 0 (never resample) to 1 (always).
        resampled: whether to resample at the end. If not, the samples come with weights, which
            estimate expectations a little better.

    Returns:
        `Particles(samples, log_weights, log_evidence)`, the last an estimate of log p(y). Where all
        weights have vanished (or one is NaN) all three are NaN, and there is a warning unless the
        call is traced.

    Raises:
        TypeError: v is not a `Velocity`, log_likelihood or init is no function of one argument,
            log_likelihood returns no real scalar, or key is not a key.
        ValueError: particles is below 2, v is of coupled pairs, ts decreases or leaves [0, 1] or
            calls v where its data are not determined, threshold is not from 0 to 1, or data_std or
            iterations is not positive.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> v = fj.Gaussian(jnp.zeros(2), 1.0).velocity(fj.CondOT())
        >>> first = fj.inverse.Observation(jnp.array(1.0), lambda x: x[0], sigma=0.5)
        >>> init, ts = v.schedule.prior((2,)).sample, fj.uniform_grid(100)
        >>> samples, _, log_evidence = fj.inverse.twisted_smc(
        ...     jax.random.key(0), v, first, init, ts, 1000
        ... )
        >>> bool(abs(samples[:, 0].mean() - 0.8) < 0.1)
        True
        >>> bool(abs(log_evidence + 1.43) < 0.1)  # log N(1; 0, 1.25)
        True

    References:
        Wu, Trippe, Naesseth, Blei, Cunningham, "Practical and asymptotically exact conditional
        sampling in diffusion models", 2023, arXiv 2306.17775, Algorithm 1.
    """
    v, particles = check_particles(v, particles, resampled, "twisted_smc")
    form = "of the data alone, x1 -> log p(y | x1)"
    _check.function(log_likelihood, "log_likelihood", form, takes=1)
    rule = _Twist(
        log_likelihood, positive(data_std, "data_std"), positive_int(iterations, "iterations")
    )
    cloud, last = moved(key, v, rule, init, ts, particles, args, _twisted, threshold)
    likelihood = jax.vmap(rule.likelihood)(cloud.x)
    weights = cloud.log_weights + likelihood - cloud.log_potential
    return finished(cloud._replace(log_weights=weights), last, resampled, "twisted_smc")


def _twisted(sde: Any, t0: Scalar, t1: Scalar, cloud: Cloud, args: Any, dw: Any) -> Cloud:
    """The particles and their weights after a step, as in Algorithm 1."""
    chain = sde.drift
    i = interval(chain.velocity.schedule, t0, t1, cloud.x)
    time = jnp.asarray(t0, widest(cloud.x))
    look = jax.vmap(lambda x: chain.rule(chain.velocity, time, x, args))
    data, noise, gradient, guess = look(narrow(cloud.x, chain.like))
    # A guess of no likelihood would take particles away for good: it counts as the least of others.
    possible = guess > -jnp.inf
    least = jnp.min(guess, where=possible, initial=jnp.inf)
    least = jnp.where(least < jnp.inf, least, 0)
    guess = jnp.where(guess == -jnp.inf, least, guess)
    # What remains of the weights of the step before, now that the guess here is known.
    weights = cloud.log_weights + guess - cloud.log_potential
    cloud = cloud._replace(log_weights=weights, log_potential=guess)
    cloud, ancestors = rebalanced(cloud, chain.threshold, t0, t1, dw[1])
    data, noise, gradient = taken((data, noise, gradient), ancestors)
    # The proposal N(m + std^2 g, std^2): the noise of the step, moved by std g.
    std = i.s1 * root((1 - i.decay) * (1 + i.decay))
    drawn = weighted(dw[0], (noise_weight(jnp.ones_like(std), t0, t1), dw[0]))
    shifted = weighted(drawn, (1, drawn), (std, gradient))
    x = weighted(cloud.x, (i.a1, data), (i.s1 * i.decay, noise), (std, shifted))
    ratio = (_squares(drawn) - _squares(shifted)) / 2
    return cloud._replace(x=x, log_weights=cloud.log_weights + ratio)


class _Twist(eqx.Module):
    """The likelihood, and what is guessed of it before the end."""

    log_likelihood: Callable[..., Any]
    data_std: Array
    iterations: int = eqx.field(static=True)

    def __call__(self, v: Velocity, t: Array, x: State, args: Any) -> tuple:
        """The data and the noise expected, and the guess with its gradient, of one particle."""
        data, pull, noise = jax.vjp(lambda x: v.data_and_noise(t, x, args), x, has_aux=True)
        if isinstance(self.log_likelihood, Observation):
            near = linearised(self.log_likelihood, data)
            path = path_at(v.schedule, t, widest(x))
            solved = unspread(path, near, self.data_std, self.iterations)
            guess, slope = -dot(near.residual, solved) / 2, near.pull(solved)
        else:
            guess, slope = jax.value_and_grad(self.likelihood)(data)
            # What is impossible of the data that are expected need not be so of the data.
            slope = jax.tree.map(lambda leaf: jnp.where(guess == -jnp.inf, 0, leaf), slope)
        return data, noise, pull(slope)[0], guess.astype(widest(x))

    def likelihood(self, x: State) -> Array:
        """The log-likelihood of one sample, a scalar."""
        value = _check.returned_scalar(self.log_likelihood(x), "log_likelihood")
        return jnp.asarray(value, widest(x))


def _squares(x: State) -> Array:
    """The sum of squares of each particle."""
    return jax.vmap(lambda x: dot(x, x))(x)
