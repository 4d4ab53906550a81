"""A Gaussian target: its density, and its path to noise under any schedule, in closed form."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.linalg import cho_solve, solve_triangular
from jax.typing import ArrayLike

from flowjax import _check
from flowjax._numerics import quotient, root
from flowjax.fields.velocity import Velocity
from flowjax.schedules.point import PathPoint, path_at
from flowjax.schedules.schedule import checked_schedule
from flowjax.targets._arrays import broadcasts_to, concrete, of_one_dtype
from flowjax.targets._marginals import (
    AT_DATA,
    MarginalScore,
    marginal_velocity,
    one_sample,
    widened,
)


class Gaussian(eqx.Module):
    r"""The normal distribution of one sample, and its marginals on the way to noise.

    $$x_1 \sim N(\mu, C_1), \quad x_t = \alpha x_1 + \sigma x_0 \sim N(\alpha\mu, C_t),
    \quad C_t = \alpha^2 C_1 + \sigma^2 I$$

    $$u_t(x) = \dot\alpha\mu
    + (\alpha\dot\alpha\,C_1 + \sigma\dot\sigma I)\,C_t^{-1}(x - \alpha\mu), \quad
    \nabla \log p_t(x) = -C_t^{-1}(x - \alpha\mu)$$

    The velocity and the score are finite, with their derivatives, at both ends of each of
    flowjax's schedules where C_1 is positive definite. A standard deviation of zero is a point: it
    has samples and a velocity, but no density of its own. At t = 1, where all paths to a point
    meet, the velocity is their mean motion, alpha' mu. So a method that calls the field there, such
    as `heun` or `rk4`, ends beside the point, by a part of h under `CondOT`, and others, such as
    `euler`, `midpoint` or `ddim`, on it. The score there, which has no limit, is NaN.
    States of 16 bits are computed in float32 and returned in their own dtype.

    Args:
        mean: one sample's mean: a floating array of any shape, or a number.
        cov_or_std: a number or an array that broadcasts to mean's shape is the standard
            deviation of each element, not its square. A (d, d) matrix beside a mean of shape
            (d,) is the covariance.

    Raises:
        TypeError: mean or cov_or_std does not hold real numbers.
        ValueError: cov_or_std does not fit mean, a number is not finite, a standard deviation is
            negative, or a covariance is not symmetric and positive definite. Values are looked at
            only where they are not traced.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> target = fj.Gaussian(jnp.array([1.0, 0.0]), 0.5)
        >>> target.sample(jax.random.key(0)).shape
        (2,)
        >>> target.score(jnp.array([2.0, 1.0])).tolist()
        [-4.0, -4.0]
        >>> velocity = target.velocity(fj.CondOT())
        >>> velocity(0.0, jnp.array([0.25, 0.0]), None).tolist()
        [0.75, 0.0]

    References:
        Lipman, Chen, Ben-Hamu, Nickel, Le, "Flow matching for generative modeling", 2022,
        arXiv 2210.02747, theorem 3, averaged over Gaussian data.
    """

    mean: Array
    std: Array | None
    covariance: Array | None

    def __init__(self, mean: Any, cov_or_std: Any):
        self.mean, scale = of_one_dtype(mean=mean, cov_or_std=cov_or_std)
        values = concrete(cov_or_std, scale)
        if self.mean.ndim == 1 and scale.shape == (*self.mean.shape, *self.mean.shape):
            if values is not None:
                check_covariance(values, "cov_or_std")
            self.std, self.covariance = None, scale
        elif broadcasts_to(scale.shape, self.mean.shape):
            if values is not None and not np.all(values >= 0):
                raise ValueError(
                    f"cov_or_std must not be negative where it is a standard deviation, "
                    f"got {np.min(values)}."
                )
            self.std, self.covariance = scale, None
        else:
            raise ValueError(
                f"cov_or_std must be a standard deviation that broadcasts to mean's shape "
                f"{self.mean.shape} or, for a mean of shape (d,), a covariance of shape (d, d), "
                f"got shape {scale.shape}."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.mean.shape

    def sample(self, key: Array) -> Array:
        """One sample: `mu + C_1^(1/2) eps`, differentiable in the parameters.

        Args:
            key: one JAX key. For many samples, `jax.vmap` over keys, or `fj.sample`.

        Returns:
            An array of mean's shape and dtype.
        """
        _check.single_key(key)
        wide = widened(self, self.mean.dtype)
        noise = jax.random.normal(key, self.shape, wide.mean.dtype)
        if wide.covariance is None:
            displacement = wide._full_std() * noise
        else:
            displacement = matmul(jnp.linalg.cholesky(wide.covariance), noise)
        return (wide.mean + displacement).astype(self.mean.dtype)

    def log_prob(self, x: ArrayLike) -> Array:
        """The log density at x.

        Args:
            x: one sample, of mean's shape.

        Returns:
            A scalar of x's dtype, but at least float32.

        Raises:
            TypeError: x is not real floating.
            ValueError: x has another shape than mean, or a standard deviation is 0 (where it is
                not traced).
        """
        x = one_sample(x, self.shape)
        refuse_points(self.std, "cov_or_std", "log_prob")
        wide = widened(self, x.dtype)
        return wide._log_density(x.astype(wide.mean.dtype))

    def _log_density(self, x: Array) -> Array:
        """`log_prob`, for an x of this Gaussian's dtype."""
        displacement = x - self.mean
        if self.covariance is None:
            std = self._full_std()
            log_volume = jnp.sum(jnp.log(std))
            deviations = displacement / std
        else:
            factor = jnp.linalg.cholesky(self.covariance)
            log_volume = jnp.sum(jnp.log(jnp.diagonal(factor)))
            deviations = solve_triangular(factor, displacement, lower=True)
        return -jnp.sum(deviations**2) / 2 - log_volume - x.size * math.log(2 * math.pi) / 2

    def score(self, x: ArrayLike) -> Array:
        """The gradient of the log density, `-C_1^-1 (x - mu)`.

        Args:
            x: one sample, of mean's shape.

        Returns:
            An array of x's shape and dtype.

        Raises:
            TypeError: x is not real floating.
            ValueError: x has another shape than mean, or a standard deviation is 0 (where it is
                not traced; the score is NaN where it is).
        """
        x = one_sample(x, self.shape)
        refuse_points(self.std, "cov_or_std", "score")
        wide = widened(self, x.dtype)
        return wide._expected(AT_DATA, x.astype(wide.mean.dtype))[2].astype(x.dtype)

    def marginal(self, schedule: Any, t: ArrayLike) -> "Gaussian":
        """The law of `x_t = alpha x_1 + sigma x_0`.

        Args:
            schedule: such as `fj.CondOT()`: `schedule(t) -> (alpha, sigma)`.
            t: time, a scalar; 0 is noise, 1 is this Gaussian.

        Returns:
            The Gaussian N(alpha mu, alpha^2 C_1 + sigma^2 I), of this one's dtype.
        """
        wide = widened(self, self.mean.dtype)
        path = path_at(checked_schedule(schedule), t, wide.mean.dtype)
        if wide.std is not None:
            scale = root((path.alpha * wide.std) ** 2 + path.variance)
        else:
            scale = wide._path_covariance(path)
        mean = path.alpha * wide.mean
        return Gaussian(mean.astype(self.mean.dtype), scale.astype(self.mean.dtype))

    def velocity(self, schedule: Any) -> Velocity:
        """The velocity field that carries noise at t = 0 to this Gaussian at t = 1.

        Args:
            schedule: such as `fj.CondOT()`.

        Returns:
            A `Velocity` `(t, x, args) -> u_t(x)` for one sample x of mean's shape, in x's
            dtype; args is not used.
        """
        return marginal_velocity(self, schedule)

    def marginal_score(self, schedule: Any) -> Callable[[Any, Any, Any], Array]:
        """The score of the marginal at each time, `grad_x log p_t(x)`.

        Args:
            schedule: such as `fj.CondOT()`.

        Returns:
            A field `(t, x, args) -> score_t(x)` for one sample x of mean's shape, in x's
            dtype; args is not used.
        """
        return MarginalScore(self, checked_schedule(schedule))

    def _expected(self, path: PathPoint, x: Array) -> tuple[Array, Array, Array]:
        """Where the state is x: the data, `w = C_t^-1 (x - alpha mu)`, and the score, which is -w.

        At t = 1 a point has no score, which is NaN, and its w is 0.
        """
        displacement = x - path.alpha * self.mean
        if self.std is not None:
            variance = jnp.broadcast_to(self.std**2, self.shape)
            width = path.alpha**2 * variance + path.variance
            whitened = quotient(displacement, width)
            spread, score = variance * whitened, jnp.where(width == 0, jnp.nan, -whitened)
        else:
            assert self.covariance is not None
            whitened = solve(self._path_covariance(path), displacement)
            spread, score = matmul(self.covariance, whitened), -whitened
        return self.mean + path.alpha * spread, whitened, score

    def _full_std(self) -> Array:
        assert self.std is not None
        return jnp.broadcast_to(self.std, self.shape)

    def _path_covariance(self, path: "PathPoint") -> Array:
        assert self.covariance is not None
        identity = jnp.eye(self.mean.size, dtype=self.mean.dtype)
        return path.alpha**2 * self.covariance + path.variance * identity


