"""Schedules of interpolations: alpha rises from 0 to 1 while sigma falls from 1 to 0."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowjax._check import number, require, time
from flowjax._numerics import log
from flowjax.schedules.schedule import ExactEnds, falling_rate


class CondOT(ExactEnds):
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

    def alpha(self, t: ArrayLike) -> Array:
        """Alpha, which is t."""
        return time(t)

    def sigma(self, t: ArrayLike) -> Array:
        """Sigma, `1 - t`."""
        return 1 - time(t)

    def rates(self, t: ArrayLike) -> tuple[Array, Array]:
        """The time derivatives `(1, -1)`."""
        t = time(t)
        return jnp.ones_like(t), -jnp.ones_like(t)

    def time_at(self, log_snr: ArrayLike) -> Array:
        """The time `1 / (1 + exp(-log_snr / 2))`."""
        return jax.nn.sigmoid(time(log_snr, "log_snr") / 2)


class Trigonometric(ExactEnds):
    r"""A quarter of a circle, `alpha^2 + sigma^2 = 1`, at constant speed.

    $$\alpha_t = \sin\tfrac{\pi t}{2}, \quad \sigma_t = \cos\tfrac{\pi t}{2}$$

    Example:
        >>> import flowjax as fj
        >>> alpha, sigma = fj.Trigonometric()(1 / 3)
        >>> print(f"{alpha:.3f} {sigma:.3f}")
        0.500 0.866

    References:
        Albergo, Vanden-Eijnden, "Building normalizing flows with stochastic interpolants", 2022,
        arXiv 2209.15571, equation 5.
    """

    def alpha(self, t: ArrayLike) -> Array:
        """Alpha, `sin(pi t / 2)`."""
        return jnp.sin(np.pi / 2 * time(t))

    def sigma(self, t: ArrayLike) -> Array:
        """Sigma, `cos(pi t / 2)`."""
        # The cosine of the rounded pi / 2 is not zero; the sine of zero is.
        return jnp.sin(np.pi / 2 * (1 - time(t)))

    def rates(self, t: ArrayLike) -> tuple[Array, Array]:
        """The time derivatives `(pi/2 sigma, -pi/2 alpha)`."""
        alpha, sigma = self(t)
        return np.pi / 2 * sigma, -np.pi / 2 * alpha

    def time_at(self, log_snr: ArrayLike) -> Array:
        """The time `2/pi arctan(exp(log_snr / 2))`."""
        log_snr = time(log_snr, "log_snr")
        # By symmetry from the half that does not overflow.
        late = log_snr > 0
        angle = jnp.arctan(jnp.exp(jnp.where(late, -log_snr, log_snr) / 2)) / (np.pi / 2)
        return jnp.where(late, 1 - angle, angle)


class Polynomial(ExactEnds):
    r"""The straight path at another speed: slow to leave the noise.

    $$\alpha_t = t^n, \quad \sigma_t = 1 - t^n$$

    For n = 1 it is `CondOT`. For n > 1 the path stands still at t = 0, where the velocity is zero
    whatever the data: it does not determine a prediction of the data there.

    Args:
        n: the power, a number of at least 1. Below 1 the velocity would be infinite at t = 0.

    Raises:
        TypeError: n is not a real number.
        ValueError: n is less than 1 or not one finite number. A traced n is not looked at.

    Example:
        >>> import flowjax as fj
        >>> alpha, sigma = fj.Polynomial(2)(0.5)
        >>> print(f"{alpha:.2f} {sigma:.2f}")
        0.25 0.75

    References:
        Lipman et al., "Flow matching guide and code", 2024, arXiv 2412.06264, section 4.7.
    """

    n: ArrayLike

    def __init__(self, n: ArrayLike):
        self.n = number(n, "n")
        require(lambda n: 1 <= n < np.inf, self.n, message="n must be a finite number >= 1")

    def alpha(self, t: ArrayLike) -> Array:
        """Alpha, `t^n`."""
        t = time(t)
        return _power(t, jnp.asarray(self.n, t.dtype))

    def sigma(self, t: ArrayLike) -> Array:
        """Sigma, `1 - t^n`."""
        t = time(t)
        n = jnp.asarray(self.n, t.dtype)
        # Near t = 1 the difference would cancel; expm1 does not.
        late = t > 0.5
        return jnp.where(late, 0 - jnp.expm1(n * jnp.log(jnp.where(late, t, 1))), 1 - _power(t, n))

    def rates(self, t: ArrayLike) -> tuple[Array, Array]:
        """The time derivatives `(n t^(n-1), -n t^(n-1))`."""
        t = time(t)
        n = jnp.asarray(self.n, t.dtype)
        rate = n * _power(t, n - 1)
        return rate, -rate

    def log_snr(self, t: ArrayLike) -> Array:
        """The log signal-to-noise ratio `2 log(t^n / (1 - t^n))`."""
        t = time(t)
        n = jnp.asarray(self.n, t.dtype)
        # Not the logarithm of alpha, which may underflow.
        log_alpha = jnp.where(t > 0, n * jnp.log(jnp.where(t > 0, t, 1)), -jnp.inf)
        return 2 * (log_alpha - log(self.sigma(t)))

    def time_at(self, log_snr: ArrayLike) -> Array:
        """The time `(1 + exp(-log_snr / 2))^(-1/n)`."""
        log_snr = time(log_snr, "log_snr")
        n, later = jnp.asarray(self.n, log_snr.dtype), log_snr > -jnp.inf
        log_time = jax.nn.log_sigmoid(jnp.where(later, log_snr, 0) / 2) / n
        return jnp.where(later, jnp.exp(log_time), 0)


class SquareRoot(ExactEnds):
    r"""A straight signal beside noise of linearly falling variance.

    $$\alpha_t = t, \quad \sigma_t = \sqrt{1 - t}, \quad \sigma_t \dot\sigma_t = -\tfrac12$$

    Sigma' is infinite at t = 1, where the velocity is not.

    Example:
        >>> import flowjax as fj
        >>> alpha, sigma = fj.SquareRoot()(0.75)
        >>> print(f"{alpha:.2f} {sigma:.2f}")
        0.75 0.50
        >>> print(f"{fj.SquareRoot().half_variance_rate(1.0):.2f}")
        -0.50

    References:
        Holderrieth, Erives, "An introduction to flow matching and diffusion models" (MIT
        6.S184), 2025, arXiv 2506.02070, its labs.
    """

    def alpha(self, t: ArrayLike) -> Array:
        """Alpha, which is t."""
        return time(t)

    def variance(self, t: ArrayLike) -> Array:
        """Sigma squared, `1 - t`, with a derivative at t = 1 too."""
        return 1 - time(t)

    def rates(self, t: ArrayLike) -> tuple[Array, Array]:
        """The time derivatives `(1, -1 / (2 sigma))`; the second is -inf at t = 1."""
        t = time(t)
        return jnp.ones_like(t), falling_rate(self.half_variance_rate(t), self.sigma(t))

    def half_variance_rate(self, t: ArrayLike) -> Array:
        """The product `sigma sigma' = -1/2`."""
        return jnp.full_like(time(t), -0.5)

    def log_snr(self, t: ArrayLike) -> Array:
        """The log signal-to-noise ratio `log(t^2 / (1 - t))`."""
        t = time(t)
        return 2 * log(t) - log(1 - t)

    def time_at(self, log_snr: ArrayLike) -> Array:
        """The time t of `t^2 = (1 - t) exp(log_snr)`."""
        log_snr = time(log_snr, "log_snr")
        # t = 2g / (g + sqrt(g^2 + 4e)) with g^2 / e = exp(log_snr), and neither above 1.
        late = log_snr > 0
        g = jnp.exp(jnp.where(late, 0, log_snr) / 2)
        e = jnp.exp(jnp.where(late, -log_snr, 0))
        return 2 * g / (g + jnp.sqrt(g**2 + 4 * e))


def _power(t: Array, exponent: Array) -> Array:
    """`t^exponent`, for exponents >= 0, with finite derivatives at t = 0."""
    positive = t > 0
    at_zero = jnp.where(exponent == 1, t, jnp.where(exponent == 0, jnp.ones_like(t), 0))
    return jnp.where(positive, jnp.power(jnp.where(positive, t, 1), exponent), at_zero)
