"""Schedules: the pair (alpha, sigma) of a path `x_t = alpha x_1 + sigma x_0`.

A schedule is any record with `schedule(t) -> (alpha, sigma)` and
`schedule.rates(t) -> (d alpha/dt, d sigma/dt)`; t = 0 is noise, t = 1 is data.
"""

import equinox as eqx
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


class CondOT(eqx.Module):
    r"""The straight path of conditional optimal transport.

    $$\alpha_t = t, \quad \sigma_t = 1 - t, \quad x_t = t\,x_1 + (1 - t)\,x_0$$

    Each pair (x_0, x_1) is joined by a straight line at constant speed `x_1 - x_0`.
    The record has no fields.

    Example:
        >>> import flowjax as fj
        >>> schedule = fj.CondOT()
        >>> alpha, sigma = schedule(0.25)
        >>> print(f"{alpha:.2f} {sigma:.2f}")
        0.25 0.75
        >>> alpha_rate, sigma_rate = schedule.rates(0.25)
        >>> print(f"{alpha_rate:.0f} {sigma_rate:.0f}")
        1 -1

    References:
        Lipman, Chen, Ben-Hamu, Nickel, Le, "Flow matching for generative modeling", 2022,
        arXiv 2210.02747, equation 20 with sigma_min = 0.
    """

    def __call__(self, t: ArrayLike) -> tuple[Array, Array]:
        """The pair `(alpha, sigma) = (t, 1 - t)`.

        Args:
            t: time, 0 (noise) to 1 (data), of any shape. A Python or integer number becomes
                the default float dtype.

        Returns:
            alpha and sigma, each of t's shape and dtype.
        """
        t = _time(t)
        return t, 1 - t

    def rates(self, t: ArrayLike) -> tuple[Array, Array]:
        """The time derivatives `(d alpha/dt, d sigma/dt) = (1, -1)`.

        Args:
            t: time, 0 (noise) to 1 (data), of any shape.

        Returns:
            The two rates, each of t's shape and dtype.
        """
        t = _time(t)
        return jnp.ones_like(t), -jnp.ones_like(t)


def _time(t: ArrayLike) -> Array:
    t = jnp.asarray(t)
    return t if jnp.issubdtype(t.dtype, jnp.floating) else t.astype(float)
