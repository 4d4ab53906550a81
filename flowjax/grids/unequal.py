"""Grids with steps of other lengths at the ends than in the middle."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from flowjax import _check
from flowjax._check import static_number
from flowjax._types import Times
from flowjax.grids.uniform import distinct


def shifted_grid(n: int, shift: float) -> Times:
    r"""Equally spaced times, shifted towards the noise: the grid of Stable Diffusion 3.

    $$t_i = \frac{i/n}{i/n + s\,(1 - i/n)}, \quad i = 0, \dots, n$$

    With s above 1 more of the steps are at high noise, which images of higher resolution need.
    In the paper's time, where 1 is noise, with m/n pixels for each of a reference and
    $s = \sqrt{m/n}$, it is $t \mapsto s t / (1 + (s - 1) t)$. Under `CondOT` the noise level
    (1 - t) / t of every time is s times that of the uniform grid.

    Args:
        n: number of steps, a static positive int.
        shift: s, a positive number; 1 is `uniform_grid`, and 3 is Stable Diffusion 3's.

    Returns:
        Array of shape (n + 1,), increasing from 0 to 1, of JAX's default floating dtype.

    Raises:
        TypeError: n is not a static int, or shift is not a static number.
        ValueError: n is less than 1, shift is not positive and finite, or it is so large or
            small that two of the times are the same.

    Example:
        >>> import flowjax as fj
        >>> print([f"{t:.2f}" for t in fj.shifted_grid(4, 3.0)])
        ['0.00', '0.10', '0.25', '0.50', '1.00']

    References:
        Esser et al., "Scaling rectified flow transformers for high-resolution image synthesis",
        2024, arXiv 2403.03206, equation 23.
    """
    n = _check.positive_int(n, "n")
    shift = static_number(shift, "shift")
    if not 0 < shift < math.inf:
        raise ValueError(f"shift must be a positive finite number, got {shift}.")
    t = np.arange(n + 1) / n
    with jax.ensure_compile_time_eval():
        return distinct(
            jnp.asarray(t / (t + shift * (1 - t)), float),
            "take fewer steps, or a shift nearer to 1",
        )


def beta_grid(n: int, alpha: float = 0.7, beta: float = 0.6) -> Times:
    r"""The quantiles of a Beta distribution: short steps at both ends.

    $$t_i = F^{-1}(i / n), \quad F(t) = \frac{1}{B(a, b)} \int_0^t s^{a - 1} (1 - s)^{b - 1}\,ds,
    \quad i = 0, \dots, n$$

    The first step is about as long as $n^{-1/a}$ and the last as $n^{-1/b}$. With a = b = 1 it is
    `uniform_grid`, with a = b = 1/2 the grid of Chebyshev's extrema, $t_i = (1 - \cos(\pi i/n))/2$.
    The paper has a = b = 0.6; the a = 0.7 here served `adams` better on flows that are known
    exactly, under `CondOT`.

    Args:
        n: number of steps, a static positive int.
        alpha: a, a positive number; the smaller, the shorter the first steps.
        beta: b, a positive number; the smaller, the shorter the last steps.

    Returns:
        Array of shape (n + 1,), increasing from 0 to 1, of JAX's default floating dtype.

    Raises:
        TypeError: n is not a static int, or alpha or beta is not a static number.
        ValueError: n is less than 1, alpha or beta is not positive and finite, or one is so small
            that two of the times are the same.

    Example:
        >>> import flowjax as fj
        >>> print([f"{t:.3f}" for t in fj.beta_grid(4)])
        ['0.000', '0.234', '0.562', '0.852', '1.000']

    References:
        Lee, Lee, Kang, Kim, "Beta sampling is all you need: efficient image generation strategy
        for diffusion models using stepwise spectral analysis", 2024, arXiv 2407.12173.
    """
    from scipy.special import betaincinv

    n = _check.positive_int(n, "n")
    alpha, beta = static_number(alpha, "alpha"), static_number(beta, "beta")
    if not (0 < alpha < math.inf and 0 < beta < math.inf):
        raise ValueError(f"alpha and beta must be positive finite numbers, got {alpha} and {beta}.")
    times = betaincinv(alpha, beta, np.arange(n + 1) / n)
    with jax.ensure_compile_time_eval():
        return distinct(
            jnp.asarray(times, float), "take fewer steps, or alpha and beta nearer to 1"
        )
