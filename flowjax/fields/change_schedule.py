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
from flowjax.fields.predictions import converted, missing_at, on_leaves
from flowjax.fields.velocity import Velocity, velocity
from flowjax.schedules.point import path_at
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
    that of its nearest end. Where the old model does not determine D at t = 0 (one of the noise
    under `CondOT`, one of the velocity under `Polynomial(n)` with n > 1), nor does the new one; nor
    does it determine the velocity at t = 1 where sigma' is infinite in the new schedule and the old
    model says nothing of the score: there it is NaN, or refused. At a ratio of zero or infinity the
    derivative in t leaves out that of the old time.

    Args:
        v: the velocity under its own schedule.
        new: the schedule to solve on.

    Returns:
        The velocity under the new schedule. Its model predicts the velocity or v.

    Raises:
        TypeError: v is not a `Velocity`, or new is not a schedule.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> target = fj.Gaussian(jnp.array([2.0]), 0.5)
        >>> trained = target.velocity(fj.VariancePreserving())
        >>> v = fj.change_schedule(trained, fj.CondOT())
        >>> x, exact = jnp.array([0.3]), target.velocity(fj.CondOT())
        >>> print(f"{v(0.5, x, None)[0]:.3f} {exact(0.5, x, None)[0]:.3f}")
        2.840 2.840

    References:
        Lipman et al., "Flow matching guide and code", 2024, arXiv 2412.06264, section 4 (post-
        training change of the scheduler); Karras, Aittala, Aila, Laine, "Elucidating the design
        space of diffusion-based generative models", 2022, arXiv 2206.00364, section 2.
    """
    v = as_velocity(v, "change_schedule")
    model = _Changed(v, checked_schedule(new, name="new"))
    changed = velocity(model, new, model.predicts, v.coupled)
    of_pair, of_velocity = _domains(model)
    return dataclasses.replace(
        changed,
        domain=changed.domain.within(of_velocity),
        pair_domain=changed.pair_domain.within(of_pair),
    )


class _Changed(eqx.Module):
    """The model under the new schedule."""

    old: Velocity
    new: Any

    @property
    def predicts(self) -> str:
        """The velocity or v: what says more, at the ends of the new schedule, than the others."""
        return "velocity" if self.old.predicts in ("velocity", "score") else "v"

    def __call__(self, t: ArrayLike, x: Any, args: Any) -> Any:
        x = _check.state(x, "x")
        t = time(t)
        t = t.astype(jnp.promote_types(t.dtype, widest(x)))
        old_time, new = self.time_of(t), path_at(self.new, t, widest(x))
        old = path_at(self.old.schedule, old_time, widest(x))
        by_noise, by_data = quotient(old.sigma, new.sigma), quotient(old.alpha, new.alpha)
        scale = jnp.where(new.sigma > new.alpha, by_noise, by_data)
        x = on_leaves(lambda scale, x: scale * x, scale, x)
        _, x, value = self.old.prediction(old_time, x, args)

        def out(paths: Any, x: Array, value: Array, data: Array, noise: Array) -> Array:
            old, new, scale = paths
            if self.predicts == "v":
                return new.alpha * noise - new.sigma * data
            # Where sigma' is infinite, `sigma' E` is `-sigma sigma'` times the score, which scales.
            finite = jnp.isfinite(new.sigma_rate)
            rate = jnp.where(finite, new.sigma_rate, -scale * new.half_variance_rate)
            score = converted(self.old.predicts, "score", old, x, value, finite)
            return new.alpha_rate * data + rate * jnp.where(finite, noise, score)

        known = getattr(self.old.model, "data_and_noise", None)
        pair = known(old_time, x, args) if known else self.old.pair(old, x, value)
        return on_leaves(out, (old, new, scale), x, value, *pair)

    def time_of(self, t: ArrayLike) -> Array:
        """The time of the old schedule at which the signal-to-noise ratio is that of the new."""
        return self.old.schedule.time_at(self.new.log_snr(t))


def _domains(model: _Changed) -> tuple[Domain, Domain]:
    """Where the old model does not determine the new data and noise, and the new velocity."""
    times = _check.concrete(lambda: [model.time_of(t) for t in (0.0, 1.0)])
    if times is None:
        return Domain(), Domain()
    old = model.old
    start = old.pair_domain.at_start if float(times[0]) == 0 else ""
    end = old.pair_domain.at_end if float(times[1]) == 1 else ""
    no_score = float(times[1]) == 1 and missing_at(1.0, old.schedule, old.predicts, "score")
    of_velocity = missing_at(1.0, model.new, "data", "velocity") if no_score else ""
    return Domain(start, end), Domain(start, end or of_velocity)
