"""Laws of the time at which a loss is taken: how a uniform number in (0, 1) becomes t.

A law is the inverse of its distribution function, so that the times of a batch can be stratified
under any of them.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import ndtri

from flowjax import _check
from flowjax._check import require
from flowjax._numerics import inside
from flowjax.schedules.interpolations import CondOT
from flowjax.schedules.schedule import checked_schedule

Law = Callable[[Array], Array]


def uniform(u: Array) -> Array:
    r"""The uniform law, $t \sim U(0, 1)$.

    Args:
        u: a uniform number in (0, 1), an array of any shape.

    Returns:
        The time, u itself.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> float(fj.losses.uniform(jnp.array(0.25)))
        0.25

    References:
        Lipman, Chen, Ben-Hamu, Nickel, Le, "Flow matching for generative modeling", 2022,
        arXiv 2210.02747, section 3.
    """
    return u


def logit_normal(mean: Any = 0.0, std: Any = 1.0) -> Law:
    r"""The logit-normal law, $\log\frac{t}{1 - t} \sim N(\text{mean}, \text{std}^2)$.

    Args:
        mean: of the logit; above zero, more of the times are near the data, t = 1.
        std: of the logit, positive.

    Returns:
        A law, ``u -> t``.

    Raises:
        TypeError: mean or std is no number.
        ValueError: std is not positive.

    Example:
        >>> import flowjax as fj
        >>> print(f"{fj.losses.logit_normal()(0.5):.2f}")
        0.50

    References:
        Esser et al., "Scaling rectified flow transformers for high-resolution image synthesis",
        2024, arXiv 2403.03206, section 3.1.
    """
    mean, std = _normal(mean, std)
    return lambda u: jax.nn.sigmoid(mean + std * ndtri(u))


def edm_times(schedule: Any = None, mean: Any = -1.2, std: Any = 1.2) -> Law:
    r"""EDM's law of the noise level, $\ln(\sigma / \alpha) \sim N(\text{mean}, \text{std}^2)$.

    Under `CondOT`, where it is sigma = (1 - t) / t, that is the logit-normal law of mean 1.2.

    Args:
        schedule: the path. Default: `CondOT()`.
        mean: of the logarithm.
        std: of the logarithm, positive.

    Returns:
        A law, ``u -> t``.

    Raises:
        TypeError: schedule is no schedule, or mean or std is no number.
        ValueError: std is not positive.

    Example:
        >>> import flowjax as fj
        >>> law, same = fj.losses.edm_times(fj.CondOT()), fj.losses.logit_normal(1.2, 1.2)
        >>> print(f"{law(0.3):.4f} {same(0.3):.4f}")
        0.6389 0.6389

    References:
        Karras, Aittala, Aila, Laine, "Elucidating the design space of diffusion-based generative
        models", 2022, arXiv 2206.00364, table 1.
    """
    schedule = checked_schedule(CondOT() if schedule is None else schedule)
    mean, std = _normal(mean, std)
    return lambda u: schedule.time_at(-2 * (mean - std * ndtri(u)))


def stratified(key: Array, num: int, law: Law = uniform) -> Array:
    r"""Times for a batch, one in each of as many equal parts of the law, in random order.

    $$t_i = F^{-1}\Big(\frac{\pi(i) + U_i}{n}\Big), \qquad U_i \sim U(0, 1)$$

    with a random permutation pi: each t_i has the law by itself, and their mean varies far less
    than that of independent ones.

    Args:
        key: one JAX key.
        num: how many, a static positive int.
        law: such as `uniform` or ``logit_normal()``.

    Returns:
        Array of shape (num,).

    Raises:
        TypeError: key is no key, num no static int or law no function.
        ValueError: num is less than 1, or the law leaves [0, 1].

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import flowjax as fj
        >>> t = fj.losses.stratified(jax.random.key(0), 4)
        >>> (4 * jnp.sort(t)).astype(int).tolist()
        [0, 1, 2, 3]

    References:
        Kingma, Salimans, Poole, Ho, "Variational diffusion models", 2021, arXiv 2107.00630,
        appendix I.1.
    """
    _check.single_key(key)
    num = _check.positive_int(num, "num")
    order_key, key = jax.random.split(key)
    within = jax.random.uniform(key, (num,))
    u = (jax.random.permutation(order_key, num).astype(within.dtype) + within) / num
    return jax.vmap(lambda u: time_of(law, u, "law"))(u)


def time_of(law: Any, u: Array, name: str = "time") -> Array:
    """The time that a law gives for a uniform number, between the ends of a schedule."""
    _check.function(law, name, "u -> t", takes=1)
    seen = _check.concrete(lambda: [law(jnp.full((), end, float)) for end in (1e-3, 0.5, 0.999)])
    for time in seen or ():
        if jnp.shape(time) != ():
            raise ValueError(f"{name} must give one t for one u, got shape {jnp.shape(time)}.")
        require(lambda t: 0 <= t <= 1, time, message=f"{name} must give times within [0, 1]")
    eps = jnp.finfo(u.dtype).eps
    # Neither 0 nor 1, where some predictions determine no velocity.
    u = jnp.clip(u, eps / 2, 1 - eps / 2)
    t = inside(jnp.asarray(law(u), u.dtype))
    return jnp.clip(t, jnp.finfo(u.dtype).tiny, 1 - eps / 2)


def _normal(mean: Any, std: Any) -> tuple[Any, Any]:
    mean, std = _check.number(mean, "mean"), _check.number(std, "std")
    require(lambda s: 0 < s < jnp.inf, std, message="std must be positive and finite")
    return mean, std
