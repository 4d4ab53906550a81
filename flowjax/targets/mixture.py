"""A mixture of Gaussians: the multimodal target whose flow is still known in closed form."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowjax import _check
from flowjax._numerics import log, root
from flowjax.fields.velocity import Velocity
from flowjax.schedules.point import PathPoint, path_at
from flowjax.schedules.schedule import checked_schedule
from flowjax.targets._arrays import concrete, of_one_dtype
from flowjax.targets._marginals import (
    AT_DATA,
    MarginalScore,
    marginal_velocity,
    one_sample,
    widened,
)
from flowjax.targets.gaussian import Gaussian, check_covariance, refuse_points


class GaussianMixture(eqx.Module):
    r"""A mixture of Gaussians, and its marginals on the way to noise.

    $$x_1 \sim \sum_k w_k N(\mu_k, s_k^2), \quad
    x_t = \alpha x_1 + \sigma x_0 \sim \sum_k w_k N(\alpha\mu_k, v_k), \quad
    v_k = \alpha^2 s_k^2 + \sigma^2$$

    $$r_k(x) = \frac{w_k N(x; \alpha\mu_k, v_k)}{\sum_j w_j N(x; \alpha\mu_j, v_j)}, \quad
    \nabla \log p_t(x) = -\sum_k r_k(x)\,\frac{x - \alpha\mu_k}{v_k}$$

    $$u_t(x) = \sum_k r_k(x)\Big[\dot\alpha\mu_k
    + \frac{\alpha\dot\alpha\,s_k^2 + \sigma\dot\sigma}{v_k}(x - \alpha\mu_k)\Big]$$

    With full covariances C_k, `alpha^2 C_k + sigma^2 I` stands for v_k; see `fj.Gaussian` for each
    component's terms. The responsibilities r_k are a softmax of log densities, so all of it stays
    finite far from every component. With standard deviations of zero the mixture is a finite data
    set, which has samples and a velocity, but no density. At t = 1 the responsibilities are then
    their limit, all at the nearest point, and each point's velocity there is `fj.Gaussian`'s.
    States of 16 bits are computed in float32 and returned in their own dtype.

    Args:
        weights: (k,) non-negative, not all zero. They are kept as given and divided by their sum
            wherever they are used. A component of weight zero is absent, and its weight receives
            a gradient of zero.
        means: (k, *event), the components' means; event is one sample's shape.
        stds: (k,), (k, *event) or a number: the standard deviations, not their squares.
        covariances: (k, d, d) in place of stds, for means of shape (k, d).

    Raises:
        TypeError: an argument does not hold real numbers, or not exactly one of stds and
            covariances is given.
        ValueError: the shapes do not fit, a number is not finite, a weight or a standard deviation
            is negative, all weights are zero, or a covariance is not symmetric and positive
            definite. Values are looked at only where they are not traced.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> target = fj.GaussianMixture(
        ...     weights=jnp.array([1.0, 3.0]),
        ...     means=jnp.array([[-2.0, 0.0], [2.0, 0.0]]),
        ...     stds=jnp.array([0.5, 0.5]),
        ... )
        >>> target.sample(jax.random.key(0)).shape
        (2,)
        >>> print(f"{jnp.exp(target.log_prob(jnp.array([2.0, 0.0]))):.3f}")  # 0.75 / (2 pi 0.25)
        0.477
        >>> velocity = target.velocity(fj.CondOT())
        >>> start = jax.jit(lambda x: velocity(0.0, x, None))(jnp.zeros(2))  # to the mean of x_1
        >>> print(f"{start[0]:.3f} {start[1]:.3f}")
        1.000 0.000

    References:
        Lipman, Chen, Ben-Hamu, Nickel, Le, "Flow matching for generative modeling", 2022,
        arXiv 2210.02747, equation 8 with theorem 3, averaged over the mixture.
    """

    weights: Array
    means: Array
    stds: Array | None
    covariances: Array | None

    def __init__(self, weights: Any, means: Any, stds: Any = None, *, covariances: Any = None):
        if (stds is None) == (covariances is None):
            raise TypeError(
                "the width of the components must be given by stds or by covariances, got "
                + ("neither." if stds is None else "both.")
            )
        name, width = ("covariances", covariances) if stds is None else ("stds", stds)
        self.weights, self.means, array = of_one_dtype(
            weights=weights, means=means, **{name: width}
        )
        self.stds, self.covariances = (None, array) if stds is None else (array, None)
        if self.weights.ndim != 1 or self.weights.size == 0:
            raise ValueError(
                f"weights must have shape (k,), one for each of k >= 1 components, "
                f"got shape {self.weights.shape}."
            )
        components = self.weights.shape
        if self.means.shape[:1] != components:
            raise ValueError(
                f"means must have shape (k, *event) with k = {components[0]}, the number of "
                f"weights, got shape {self.means.shape}."
            )
        if self.stds is not None and array.shape not in ((), components, self.means.shape):
            raise ValueError(
                f"stds must have shape (k,) = {components}, (k, *event) = {self.means.shape} or "
                f"(), got shape {array.shape}."
            )
        if self.stds is None and (
            self.means.ndim != 2 or array.shape != (*self.means.shape, *self.means.shape[1:])
        ):
            raise ValueError(
                f"covariances must have shape (k, d, d) beside means of shape (k, d), got shapes "
                f"{array.shape} and {self.means.shape}."
            )
        values = concrete(weights, self.weights)
        if values is not None and not (np.all(values >= 0) and np.sum(values) > 0):
            raise ValueError(f"weights must be non-negative and not all zero, got {values}.")
        values = concrete(width, array)
        if values is not None and self.stds is None:
            for k, covariance in enumerate(values):
                check_covariance(covariance, f"covariances[{k}]")
        elif values is not None and not np.all(values >= 0):
            raise ValueError(f"stds must not be negative, got {np.min(values)}.")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.means.shape[1:]

    def sample(self, key: Array) -> Array:
        """One sample: a component drawn by weight, then a normal sample of it.

        It is differentiable in the means and the standard deviations, not in the weights.

        Args:
            key: one JAX key. For many samples, `jax.vmap` over keys, or `fj.sample`.

        Returns:
            An array of one sample's shape and of the means' dtype.
        """
        _check.single_key(key)
        wide = widened(self, self.means.dtype)
        component_key, noise_key = jax.random.split(key)
        component = jax.random.categorical(component_key, wide._log_weights())
        drawn = jax.tree.map(lambda leaf: leaf[component], wide._components())
        return drawn.sample(noise_key).astype(self.means.dtype)

    def log_prob(self, x: ArrayLike) -> Array:
        """The log density at x.

        Args:
            x: one sample, of shape event.

        Returns:
            A scalar of x's dtype, but at least float32.

        Raises:
            TypeError: x is not real floating.
            ValueError: x has another shape than one sample, or a standard deviation is 0 (where
                it is not traced).
        """
        x = one_sample(x, self.shape)
        refuse_points(self.stds, "stds", "log_prob")
        wide = widened(self, x.dtype)
        return jax.scipy.special.logsumexp(wide._log_joint(x.astype(wide.means.dtype)))

    def score(self, x: ArrayLike) -> Array:
        """The gradient of the log density, `-sum_k r_k(x) (x - mu_k) / s_k^2`.

        Args:
            x: one sample, of shape event.

        Returns:
            An array of x's shape and dtype.

        Raises:
            TypeError: x is not real floating.
            ValueError: x has another shape than one sample, or a standard deviation is 0 (where
                it is not traced; the score at a point is NaN where it is).
        """
        x = one_sample(x, self.shape)
        refuse_points(self.stds, "stds", "score")
        wide = widened(self, x.dtype)
        return wide._expected(AT_DATA, x.astype(wide.means.dtype))[2].astype(x.dtype)

    def marginal(self, schedule: Any, t: ArrayLike) -> "GaussianMixture":
        """The law of `x_t = alpha x_1 + sigma x_0`.

        Args:
            schedule: such as `fj.CondOT()`: `schedule(t) -> (alpha, sigma)`.
            t: time, a scalar; 0 is noise, 1 is this mixture.

        Returns:
            The mixture with the same weights, means `alpha mu_k` and standard deviations
            `sqrt(alpha^2 s_k^2 + sigma^2)`, of this one's dtype.
        """
        wide = widened(self, self.means.dtype)
        marginal = wide._on(path_at(checked_schedule(schedule), t, wide.means.dtype))
        return jax.tree.map(lambda leaf: leaf.astype(self.means.dtype), marginal)

    def velocity(self, schedule: Any) -> Velocity:
        """The velocity field that carries noise at t = 0 to this mixture at t = 1.

        Args:
            schedule: such as `fj.CondOT()`.

        Returns:
            A `Velocity` `(t, x, args) -> u_t(x)` for one sample x, in x's dtype; args is not used.
        """
        return marginal_velocity(self, schedule)

    def marginal_score(self, schedule: Any) -> Callable[[Any, Any, Any], Array]:
        """The score of the marginal at each time, `grad_x log p_t(x)`.

        Args:
            schedule: such as `fj.CondOT()`.

        Returns:
            A field `(t, x, args) -> score_t(x)` for one sample x, in x's dtype; args is not
            used.
        """
        return MarginalScore(self, checked_schedule(schedule))

    def _expected(self, path: PathPoint, x: Array) -> tuple[Array, Array, Array]:
        """Where the state is x: the averages of what the components expect."""
        shares = jax.nn.softmax(self._on(path)._log_joint(x))

        def average(values: Array) -> Array:
            share = shares.reshape(shares.shape + (1,) * x.ndim)
            # What has no share, such as a point elsewhere, is not asked.
            return jnp.sum(share * jnp.where(share == 0, 0, values), axis=0)

        each = jax.vmap(lambda component: component._expected(path, x))(self._components())
        return jax.tree.map(average, each)

    def _on(self, path: PathPoint) -> "GaussianMixture":
        means = path.alpha * self.means
        if self.stds is not None:
            stds = root((path.alpha * self.stds) ** 2 + path.variance)
            return GaussianMixture(self.weights, means, stds)
        covariances = jax.vmap(lambda component: component._path_covariance(path))
        return GaussianMixture(self.weights, means, covariances=covariances(self._components()))

    def _components(self) -> Gaussian:
        """The components, along the leading axis of each leaf."""
        if self.stds is None:
            return jax.vmap(Gaussian)(self.means, self.covariances)
        # One value for all components, for each, or for each element, in the means' shape.
        missing = self.means.ndim - self.stds.ndim if self.stds.ndim else 0
        stds = self.stds.reshape(self.stds.shape + (1,) * missing)
        return jax.vmap(Gaussian)(self.means, jnp.broadcast_to(stds, self.means.shape))

    def _log_joint(self, x: Array) -> Array:
        """`log(w_k N(x; mu_k, C_k))` for each component."""
        log_probs = jax.vmap(lambda component: component._log_density(x))(self._blurred())
        return self._log_weights() + log_probs

    def _blurred(self) -> Gaussian:
        """The components, with points so narrow that the nearest one has all responsibility."""
        if self.stds is None:
            return self._components()
        least = jnp.finfo(self.stds.dtype).eps
        stds = jnp.where(self.stds == 0, least, self.stds)
        return GaussianMixture(self.weights, self.means, stds)._components()

    def _log_weights(self) -> Array:
        return log(self.weights) - jnp.log(jnp.sum(self.weights))
