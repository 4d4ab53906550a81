"""Weighted particles: resampling, the estimate of the evidence, and the one solve that moves them.

Particles that move together are the state of one solve, and what resampling draws is one more
element of its noise: all of it is a function of the key.
"""

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer
from jax.scipy.special import logsumexp, ndtr

from flowjax import _check
from flowjax._numerics import widest
from flowjax._types import Domain, Scalar, State
from flowjax.fields.velocity import Velocity
from flowjax.samplers._scheduled import noise_weight
from flowjax.solver.door import as_velocity, refuse_coupled
from flowjax.solver.sde import SDE
from flowjax.solver.views import solve


class Particles(NamedTuple):
    r"""Weighted samples of a law, and the estimate of its normalising constant.

    $$E f(X) \approx \sum_i e^{w_i} f(x_i), \qquad \sum_i e^{w_i} = 1$$

    Args:
        samples: the particles, along the leading axis of each leaf.
        log_weights: (particles,), of weights that sum to 1; all equal if they were resampled.
        log_evidence: the logarithm of an unbiased estimate of the normalising constant.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> found = fj.inverse.Particles(
        ...     jnp.array([0.0, 4.0]), jnp.log(jnp.array([0.75, 0.25])), 0.0
        ... )
        >>> float(jnp.sum(jnp.exp(found.log_weights) * found.samples))
        1.0

    References:
        Del Moral, Doucet, Jasra (2006), "Sequential Monte Carlo samplers", Journal of the Royal
        Statistical Society B 68.
    """

    samples: State
    log_weights: Array
    log_evidence: Array


class Cloud(NamedTuple):
    """Particles under way: the state of the solve.

    Args:
        x: the particles, along the leading axis of each leaf.
        log_weights: (particles,), since they were last resampled.
        log_potential: (particles,), that part of the weights which is taken back later on.
        log_evidence: what the weights were on average, before each time they were resampled.
    """

    x: State
    log_weights: Array
    log_potential: Array
    log_evidence: Array


class Chain(eqx.Module):
    """What the step that moves a cloud is given in the place of a drift.

    Args:
        velocity: of the prior.
        domain: where its data and noise are determined.
        rule: what weighs the particles.
        threshold: the part of the particles that must count, below which they are resampled.
        like: the shapes and dtypes of the particles, as their maker drew them.
    """

    velocity: Velocity
    domain: Domain = eqx.field(static=True)
    rule: Any
    threshold: Array
    like: Any

    def __call__(self, t: Scalar, cloud: Any, args: Any) -> Any:
        """Not called: a chain has no drift of its own."""
        raise NotImplementedError


def check_particles(v: Any, particles: Any, resampled: Any, who: str) -> tuple[Velocity, int]:
    """The velocity and the number of particles, refused unless they can be moved by noise."""
    if not isinstance(resampled, bool):
        raise TypeError(f"resampled must be True or False, got {resampled!r}.")
    if as_velocity(v, who).coupled:
        refuse_coupled(who)
    count = _check.positive_int(particles, "particles")
    if count < 2:
        raise ValueError(f"particles must be at least 2, got {count}: one has no weights.")
    return v, count


def moved(
    key: Any,
    v: Velocity,
    rule: Any,
    init: Callable[..., Any],
    ts: Any,
    particles: int,
    args: Any,
    step: Callable[..., Any],
    threshold: Any,
) -> tuple[Cloud, Any]:
    """The cloud after the last step, and a key that is left for it."""
    _check.single_key(key)
    _check.function(init, "init", "key -> x0 of one particle", takes=1)
    threshold = _check.number(threshold, "threshold")
    _check.require(lambda x: 0 <= x <= 1, threshold, message="threshold must be from 0 to 1")
    init_key, path_key, last_key = jax.random.split(key, 3)
    x0 = jax.vmap(init)(jax.random.split(init_key, particles))
    x0 = _check.state(x0, "what init draws")
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), x0)
    real = widest(x0)
    zeros = jnp.zeros(particles, real)
    cloud = Cloud(x0, zeros, zeros, jnp.zeros((), real))
    chain = Chain(v, v.pair_domain, rule, jnp.asarray(threshold, real), like)
    # One number more than the particles take: what resampling draws.
    noise = (jax.tree.map(jnp.shape, x0), ())
    sde = SDE(chain, chain, noise=noise)
    return solve(sde, cloud, ts, args, step=step, key=path_key), last_key


