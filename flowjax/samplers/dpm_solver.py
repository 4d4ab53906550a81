"""DPM-Solver++ of order 2 with two steps, for the flow and for the SDE that is memoryless."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from flowjax._numerics import widest
from flowjax._types import Field, Scalar, State
from flowjax.samplers._scheduled import (
    Scheduled,
    combined,
    interval,
    noise_weight,
    predicted,
)
from flowjax.schedules.schedule import checked_schedule
from flowjax.solver import Stepper


def dpmpp_2m(schedule: Any) -> Stepper:
    r"""DPM-Solver++(2M): order 2, one field call a step.

    $$x_1 = \frac{\sigma_1}{\sigma_0} x_0 - \alpha_1 (e^{-h} - 1)
    \Big[\Big(1 + \frac{1}{2r}\Big) D_0 - \frac{1}{2r} D_{-1}\Big], \qquad r = \frac{h_{-1}}{h}$$

    with the expected data D at the start of this step and of the one before, and
    $h = \lambda_1 - \lambda_0$, $\lambda = \log(\alpha / \sigma)$. Here it is written as the step
    of `ddim` and a correction,

    $$x_1 = \alpha_1 D_0 + \sigma_1 E_0 + \alpha_1 (1 - e^{-h}) \frac{h}{2 h_{-1}} (D_0 - D_{-1})$$

    which stays finite: the correction is left out on the first step, on a step to sigma = 0 (so
    that the last is of order 1, as the paper has it) and where the step before came from
    alpha = 0.

    Args:
        schedule: the schedule of the velocity field to be solved.

    Returns:
        The method, for `solve` with a velocity field. Times lie within [0, 1].

    Raises:
        TypeError: schedule is not a schedule; in `solve`, if the field is known to be no velocity.
        ValueError: in `solve`, if the field is seen to belong to another schedule, or times leave
            [0, 1] or go forth and back.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> schedule = fj.CondOT()
        >>> velocity = fj.Gaussian(0.0, 0.5).velocity(schedule)
        >>> step = fj.dpmpp_2m(schedule)
        >>> print(f"{fj.solve(velocity, 1.0, fj.uniform_grid(50), step=step):.3f}")  # 0.5 x0
        0.502

    References:
        Lu, Zhou, Bao, Chen, Li, Zhu, "DPM-Solver++: fast solver for guided sampling of diffusion
        probabilistic models", 2022, arXiv 2211.01095, Algorithm 2.
    """
    return Stepper(_nothing_before, _DPMSolver2M(checked_schedule(schedule)))


def dpmpp_2m_sde(schedule: Any) -> Stepper:
    r"""SDE-DPM-Solver++(2M): DPM-Solver++(2M) for the memoryless SDE; one field call a step.

    $$x_1 = \frac{\sigma_1}{\sigma_0} e^{-h} x_0 + \alpha_1 (1 - e^{-2h})
    \Big[\Big(1 + \frac{1}{2r}\Big) D_0 - \frac{1}{2r} D_{-1}\Big]
    + \sigma_1 \sqrt{1 - e^{-2h}}\,\xi, \qquad r = \frac{h_{-1}}{h}$$

    the midpoint form; the step of `ancestral` and a correction, which is left out where that of
    `dpmpp_2m` is.

    Args:
        schedule: the schedule of the velocity field to be solved.

    Returns:
        The method, for `solve` with a velocity field and a key. Times lie within [0, 1].

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
        >>> ts, step = fj.uniform_grid(20), fj.dpmpp_2m_sde(schedule)
        >>> xs = fj.sample(jax.random.key(0), velocity, init, ts, 1000, step=step)
        >>> print(f"{xs.std():.1f}")
        0.5

    References:
        Lu, Zhou, Bao, Chen, Li, Zhu, "DPM-Solver++: fast solver for guided sampling of diffusion
        probabilistic models", 2022, arXiv 2211.01095, its part on diffusion SDEs.
    """
    return Stepper(_nothing_before, _SDEDPMSolver2M(checked_schedule(schedule)))


class _DPMSolver2M(Scheduled):
    """The step of `dpmpp_2m`; its memory is D and 1/h of the step before."""

    def __call__(
        self,
        field: Field,
        t0: Scalar,
        t1: Scalar,
        x: State,
        args: Any,
        dw: None = None,
        memory: Any = None,
    ) -> tuple[State, Any]:
        previous, inverse_h = memory
        i = interval(self.schedule, t0, t1, x)
        data, noise = predicted(field, t0, x, args, i.start, "dpmpp_2m")
        c = i.gain * i.h * inverse_h / 2
        x1 = combined(x, (i.a1 + c, data), (i.s1, noise), (-c, previous))
        return x1, (data, i.inverse_h)


class _SDEDPMSolver2M(Scheduled):
    """The step of `dpmpp_2m_sde`; its memory is D and 1/h of the step before."""

    def __call__(
        self, field: Field, t0: Scalar, t1: Scalar, x: State, args: Any, dw: State, memory: Any
    ) -> tuple[State, Any]:
        previous, inverse_h = memory
        i = interval(self.schedule, t0, t1, x)
        data, noise = predicted(field, t0, x, args, i.start, "dpmpp_2m_sde")
        c = i.gain * (1 + i.decay) * i.h * inverse_h / 2
        fresh = noise_weight((1 - i.decay) * (1 + i.decay), t0, t1)
        x1 = combined(
            x,
            *((i.a1 + c, data), (-c, previous)),
            *((i.s1 * i.decay, noise), (i.s1 * fresh, dw)),
        )
        return x1, (data, i.inverse_h)


def _nothing_before(field: Field, t0: Scalar, x0: State, args: Any) -> tuple[State, Array]:
    """The memory before the first step: a step at infinite distance weighs nothing."""
    return jax.tree.map(jnp.zeros_like, x0), jnp.zeros((), widest(x0))
