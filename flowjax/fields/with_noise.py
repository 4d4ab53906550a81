"""SDEs with the marginals of a flow."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowjax import _check
from flowjax._check import number, require, time
from flowjax._numerics import clip, root
from flowjax._types import Domain
from flowjax.fields.predictions import (
    converted,
    missing_at,
    on_leaves,
    score_denominator,
)
from flowjax.fields.scalar_function import ScalarFunction
from flowjax.fields.velocity import Velocity
from flowjax.schedules.point import PathPoint, path_at
from flowjax.schedules.schedule import ScheduleLike, checked_schedule
from flowjax.solver.door import as_velocity, refuse_coupled
from flowjax.solver.sde import SDE


def with_noise(
    v: Velocity,
    diffusion: Callable[[Any], Any] | ArrayLike,
    *,
    noise_until: ArrayLike | None = None,
) -> SDE:
    r"""The SDE with a flow's marginals and any amount of noise.

    $$dX_t = \Big[u_t(X_t) + \frac{g_t^2}{2}\,\mathrm{score}_t(X_t)\Big]dt + g_t\,dW_t, \quad
    \mathrm{score}_t(x) = \frac{\alpha u_t(x) - \dot\alpha x}
    {\dot\alpha\sigma^2 - \alpha\,\sigma\dot\sigma}$$

    The law of X_t is that of the flow for every g, up to the error of the steps: solve it by
    `euler_maruyama`, the default. The choice of g decides how fast errors are forgotten, and how
    small the steps must be:

    - A constant g is harmless at t = 0. Where sigma falls to zero at t = 1 the score grows like
      `1 / sigma^2` around narrow data, and steps of length h are unstable where sigma is below
      `g sqrt(h) / 2`, however small h is. End the noise before that, at `1 - g sqrt(h)` on
      `CondOT`, with `noise_until`.
    - g proportional to sigma, `lambda t: schedule(t)[1]`, is stable at both ends. With
      `noise_until=ts[-2]` the sample carries none of the last step's noise.
    - `fj.memoryless(schedule)` forgets X_0 on the way; it is large at t = 0 where alpha is zero
      there, and vanishes at t = 1 unless sigma' is infinite there.

    Where sigma is zero there is no score, unless sigma' is infinite there: let g vanish there, or
    take no step that calls the drift there, as `stochastic_heun` does at t = 1. `solve` refuses it
    where it sees the times, and the drift is NaN where it does not.

    Args:
        v: the flow's velocity, which knows its schedule.
        diffusion: g, in units of the state per square root of time: a number, or a function
            `t -> scalar`. The noise is g itself, not `sqrt(2) g`. A function that is a pytree,
            such as `fj.memoryless(schedule)`, keeps its arrays as leaves.
        noise_until: a time from which there is neither noise nor score, so that steps that begin
            then or later are those of the flow. `ts[-2]` makes the last step noise-free.

    Returns:
        The SDE. It keeps the arrays of the velocity, and of g and noise_until as leaves. Its drift
        has the `Velocity` as `.velocity`.

    Raises:
        TypeError: v is not a `Velocity`, or diffusion or noise_until is neither a number nor (for
            diffusion) a function of t alone.
        ValueError: v is of coupled pairs, which have no score, g is negative or not finite, or
            noise_until is not from 0 to 1; when it is called, g is not a scalar, or the model's
            output is unlike x; in `solve`, times leave [0, 1], or a step calls the drift where g is
            not zero and there is no score. Values are looked at only where they are not traced.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> target, ts = fj.Gaussian(jnp.array([3.0]), 0.5), fj.uniform_grid(50)
        >>> sde = fj.with_noise(target.velocity(fj.CondOT()), 1.0, noise_until=ts[-2])
        >>> keys = jax.random.split(jax.random.key(0), 1000)
        >>> x0 = jax.random.normal(jax.random.key(1), (1000, 1))
        >>> x1 = jax.vmap(lambda x, key: fj.solve(sde, x, ts, key=key))(x0, keys)
        >>> bool(abs(x1.mean() - 3) < 0.1) and bool(abs(x1.std() - 0.5) < 0.1)
        True

    References:
        Holderrieth, Erives, "An introduction to flow matching and diffusion models" (MIT
        6.S184), 2025, arXiv 2506.02070, theorem 13 (SDE extension trick); Albergo, Boffi,
        Vanden-Eijnden, "Stochastic interpolants", 2023, arXiv 2303.08797, corollary 18.
    """
    if as_velocity(v, "with_noise").coupled:
        refuse_coupled("with_noise")
    amount = ScalarFunction(diffusion, "diffusion", least=0.0)
    if noise_until is not None:
        noise_until = number(noise_until, "noise_until")
        message = "noise_until must be a time from 0 to 1"
        require(lambda t: 0 <= t <= 1, noise_until, message=message)
        noise_until = jnp.asarray(noise_until)
    noise = _Noise(amount, noise_until)
    return SDE(_Drift(v, noise, _domain(v, noise)), noise)


def memoryless(schedule: ScheduleLike, start: ArrayLike = 0.01) -> Callable[[Any], Array]:
    r"""The amount of noise that makes the end of a path independent of its start.

    $$g_t^2 = 2\Big(\sigma^2\,\frac{\dot\alpha}{\alpha} - \sigma\dot\sigma\Big), \qquad
    g_t^2 = \frac{2(1 - t)}{t} \text{ for } \alpha = t,\ \sigma = 1 - t$$

    With it the drift of `with_noise` is `2u - (alpha'/alpha) x`. Where alpha is zero at t = 0 it
    is infinite there, so it is held at its value of `start` before that time: any g keeps the
    marginals, and this one forgets X_0 but for a part of about `alpha_start`. It is zero where
    sigma is, but for a sigma that falls like a square root, where it is `sqrt(-2 sigma sigma')`.

    Args:
        schedule: such as `fj.CondOT()`.
        start: the time before which g is held, from 0 to below 1; about the length of the first
            step or more, so that the step is stable.

    Returns:
        A function `t -> g`, a pytree that keeps the schedule's arrays and start as leaves.

    Raises:
        TypeError: schedule is not a schedule, or start is not a number.
        ValueError: start is not from 0 to below 1, or is 0 where alpha is 0 at t = 0. A start that
            is traced is not looked at: g is then infinite there.

    Example:
        >>> import flowjax as fj
        >>> g = fj.memoryless(fj.CondOT(), start=0.02)
        >>> print(f"{g(0.0):.2f} {g(0.02):.2f} {g(0.5):.3f} {g(1.0):.2f}")
        9.90 9.90 1.414 0.00

    References:
        Domingo-Enrich, Drozdzal, Karrer, Chen, "Adjoint matching: fine-tuning flow and diffusion
        generative models with memoryless stochastic optimal control", 2024, arXiv 2409.08861,
        section 4.
    """
    start = number(start, "start")
    require(lambda start: 0 <= start < 1, start, message="start must be from 0 to below 1")
    g = _Memoryless(checked_schedule(schedule), start)
    at_start = _check.concrete(lambda: g(0.0))
    if at_start is not None and not np.isfinite(at_start):
        raise ValueError(f"start must be above 0 under {schedule}, where g is infinite at t = 0.")
    return g


class _Memoryless(eqx.Module):
    schedule: Any
    start: ArrayLike

    def __call__(self, t: ArrayLike) -> Array:
        t = time(t)
        t = clip(t, jnp.asarray(self.start, t.dtype))
        path = path_at(self.schedule, t, t.dtype)
        infinite = path.alpha == 0
        g_squared = 2 * score_denominator(path) / jnp.where(infinite, 1, path.alpha)
        return jnp.where(infinite, jnp.inf, root(g_squared))


class _Noise(eqx.Module):
    """The field g: the same scalar for the whole state."""

    amount: ScalarFunction
    until: Array | None

    def __call__(self, t: ArrayLike, x: Any, args: Any) -> Array:
        t = time(t)
        g = self.amount(t)
        if self.until is None:
            return g
        return jnp.where(t >= self.until.astype(t.dtype), 0, g)


class _Drift(eqx.Module):
    """The drift `u + g^2 / 2 score`, by one call of the model."""

    gives = "drift"
    velocity: Velocity
    noise: _Noise
    domain: Domain = eqx.field(static=True)

    def __call__(self, t: ArrayLike, x: Any, args: Any) -> Any:
        path, x, value = self.velocity.prediction(t, x, args)
        g, predicts = self.noise(t, x, args), self.velocity.predicts

        def drift(path: PathPoint, x: Array, value: Array) -> Array:
            u = converted(predicts, "velocity", path, x, value)
            half = jnp.asarray(g, x.dtype) ** 2 / 2
            # Where there is no noise it need not be determined.
            return u + half * converted(predicts, "score", path, x, value, half == 0)

        return on_leaves(drift, path, x, value)

    @property
    def model(self) -> Callable[..., Any]:
        """The model inside."""
        return self.velocity.model

    def with_model(self, model: Callable[..., Any]) -> "_Drift":
        """The drift of another model."""
        return _Drift(self.velocity.with_model(model), self.noise, self.domain)


def _domain(v: Velocity, noise: _Noise) -> Domain:
    """Where the drift is determined: the velocity, and the score unless there is no noise."""

    def why(t: float) -> str:
        missing = missing_at(t, v.schedule, v.predicts, "score")
        if v.domain.why(t) or not missing:
            return v.domain.why(t)
        g = _check.concrete(lambda: noise(t, None, None))
        if g is None or float(g) == 0:
            return ""
        return (
            f"{missing} and g is not 0 (let g vanish there, or give with_noise noise_until=ts[-2])"
        )

    return Domain.of(why)
