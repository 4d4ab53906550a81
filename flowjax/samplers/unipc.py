"""UniPC of order 2: a predictor and a corrector for one field call a step."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from flowjax._numerics import plus, quotient, weighted, widest
from flowjax._types import Scalar, State
from flowjax.fields.velocity import Velocity
from flowjax.samplers._scheduled import extrapolation, interval
from flowjax.solver.stepper import Stepper


class _Memory(NamedTuple):
    """What the step before leaves: its correction but for the new D, and its own D and 1/h."""

    uncorrected: State
    weight: Array
    data: State
    inverse_h: Array


def _nothing_to_correct(field: Velocity, t0: Scalar, x0: State, args: Any) -> _Memory:
    """The memory before the first step: x0 is what it is, and D_{-1} weighs nothing."""
    zero = jnp.zeros((), widest(x0))
    return _Memory(x0, zero, jax.tree.map(jnp.zeros_like, x0), zero)


@partial(Stepper, _nothing_to_correct, one_way=True, reads="velocity")
def unipc(
    field: Velocity,
    t0: Scalar,
    t1: Scalar,
    x: State,
    args: Any,
    dw: None = None,
    memory: Any = None,
) -> tuple[State, Any]:
    r"""UniPC of order 2 in data prediction (the variant B_2): one field call a step.

    From the corrected state $x_0^c$ the predictor UniP-2 gives the next one, where the field is
    called, and the corrector UniC-2 takes the step again with what it says there, D_1 (h and D are
    as in `dpmpp_2m`):

    $$x_1 = \frac{\sigma_1}{\sigma_0} x_0^c + \alpha_1 (1 - e^{-h})
    \Big[D_0 + \tfrac12 \frac{D_{-1} - D_0}{r}\Big], \qquad
    x_1^c = \frac{\sigma_1}{\sigma_0} x_0^c + \alpha_1 (1 - e^{-h})
    \Big[D_0 + \rho_1 \frac{D_{-1} - D_0}{r} + \rho_2 (D_1 - D_0)\Big]$$

    $$\rho_1 + \rho_2 = b_1, \quad r \rho_1 + \rho_2 = b_2, \qquad
    b_1 = \frac{1}{1 - e^{-h}} - \frac1h, \quad b_2 = \frac{1}{1 - e^{-h}} - \frac{2 b_1}{h},
    \qquad r = -\frac{h_{-1}}{h}$$

    (b_k is the mean of $u^k$ over the step, u from 0 to 1, under the weight $e^{hu}$.) D_1 is the
    evaluation that the next step makes anyway, so the correction is made at its start, and the
    last state and those of `trajectory` are the predictor's. On the first step, and where the step
    before came from an end of the schedule, both have order 1: without D_{-1} and with
    rho_2 = 1/2. Backward, where the weight e^{hu} is that of the noise, the correction is then
    $\tfrac12 (\sigma_1 - \alpha_1 \sigma_0 / \alpha_0)(E_1 - E_0)$ instead, as in `edm_heun`. The
    predictor has order 1 where `dpmpp_2m` has.

    It is a `Stepper`.

    Args:
        field: a `Velocity`.
        t0: start of the step, a scalar in [0, 1].
        t1: end of the step, a scalar in [0, 1].
        x: state at t0, a floating array or a pytree of them.
        args: passed on to the model.
        dw: unused.
        memory: what the step before returned, or what `unipc.init` gives.

    Returns:
        State at t1, like x, and the memory for the next step.

    Raises:
        TypeError: in `solve`, if the field is not a `Velocity`.
        ValueError: in `solve`, if times leave [0, 1] or go forth and back.

    Example:
        >>> import flowjax as fj
        >>> v = fj.Gaussian(0.0, 0.5).velocity(fj.CondOT())
        >>> print(f"{fj.solve(v, 1.0, fj.uniform_grid(50), step=fj.unipc):.3f}")  # 0.5 x0
        0.501

    References:
        Zhao, Bai, Rao, Zhou, Lu, "UniPC: a unified predictor-corrector framework for fast
        sampling of diffusion models", 2023, arXiv 2302.04867: the multistep UniP-2 and UniC-2 of
        its appendix on data prediction, with B_2.
    """
    i = interval(field.schedule, t0, t1, x)
    data, noise = field.data_and_noise(t0, x, args)
    uncorrected, weight, previous, inverse_h = memory
    corrected = plus(uncorrected, (weight, data))

    # The step of ddim from the corrected state, to which data and noise do not belong.
    shrink = quotient(i.s1, i.s0)
    base = ((i.a1, data), (i.s1, noise), (shrink, corrected), (-shrink, x))
    c = i.gain * extrapolation(i.h, inverse_h) / 2
    x1 = weighted(x, *base, (c, data), (-c, previous))

    q = i.h * inverse_h
    whole = quotient(jnp.ones_like(q), 1 - i.decay)
    b1 = whole - i.inverse_h
    b2 = whole - 2 * b1 * i.inverse_h
    # rho_1 / r and rho_2, with r = -1/q.
    of_previous = -i.gain * q**2 * (b1 - b2) / (1 + q)
    # Without D_{-1} half of D_1 - D_0 or, backward, of E_1 - E_0, which is -a1 / s1 times that.
    of_noise = quotient(i.a1 * i.s0, i.a0) - i.s1
    first = jnp.where(t1 > t0, i.gain, quotient(i.a1 * of_noise, i.s1)) / 2
    of_next = jnp.where(q > 0, i.gain * (b1 + q * b2) / (1 + q), first)
    rest = weighted(x, *base, (of_previous, previous), (-of_previous - of_next, data))
    return x1, _Memory(rest, of_next, data, i.inverse_h)
