"""A stochastic differential equation, and how its diffusion meets the noise."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flowjax._types import Field, Scalar, State


class SDE(NamedTuple):
    r"""A stochastic differential equation, as its two fields.

    $$dX_t = f(t, X_t)\,dt + g(t, X_t) \odot dW_t$$

    Whether it is read as Ito's or Stratonovich's is the step's affair (`euler_maruyama` and
    `milstein` are Ito, `stochastic_heun` is Stratonovich); for a diffusion that does not depend
    on x the two are the same.

    Args:
        drift: field f, ``(t, x, args) -> dx`` with the state's structure, shapes and dtypes.
        diffusion: field g, ``(t, x, args) -> g``: a scalar for all elements, or the state's
            structure with leaves that are scalars or have the state's shapes. It multiplies
            the Brownian increment elementwise.

    Example:
        >>> import flowjax as fj
        >>> brownian_motion = fj.SDE(lambda t, x, args: 0 * x, lambda t, x, args: 1.0)

    References:
        MIT 6.S184, "Flow Matching and Diffusion Models", lecture notes, section 2.2.
    """

    drift: Field
    diffusion: Field


def fields_of(sde: Any, step: str) -> SDE:
    """The two fields, refused if `sde` is not an SDE."""
    if not isinstance(sde, SDE):
        raise TypeError(
            f"{step} is a step for an SDE: it needs an SDE(drift, diffusion), got a plain field."
        )
    return sde


def diffusion_of(field: Field, t: Scalar, x: State, args: Any) -> State:
    """The diffusion at x, with the state's structure, shapes and dtypes."""
    g = field(t, x, args)
    if jax.tree.structure(g) != jax.tree.structure(x):
        g = jax.tree.map(lambda _: g, x)
    return jax.tree.map(
        lambda leaf, value: jnp.broadcast_to(jnp.asarray(value, leaf.dtype), leaf.shape), x, g
    )
