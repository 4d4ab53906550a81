r"""Steps of order 1: the data and the noise that the field expects are held over the step.

With the data D held, $e = (x - \alpha D) / \sigma$ stands still under the flow and is an
Ornstein-Uhlenbeck process under an SDE with the flow's marginals. All three steps are

$$x_1 = \alpha_1 D + \sigma_1\big(e^{-\tau} E + \sqrt{1 - e^{-2\tau}}\,\xi\big)$$

with tau = 0 (`ddim`), tau = h (`ancestral`) or the SDE's own tau (`exponential_euler`).
"""

from typing import Any

import jax.numpy as jnp
from jax import Array

from flowjax._numerics import quotient
from flowjax._types import Field, Scalar, State
from flowjax.fields.predictions import score_denominator
from flowjax.samplers._scheduled import (
    Scheduled,
    combined,
    expected,
    interval,
    noise_weight,
    predicted,
)
from flowjax.schedules.schedule import checked_schedule
from flowjax.solver import SDE


def ddim(schedule: Any) -> Scheduled:
    r"""DDIM, the exponential integrator of order 1 of a flow: one field call a step.

    $$x_1 = \alpha_1 D + \sigma_1 E$$

    where D and E are the data and the noise that the field expects at (t_0, x). It is exact where
    they do not change along the path, whatever the schedule; one step from t = 0 to t = 1 gives
    the expected data. (A velocity says nothing of D at t = 0 if alpha stands still there, as that
    of `Polynomial(2)` does; D counts as zero then.) It runs backward too, from data to noise.

    Args:
        schedule: such as `fj.CondOT()`, the schedule of the velocity field to be solved. A network
            that predicts anything else, such as the noise, goes through `fj.velocity` first.

    Returns:
        The step, for `solve` with a velocity field. Times lie within [0, 1].

    Raises:
        TypeError: schedule is not a schedule; in `solve`, if the field is known to be no velocity.
        ValueError: in `solve`, if the field is seen to belong to another schedule, or times leave
            [0, 1] or go forth and back.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> velocity = fj.Gaussian(jnp.array([3.0, -1.0]), 0.5).velocity(fj.CondOT())
        >>> x0, ts = jnp.array([1.0, 0.0]), fj.uniform_grid(1)
        >>> fj.solve(velocity, x0, ts, step=fj.ddim(fj.CondOT())).tolist()
        [3.0, -1.0]

    References:
        Song, Meng, Ermon, "Denoising diffusion implicit models", 2020, arXiv 2010.02502,
        equation 12 with sigma_t = 0.
    """
    return _DDIM(checked_schedule(schedule))


class _DDIM(Scheduled):
    """The step of `ddim`."""

    def __call__(
        self, field: Field, t0: Scalar, t1: Scalar, x: State, args: Any, dw: None = None
    ) -> State:
        i = interval(self.schedule, t0, t1, x)
        data, noise = predicted(field, t0, x, args, i.start, "ddim")
        return combined(x, (i.a1, data), (i.s1, noise))


def ancestral(schedule: Any) -> Scheduled:
    r"""Ancestral sampling, as DDPM does it: draws from the posterior of the next state.

    $$x_1 \sim q(x_{t_1} \mid x_{t_0}, D): \qquad x_1 = \alpha_1 D
    + \sigma_1\big(e^{-h} E + \sqrt{1 - e^{-2h}}\,\xi\big), \qquad
    e^{-h} = \frac{\alpha_0 \sigma_1}{\sigma_0 \alpha_1}$$

    with $\xi = dW / \sqrt{t_1 - t_0}$. In DDPM's terms, with $\bar\alpha = \alpha^2$, the standard
    deviation is the square root of its $\tilde\beta$. It is the exponential integrator of the SDE
    whose noise is memoryless. A step to sigma = 0 adds no noise, and one from alpha = 0 keeps none
    of the old.

    Args:
        schedule: the schedule of the velocity field to be solved.

    Returns:
        The step, for `solve` with a velocity field and a key.

    Raises:
        TypeError: schedule is not a schedule; in `solve`, if the field is known to be no velocity.
        ValueError: in `solve`, if the field is seen to belong to another schedule, or times leave
            [0, 1] or go forth and back.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> schedule = fj.CondOT()
        >>> velocity = fj.Gaussian(jnp.zeros(2), 0.5).velocity(schedule)
        >>> init = lambda key: jax.random.normal(key, (2,))
        >>> ts = fj.uniform_grid(50)
        >>> xs = fj.sample(jax.random.key(0), velocity, init, ts, 1000, step=fj.ancestral(schedule))
        >>> print(f"{xs.std():.1f}")
        0.5

    References:
        Ho, Jain, Abbeel, "Denoising diffusion probabilistic models", 2020, arXiv 2006.11239,
        equations 6 and 7 and Algorithm 2, with the variance of equation 7.
    """
    return _Ancestral(checked_schedule(schedule))


