"""Adams's methods: a predictor and a corrector on the velocity, for one field call a step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowjax import _check
from flowjax._numerics import quotient, weighted, widest
from flowjax._types import Field, Scalar, State
from flowjax.solver.stepper import Stepper


def adams(order: int = 4) -> Stepper:
    r"""The Adams-Bashforth-Moulton pair of variable step: one field call a step.

    From the corrected state $x_0^c$ the predictor integrates the polynomial P in time through the
    last k velocities, k the order. There the field is called, and the corrector takes the step
    again with the polynomial Q, which goes through the new velocity too:

    $$x_1 = x_0^c + \int_{t_0}^{t_1} P(t)\,dt, \qquad P(t_{-j}) = u_{-j}, \quad 0 \le j < k$$

    $$x_1^c = x_0^c + \int_{t_0}^{t_1} Q(t)\,dt, \qquad Q(t_{-j}) = u_{-j}, \quad
    Q(t_1) = u_{t_1}(x_1)$$

    The new velocity is the one that the next step begins with anyway, so the correction is made at
    its start, and the last state and those of `trajectory` are the predictor's. The order is k + 1
    where the steps before are k or more. No more velocities are used than there have been steps:
    the first one is corrected by the trapezoidal rule, which errs by h^3, so that on a uniform grid
    the order is 3 whatever k is, but for k = 1, where it is 2. A grid that begins with short steps
    makes up for it.

    It needs no schedule and works with any field, best with one that is smooth in time. Such is
    the velocity under `CondOT`, at both ends too, and `change_schedule` takes any other there.
    Then, on `beta_grid`, its error is the least of all methods here, often by far.

    Args:
        order: k, a static positive int; 4 or 5 unless the field is rough.

    Returns:
        The method, for `solve` with a field. Times may decrease. A step of no length corrects the
        state, by a field call.

    Raises:
        TypeError: order is not a static int.
        ValueError: order is less than 1; in `solve`, if times go forth and back.

    Example:
        >>> import flowjax as fj
        >>> velocity = fj.Gaussian(0.0, 0.5).velocity(fj.CondOT())
        >>> ts, step = fj.beta_grid(10), fj.adams()
        >>> print(f"{fj.solve(velocity, 1.0, ts, step=step):.4f}")  # 0.5 x0
        0.5001

    References:
        Hairer, Norsett, Wanner (1993), "Solving Ordinary Differential Equations I", sections III.1
        and III.5, with one evaluation a step (PEC) and a corrector of one order more. On flows of
        diffusion models: Liu, Ren, Lin, Zhao, "Pseudo numerical methods for diffusion models on
        manifolds", 2022, arXiv 2202.09778 (predictors); Xue, Yi, Luo, Zhang, Sun, Li, Ma,
        "SA-Solver: stochastic Adams solver for fast sampling of diffusion models", 2023, arXiv
        2305.14267 (pairs).
    """
    order = _check.positive_int(order, "order")
    return Stepper(_Start(order), _adams, one_way=True)


class _Memory(NamedTuple):
    """What the steps before leave."""

    uncorrected: State
    """The corrected state but for the new velocity."""
    weight: Array
    """What the new velocity weighs in it."""
    velocities: tuple[State, ...]
    """Of the steps before, the latest first."""
    times: Array
    """Theirs."""
    present: Array
    """Whether they have been."""


def _adams(
    field: Field,
    t0: Scalar,
    t1: Scalar,
    x: State,
    args: Any,
    dw: None = None,
    memory: Any = None,
) -> tuple[State, Any]:
    velocity = field(t0, x, args)
    t0, t1 = (jnp.asarray(t, widest(x)) for t in (t0, t1))
    # NaN where the steps turn back.
    turned = jnp.any(memory.present & ((t1 - t0) * (t0 - memory.times) < 0))
    one = jnp.where(turned, jnp.nan, jnp.ones_like(t0))
    corrected = weighted(x, (one, memory.uncorrected), (memory.weight, velocity))

    velocities = (velocity, *memory.velocities)
    times = jnp.concatenate([t0[None], memory.times])
    # Of two velocities at one time, after a step of no length, the later counts.
    present = jnp.concatenate([jnp.array([True]), memory.present & (memory.times != t0)])
    predictor = _integrals(t0, t1, times, present)
    x1 = weighted(x, (one, corrected), *zip(predictor, velocities, strict=True))

    corrector = _integrals(
        *(t0, t1),
        times=jnp.concatenate([t1[None], times]),
        present=jnp.concatenate([(t1 != t0)[None], present]),
    )
    uncorrected = weighted(x, (one, corrected), *zip(corrector[1:], velocities, strict=True))
    kept = len(memory.velocities)
    return x1, _Memory(uncorrected, corrector[0], velocities[:kept], times[:kept], present[:kept])


def _integrals(t0: Array, t1: Array, times: Array, present: Array) -> Array:
    """Over [t0, t1], of the polynomials that are 1 at one of the times and 0 at the others."""
    # Gauss's rule is exact for their degree.
    points, weights = np.polynomial.legendre.leggauss(len(times) // 2 + 1)
    at = t0 + (t1 - t0) * jnp.asarray((points + 1) / 2, t0.dtype)
    factors = present[None, :] & ~np.eye(len(times), dtype=bool)
    apart = jnp.where(factors, times[:, None] - times[None, :], 1)
    away = jnp.where(factors[None], at[:, None, None] - times[None, None, :], 1)
    values = jnp.prod(quotient(away, apart[None]), axis=2)
    weighted = jnp.asarray(weights / 2, t0.dtype)[:, None] * values
    return jnp.where(present, (t1 - t0) * jnp.sum(weighted, axis=0), 0)


class _Start(NamedTuple):
    """The memory before the first step: x0 is what it is, and nothing has been."""

    order: int

    def __call__(self, field: Field, t0: Scalar, x0: State, args: Any) -> _Memory:
        dtype, before = widest(x0), self.order - 1
        return _Memory(
            uncorrected=x0,
            weight=jnp.zeros((), dtype),
            velocities=(jax.tree.map(jnp.zeros_like, x0),) * before,
            times=jnp.full((before,), t0, dtype),
            present=jnp.zeros((before,), bool),
        )
