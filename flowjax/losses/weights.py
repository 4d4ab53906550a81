r"""Weights of a loss: functions ``(t, schedule, predicts) -> scalar``, which multiply the square.

Those here are one weight whatever is predicted: each is a weight $w_D$ on the squared error of the
data, and in the place of another prediction is multiplied by the square of what an error of that
one does to the data,

$$\delta D = \frac{\sigma}{\Delta}\,\delta u = -\frac{\sigma}{\alpha}\,\delta E
= \frac{\sigma^2}{\alpha}\,\delta\,\mathrm{score} = -\frac{\sigma}{\alpha^2 + \sigma^2}\,\delta v,
\qquad \Delta = \dot\alpha\sigma - \alpha\dot\sigma$$

What counts in the end is the density of t times the weight. No weight moves the minimiser, which is
that of each t by itself.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from flowjax import _check
from flowjax._check import require
from flowjax._numerics import quotient
from flowjax.schedules.point import PathPoint, path_at

Weight = Callable[[Array, Any, str], Array]


def snr() -> Weight:
    r"""The signal-to-noise ratio on the data, $w_D = \alpha^2 / \sigma^2$: a weight 1 on the noise.

    Returns:
        A weight, ``(t, schedule, predicts) -> scalar``.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> print(f"{fj.losses.snr()(jnp.array(0.75), fj.CondOT(), 'noise'):.2f}")
        1.00

    References:
        Ho, Jain, Abbeel, "Denoising diffusion probabilistic models", 2020, arXiv 2006.11239,
        equation 14; Kingma, Salimans, Poole, Ho, "Variational diffusion models", 2021, arXiv
        2107.00630.
    """
    return _of_data(lambda path: quotient(path.alpha**2, path.variance))


def min_snr(most: Any = 5.0) -> Weight:
    r"""The signal-to-noise ratio, but not above a bound: $w_D = \min(\alpha^2/\sigma^2, \gamma)$.

    Args:
        most: the bound gamma, positive.

    Returns:
        A weight, ``(t, schedule, predicts) -> scalar``.

    Raises:
        TypeError: most is no number.
        ValueError: most is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> print(f"{fj.losses.min_snr()(jnp.array(0.75), fj.CondOT(), 'data'):.2f}")
        5.00

    References:
        Hang et al., "Efficient diffusion training via min-SNR weighting strategy", 2023, arXiv
        2303.09556, section 3.4.
    """
    most = _positive(most, "most")
    return _of_data(lambda path: jnp.minimum(quotient(path.alpha**2, path.variance), most))


def edm_weight(sigma_data: Any = 0.5) -> Weight:
    r"""EDM's weight on the data, $w_D = (\sigma^2 + \alpha^2\sigma_d^2) / (\sigma\sigma_d)^2$.

    With `precondition` it is a weight 1 on what the network inside returns.

    Args:
        sigma_data: sigma_d, the standard deviation of one element of the data, positive.

    Returns:
        A weight, ``(t, schedule, predicts) -> scalar``.

    Raises:
        TypeError: sigma_data is no number.
        ValueError: sigma_data is not positive.

    Example:
        Under `CondOT` on the velocity, ``t^2 + ((1 - t) / sigma_data)^2``:

        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> print(f"{fj.losses.edm_weight()(jnp.array(0.5), fj.CondOT(), 'velocity'):.2f}")
        1.25

    References:
        Karras, Aittala, Aila, Laine, "Elucidating the design space of diffusion-based generative
        models", 2022, arXiv 2206.00364, table 1 and equation 144.
    """
    sigma_data = _positive(sigma_data, "sigma_data")

    def of_data(path: PathPoint) -> Array:
        total = path.variance + (path.alpha * sigma_data) ** 2
        return quotient(total, path.variance * sigma_data**2)

    return _of_data(of_data)


def sigmoid_weight(bias: Any = -1.0) -> Weight:
    r"""The sigmoid weight on the noise, $w_E = \mathrm{sigmoid}(b - \log(\alpha^2/\sigma^2))$.

    Args:
        bias: b; the larger, the more of the weight is near the data.

    Returns:
        A weight, ``(t, schedule, predicts) -> scalar``.

    Raises:
        TypeError: bias is no number.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> print(f"{fj.losses.sigmoid_weight(0.0)(jnp.array(0.5), fj.CondOT(), 'noise'):.2f}")
        0.50

    References:
        Hoogeboom, Mensink, Heek, Lamerigts, Gao, Salimans, "Simpler diffusion", 2024, arXiv
        2410.19324, section 2.2; Kingma, Gao, "Understanding diffusion objectives as the ELBO with
        simple data augmentation", 2023, arXiv 2303.00848.
    """
    bias = _check.number(bias, "bias")

    def of_data(path: PathPoint) -> Array:
        ratio = quotient(path.alpha**2, path.variance)
        # sigmoid(b - log ratio), without a logarithm.
        return ratio * quotient(jnp.exp(bias), jnp.exp(bias) + ratio)

    return _of_data(of_data)


def weight_at(weight: Any, t: Array, schedule: Any, predicts: str) -> Array:
    """The weight at a time, 1 for None; refused unless it is a scalar."""
    if weight is None:
        return jnp.ones((), t.dtype)
    _check.function(weight, "weight", "(t, schedule, predicts) -> scalar")
    return _check.returned_scalar(weight(t, schedule, predicts), "weight")


def _of_data(on_data: Callable[[PathPoint], Array]) -> Weight:
    def weight(t: Array, schedule: Any, predicts: str) -> Array:
        path = path_at(schedule, t, jax.numpy.result_type(t))
        alpha, sigma, variance, alpha_rate, _, half_variance_rate = path
        # Of the velocity sigma / Delta is multiplied by sigma: its rate may be infinite.
        delta = alpha_rate * variance - alpha * half_variance_rate
        per_error = {
            "data": 1.0,
            "velocity": quotient(variance, delta),
            "noise": quotient(sigma, alpha),
            "score": quotient(variance, alpha),
            "v": sigma / (alpha**2 + variance),
        }
        return on_data(path) * per_error[predicts] ** 2

    return weight


def _positive(value: Any, name: str) -> Any:
    value = _check.number(value, name)
    require(lambda x: 0 < x < jnp.inf, value, message=f"{name} must be positive and finite")
    return value