class _Ancestral(Scheduled):
    """The step of `ancestral`."""

    def __call__(
        self, field: Field, t0: Scalar, t1: Scalar, x: State, args: Any, dw: State
    ) -> State:
        i = interval(self.schedule, t0, t1, x)
        data, noise = predicted(field, t0, x, args, i.start, "ancestral")
        fresh = noise_weight((1 - i.decay) * (1 + i.decay), t0, t1)
        return combined(x, (i.a1, data), (i.s1 * i.decay, noise), (i.s1 * fresh, dw))


def exponential_euler(schedule: Any) -> Scheduled:
    r"""The exponential integrator of order 1 of an SDE with a flow's marginals.

    The SDE is $dX = [u + \tfrac{g^2}{2}\,\mathrm{score}]\,dt + g\,dW$, as `with_noise` makes it.
    With the data D held over the step, its noise part is an Ornstein-Uhlenbeck process in the time
    tau, and solved exactly:

    $$x_1 = \alpha_1 D + \sigma_1\big(e^{-\tau} E + \sqrt{1 - e^{-2\tau}}\,\xi\big), \qquad
    \tau = \int_{t_0}^{t_1} \frac{g^2}{2\sigma^2}\,dt$$

    Unlike Euler-Maruyama it is stable for any g, and ends at the data where sigma = 0. Of the
    integral, the ratio of $g^2$ to the memoryless $g_m^2 = 2(\sigma^2\dot\alpha/\alpha -
    \sigma\dot\sigma)$ is held at its value at t_0:

    $$\tau = \frac{g^2}{g_m^2}\,h, \qquad \frac{g_m^2}{2\sigma^2} = \dot\lambda$$

    which is exact for the memoryless g, where tau = h and the step is that of `ancestral`; and for
    g = 0, where it is that of `ddim`. From alpha = 0, where h is infinite, it is
    $\tau = g^2 (t_1 - t_0) / 2\sigma^2$ at t_0.

    Args:
        schedule: the schedule of the SDE's marginals.

    Returns:
        The step, for `solve` with an SDE and a key. The SDE's diffusion is one scalar that does
        not depend on the state.

    Raises:
        TypeError: schedule is not a schedule; in `solve`, if it is given a plain field.
        ValueError: in `solve`, if the diffusion is not a scalar, the SDE is seen to belong to
            another schedule, or times leave [0, 1].

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> schedule = fj.CondOT()
        >>> velocity = fj.Gaussian(jnp.zeros(2), 0.5).velocity(schedule)
        >>> sde = fj.with_noise(velocity, schedule, lambda t: 1 - t)
        >>> init = lambda key: jax.random.normal(key, (2,))
        >>> ts, step = fj.uniform_grid(100), fj.exponential_euler(schedule)
        >>> xs = fj.sample(jax.random.key(0), sde, init, ts, 1000, step=step)
        >>> print(f"{xs.std():.1f}")
        0.5

    References:
        Lu, Zhou, Bao, Chen, Li, Zhu, "DPM-Solver++: fast solver for guided sampling of diffusion
        probabilistic models", 2022, arXiv 2211.01095: SDE-DPM-Solver++(1), for the memoryless g.
        Domingo-Enrich, Drozdzal, Karrer, Chen, "Adjoint matching: fine-tuning flow and diffusion
        generative models with memoryless stochastic optimal control", 2024, arXiv 2409.08861,
        section 4, for the memoryless SDE.
    """
    return _ExponentialEuler(checked_schedule(schedule))


class _ExponentialEuler(Scheduled):
    """The step of `exponential_euler`."""

    def __call__(self, sde: SDE, t0: Scalar, t1: Scalar, x: State, args: Any, dw: State) -> State:
        if not isinstance(sde, SDE):
            raise TypeError(
                "exponential_euler is a step for an SDE with the marginals of a flow, as "
                "with_noise makes it, got a plain field. For the flow itself it is ddim."
            )
        i = interval(self.schedule, t0, t1, x)
        half_g2 = _scalar(sde.diffusion(t0, x, args), i.a0.dtype) ** 2 / 2

        # The drift is u + (g^2 / 2) (alpha u - alpha' x) / (alpha' sigma^2 - alpha sigma sigma').
        c = quotient(half_g2, score_denominator(i.start))
        drift = sde.drift(t0, x, args)
        share = 1 / (1 + c * i.a0)
        velocity = combined(x, (share, drift), (share * c * i.start.alpha_rate, x))
        data, noise = expected(velocity, x, i.start)

        plain = quotient(half_g2 * jnp.asarray(t1 - t0, half_g2.dtype), i.start.variance)
        tau = jnp.where(i.a0 > 0, c * i.a0 * i.h, plain)
        fresh = noise_weight(-jnp.expm1(-2 * tau), t0, t1)
        return combined(x, (i.a1, data), (i.s1 * jnp.exp(-tau), noise), (i.s1 * fresh, dw))


def _scalar(diffusion: Any, dtype: Any) -> Array:
    if jnp.shape(diffusion) != ():
        raise ValueError(
            f"diffusion output must be one scalar for exponential_euler, got shape "
            f"{jnp.shape(diffusion)}."
        )
    return jnp.asarray(diffusion, dtype)
