"""Log densities of a flow in continuous time."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowjax import _check
from flowjax._numerics import widest
from flowjax._types import Field, State
from flowjax.densities.backward import check_arguments, flat, like, log_density, velocity
from flowjax.solver.adjoints import Checkpointed
from flowjax.solver.brownian import brownian_increments
from flowjax.solver.ode_steps import rk4

# Directions pushed through the Jacobian at once: fewer take time, more take memory.
_AT_ONCE = 64


class Exact(eqx.Module):
    r"""The divergence as it is: the trace of the Jacobian, by one product for each element.

    $$\nabla\cdot u = \sum_{i=1}^d \frac{\partial u_i}{\partial x_i}$$

    Example:
        >>> import flowjax as fj
        >>> prior = fj.Gaussian(0.0, 1.0)
        >>> value = fj.log_likelihood(
        ...     0.5, fj.linear_field, prior.log_prob, fj.uniform_grid(20), args=1.0
        ... )
        >>> print(f"{value:.3f}")  # of N(0, exp(-2)), by fj.Exact()
        -0.843

    References:
        Chen, Rubanova, Bettencourt, Duvenaud (2018), "Neural ordinary differential equations",
        arXiv 1806.07366, theorem 1.
    """


class Hutchinson(eqx.Module):
    r"""An unbiased estimate of the divergence, by products with random directions.

    $$\nabla\cdot u = E\Big[v^\top \frac{\partial u}{\partial x} v\Big] \approx
    \frac1K \sum_{k=1}^K v_k^\top \frac{\partial u}{\partial x} v_k$$

    with probes v of independent random signs: without error where the Jacobian is diagonal, and
    elsewhere with the least variance that independent elements have.

    Args:
        key: one JAX key, which names the probes. It is a leaf, so that a record may be mapped:
            for an estimate of its own for each sample, `jax.vmap` over samples and keys.
        probes: K, a static positive int.

    Raises:
        TypeError: key is not a JAX key, or probes is not a static int.
        ValueError: key is a batch of keys, or probes is below one.

    Example:
        >>> import jax
        >>> import flowjax as fj
        >>> prior = fj.Gaussian(0.0, 1.0)
        >>> value = fj.log_likelihood(
        ...     0.5,
        ...     fj.linear_field,
        ...     prior.log_prob,
        ...     fj.uniform_grid(20),
        ...     args=1.0,
        ...     divergence=fj.Hutchinson(jax.random.key(0)),
        ... )
        >>> print(f"{value:.3f}")
        -0.843

    References:
        Hutchinson (1989), "A stochastic estimator of the trace of the influence matrix for
        Laplacian smoothing splines", Communications in Statistics 18.
    """

    key: Any
    probes: int = eqx.field(static=True)

    def __init__(self, key: Any, probes: int = 1):
        _check.single_key(key)
        self.key = key
        self.probes = _check.positive_int(probes, "probes")


def log_likelihood(
    x: Any,
    v: Field,
    init_log_prob: Callable[[Any], Any],
    ts: Any,
    *,
    args: Any = None,
    divergence: Exact | Hutchinson = Exact(),
    step: Any = None,
    adjoint: Any = Checkpointed(),
) -> Array:
    r"""The log density at x of what a flow makes of its initial distribution.

    $$\log p_1(x_1) = \log p_0(x_0) - \int_0^1 \nabla\cdot u_t(x_t)\,dt, \qquad
    \frac{d}{dt} x_t = u_t(x_t)$$

    along the path solved backward from x at ts[-1] to ts[0], with the integral beside it.

    The number is that of the flow in continuous time. With few steps it is wrong, for the flow and
    for any sampler of it, and can be absurdly optimistic: after five steps of Euler such a density
    integrates to 1.230 for 0.3 N(-2, 0.25) + 0.7 N(2, 0.25). For the density of a sampler of few
    steps see `euler_log_likelihood`.

    Cost, in field calls per step, for d elements in x and a step of c calls: c, each with d
    Jacobian-vector products (`Exact`) or `probes` of them (`Hutchinson`). It is differentiable in
    x, args, ts and the arrays in the field.

    Args:
        x: one sample at ts[-1], an array or any pytree of real floating arrays; for a batch,
            `jax.vmap`.
        v: the velocity, any field ``(t, x, args) -> dx``, as in `solve`.
        init_log_prob: ``x0 -> log p_0(x0)``, a scalar, for x0 like x.
        ts: (n + 1,) times, increasing: the sampler's own grid, which is run through backward.
        args: passed on to v, as in `solve`.
        divergence: `Exact`, or `Hutchinson(key, probes)`: estimated by probes that are drawn once
            and kept along the path. Given the path, the estimate of the integral is unbiased.
        step: the method that solves backward, one for any field. Default: `rk4`, which on mixtures
            of Gaussians is closer than `heun` on the same grid, and for the same number of field
            calls where that is 80 or more.
        adjoint: how the loop is differentiated, as in `solve`.

    Returns:
        The log density, a scalar of x's dtype but at least float32.

    Raises:
        TypeError: if a leaf of x is not real floating; v is an `SDE` (the likelihood is that of the
            flow), known to be no velocity or not callable; init_log_prob is not callable or returns
            anything but a real floating scalar; divergence is neither of the two; or step is a
            sampler that reads a schedule.
        ValueError: if ts decreases (where it is not traced). `solve` raises for the rest, such as a
            time at which the velocity is not determined.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> noise, data = fj.Gaussian(jnp.zeros(2), 1.0), fj.Gaussian(jnp.ones(2), 0.5)
        >>> velocity = data.velocity(fj.CondOT())
        >>> x = jnp.array([1.0, 0.5])
        >>> value = fj.log_likelihood(x, velocity, noise.log_prob, fj.uniform_grid(20))
        >>> print(f"{value:.3f} {data.log_prob(x):.3f}")
        -0.952 -0.952

    References:
        Chen, Rubanova, Bettencourt, Duvenaud (2018), "Neural ordinary differential equations",
        arXiv 1806.07366, theorem 1.
        Grathwohl, Chen, Bettencourt, Sutskever, Duvenaud (2018), "FFJORD", arXiv 1810.01367,
        equation 8 (one probe for the whole solve).
        Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole (2021), "Score-based generative modeling
        through stochastic differential equations", arXiv 2011.13456, section 4.3.
    """
    x, ts = _check.state(x, "x"), _check.time_grid(ts)
    step = rk4 if step is None else step
    check_arguments(v, init_log_prob, ts, step, order=-1)
    augmented = _WithDivergence(v, _probes(divergence, x, widest(x)))
    return log_density(x, augmented, step, init_log_prob, ts, args, adjoint)


class _WithDivergence(eqx.Module):
    """The field of (x, log volume): the velocity, and its divergence, exact or by probes."""

    v: Any
    probes: Array | None  # (probes, d)

    def __call__(self, t: Any, state: State, args: Any) -> State:
        x, log_volume = state
        dtype = log_volume.dtype
        ones = jnp.ones_like(flat(x, dtype))
        u, jvp = jax.linearize(lambda x: velocity(self.v, t, x, args), x)

        def quadratic_form(v: Array) -> Array:
            return jnp.sum(v * flat(jvp(like(v, x)), dtype))

        def diagonal(i: Array) -> Array:
            return quadratic_form(jnp.where(jnp.arange(ones.size) == i, ones, 0))

        if self.probes is None:
            return u, jnp.sum(_mapped(diagonal, jnp.arange(ones.size)))
        return u, jnp.mean(_mapped(quadratic_form, self.probes))


def _mapped(function: Callable, xs: Array) -> Array:
    return jax.lax.map(function, xs, batch_size=min(xs.shape[0], _AT_ONCE))


def _probes(divergence: Any, x: State, dtype: Any) -> Array | None:
    """Random signs, (probes, d), or None where the trace itself is asked for."""
    if isinstance(divergence, Exact):
        return None
    if not isinstance(divergence, Hutchinson):
        raise TypeError(f"divergence must be fj.Exact() or fj.Hutchinson(key), got {divergence!r}.")
    # Those of normals, of which a key of any kind names the same in every batch.
    normals = brownian_increments(divergence.key, np.arange(divergence.probes + 1.0), x)
    ones = jnp.ones_like(flat(x, dtype))
    return jax.vmap(lambda normal: jnp.where(flat(normal, dtype) < 0, -ones, ones))(normals)
