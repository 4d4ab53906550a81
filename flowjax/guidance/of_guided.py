"""Transformations of a velocity that is guided already."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from flowjax._check import number, require, time
from flowjax._numerics import computing_dtype, root, weighted
from flowjax._types import Domain, State
from flowjax.fields.velocity import Velocity
from flowjax.guidance.guided import Guided, output
from flowjax.solver.door import as_velocity


def interval(guided: Velocity, start: ArrayLike, end: ArrayLike) -> Velocity:
    r"""A guided velocity between two times, and the one that it guides before and after.

    $$u_t = \tilde u_t \text{ if } \mathrm{start} \le t \le \mathrm{end}, \text{ else the }
    u_t \text{ that is guided}$$

    Which of the two it is is decided when it runs: outside of the interval a solve pays for the
    model alone, not for guidance, under `jit` and `vmap` over samples too. (A program in which
    each sample has a time of its own, by a `vmap` over t, computes both.) The flow ends at no law
    that is known.

    Args:
        guided: what a function of `fj.guidance` returns. The outermost guidance is what is left out
            outside of the interval.
        start: the time from which there is guidance, 0 (noise) to 1 (data).
        end: the time until which there is. A step is guided by the times at which it calls the
            field: Euler's by the one at which it begins.

    Returns:
        The velocity. It keeps the arrays of guided, start and end as leaves. What guidance does not
        determine at an end of the schedule is not asked for there, if the interval leaves it out.

    Raises:
        TypeError: guided is not a guided velocity, or start or end is not a number.
        ValueError: it is not 0 <= start <= end <= 1 (where they are not traced).

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> v = fj.velocity(lambda t, x, label: label - x, fj.CondOT())
        >>> guided = fj.guidance.classifier_free(v, 3.0, null=jnp.array(0.0))
        >>> late = fj.guidance.interval(guided, 0.2, 0.8)
        >>> [float(late(t, jnp.array(1.0), jnp.array(2.0))) for t in (0.1, 0.5)]
        [1.0, 5.0]

    References:
        Kynkaanniemi, Aittala, Karras, Laine, Aila, Lehtinen, "Applying guidance in a limited
        interval improves sample and distribution quality in diffusion models", 2024, arXiv
        2404.07724, equation 5.
    """
    plain = _unguided(_guided(guided, "interval"))
    bounds = number(start, "start"), number(end, "end")
    message = "start and end must be times with 0 <= start <= end <= 1"
    require(lambda start, end: 0 <= start <= end <= 1, *bounds, message=message)
    made = guided.with_model(_Interval(guided, jnp.asarray(bounds[0]), jnp.asarray(bounds[1])))

    def of(inner: Domain, outer: Domain) -> Domain:
        at_start = inner.at_start if _is(bounds[0], 0.0) else outer.at_start
        return Domain(at_start, inner.at_end if _is(bounds[1], 1.0) else outer.at_end)

    return dataclasses.replace(
        made,
        domain=of(guided.domain, plain.domain),
        pair_domain=of(guided.pair_domain, _pair_domain(plain, made)),
    )


class _Interval(Guided):
    velocity: Velocity
    start: Array
    end: Array

    def both(self, t: Any, x: Any, args: Any) -> tuple[State, State]:
        def outside() -> tuple[State, State]:
            value = output(_unguided(self).model, t, x, args)
            return value, value

        at = time(t)
        inside = (self.start.astype(at.dtype) <= at) & (at <= self.end.astype(at.dtype))
        model: Any = self.velocity.model
        return jax.lax.cond(inside, lambda: model.both(t, x, args), outside)


def rescaled(guided: Velocity, phi: ArrayLike) -> Velocity:
    r"""A guided velocity whose model's output has the standard deviation it has without guidance.

    $$\tilde f' = \phi\,\frac{\mathrm{std}(f)}{\mathrm{std}(\tilde f)}\,\tilde f
    + (1 - \phi)\,\tilde f$$

    with f the output of the model that is guided (for `classifier_free` the one given the
    condition) and std that over the elements of one sample, of each leaf of a state by itself. It
    counters the overexposure of images at large scales. It acts on what the model predicts, as
    published, so that models of the velocity and of the noise make different flows; none of them
    ends at a law that is known. The model is called as before.

    Args:
        guided: what a function of `fj.guidance` returns.
        phi: how much of it, from 0 (none) to 1; the authors take 0.7.

    Returns:
        The velocity. It keeps the arrays of guided and phi as leaves.

    Raises:
        TypeError: guided is not a guided velocity, or phi is not a number.
        ValueError: phi is not from 0 to 1 (where it is not traced).

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> v = fj.velocity(lambda t, x, label: label * x, fj.CondOT())
        >>> guided = fj.guidance.classifier_free(v, 3.0, null=jnp.array(0.0))
        >>> x, label = jnp.array([1.0, 3.0]), jnp.array(2.0)
        >>> guided(0.5, x, label).tolist()
        [6.0, 18.0]
        >>> print("{:.3f} {:.3f}".format(*fj.guidance.rescaled(guided, 1.0)(0.5, x, label)))
        2.000 6.000

    References:
        Lin, Liu, Li, Yang, "Common diffusion noise schedules and sample steps are flawed", 2023,
        arXiv 2305.08891, equations 14 to 16.
    """
    _guided(guided, "rescaled")
    phi = number(phi, "phi")
    require(lambda phi: 0 <= phi <= 1, phi, message="phi must be from 0 to 1")
    return guided.with_model(_Rescaled(guided, jnp.asarray(phi)))


class _Rescaled(Guided):
    velocity: Velocity
    phi: Array

    def both(self, t: Any, x: Any, args: Any) -> tuple[State, State]:
        model: Any = self.velocity.model
        guided, plain = model.both(t, x, args)

        def on_leaf(guided: Array, plain: Array) -> Array:
            dtype = computing_dtype(guided.dtype)
            variance, wanted = (jnp.var(leaf.astype(dtype)) for leaf in (guided, plain))
            known = variance > 0
            ratio = root(wanted) / root(jnp.where(known, variance, 1))
            phi = self.phi.astype(dtype)
            return jnp.where(known, 1 + phi * (ratio - 1), 1)

        factors = jax.tree.map(on_leaf, guided, plain)
        return jax.tree.map(lambda leaf, c: weighted(leaf, (c, leaf)), guided, factors), plain


def _guided(v: Any, who: str) -> Guided:
    """The model of a guided velocity; refused if it is not one."""
    model: Any = as_velocity(v, who).model
    if not isinstance(model, Guided):
        raise TypeError(
            f"{who} needs a guided velocity, such as fj.guidance.classifier_free(v, scale, null) "
            f"returns, got a velocity of another model, {type(model).__name__}."
        )
    return model


def _unguided(model: Guided) -> Velocity:
    """The velocity without its guidance."""
    inner = model.velocity
    transforms = isinstance(model, (_Interval, _Rescaled))
    return _unguided(inner.model) if transforms else inner  # pyright: ignore


def _pair_domain(plain: Velocity, made: Velocity) -> Domain:
    """Where the data and noise are determined by what the plain model predicts."""
    return plain.with_model(made.model).pair_domain


def _is(bound: Any, value: float) -> bool:
    """Whether a bound is known to be a value."""
    if isinstance(bound, Tracer):
        return False
    return float(np.asarray(bound)) == value
