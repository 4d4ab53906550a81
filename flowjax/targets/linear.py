"""The linear vector field, the one flow whose closed form fits on a line."""

from typing import Any

import jax.numpy as jnp
from jax.typing import ArrayLike

from flowjax._check import scalar_time
from flowjax.targets._arrays import map_state


def linear_field(t: ArrayLike, x: Any, args: Any) -> Any:
    r"""The linear vector field.

    $$u_t(x) = -\theta\,x$$

    Args:
        t: time; unused, the field is autonomous.
        x: the state, one sample: a real floating array or a pytree of them.
        args: theta, the rate in 1/time: a number or an array that broadcasts to x's shape. For
            a pytree state, one array for all leaves or a pytree that is a prefix of x.

    Returns:
        The velocity, with x's structure, shapes and dtypes.

    Raises:
        TypeError: x is not real floating, or theta is not a real number.
        ValueError: theta is None or does not fit x.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> fj.linear_field(0.0, jnp.array([1.0, 2.0]), 0.5).tolist()
        [-0.5, -1.0]

    References:
        Holderrieth, Erives, "An introduction to flow matching and diffusion models" (MIT
        6.S184), 2025, arXiv 2506.02070, section 2.1.
    """
    del t
    if args is None:
        raise ValueError("args must be theta, the rate of the linear field, got None.")
    return map_state(lambda leaf, theta: -theta * leaf, x, theta=args)


def linear_flow(t: ArrayLike, x0: Any, theta: Any) -> Any:
    r"""The flow of `linear_field` in closed form.

    $$\phi_t(x_0) = x_0\,e^{-\theta t}$$

    Args:
        t: the time since the start, a scalar; negative runs the flow backward.
        x0: the state at time zero: a floating array or a pytree of them.
        theta: as in `linear_field`.

    Returns:
        The state at time t, with x0's structure, shapes and dtypes. For many times at once,
        `jax.vmap` over t.

    Raises:
        TypeError: x0 is not real floating, or theta is not a real number.
        ValueError: t is not a scalar, or theta does not fit x0.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> x1 = fj.linear_flow(1.0, jnp.array(2.0), jnp.log(2.0))
        >>> print(f"{x1:.3f}")
        1.000

    References:
        Holderrieth, Erives, "An introduction to flow matching and diffusion models" (MIT
        6.S184), 2025, arXiv 2506.02070, section 2.1.
    """
    t = scalar_time(t)
    return map_state(lambda leaf, theta, t: leaf * jnp.exp(-theta * t), x0, "x0", theta=theta, t=t)
