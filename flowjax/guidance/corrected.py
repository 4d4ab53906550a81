"""Guidance that samples what it says: Feynman-Kac weights on classifier-free guidance."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowjax import _check
from flowjax._numerics import dot, narrow, quotient, weighted, widest
from flowjax._types import Scalar, State
from flowjax.fields.predictions import score_denominator
from flowjax.fields.velocity import Velocity
from flowjax.guidance.branches import of_one_dtype
from flowjax.particles import (
    Cloud,
    Particles,
    check_particles,
    finished,
    moved,
    rebalanced,
    taken,
)
from flowjax.samplers._scheduled import ancestral_end, interval


def corrected(
    key: Any,
    v: Velocity,
    scale: ArrayLike,
    null: Any,
    init: Callable[..., Any],
    ts: Any,
    particles: int,
    args: Any = None,
    *,
    threshold: ArrayLike = 0.5,
    resampled: bool = True,
) -> Particles:
    r"""Samples of the sharpened law $p(x \mid y)^w\,p(x)^{1-w}$, by weighted particles.

    Classifier-free guidance adds the scores of that law, but its flow and its SDEs do not lead
    there. The weights that do are, along the SDE,

    $$d \log w_i = w(w-1)\,\kappa\,|s_1 - s_0|^2\,dt
    = -w(w-1)\,\frac{\dot\alpha\sigma - \alpha\dot\sigma}{\sigma^2}\,
    (D_1 - D_0) \cdot (E_1 - E_0)\,dt$$

    with the scores, data and noise with the condition (1) and without it (0), and $\kappa =
    \sigma^2\dot\alpha/\alpha - \sigma\dot\sigma$. Particles take the steps of `ancestral` with the
    guided data and noise, and are resampled (systematically) where less than threshold of them
    count, and once more at the end. Unlike that of `twisted_smc`, the law of n steps is the one
    sought only as the steps become short. A step is one batched call of the model.

    Args:
        key: one JAX key; from `init_key, path_key, last_key = jax.random.split(key, 3)` are drawn
            the starts, everything within the solve, and the last resampling.
        v: a velocity whose model takes the condition y in args, as in
            `fj.guidance.classifier_free`.
        scale: w, a number that does not depend on time.
        null: the args that stand for no condition, of the same structure and shapes as args: a
            pytree of arrays.
        init: draws the start of one particle, `init(key) -> x0`, such as
            `schedule.prior(shape).sample`.
        ts: (n + 1,) increasing times within [0, 1].
        particles: how many, a static int from 2.
        args: the condition, the same for all particles.
        threshold: from 0 (never resample) to 1 (always).
        resampled: whether to resample at the end. If not, the samples come with weights.

    Returns:
        `Particles`; log_evidence is an estimate of the logarithm of the integral of
        $p(x \mid y)^w\,p(x)^{1-w}$. NaN, and a warning, where all weights have vanished.

    Raises:
        TypeError: v is not a `Velocity`, init is no function of one argument, null is None, scale
            or threshold is no number, or key is not a key.
        ValueError: args is unlike null, particles is below 2, v is of coupled pairs, scale is not
            finite, threshold is not from 0 to 1, or ts decreases or leaves [0, 1] or calls v where
            its data are not determined.

    Example:
        Between Gaussians of standard deviations 0.5 and 1 the sharpened law of w = 2 is one of
        0.378, where the guided flow ends at 0.25:

        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> def model(t, x, std):
        ...     return fj.Gaussian(jnp.zeros(()), std).velocity(fj.CondOT())(t, x, None)
        >>> v, init = fj.velocity(model, fj.CondOT()), jax.random.normal
        >>> found = fj.guidance.corrected(
        ...     jax.random.key(0), v, 2.0, 1.0, init, fj.uniform_grid(200), 4000, args=0.5
        ... )
        >>> bool(abs(found.samples.std() - 0.378) < 0.02)
        True

    References:
        Skreta, Akhound-Sadegh, Ohanesian, Bondesan, Aspuru-Guzik, Doucet, Brekelmans, Tong,
        Neklyudov, "Feynman-Kac correctors in diffusion: annealing, guidance, and product of
        experts", 2025, arXiv 2503.02819.
    """
    v, particles = check_particles(v, particles, resampled, "corrected")
    scale = _check.number(scale, "scale")
    _check.require(np.isfinite, scale, message="scale must be finite")
    if null is None:
        raise TypeError("null must be the args that stand for no condition, got None.")
    rule = _Sharpened(jnp.asarray(scale), null)
    rule.both(args)
    cloud, last = moved(key, v, rule, init, ts, particles, args, _corrected, threshold)
    return finished(cloud, last, resampled, "corrected")


def _corrected(sde: Any, t0: Scalar, t1: Scalar, cloud: Cloud, args: Any, dw: Any) -> Cloud:
    """The particles and their weights after a step."""
    chain = sde.drift
    i = interval(chain.velocity.schedule, t0, t1, cloud.x)
    time = jnp.asarray(t0, widest(cloud.x))
    conditions = chain.rule.both(args)
    look = jax.vmap(lambda x: chain.rule(chain.velocity, time, x, conditions))
    data, noise, apart, product = look(narrow(cloud.x, chain.like))
    w = chain.rule.scale.astype(i.a0.dtype)
    # With the data held over the step, as the step holds them; one that ends at little noise by
    # its start, for there the data do not stand still.
    held = (quotient(i.a1, i.s1) ** 2 - quotient(i.a0, i.s0) ** 2) / 2 * apart
    rate = -quotient(score_denominator(i.start), i.s0**3) * product
    log_gain = jnp.where(4 * i.s1 > i.s0, held, rate * jnp.asarray(t1 - t0, rate.dtype))
    cloud = cloud._replace(log_weights=cloud.log_weights + w * (w - 1) * log_gain)
    cloud, ancestors = rebalanced(cloud, chain.threshold, t0, t1, dw[1])
    data, noise = taken((data, noise), ancestors)
    return cloud._replace(x=ancestral_end(i, t0, t1, cloud.x, data, noise, dw[0]))


class _Sharpened(eqx.Module):
    """What guidance makes of a particle, and how far its two branches are apart."""

    scale: Array
    null: Any

    def both(self, args: Any) -> Any:
        """The condition and none, on a leading axis of each leaf; refused if they are unlike."""
        named = [(name, leaf) for name, leaf, _ in _check.paired(args, self.null, "args", "null's")]
        pairs = [
            of_one_dtype(none, *one)
            for none, one in zip(jax.tree.leaves(self.null), named, strict=True)
        ]
        stacked = [jnp.stack([jnp.asarray(leaf), jnp.asarray(none)]) for none, leaf in pairs]
        return jax.tree.unflatten(jax.tree.structure(self.null), stacked)

    def __call__(self, v: Velocity, t: Array, x: State, conditions: Any) -> tuple:
        """The guided data and noise of a particle; |D1 - D0|^2, and (D1 - D0) (E1 - E0)."""
        data, noise = jax.vmap(lambda condition: v.data_and_noise(t, x, condition))(conditions)
        differences = [jax.tree.map(lambda leaf: leaf[0] - leaf[1], part) for part in (data, noise)]
        none = [jax.tree.map(lambda leaf: leaf[1], part) for part in (data, noise)]
        guided = (
            weighted(x, (1, start), (self.scale, towards))
            for start, towards in zip(none, differences, strict=True)
        )
        square = dot(differences[0], differences[0])
        return *guided, square.astype(widest(x)), dot(*differences).astype(widest(x))
