"""Log densities of the Euler sampler on its own grid."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from flowjax import _check
from flowjax._types import Field, Scalar, State
from flowjax.densities.backward import check_arguments, flat, like, log_density, velocity
from flowjax.densities.newton import inverse_norm, norm, root
from flowjax.solver.adjoints import Checkpointed
from flowjax.solver.ode_steps import euler


def euler_log_likelihood(
    x: Any, v: Field, init_log_prob: Callable[[Any], Any], ts: Any, *, args: Any = None
) -> Array:
    r"""The log density at x of the Euler sampler ``solve(v, x0, ts)`` itself, for any n steps.

    $$\log p(x_n) = \log p_0(x_0)
    - \sum_{i=0}^{n-1} \log\det\Big(I + h_i\,\frac{\partial u_{t_i}}{\partial x}(x_i)\Big), \qquad
    x_{i+1} = x_i + h_i\,u_{t_i}(x_i)$$

    It has no error of discretisation: as a density it integrates to one, where the number of
    `log_likelihood` on the same grid may not. Each step backward solves the second equation for
    x_i by Newton's method.

    The value is NaN, with a NaN gradient, where no x_i is found, or where the determinant there is
    zero to rounding or negative: the Euler map has no inverse there. None is found either if the
    field is not as exact as x's dtype (matrix products are taken in full precision, but a network
    may round inside). One x_i only is found: if several points are taken to x_{i+1}, which needs h
    times the Lipschitz constant of u to be one or more, the number is the density of what comes
    from one of them.

    Cost, per step, for d elements in x: three to five field calls, each with d Jacobian-vector
    products and the solution of a dense (d, d) system. It is differentiable in x, args, ts and the
    arrays in the field.

    Args:
        x: one sample at ts[-1], an array or any pytree of real floating arrays; for a batch,
            `jax.vmap`.
        v: the velocity, any field ``(t, x, args) -> dx``, as in `solve`.
        init_log_prob: ``x0 -> log p_0(x0)``, a scalar, for x0 like x.
        ts: (n + 1,) times, increasing: the sampler's own grid, which is run through backward.
        args: passed on to v, as in `solve`.

    Returns:
        The log density, a scalar of x's dtype but at least float32.

    Raises:
        TypeError: if a leaf of x is not real floating; v is an `SDE` (the likelihood is that of the
            flow), known to be no velocity or not callable; or init_log_prob is not callable or
            returns anything but a real floating scalar.
        ValueError: if ts decreases (where it is not traced) or x holds no number. `solve` raises
            for the rest, such as a time at which the velocity is not determined.

    Example:
        >>> import math
        >>> import flowjax as fj
        >>> noise, ts = fj.Gaussian(0.0, 1.0), fj.uniform_grid(2)
        >>> value = fj.euler_log_likelihood(0.5, fj.linear_field, noise.log_prob, ts, args=1.0)
        >>> x0 = 0.5 / 0.5**2  # two steps of Euler halve x twice
        >>> print(f"{value:.3f} {noise.log_prob(x0) - 2 * math.log(0.5):.3f}")
        -1.533 -1.533

    References:
        Rezende, Mohamed (2015), "Variational inference with normalizing flows", arXiv 1505.05770,
        equations 6 and 7: the steps are the layers of such a flow.
    """
    x, ts = _check.state(x, "x"), _check.time_grid(ts)
    _check.elements(x, "x")
    check_arguments(v, init_log_prob, ts, euler, order=1)
    eps = max(float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves(x))
    return log_density(x, _Alone(v), _InverseEuler(eps), init_log_prob, ts, args, Checkpointed())


class _Alone(eqx.Module):
    """The field of (x, log volume) for a step that sees to the log volume itself."""

    v: Any

    def __call__(self, t: Any, state: State, args: Any) -> State:
        # Newton's method does not converge where an accelerator rounds the factors of products.
        with jax.default_matmul_precision("highest"):
            return velocity(self.v, t, state[0], args), jnp.zeros_like(state[1])


class _InverseEuler(eqx.Module):
    """From x at t0 to the y at t1 < t0 whose Euler step, y + (t0 - t1) u(t1, y), is x.

    `eps` is the relative rounding of the field.
    """

    eps: float = eqx.field(static=True)

    def __call__(
        self, field: Field, t0: Scalar, t1: Scalar, state: State, args: Any, dw: None = None
    ) -> State:
        x, log_volume = state
        dtype = log_volume.dtype
        h, end = jnp.asarray(t0 - t1, dtype), flat(x, dtype)

        def residual(y: Array) -> Array:
            u, _ = field(t1, (like(y, x), log_volume), args)
            return y + h * flat(u, dtype) - end

        y, jacobian, found = root(residual, end, self.eps)
        sign, log_determinant = jnp.linalg.slogdet(jacobian)
        of_field = self.eps * norm(jacobian - jnp.eye(end.size, dtype=dtype))
        rounding = jnp.finfo(dtype).eps * (1 + norm(jacobian)) + of_field
        regular = (sign > 0) & (rounding * inverse_norm(jacobian) < 0.1)
        # As a factor, NaN reaches the gradient too.
        valid = jnp.where(found & regular, 1.0, jnp.nan).astype(dtype)
        return like(valid * y, x), valid * (log_volume - log_determinant)