def rebalanced(
    cloud: Cloud, threshold: Array, t0: Scalar, t1: Scalar, dw: Array
) -> tuple[Cloud, Array]:
    """The cloud, resampled where too few particles count, and their ancestors."""
    log_weights, num = cloud.log_weights, cloud.log_weights.shape[0]
    total = logsumexp(log_weights)
    effective = 1 / jnp.sum(jnp.exp(2 * (log_weights - total)))
    # Not where the weights are NaN or have all vanished, which stay what they are.
    few = effective < threshold * num
    uniform = ndtr(dw * noise_weight(jnp.ones_like(dw), t0, t1))
    ancestors = systematic(uniform, log_weights)
    ancestors = jnp.where(few, ancestors, jnp.arange(num, dtype=ancestors.dtype))
    cloud = Cloud(
        taken(cloud.x, ancestors),
        jnp.where(few, 0, log_weights),
        cloud.log_potential[ancestors],
        cloud.log_evidence + jnp.where(few, total - math.log(num), 0),
    )
    return cloud, ancestors


def systematic(uniform: Array, log_weights: Array) -> Array:
    """Systematic resampling: the ancestors, each so often as its weight says, but for one.

    Args:
        uniform: a number above 0, at most 1.
        log_weights: (particles,), of any sum.

    Returns:
        (particles,) indices that do not decrease.

    References:
        Kitagawa, "Monte Carlo filter and smoother for non-Gaussian nonlinear state space models",
        1996; Douc, Cappe, "Comparison of resampling schemes for particle filtering", 2005.
    """
    num = log_weights.shape[0]
    sums = jnp.cumsum(jnp.exp(log_weights - jnp.max(log_weights)))
    heights = (jnp.arange(num).astype(sums.dtype) + uniform) / num * sums[-1]
    # From the left: what weighs nothing is never taken.
    return jnp.minimum(jnp.searchsorted(sums, heights), num - 1)


def finished(cloud: Cloud, key: Any, resampled: bool, who: str) -> Particles:
    """The particles at the end, NaN and with a warning where their weights have all vanished."""
    particles, alive = _ended(cloud, key, resampled)
    if not isinstance(alive, Tracer) and not alive:
        warnings.warn(
            f"{who}: the weights of all particles have vanished, or some are not numbers, so that "
            f"what it returns is NaN: what weighs them must be finite where the samples are.",
            RuntimeWarning,
            stacklevel=3,
        )
    return particles


@partial(jax.jit, static_argnames="resampled")
def _ended(cloud: Cloud, key: Any, resampled: bool) -> tuple[Particles, Array]:
    """The particles, and whether their weights are numbers."""
    log_weights, num = cloud.log_weights, cloud.log_weights.shape[0]
    total = logsumexp(log_weights)
    evidence = cloud.log_evidence + total - math.log(num)
    weights, x = log_weights - total, cloud.x
    if resampled:
        uniform = 1 - jax.random.uniform(key, dtype=total.dtype)
        x = taken(x, systematic(uniform, log_weights))
        weights = jnp.full_like(weights, -math.log(num))
    alive = jnp.isfinite(evidence)
    particles = jax.tree.map(
        lambda leaf: jnp.where(alive, leaf, jnp.nan), Particles(x, weights, evidence)
    )
    return particles, alive


def taken(x: State, ancestors: Array) -> State:
    """Those particles, along the leading axis of each leaf."""
    return jax.tree.map(lambda leaf: leaf[ancestors], x)
