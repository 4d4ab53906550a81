"""DPM-Solver++ of order 2 with two steps, for the flow and for the SDE that is memoryless."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from flowjax._numerics import weighted, widest
from flowjax._types import Scalar, State
from flowjax.fields.velocity import Velocity
from flowjax.samplers._scheduled import extrapolation, interval, noise_weight
from flowjax.solver.stepper import Stepper


def _nothing_before(field: Velocity, t0: Scalar, x0: State, args: Any) -> tuple[State, Array]:
    """The memory, D and 1/h of the step before: one at infinite distance weighs nothing."""
    return jax.tree.map(jnp.zeros_like, x0), jnp.zeros((), widest(x0))


@partial(Stepper, _nothing_before, one_way=True, reads="velocity")
def dpmpp_2m(
    field: Velocity,
    t0: Scalar,
    t1: Scalar,
    x: State,
    args: Any,
    dw: None = None,
    memory: Any = None,
) -> tuple[State, Any]:
    r"""DPM-Solver++(2M): order 2, one field call a step.

    $$x_1 = \frac{\sigma_1}{\sigma_0} x_0 - \alpha_1 (e^{-h} - 1)
    \Big[\Big(1 + \frac{1}{2r}\Big) D_0 - \frac{1}{2r} D_{-1}\Big], \qquad r = \frac{h_{-1}}{h}$$

    with the expected data D at the start of this step and of the one before, and
    $h = \lambda_1 - \lambda_0$, $\lambda = \log(\alpha / \sigma)$. Here it is written as the step
    of `ddim` and a correction,

    $$x_1 = \alpha_1 D_0 + \sigma_1 E_0 + \alpha_1 (1 - e^{-h}) \frac{h}{2 h_{-1}} (D_0 - D_{-1})$$

    which stays finite: the correction is left out on the first step, on a step to sigma = 0 (so
    that the last is of order 1, as the paper has it), and where the step before came from alpha =
    0. It is left out too on a step of |h| > 1.5 that is more than twice the one before: such is the
    last of a uniform grid that stops short of sigma = 0, where D hardly changes any more.

    It is a `Stepper`.

    Args:
        field: a `Velocity`.
        t0: start of the step, a scalar in [0, 1].
        t1: end of the step, a scalar in [0, 1].
        x: state at t0, a floating array or a pytree of them.
        args: passed on to the model.
        dw: unused.
        memory: what the step before returned, or what `dpmpp_2m.init` gives.

    Returns:
        State at t1, like x, and the memory for the next step.

    Raises:
        TypeError: in `solve`, if the field is not a `Velocity`.
        ValueError: in `solve`, if times leave [0, 1] or go forth and back.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> v = fj.Gaussian(0.0, 0.5).velocity(fj.CondOT())
        >>> print(f"{fj.solve(v, 1.0, fj.uniform_grid(50), step=fj.dpmpp_2m):.3f}")  # 0.5 x0
        0.502

    References:
        Lu, Zhou, Bao, Chen, Li, Zhu, "DPM-Solver++: fast solver for guided sampling of diffusion
        probabilistic models", 2022, arXiv 2211.01095, Algorithm 2.
    """
    previous, inverse_h = memory
    i = interval(field.schedule, t0, t1, x)
    data, noise = field.data_and_noise(t0, x, args)
    # Lines 4, and 7 to 9: the step of ddim, and what D goes on by.
    c = i.gain * extrapolation(i.h, inverse_h) / 2
    x1 = weighted(x, (i.a1 + c, data), (i.s1, noise), (-c, previous))
    return x1, (data, i.inverse_h)


@partial(Stepper, _nothing_before, one_way=True, reads="velocity")
def dpmpp_2m_sde(
    field: Velocity, t0: Scalar, t1: Scalar, x: State, args: Any, dw: State, memory: Any
) -> tuple[State, Any]:
    r"""SDE-DPM-Solver++(2M): DPM-Solver++(2M) for the memoryless SDE; one field call a step.

    $$x_1 = \frac{\sigma_1}{\sigma_0} e^{-h} x_0 + \alpha_1 (1 - e^{-2h})
    \Big[\Big(1 + \frac{1}{2r}\Big) D_0 - \frac{1}{2r} D_{-1}\Big]
    + \sigma_1 \sqrt{1 - e^{-2h}}\,\xi, \qquad r = \frac{h_{-1}}{h}$$

    with $\xi = dW / \sqrt{t_1 - t_0}$, and h and D as in `dpmpp_2m`: the midpoint form. It
    is the step of `ancestral` and a correction, which is left out where that of `dpmpp_2m` is.

    It is a `Stepper`.

    Args:
        field: a `Velocity`.
        t0: start of the step, a scalar in [0, 1].
        t1: end of the step, a scalar in [0, 1], not before t0.
        x: state at t0, a floating array or a pytree of them.
        args: passed on to the model.
        dw: Brownian increment over the step, like x.
        memory: what the step before returned, or what `dpmpp_2m_sde.init` gives.

    Returns:
        State at t1, like x, and the memory for the next step.

    Raises:
        TypeError: in `solve`, if the field is not a `Velocity`.
        ValueError: in `solve`, if times leave [0, 1] or decrease, or the velocity is of
            coupled pairs, which have no score.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> v = fj.Gaussian(jnp.zeros(2), 0.5).velocity(fj.CondOT())
        >>> init = lambda key: jax.random.normal(key, (2,))
        >>> ts, step = fj.uniform_grid(20), fj.dpmpp_2m_sde
        >>> xs = fj.sample(jax.random.key(0), v, init, ts, 1000, step=step)
        >>> print(f"{xs.std():.1f}")
        0.5

    References:
        Lu, Zhou, Bao, Chen, Li, Zhu, "DPM-Solver++: fast solver for guided sampling of diffusion
        probabilistic models", 2022, arXiv 2211.01095, its part on diffusion SDEs.
    """
    previous, inverse_h = memory
    i = interval(field.schedule, t0, t1, x)
    data, noise = field.data_and_noise(t0, x, args)
    c = i.gain * (1 + i.decay) * extrapolation(i.h, inverse_h) / 2
    fresh = noise_weight((1 - i.decay) * (1 + i.decay), t0, t1)
    x1 = weighted(
        x,
        *((i.a1 + c, data), (-c, previous)),
        *((i.s1 * i.decay, noise), (i.s1 * fresh, dw)),
    )
    return x1, (data, i.inverse_h)