def matmul(matrix: Array, vector: Array) -> Array:
    """The product of a matrix and a vector or a matrix, in the full precision of the dtype."""
    # Without the precision, an accelerator rounds the factors to fewer bits than the state has.
    return jnp.matmul(matrix, vector, precision=jax.lax.Precision.HIGHEST)


def solve(covariance: Array, vector: Array) -> Array:
    """`covariance^-1 vector`, for a positive definite matrix."""
    return cho_solve((jnp.linalg.cholesky(covariance), True), vector)


def refuse_points(std: Array | None, name: str, asked: str) -> None:
    """Refuses a standard deviation of 0, for what needs a density."""
    values = None if std is None else concrete(std, std)
    if values is not None and np.any(values == 0):
        raise ValueError(
            f"{name} must not be 0 for {asked}: a point has no density. The marginals of its path "
            f"have one before t = 1."
        )


def check_covariance(values: np.ndarray, name: str) -> None:
    """Refuses a matrix that is not symmetric and positive definite."""
    asymmetry = np.max(np.abs(values - values.T), initial=0.0)
    scale = np.max(np.abs(values), initial=0.0)
    positive = True
    try:
        np.linalg.cholesky(values)
    except np.linalg.LinAlgError:
        positive = False
    # A product computed in float32 is symmetric to its rounding; `not <=` also refuses NaN.
    if not positive or not asymmetry <= 1e-5 * scale:
        raise ValueError(
            f"{name} must be symmetric and positive definite where it is a covariance "
            f"(a (d, d) matrix beside a mean of shape (d,)), got {np.array2string(values)}."
        )
