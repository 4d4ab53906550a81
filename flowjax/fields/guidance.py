"""Guidance: velocities that follow a condition more strongly than the data do.

Guidance transforms the model inside a `Velocity`, which keeps its schedule and its kind.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.typing import ArrayLike

from flowjax import _check
from flowjax._check import time
from flowjax._numerics import weighted
from flowjax.fields.scalar_function import ScalarFunction
from flowjax.fields.velocity import Velocity
from flowjax.solver.door import as_velocity

__all__ = ["classifier_free"]


def classifier_free(v: Velocity, scale: ArrayLike | Callable[[Any], Any], null: Any) -> Velocity:
    r"""A velocity guided towards its condition: classifier-free guidance.

    $$\tilde u_t(x \mid y) = (1 - w)\,u_t(x \mid \varnothing) + w\,u_t(x \mid y)$$

    w = 1 is the conditional field alone, w = 0 the unconditional one, and w > 1 goes beyond the
    condition: the flow's end is then the distribution of no data, but often of better samples.
    The model inside is evaluated twice. It may predict any of the five: all are guided alike.

    Args:
        v: a velocity whose model takes the condition y in args, trained with `null` in its place
            for some of the data.
        scale: w, a number, or a function `t -> w`, such as one that is 1 outside an interval.
        null: the args that stand for no condition, of the same structure and shapes as args.

    Returns:
        The guided velocity. It keeps the arrays of v, of null and of scale as leaves.

    Raises:
        TypeError: v is not a `Velocity`, scale is neither a number nor a function of t alone, or
            null is None.
        ValueError: scale is not finite (where it is not traced); when it is called: args has
            another structure or other shapes than null, w is not a scalar, or the model's output
            is unlike x.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> v = fj.velocity(lambda t, x, label: label - x, fj.CondOT())
        >>> guided = fj.guidance.classifier_free(v, scale=3.0, null=jnp.array(0.0))
        >>> float(guided(0.5, jnp.array(1.0), jnp.array(2.0)))
        5.0
        >>> late = lambda t: jnp.where(t < 0.8, 1, 3)
        >>> guided_late = fj.guidance.classifier_free(v, late, jnp.array(0.0))
        >>> float(guided_late(0.5, jnp.array(1.0), jnp.array(2.0)))
        1.0

    References:
        Ho, Salimans, "Classifier-free diffusion guidance", 2022, arXiv 2207.12598 (their scale is
        w - 1); Holderrieth, Erives (MIT 6.S184), 2025, arXiv 2506.02070, section 5; Kynkaanniemi
        et al., "Applying guidance in a limited interval", 2024, arXiv 2404.07724.
    """
    model = as_velocity(v, "classifier_free").model
    if null is None:
        raise TypeError(
            "null must be the args that stand for no condition, such as the label that the model "
            "was trained with in place of others, got None."
        )
    return v.with_model(_ClassifierFree(model, ScalarFunction(scale, "scale"), null))


class _ClassifierFree(eqx.Module):
    model: Callable[..., Any]
    scale: ScalarFunction
    null: Any

    def __call__(self, t: ArrayLike, x: Any, args: Any) -> Any:
        _check_condition(args, self.null)
        without = _check.alike(self.model(t, x, self.null), x, "the model's output")
        conditional = _check.alike(self.model(t, x, args), x, "the model's output")
        w = self.scale(time(t))
        return weighted(x, (1 - w, without), (w, conditional))


def _check_condition(args: Any, null: Any) -> None:
    wanted, got = jax.tree.structure(null), jax.tree.structure(args)
    if wanted != got:
        raise ValueError(f"args must have the structure of null, {wanted}, got {got}.")
    named = _check.leaves_with_names(args, "args")
    for (name, leaf), like in zip(named, jax.tree.leaves(null), strict=True):
        if np.shape(leaf) != np.shape(like):
            raise ValueError(
                f"{name} must have the shape {np.shape(like)} of null, got {np.shape(leaf)}."
            )
