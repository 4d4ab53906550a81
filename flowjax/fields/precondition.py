"""EDM's preconditioning: a model of the data around a network of unit size."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from flowjax import _check
from flowjax._check import number, require
from flowjax._numerics import clip, log, widest
from flowjax._types import Field
from flowjax.fields.predictions import on_leaves
from flowjax.schedules.point import PathPoint, path_at
from flowjax.schedules.schedule import ScheduleLike, checked_schedule
from flowjax.solver.door import described

# The bounds of ln(sigma / alpha) that a preconditioned network is shown.
_LOG_NOISE_RANGE = (-10.0, 10.0)


def precondition(network: Field, schedule: ScheduleLike, sigma_data: ArrayLike = 0.5) -> Field:
    r"""A model of the data whose network sees and returns numbers of unit size at every time.

    $$D(t, x) = \frac{\alpha\,\sigma_d^2}{\sigma^2 + \alpha^2\sigma_d^2}\,x
    + \frac{\sigma\,\sigma_d}{\sqrt{\sigma^2 + \alpha^2\sigma_d^2}}\,
    F\Big(\tfrac14\ln\tfrac\sigma\alpha,\; \frac{x}{\sqrt{\sigma^2 + \alpha^2\sigma_d^2}}\Big)$$

    It is EDM's preconditioning at the noise level `sigma / alpha` and the state `x / alpha`,
    multiplied out, so it is finite at both ends of every schedule. Train it as a prediction of the
    data with the weight `(sigma^2 + alpha^2 sigma_d^2) / (sigma sigma_d)^2`: that is a mean square
    for F, whose target has unit variance.

    Args:
        network: F, a callable `(c_noise, x, args)` with an output like x. Its first argument is
            `ln(sigma / alpha) / 4`, where the logarithm is kept between -10 and 10.
        schedule: such as `fj.CondOT()`.
        sigma_data: the standard deviation of one element of the data, positive.

    Returns:
        A callable `(t, x, args) -> D`, for `fj.velocity(..., predicts="data")`. It keeps the
        network's arrays as leaves.

    Raises:
        TypeError: network is not callable or is a field of time already, such as a `Velocity`,
            schedule is not a schedule, or sigma_data is not a number.
        ValueError: sigma_data is not positive and finite (where it is not traced), or the network's
            output is unlike x (when it is called).

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> network = lambda c_noise, x, args: jnp.zeros_like(x)  # as it is initialised
        >>> model = fj.precondition(network, fj.CondOT(), sigma_data=1.0)
        >>> print(f"{model(0.8, jnp.array(1.0), None):.3f}")  # the best linear guess
        1.176
        >>> field = fj.velocity(model, fj.CondOT(), predicts="data")

    References:
        Karras, Aittala, Aila, Laine, "Elucidating the design space of diffusion-based generative
        models", 2022, arXiv 2206.00364, table 1 and equation 7.
    """
    sigma_data = number(sigma_data, "sigma_data")
    require(
        lambda sigma: 0 < sigma < jnp.inf,
        sigma_data,
        message="sigma_data must be positive and finite",
    )
    if hasattr(type(_check.function(network, "network", "(c_noise, x, args)")), "gives"):
        raise TypeError(
            f"network must be a function (c_noise, x, args), which has no time, got "
            f"{described(network)}."
        )
    return _Preconditioned(network, checked_schedule(schedule), sigma_data)


class _Preconditioned(eqx.Module):
    gives = "data"
    network: Callable[..., Any]
    schedule: Any
    sigma_data: ArrayLike

    def __call__(self, t: ArrayLike, x: Any, args: Any) -> Any:
        x = _check.state(x, "x")

        def spread(path: PathPoint) -> tuple[Array, Array]:
            """The data's standard deviation, and the state's."""
            data = jnp.asarray(self.sigma_data, path.alpha.dtype)
            return data, jnp.sqrt(path.variance + (path.alpha * data) ** 2)

        def into(path: PathPoint, x: Array) -> Array:
            return x / spread(path)[1]

        def out(path: PathPoint, x: Array, value: Array) -> Array:
            data, state = spread(path)
            skip = path.alpha * (data / state) ** 2
            return skip * x + path.sigma * data / state * value

        path = path_at(self.schedule, t, widest(x))
        c_noise = clip(log(path.sigma) - log(path.alpha), *_LOG_NOISE_RANGE) / 4
        value = self.network(c_noise, on_leaves(into, path, x), args)
        value = _check.alike(value, x, "the network's output")
        return on_leaves(out, path, x, value)
