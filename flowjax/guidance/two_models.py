"""Guidance of a model away from a worse one."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

from jax.typing import ArrayLike

from flowjax._check import time
from flowjax._numerics import weighted
from flowjax._types import Domain, State
from flowjax.fields.predictions import converted, missing_at, on_leaves
from flowjax.fields.scalar_function import ScalarFunction
from flowjax.fields.velocity import Velocity, same_schedule
from flowjax.guidance.guided import Guided, output
from flowjax.solver.door import as_velocity


def autoguidance(v: Velocity, weak: Velocity, scale: ArrayLike | Callable[[Any], Any]) -> Velocity:
    r"""A velocity guided away from that of a worse model of the same data.

    $$\tilde u_t(x \mid y) = (1 - w)\,u^{\mathrm{weak}}_t(x \mid y) + w\,u_t(x \mid y)$$

    w = 1 is the velocity of v alone, and w > 1 goes on from the worse model through the better one.
    The flow then ends at no law that is known, as that of `classifier_free`. Each model is called
    once, with the same args. Where weak predicts something else than v, its output is converted.

    Args:
        v: the velocity to guide.
        weak: that of the worse model: smaller, or trained for less long. It has v's schedule.
        scale: w, a number, or a function `t -> w`.

    Returns:
        The guided velocity, which predicts what v does. It keeps the arrays of both models and of
        scale as leaves, and the schedule of v.

    Raises:
        TypeError: v or weak is not a `Velocity`, or scale is neither a number nor a function of t
            alone.
        ValueError: the schedules differ, one of the two is of coupled pairs, or scale is not finite
            (where they are not traced); when it is called, a model's output is unlike x.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> v, weak = (fj.velocity(lambda t, x, args, k=k: k - x, fj.CondOT()) for k in (2.0, 1.0))
        >>> float(fj.guidance.autoguidance(v, weak, 3.0)(0.5, jnp.array(1.0), None))
        3.0

    References:
        Karras, Aittala, Kynkaanniemi, Lehtinen, Aila, Laine, "Guiding a diffusion model with a bad
        version of itself", 2024, arXiv 2406.02507, section 3.
    """
    v, weak = as_velocity(v, "autoguidance"), as_velocity(weak, "autoguidance")
    if same_schedule(weak.schedule, v.schedule) is False:
        raise ValueError(
            f"weak must have the schedule of v, {v.schedule}, got {weak.schedule}: take "
            f"fj.change_schedule(weak, v.schedule)."
        )
    if weak.coupled != v.coupled:
        raise ValueError(
            f"weak must be of coupled pairs if and only if v is, got coupled={weak.coupled} beside "
            f"{v.coupled}."
        )
    # The schedule is that of v, which has it once.
    of_v = dataclasses.replace(weak, own_schedule=None)
    guided = v.with_model(_Autoguided(v, of_v, ScalarFunction(scale, "scale")))
    of_weak = Domain.of(lambda t: missing_at(t, v.schedule, weak.predicts, v.predicts))
    return dataclasses.replace(
        guided,
        domain=guided.domain.within(weak.domain).within(of_weak),
        pair_domain=guided.pair_domain.within(weak.pair_domain).within(of_weak),
    )


class _Autoguided(Guided):
    velocity: Velocity
    weak: Velocity
    scale: ScalarFunction

    def both(self, t: Any, x: Any, args: Any) -> tuple[State, State]:
        value = output(self.velocity.model, t, x, args)
        weak = dataclasses.replace(self.weak, own_schedule=self.schedule)
        path, x, worse = weak.prediction(t, x, args)
        convert = partial(converted, weak.predicts, self.velocity.predicts)
        worse = on_leaves(convert, path, x, worse)
        w = self.scale(time(t))
        return weighted(x, (1 - w, worse), (w, value)), value
