"""The sampler of EDM: Heun's method in the noise level, and its stochastic variant."""

import math
import sys
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from flowjax._check import static_number
from flowjax._numerics import plus, quotient, weighted, widest
from flowjax._types import Scalar, State
from flowjax.fields.velocity import Velocity
from flowjax.samplers._scheduled import interval, noise_weight
from flowjax.schedules.point import path_at
from flowjax.solver.stepper import facts


def edm_heun(
    *,
    churn: float = 0.0,
    s_noise: float = 1.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
) -> Any:
    r"""EDM's sampler: Heun's method in the noise level, order 2, two field calls a step.

    In EDM's variables, the state $\hat x = x / \alpha$ and the noise level
    $\hat\sigma = \sigma / \alpha$, in which $d\hat x / d\hat\sigma = E$ under any schedule,

    $$\hat x_1' = \hat x_0 + (\hat\sigma_1 - \hat\sigma_0) E_0, \qquad
    \hat x_1 = \hat x_0 + (\hat\sigma_1 - \hat\sigma_0)\tfrac12 (E_0 + E_1')$$

    Here it is written as the step of `ddim` and a correction,

    $$x_1' = \alpha_1 D_0 + \sigma_1 E_0, \qquad x_1 = x_1'
    + \tfrac12 \Big(\sigma_1 - \alpha_1 \frac{\sigma_0}{\alpha_0}\Big) (E_1' - E_0)$$

    A step to sigma = 0 is left at x_1', as in the paper, and so is one from alpha = 0, where the
    noise level is infinite: n steps call the field 2n - 1 or 2n - 2 times.

    With `churn`, each step first adds noise: the noise level is raised by the factor
    $1 + \gamma$ with $\gamma = \min(\mathrm{churn}, \sqrt2 - 1)$, where it is in [s_tmin, s_tmax],
    and the field sees the time of the raised level. It is raised no further than the schedule's
    own at t = 0.

    Args:
        churn: S_churn / N of the paper, for N steps; a static number. 0 is no noise: the step then
            needs no key.
        s_noise: the standard deviation of the noise that is added.
        s_tmin: the lowest noise level sigma / alpha that is raised.
        s_tmax: the highest.

    Returns:
        The step, for `solve` with a `Velocity`, and with a key if churn is not 0. Times lie within
        [0, 1].

    Raises:
        TypeError: an argument is no static number; in `solve`, the field is not a `Velocity`.
        ValueError: an argument is negative, or s_tmin is above s_tmax; in `solve`, times leave
            [0, 1] or go forth and back.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> schedule = fj.EDM(sigma_max=80.0)
        >>> v = fj.Gaussian(jnp.zeros(2), 0.5).velocity(schedule)
        >>> ts = fj.karras_grid(100, schedule)
        >>> x0 = jnp.array([80.0, -40.0])  # 80 standard normal numbers
        >>> x1 = fj.solve(v, x0, ts, step=fj.edm_heun())
        >>> print(f"{x1[0]:.2f} {x1[1]:.2f}")  # 0.5 / 80 x0
        0.50 -0.25

    References:
        Karras, Aittala, Aila, Laine, "Elucidating the design space of diffusion-based generative
        models", 2022, arXiv 2206.00364, Algorithms 1 (churn = 0) and 2.
    """
    churn, s_noise = _not_negative(churn, "churn"), _not_negative(s_noise, "s_noise")
    s_tmin, s_tmax = _not_negative(s_tmin, "s_tmin"), _not_negative(s_tmax, "s_tmax", math.inf)
    if s_tmin > s_tmax:
        raise ValueError(f"s_tmin must not be above s_tmax, got {s_tmin} and {s_tmax}.")
    if churn == 0:
        return _edm_heun
    return _ChurnedEDMHeun(min(churn, math.sqrt(2) - 1), s_noise, s_tmin, s_tmax)


@facts(reads="velocity", one_way=True)
def _edm_heun(
    field: Velocity, t0: Scalar, t1: Scalar, x: State, args: Any, dw: None = None
) -> State:
    """The step of `edm_heun` without churn: Algorithm 1."""
    i = interval(field.schedule, t0, t1, x)
    # Lines 4 and 5.
    data, noise = field.data_and_noise(t0, x, args)
    x1 = weighted(x, (i.a1, data), (i.s1, noise))
    half = (i.s1 - quotient(i.a1 * i.s0, i.a0)) / 2

    def corrected(x1: State) -> State:
        # Lines 7 and 8.
        _, noise1 = field.data_and_noise(t1, x1, args)
        return plus(x1, (half, noise1), (-half, noise))

    # Line 6. A branch, not a choice between two results: where it is not taken the field is not
    # called.
    return jax.lax.cond((i.a0 > 0) & (i.s1 > 0), corrected, lambda x1: x1, x1)


class _ChurnedEDMHeun(eqx.Module):
    """The step of `edm_heun` with churn: Algorithm 2."""

    __name__ = "edm_heun"
    reads = "velocity"
    one_way = True
    gamma: float
    s_noise: float
    s_tmin: float
    s_tmax: float

    def __call__(
        self, field: Velocity, t0: Scalar, t1: Scalar, x: State, args: Any, dw: State
    ) -> State:
        schedule = field.schedule
        t0, t1 = (jnp.asarray(t, widest(x)) for t in (t0, t1))
        start = path_at(schedule, t0, t0.dtype)
        level = quotient(start.sigma, start.alpha)
        # A step of no length has no noise to add either.
        raised = (start.alpha > 0) & (start.sigma > 0) & (t1 > t0)
        raised &= (self.s_tmin <= level) & (level <= self.s_tmax)
        # Line 5: the time of the level that is (1 + gamma) times as high.
        log_snr = jnp.where(raised, schedule.log_snr(jnp.where(raised, t0, 0.5)), 0)
        raised_time = schedule.time_at(log_snr - 2 * math.log1p(self.gamma))
        t_hat = jnp.where(raised, jnp.minimum(raised_time, t0), t0)
        # Lines 4 and 6 in the state's own scale, with e^{-h} = sigma_0 / sigma_hat.
        i = interval(schedule, t_hat, t0, x)
        scale = jnp.where(i.a1 > 0, quotient(i.a0, i.a1), 1)
        fresh = self.s_noise * noise_weight((1 - i.decay) * (1 + i.decay), t0, t1)
        x_hat = weighted(x, (scale, x), (i.s0 * fresh, dw))
        return _edm_heun(field, t_hat, t1, x_hat, args)


def _not_negative(value: Any, name: str, most: float = sys.float_info.max) -> float:
    number = static_number(value, name)
    if not 0 <= number <= most:
        raise ValueError(f"{name} must be finite and not negative, got {number}.")
    return number
