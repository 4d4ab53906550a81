"""Schedules of diffusion models, in flowjax's time: t = 0 is noise, t = 1 is data."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowjax._check import number, require, time
from flowjax._numerics import clip, log
from flowjax.schedules.schedule import ExactEnds, falling_rate

# The sum of beta_min and beta_max at which alpha(0) is 0.9.
_LEAST_NOISE = -4 * np.log(0.9)


class VariancePreserving(ExactEnds):
    r"""The variance-preserving diffusion with a linear noise rate: DDPM in continuous time.

    $$\alpha_t = \exp\Big(-\tfrac{T^2}{4}(\beta_{max} - \beta_{min}) - \tfrac T2 \beta_{min}\Big),
    \quad \sigma_t = \sqrt{1 - \alpha_t^2}, \quad T = 1 - t$$

    Some signal is left at t = 0: alpha is 0.0066 there by default, not 0. Sigma' is infinite at
    t = 1, where the velocity is not.

    Args:
        beta_min: the noise rate at the data end, positive.
        beta_max: the noise rate at the noise end, at least beta_min.

    Raises:
        TypeError: a rate is not a real number.
        ValueError: the rates are not finite with `0 < beta_min <= beta_max`, or are so small that
            the path hardly begins in noise, as DDPM's betas of one step are: alpha(0) > 0.9. Traced
            rates are not looked at.

    Example:
        >>> import flowjax as fj
        >>> alpha, sigma = fj.VariancePreserving()(0.0)
        >>> print(f"{alpha:.4f} {sigma:.4f}")
        0.0066 1.0000

    References:
        Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole, "Score-based generative modeling through
        stochastic differential equations", 2021, arXiv 2011.13456, equation 33.
    """

    beta_min: ArrayLike
    beta_max: ArrayLike

    def __init__(self, beta_min: ArrayLike = 0.1, beta_max: ArrayLike = 20.0):
        self.beta_min, self.beta_max = number(beta_min, "beta_min"), number(beta_max, "beta_max")
        require(lambda low: low > 0, self.beta_min, message="beta_min must be positive")
        require(
            lambda low, high: low <= high < np.inf,
            *(self.beta_min, self.beta_max),
            message="beta_min and beta_max must be finite with beta_min <= beta_max",
        )
        require(
            lambda low, high: low + high > _LEAST_NOISE,
            *(self.beta_min, self.beta_max),
            message="with a beta_min and beta_max so small the path hardly begins in noise, "
            "alpha(0) > 0.9 (of the betas of DDPM's N steps they are N times those, 0.1 and 20 "
            "for 0.0001 and 0.02 in 1000 steps)",
        )

    def alpha(self, t: ArrayLike) -> Array:
        """Alpha, the exponential of minus half the noise so far."""
        return jnp.exp(-self._noise(t) / 2)

    def variance(self, t: ArrayLike) -> Array:
        """Sigma squared, `1 - alpha^2`, with a derivative at t = 1 too."""
        return -jnp.expm1(-self._noise(t))

    def rates(self, t: ArrayLike) -> tuple[Array, Array]:
        """The time derivatives `(beta alpha / 2, -beta alpha^2 / (2 sigma))`.

        Beta is the noise rate at t; the second is -inf at t = 1.
        """
        alpha, sigma = self(t)
        return self._beta(t) * alpha / 2, falling_rate(self.half_variance_rate(t), sigma)

    def half_variance_rate(self, t: ArrayLike) -> Array:
        """The product `sigma sigma' = -alpha alpha'`."""
        return -self._beta(t) * jnp.exp(-self._noise(t)) / 2

    def log_snr(self, t: ArrayLike) -> Array:
        """The log signal-to-noise ratio `log(alpha^2 / (1 - alpha^2))`."""
        return -self._noise(t) - log(self.variance(t))

    def time_at(self, log_snr: ArrayLike) -> Array:
        """The time at which the integral of the noise rate is `log(1 + exp(-log_snr))`."""
        log_snr = time(log_snr, "log_snr")
        low, high = self._rates_as(log_snr)
        noise, most = jax.nn.softplus(-log_snr), (low + high) / 2
        within = noise < most
        noise = jnp.where(within, noise, most)
        # The positive root of T^2 (high - low) / 2 + T low = noise, without a difference.
        elapsed = 2 * noise / (low + jnp.sqrt(low**2 + 2 * noise * (high - low)))
        return jnp.where(within, 1 - elapsed, 0)

    def _noise(self, t: ArrayLike) -> Array:
        """The integral of the noise rate from the data to t: `-2 log alpha`."""
        t = time(t)
        low, high = self._rates_as(t)
        return (1 - t) * (low + (1 - t) * (high - low) / 2)

    def _beta(self, t: ArrayLike) -> Array:
        t = time(t)
        low, high = self._rates_as(t)
        return low + (1 - t) * (high - low)

    def _rates_as(self, t: Array) -> tuple[Array, Array]:
        return jnp.asarray(self.beta_min, t.dtype), jnp.asarray(self.beta_max, t.dtype)


class VarianceExploding(ExactEnds):
    r"""The variance-exploding diffusion: unscaled data under noise that falls geometrically.

    $$\alpha_t = 1, \quad \sigma_t = \sigma_{max} (\sigma_{min} / \sigma_{max})^t$$

    The noise at t = 0 has the standard deviation sigma_max, and the state at t = 1 still carries
    noise of standard deviation sigma_min.

    Args:
        sigma_min: the standard deviation of the noise at t = 1, positive.
        sigma_max: that at t = 0, above sigma_min.

    Raises:
        TypeError: a parameter is not a real number.
        ValueError: the parameters are not finite with `0 < sigma_min < sigma_max`. Traced ones
            are not looked at.

    Example:
        >>> import flowjax as fj
        >>> alpha, sigma = fj.VarianceExploding(0.01, 100.0)(0.5)
        >>> print(f"{alpha:.2f} {sigma:.2f}")
        1.00 1.00

    References:
        Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole, "Score-based generative modeling through
        stochastic differential equations", 2021, arXiv 2011.13456, equation 31.
    """

    sigma_min: ArrayLike
    sigma_max: ArrayLike

    def __init__(self, sigma_min: ArrayLike, sigma_max: ArrayLike):
        self.sigma_min = number(sigma_min, "sigma_min")
        self.sigma_max = number(sigma_max, "sigma_max")
        require(lambda low: low > 0, self.sigma_min, message="sigma_min must be positive")
        require(
            lambda low, high: low < high < np.inf,
            *(self.sigma_min, self.sigma_max),
            message="sigma_min and sigma_max must be finite with sigma_min < sigma_max",
        )

    def alpha(self, t: ArrayLike) -> Array:
        """Alpha, which is 1."""
        return jnp.ones_like(time(t))

    def sigma(self, t: ArrayLike) -> Array:
        """Sigma, `sigma_max (sigma_min / sigma_max)^t`."""
        t = time(t)
        return jnp.asarray(self.sigma_max, t.dtype) * jnp.exp(t * self._log_ratio(t))

    def rates(self, t: ArrayLike) -> tuple[Array, Array]:
        """The time derivatives `(0, sigma log(sigma_min / sigma_max))`."""
        t = time(t)
        return jnp.zeros_like(t), self.sigma(t) * self._log_ratio(t)

    def log_snr(self, t: ArrayLike) -> Array:
        """The log signal-to-noise ratio `-2 log sigma`."""
        t = time(t)
        return -2 * (jnp.log(jnp.asarray(self.sigma_max, t.dtype)) + t * self._log_ratio(t))

    def time_at(self, log_snr: ArrayLike) -> Array:
        """The time, linear in the logarithm."""
        log_snr = time(log_snr, "log_snr")
        whole = -2 * self._log_ratio(log_snr)
        risen = log_snr + 2 * jnp.log(jnp.asarray(self.sigma_max, log_snr.dtype))
        return jnp.where(risen < whole, clip(risen, 0, whole) / whole, 1)

    def _log_ratio(self, t: Array) -> Array:
        low, high = jnp.asarray(self.sigma_min, t.dtype), jnp.asarray(self.sigma_max, t.dtype)
        return jnp.log(low) - jnp.log(high)


class EDM(ExactEnds):
    r"""The diffusion of EDM: unscaled data under noise that falls at constant speed.

    $$\alpha_t = 1, \quad \sigma_t = \sigma_{max} (1 - t)$$

    The noise at t = 0 has the standard deviation sigma_max. Each pair is joined by a straight
    line, as under `CondOT`.

    Args:
        sigma_max: the standard deviation of the noise at t = 0, positive.

    Raises:
        TypeError: sigma_max is not a real number.
        ValueError: sigma_max is not positive and finite. A traced one is not looked at.

    Example:
        >>> import flowjax as fj
        >>> alpha, sigma = fj.EDM()(0.75)
        >>> print(f"{alpha:.0f} {sigma:.0f}")
        1 20

    References:
        Karras, Aittala, Aila, Laine, "Elucidating the design space of diffusion-based generative
        models", 2022, arXiv 2206.00364, table 1.
    """

    sigma_max: ArrayLike

    def __init__(self, sigma_max: ArrayLike = 80.0):
        self.sigma_max = number(sigma_max, "sigma_max")
        require(
            lambda sigma: 0 < sigma < np.inf,
            self.sigma_max,
            message="sigma_max must be positive and finite",
        )

    def alpha(self, t: ArrayLike) -> Array:
        """Alpha, which is 1."""
        return jnp.ones_like(time(t))

    def sigma(self, t: ArrayLike) -> Array:
        """Sigma, `sigma_max (1 - t)`."""
        t = time(t)
        return self._sigma_max(t) * (1 - t)

    def rates(self, t: ArrayLike) -> tuple[Array, Array]:
        """The time derivatives `(0, -sigma_max)`."""
        t = time(t)
        return jnp.zeros_like(t), jnp.broadcast_to(-self._sigma_max(t), t.shape)

    def log_snr(self, t: ArrayLike) -> Array:
        """The log signal-to-noise ratio `-2 log sigma`."""
        t = time(t)
        return -2 * (jnp.log(self._sigma_max(t)) + log(1 - t))

    def time_at(self, log_snr: ArrayLike) -> Array:
        """The time `1 - exp(-log_snr / 2) / sigma_max`."""
        log_snr = time(log_snr, "log_snr")
        start = -2 * jnp.log(self._sigma_max(log_snr))
        return -jnp.expm1(-clip(log_snr - start, 0) / 2)

    def _sigma_max(self, t: Array) -> Array:
        return jnp.asarray(self.sigma_max, t.dtype)
