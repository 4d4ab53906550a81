"""Guidance: fields that follow a condition more strongly than the data do."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowjax import _check
from flowjax._check import time
from flowjax._numerics import leafwise
from flowjax._same_schedule import schedule_of
from flowjax._types import Field
from flowjax.fields.scalar_function import ScalarFunction
from flowjax.fields.velocity import callable_field


def classifier_free(field: Field, scale: ArrayLike | Callable[[Any], Any], null: Any) -> Field:
    r"""A field guided towards its condition: classifier-free guidance.

    $$\tilde u_t(x \mid y) = (1 - w)\,u_t(x \mid \varnothing) + w\,u_t(x \mid y)$$

    w = 1 is the conditional field alone, w = 0 the unconditional one, and w > 1 goes beyond the
    condition: the flow's end is then the distribution of no data, but often of better samples.
    The field is evaluated twice.

    Args:
        field: a field `(t, x, args) -> u` with the condition y in args, trained with `null` in
            its place for some of the data. A velocity, a score, a noise or a data prediction can
            be guided alike.
        scale: w, a number, or a function `t -> w`, such as one that is 1 outside an interval.
        null: the args that stand for no condition, of the same structure and shapes as args.

    Returns:
        A field `(t, x, args) -> u`. It keeps the arrays of the field, of null and of scale as
        leaves.

    Raises:
        TypeError: field is not callable, or scale is neither a number nor a function.
        ValueError: when it is called: args has another structure or other shapes than null, w is
            not a scalar, or the field's output is unlike x.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> field = lambda t, x, label: label - x
        >>> guided = fj.guidance.classifier_free(field, scale=3.0, null=jnp.array(0.0))
        >>> float(guided(0.5, jnp.array(1.0), jnp.array(2.0)))
        5.0
        >>> late = fj.guidance.classifier_free(
        ...     field, lambda t: jnp.where(t < 0.8, 1, 3), jnp.array(0.0)
        ... )
        >>> float(late(0.5, jnp.array(1.0), jnp.array(2.0)))
        1.0

    References:
        Ho, Salimans, "Classifier-free diffusion guidance", 2022, arXiv 2207.12598 (their scale is
        w - 1); Holderrieth, Erives (MIT 6.S184), 2025, arXiv 2506.02070, section 5; Kynkaanniemi
        et al., "Applying guidance in a limited interval", 2024, arXiv 2404.07724.
    """
    callable_field(field, "field")
    return _ClassifierFree(field, ScalarFunction(scale, "scale"), null)


class _ClassifierFree(eqx.Module):
    field: Callable[..., Any]
    scale: ScalarFunction
    null: Any

    def __call__(self, t: ArrayLike, x: Any, args: Any) -> Any:
        x = _check.state(x, "x")
        _check_condition(args, self.null)
        without = _check.alike(self.field(t, x, self.null), x, "the field's output")
        conditional = _check.alike(self.field(t, x, args), x, "the field's output")

        def guided(w: Array, without: Array, conditional: Array) -> Array:
            return (1 - w) * without + w * conditional

        return leafwise(guided, self.scale(time(t)), without, conditional)

    @property
    def schedule(self) -> Any:
        """The schedule of the field, or None."""
        return schedule_of(self.field)

    def check_times(self, ts: np.ndarray, called: np.ndarray) -> None:
        """Refuses what the field refuses."""
        _check.times_of(self.field, ts, called)


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
