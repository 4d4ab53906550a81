"""From one schedule to another, after training."""

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from flowjax import _check
from flowjax._check import time
from flowjax._numerics import quotient, widest
from flowjax._types import Domain
from flowjax.fields.predictions import (
    data_and_noise_from,
    missing_at,
    on_leaves,
    score_from,
)
from flowjax.fields.velocity import Velocity, velocity
from flowjax.schedules.point import PathPoint, path_at
from flowjax.schedules.schedule import checked_schedule
from flowjax.solver.door import as_velocity


def change_schedule(v: Velocity, new: Any) -> Velocity:
    r"""The velocity under a new schedule, from one that was trained under an old schedule.

    The state of the new path at t is that of the old path at the time of the same signal-to-noise
    ratio, but for a factor:

    $$\frac{\alpha_{old}(\tau)}{\sigma_{old}(\tau)} = \frac{\alpha_{new}(t)}{\sigma_{new}(t)},
    \quad x_{old} = c\,x, \quad c = \frac{\sigma_{old}}{\sigma_{new}}
    = \frac{\alpha_{old}}{\alpha_{new}}$$

    Both expect the same data D and noise E, so `u = alpha' D + sigma' E` with the new rates.

    The flows end at the same samples where both schedules reach the ratios of the new one's ends,
    and start at the same noise times `c`. A ratio out of the old schedule's reach is taken to be
    that of its nearest end. A model of the velocity does not determine the new velocity at t = 0
    where the old one stands still (`Polynomial(n)` with n > 1), nor at t = 1 where sigma' is
    infinite in the new schedule alone: there it is NaN, or refused. At a ratio of zero or infinity
    the derivative in t leaves out that of the old time.

    Args:
        v: the velocity under its own schedule.
        new: the schedule to solve on.

    Returns:
        The velocity under the new schedule, of a model that predicts the same as v's.

    Raises:
        TypeError: v is not a `Velocity`, or new is not a schedule.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> target = fj.Gaussian(jnp.array([2.0]), 0.5)
        >>> trained = target.velocity(fj.VariancePreserving())
        >>> v = fj.change_schedule(trained, fj.CondOT())
        >>> x = jnp.array([0.3])
        >>> exact = target.velocity(fj.CondOT())
        >>> print(f"{v(0.5, x, None)[0]:.3f} {exact(0.5, x, None)[0]:.3f}")
        2.840 2.840

    References:
        Lipman et al., "Flow matching guide and code", 2024, arXiv 2412.06264, section 4 (post-
        training change of the scheduler); Karras et al., 2022, arXiv 2206.00364, section 2.
    """
    v = as_velocity(v, "change_schedule")
    model = _Changed(v, checked_schedule(new, name="new"))
    changed = velocity(model, new, v.predicts, v.coupled)
    return (
        dataclasses.replace(changed, domain=model.domain) if v.predicts == "velocity" else changed
    )


class _Changed(eqx.Module):
    """The model under the new schedule, which predicts what the old one does."""

    old: Velocity
    new: Any

    def __call__(self, t: ArrayLike, x: Any, args: Any) -> Any:
        x = _check.state(x, "x")
        dtype, kind = widest(x), self.old.predicts
        t = time(t)
        t = t.astype(jnp.promote_types(t.dtype, dtype))
        old_time = self.old.schedule.time_at(self.new.log_snr(t))
        old, new = path_at(self.old.schedule, old_time, dtype), path_at(self.new, t, dtype)
        by_noise = quotient(old.sigma, new.sigma), quotient(old.alpha, new.alpha)
        scale = jnp.where(new.sigma > new.alpha, *by_noise)

        def out(paths: Any, x: Array, value: Array) -> Array:
            old, new, scale = paths
            if kind in ("data", "noise"):
                return value
            if kind == "score":
                return scale * value
            data, noise = data_and_noise_from(kind, old, x, value)
            if kind == "v":
                return new.alpha * noise - new.sigma * data
            return new.alpha_rate * data + _along_noise(new, noise, scale, old, x, value)

        x_old = on_leaves(lambda scale, x: scale * x, scale, x)
        value = _check.alike(self.old.model(old_time, x_old, args), x, "the model's output")
        return on_leaves(out, (old, new, scale), x_old, value)

    @property
    def domain(self) -> Domain:
        """Where a model of the velocity determines the new velocity."""
        old, new = self.old.schedule, self.new
        ends = _check.concrete(lambda: [old.time_at(new.log_snr(t)) for t in (0.0, 1.0)])
        if ends is None:
            return Domain()
        start = self.old.pair_domain.at_start if float(ends[0]) == 0 else ""
        no_score = missing_at(1.0, old, "velocity", "score")
        end = missing_at(1.0, new, "data", "velocity") if no_score and float(ends[1]) == 1 else ""
        return Domain(start, end and f"the velocity is not determined at t = 1, where {end}")


def _along_noise(
    new: PathPoint, noise: Array, scale: Array, old: PathPoint, x: Array, value: Array
) -> Array:
    """`sigma' E`; where sigma' is infinite, `-sigma sigma'` times the score, which scales."""
    finite = jnp.isfinite(new.sigma_rate)
    by_score = -new.half_variance_rate * scale * score_from("velocity", old, x, value)
    return jnp.where(finite, jnp.where(finite, new.sigma_rate, 0) * noise, by_score)
