"""The Schroedinger bridge between two Gaussians, in closed form."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowjax._check import real, scalar_time
from flowjax._numerics import computing_dtype, inside, quotient
from flowjax._types import Domain
from flowjax.solver.sde import SDE
from flowjax.targets._arrays import concrete
from flowjax.targets._marginals import one_sample, widened
from flowjax.targets.diffusions import _ConstantDiffusion
from flowjax.targets.gaussian import Gaussian, matmul, solve


def gaussian_bridge(start: Gaussian, end: Gaussian, sigma: ArrayLike) -> SDE:
    r"""The Schroedinger bridge between two Gaussians: Brownian motion made to meet both.

    Of all processes from N(m_0, S_0) at t = 0 to N(m_1, S_1) at t = 1, it is the closest in
    relative entropy to `sigma dW`. With C the covariance of its two ends,

    $$dX_t = \big[m_1 - m_0 + K_t \Sigma_t^{-1}(X_t - m_t)\big]dt + \sigma\,dW_t, \quad
    m_t = (1-t)m_0 + t m_1$$

    $$\Sigma_t = (1-t)^2 S_0 + t^2 S_1 + t(1-t)(C + C^T + \sigma^2 I), \quad
    K_t = (1-t)(C^T - S_0) + t(S_1 - C - \sigma^2 I)$$

    $$C = S_0 M, \quad M S_0 M + \sigma^2 M = S_1$$

    X_t is N(m_t, Sigma_t). Without noise it is the optimal transport of the Wasserstein distance:
    the straight line from x to `m_1 + M(x - m_0)`. With either Gaussian a point it is the process
    that leads there or from there. It leaves a point with the drift `m_1 - m_0`. Where it meets in
    one, at t = 1, its drift is not determined: there it is NaN, or refused.

    Args:
        start: the Gaussian at t = 0.
        end: the Gaussian at t = 1, of the same shape.
        sigma: the noise per square root of time of the Brownian motion, at least 0. At 0 neither
            Gaussian may be a point, along any of its axes.

    Returns:
        The SDE, for times from 0 to 1. Its fields hold the parameters as leaves.

    Raises:
        TypeError: start or end is not a `Gaussian`, or sigma is not a real number.
        ValueError: the shapes differ; sigma is negative, not finite or not a scalar, or 0 where a
            Gaussian is a point; in `solve`, times leave [0, 1], or a step calls the drift at t = 1
            where end is a point. Values are looked at only where they are not traced.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> start, end = fj.Gaussian(jnp.array([-2.0]), 1.0), fj.Gaussian(jnp.array([2.0]), 0.5)
        >>> sde = fj.gaussian_bridge(start, end, sigma=1.0)
        >>> keys = jax.random.split(jax.random.key(0), 1000)
        >>> def one(key):
        ...     return fj.solve(sde, start.sample(key), fj.uniform_grid(50), key=key)
        >>> x1 = jax.vmap(one)(keys)
        >>> bool(abs(x1.mean() - 2) < 0.1) and bool(abs(x1.std() - 0.5) < 0.1)
        True

    References:
        Bunne, Hsieh, Cuturi, Krause, "The Schroedinger bridge between Gaussian measures has a
        closed form", 2023, arXiv 2202.05722, theorem 3; M is written here without inverses.
    """
    for name, value in (("start", start), ("end", end)):
        if not isinstance(value, Gaussian):
            raise TypeError(f"{name} must be a fj.Gaussian, got {value!r}.")
    if start.shape != end.shape:
        raise ValueError(f"start and end must have one shape, got {start.shape} and {end.shape}.")
    noise = real(sigma, "sigma")
    if noise.shape != ():
        raise ValueError(f"sigma must be one number, got shape {noise.shape}.")
    number = concrete(sigma, noise)
    if number is not None and not 0 <= number < np.inf:
        raise ValueError(f"sigma must be finite and at least 0, got {number}.")
    if end.std is None and _has_point(start):
        raise ValueError("start must not be a point where end has a full covariance.")
    if number == 0 and (_has_point(start) or _has_point(end)):
        raise ValueError("sigma must be positive where start or end is a point, got 0.0.")
    dtype = computing_dtype(jnp.result_type(*jax.tree.leaves((start, end, noise))))
    start, end, noise = widened(start, dtype), widened(end, dtype), noise.astype(dtype)
    if start.std is not None and end.std is not None:
        first, last = (jnp.broadcast_to(std**2, start.shape) for std in (start.std, end.std))
        coupling = first * _transport(first, last, noise)
    else:
        first, last = _covariance(start), _covariance(end)
        root = jnp.linalg.cholesky(last) if end.std is None else jnp.diag(end._full_std())
        coupling = matmul(first, _matrix_transport(first, root, noise))
    meets = "the drift of a bridge is not determined at t = 1, where it meets in a point"
    domain = Domain(at_end=meets if _has_point(end) else "")
    drift = _BridgeDrift(start.mean, end.mean, first, last, coupling, noise, domain)
    return SDE(drift, _ConstantDiffusion(noise))


def _has_point(target: Gaussian) -> bool:
    """Whether a Gaussian is known to have no width along an axis."""
    stds = None if target.std is None else concrete(target.std, target.std)
    return stds is not None and bool(np.any(stds == 0))


class _BridgeDrift(eqx.Module):
    """The drift; the widths are variances of elements or covariance matrices."""

    gives = "drift"

    start_mean: Array
    end_mean: Array
    start_width: Array
    end_width: Array
    coupling: Array
    sigma: Array
    domain: Domain = eqx.field(static=True)

    def __call__(self, t: ArrayLike, x: ArrayLike, args: Any) -> Array:
        x = one_sample(x, self.start_mean.shape)
        wide = widened(self, x.dtype)
        t = inside(scalar_time(t)).astype(wide.sigma.dtype)
        return wide._at(t, x.astype(wide.sigma.dtype)).astype(x.dtype)

    def _at(self, t: Array, x: Array) -> Array:
        displacement = x - ((1 - t) * self.start_mean + t * self.end_mean)
        full = self.coupling.ndim > x.ndim
        transposed = self.coupling.T if full else self.coupling
        noise = self.sigma**2
        if full:
            noise = noise * jnp.eye(x.size, dtype=x.dtype)
        width = (1 - t) ** 2 * self.start_width + t**2 * self.end_width
        width = width + t * (1 - t) * (self.coupling + transposed + noise)
        gain = (1 - t) * (transposed - self.start_width)
        gain = gain + t * (self.end_width - self.coupling - noise)
        if full:
            stretch = matmul(gain, solve(width, displacement))
        else:
            # It leaves a point, where gain and width are 0 at t = 0, as it leaves those beside it.
            found = jnp.where((width == 0) & (t > 0), jnp.nan, quotient(gain, width))
            stretch = found * displacement
        return self.end_mean - self.start_mean + stretch


def _transport(start: Array, end: Array, sigma: Array) -> Array:
    """The root M of `M S_0 M + sigma^2 M = S_1`, for variances."""
    denominator = sigma**2 + jnp.sqrt(sigma**4 + 4 * start * end)
    # Without noise nothing leads from a point to a distribution.
    return jnp.where((denominator == 0) & (end > 0), jnp.nan, quotient(2 * end, denominator))


def _matrix_transport(start: Array, end_root: Array, sigma: Array) -> Array:
    """M for matrices.

    With `S_1 = L L^T` it is `L P L^T`, where `P A P + sigma^2 P = I` and `A = L^T S_0 L` commute.
    """
    identity = jnp.eye(start.shape[0], dtype=start.dtype)
    between = matmul(matmul(end_root.T, start), end_root)
    root = _square_root(sigma**4 * identity + 4 * between)
    inner = 2 * solve(sigma**2 * identity + root, identity)
    return matmul(matmul(end_root, inner), end_root.T)


@jax.custom_jvp
def _square_root(matrix: Array) -> Array:
    """The square root of a symmetric, positive definite matrix."""
    values, vectors = jnp.linalg.eigh(matrix)
    return matmul(vectors * jnp.sqrt(values)[None], vectors.T)


@_square_root.defjvp
def _square_root_rule(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # From d(R R) = dR R + R dR: unlike the derivative of eigh, finite for equal eigenvalues.
    values, vectors = jnp.linalg.eigh(primals[0])
    roots = jnp.sqrt(values)
    change = matmul(matmul(vectors.T, tangents[0]), vectors)
    change = change / (roots[:, None] + roots[None, :])
    return (
        matmul(vectors * roots[None], vectors.T),
        matmul(matmul(vectors, change), vectors.T),
    )


def _covariance(target: Gaussian) -> Array:
    return jnp.diag(target._full_std() ** 2) if target.covariance is None else target.covariance
