"""Guidance towards a condition, by a model that was trained with and without it."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from flowjax._check import number, require, time
from flowjax._numerics import dot, quotient, weighted, wide, widest
from flowjax._types import Domain, State
from flowjax.fields.predictions import converted, missing_at, on_leaves
from flowjax.fields.scalar_function import ScalarFunction
from flowjax.fields.velocity import Velocity
from flowjax.guidance.branches import branches
from flowjax.guidance.guided import Guided
from flowjax.schedules.point import path_at
from flowjax.solver.door import as_velocity


def classifier_free(v: Velocity, scale: ArrayLike | Callable[[Any], Any], null: Any) -> Velocity:
    r"""A velocity guided towards its condition: classifier-free guidance.

    $$\tilde u_t(x \mid y) = (1 - w)\,u_t(x \mid \varnothing) + w\,u_t(x \mid y)$$

    w = 1 is the conditional field alone, w = 0 the unconditional one, and w > 1 goes beyond the
    condition. The flow then ends at no law that is known: not at `p(x | y)^w p(x)^(1-w)`, though
    the scores that are mixed are those of its factors. Between Gaussians of standard deviations
    c_1 with the condition and c_0 without, it ends at `c_1^w c_0^(1-w)`, that law has
    `(w / c_1^2 + (1-w) / c_0^2)^(-1/2)`.

    The model inside may predict any of the five: all are guided alike, and by `with_noise` too. It
    is called once, on a batch of two conditions, so that what depends on t and x alone is computed
    once.

    Args:
        v: a velocity whose model takes the condition y in args, trained with `null` in its place
            for some of the data.
        scale: w, a number, or a function `t -> w`.
        null: the args that stand for no condition, of the same structure and shapes as args; it is
            taken in their dtypes. None, for args or a part of them such as a dictionary's value,
            is for a model that goes without it. It is then called twice, as it is where null has
            another flag or string than args.

    Returns:
        The guided velocity. It keeps the arrays of v, of null and of scale as leaves.

    Raises:
        TypeError: v is not a `Velocity`, or scale is neither a number nor a function of t alone.
        ValueError: scale is not finite (where it is not traced); when it is called: args has
            another structure, other shapes or another kind of dtype than null, or no leaf, w is not
            a scalar, or the model's output is unlike x.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> v = fj.velocity(lambda t, x, label: label - x, fj.CondOT())
        >>> guided = fj.guidance.classifier_free(v, scale=3.0, null=jnp.array(0.0))
        >>> float(guided(0.5, jnp.array(1.0), jnp.array(2.0)))
        5.0
        >>> def model(t, x, label):
        ...     return -x if label is None else label - x
        >>> guided = fj.guidance.classifier_free(fj.velocity(model, fj.CondOT()), 3.0, None)
        >>> float(guided(0.5, jnp.array(1.0), jnp.array(2.0)))
        5.0

    References:
        Ho, Salimans, "Classifier-free diffusion guidance", 2022, arXiv 2207.12598, equation 6
        (their scale is w - 1); Holderrieth, Erives, "An introduction to flow matching and diffusion
        models" (MIT 6.S184), 2025, arXiv 2506.02070, section 5; Bradley, Nakkiran, "Classifier-free
        guidance is a predictor-corrector", 2024, arXiv 2408.09000, on what it samples.
    """
    v = as_velocity(v, "classifier_free")
    return v.with_model(_ClassifierFree(v, ScalarFunction(scale, "scale"), null))


class _ClassifierFree(Guided):
    velocity: Velocity
    scale: ScalarFunction
    null: Any

    def both(self, t: Any, x: Any, args: Any) -> tuple[State, State]:
        without, conditional = branches(self.velocity.model, t, x, args, self.null)
        w = self.scale(time(t))
        return weighted(x, (1 - w, without), (w, conditional)), conditional


def cfg_zero(
    v: Velocity,
    scale: ArrayLike | Callable[[Any], Any],
    null: Any,
    *,
    zero_until: ArrayLike = 0.0,
) -> Velocity:
    r"""Classifier-free guidance of a flow with an optimised scale of the unconditional velocity.

    $$\tilde u_t(x \mid y) = (1 - w)\,s^* u_t(x \mid \varnothing) + w\,u_t(x \mid y), \quad
    s^* = \frac{\langle u_t(x \mid y), u_t(x \mid \varnothing)\rangle}
    {|u_t(x \mid \varnothing)|^2}$$

    and zero before `zero_until`. For each sample, s* takes the unconditional velocity to the point
    of its line that is nearest to the conditional one. It corrects a model that has learnt little
    yet; of an exact one too it ends at no law that is known, and for w = 1 only at the data given
    y.

    The formula is of velocities, whatever the model predicts: the outputs are converted and the
    result is converted back, so that five predictions of one velocity make the same flow. The
    model is called as in `classifier_free`, once.

    Args:
        v: a velocity whose model takes the condition y in args.
        scale: w, a number, or a function `t -> w`.
        null: the args that stand for no condition; see `classifier_free`.
        zero_until: the time before which the velocity is zero, whatever w is: `ts[1]` for the first
            step, 0 for none.

    Returns:
        The guided velocity. It keeps the arrays of v, null, scale and zero_until as leaves. It is
        not determined at t = 0 where a velocity does not determine what the model predicts.

    Raises:
        TypeError: v is not a `Velocity`, scale is neither a number nor a function of t alone, or
            zero_until is not a number.
        ValueError: scale is not finite or zero_until not from 0 to 1 (where they are not traced);
            when it is called, as for `classifier_free`.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> v = fj.velocity(lambda t, x, label: label - x, fj.CondOT())
        >>> guided = fj.guidance.cfg_zero(v, 3.0, jnp.zeros(2), zero_until=0.1)
        >>> x, label = jnp.array([-1.0, -1.0]), jnp.array([0.0, 2.0])
        >>> guided(0.5, x, label).tolist()  # (1, 1) and (1, 3): s* = 2
        [-1.0, 5.0]
        >>> guided(0.0, x, label).tolist()
        [0.0, 0.0]

    References:
        Fan, Zheng, Yeh, Liu, "CFG-Zero*: improved classifier-free guidance for flow matching
        models", 2025, arXiv 2503.18886, algorithm 1.
    """
    v = as_velocity(v, "cfg_zero")
    zero_until = number(zero_until, "zero_until")
    require(lambda t: 0 <= t <= 1, zero_until, message="zero_until must be a time from 0 to 1")
    guided = v.with_model(_Zero(v, ScalarFunction(scale, "scale"), null, jnp.asarray(zero_until)))
    back = Domain(missing_at(0.0, v.schedule, "velocity", v.predicts))
    return dataclasses.replace(
        guided,
        domain=guided.domain.within(back),
        pair_domain=guided.pair_domain.within(guided.domain).within(back),
    )


class _Zero(Guided):
    velocity: Velocity
    scale: ScalarFunction
    null: Any
    zero_until: Array

    def both(self, t: Any, x: Any, args: Any) -> tuple[State, State]:
        v, dtype = self.velocity, widest(x)
        path, w = path_at(v.schedule, t, dtype), self.scale(time(t)).astype(dtype)
        two = branches(v.model, t, x, args, self.null)
        to_velocity = partial(on_leaves, partial(converted, v.predicts, "velocity"), path, wide(x))
        u0, u1 = (to_velocity(wide(one)) for one in two)
        s = quotient(dot(u1, u0), dot(u0, u0))
        u = weighted(u0, ((1 - w) * s, u0), (w, u1))
        still = time(t) < self.zero_until.astype(time(t).dtype)
        u = jax.tree.map(lambda u: jnp.where(still, 0, u), u)

        def back(path: Any, x: Array, u: Array, value: Array) -> Array:
            # All velocities are one where x is the data, and say nothing of the score.
            end = (path.sigma == 0) & jnp.isfinite(path.sigma_rate)
            guided = converted("velocity", v.predicts, path, x, u, end)
            return guided if v.predicts == "velocity" else jnp.where(end, value, guided)

        return on_leaves(back, path, x, u, two[1]), two[1]
