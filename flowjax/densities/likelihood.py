"""Log densities of the samples of a flow."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from flowjax import _check
from flowjax._numerics import computing_dtype
from flowjax._types import Field, Scalar, State
from flowjax.densities.newton import norm, root
from flowjax.solver import Checkpointed, brownian_increments, euler, rk4, solve
from flowjax.solver.door import as_plain_field, check_times

# Directions pushed through the Jacobian at once: fewer take time, more take memory.
_AT_ONCE = 64


def log_likelihood(
    x: Any,
    field: Field,
    init_log_prob: Callable[[Any], Any],
    ts: Any,
    *,
    args: Any = None,
    method: str = "exact",
    key: Any = None,
    probes: int = 1,
    step: Any = None,
    adjoint: Any = Checkpointed(),
) -> Array:
    r"""The log density at x of what a flow makes of its initial distribution.

    $$\log p_1(x_1) = \log p_0(x_0) - \int_0^1 \nabla\cdot u_t(x_t)\,dt, \qquad
    \frac{d}{dt} x_t = u_t(x_t)$$

    along the path solved backward from x at ts[-1] to ts[0]. The methods differ in the integral:

    - ``"exact"``: the divergence is the trace of the Jacobian, integrated beside x by `step`.
    - ``"hutchinson"``: the divergence is estimated by $v^\top (\partial u / \partial x) v$ with
      probes v of random signs, drawn once and kept along the path. Given the path, the estimate of
      the integral is unbiased, and without error where the Jacobian is diagonal.
    - ``"discrete"``: the density of the Euler sampler ``solve(field, x0, ts)``, without error of
      discretisation. Each step backward solves $x_{i+1} = x_i + h u_{t_i}(x_i)$ for x_i by
      Newton's method, and

    $$\log p_1(x_n) = \log p_0(x_0)
    - \sum_i \log\det\Big(I + h\,\frac{\partial u_{t_i}}{\partial x}(x_i)\Big)$$

    The first two belong to the flow in continuous time. With few steps their number is wrong, for
    the flow and for any sampler of it, and can be absurdly optimistic: after five steps of Euler
    such a density integrates to 1.230 for 0.3 N(-2, 0.25) + 0.7 N(2, 0.25), and that of "discrete"
    to 1.000, as it does for any number of steps.

    "discrete" returns NaN, with a NaN gradient, where it finds no x_i, or where the determinant
    there is zero to rounding or negative: the Euler map has no inverse there. It also finds none
    if the field is not as exact as x's dtype (matrix products are taken in full precision, but a
    network may round inside). It finds one x_i only: if several points are taken to x_{i+1}, which
    needs h times the Lipschitz constant of u to be one or more, the number is the density of what
    comes from one of them.

    Cost, in field calls per step, for d elements in x and a step of c calls: "exact" c calls, each
    with d Jacobian-vector products; "hutchinson" c calls, each with `probes` of them; "discrete"
    three to five calls, each with d of them and the solution of a dense (d, d) system. All are
    differentiable in x, args, ts and the arrays in the field.

    Args:
        x: one sample at ts[-1], an array or any pytree of real floating arrays; for a batch,
            `jax.vmap`.
        field: ``(t, x, args) -> dx``, as in `solve`.
        init_log_prob: ``x0 -> log p_0(x0)``, a scalar, for x0 like x.
        ts: (n + 1,) times, increasing: the sampler's own grid, which is run through backward.
        args: passed on to the field, as in `solve`.
        method: "exact", "hutchinson" or "discrete".
        key: one JAX key, which names the probes; for "hutchinson" only.
        probes: number of probes that are averaged, a static positive int; for "hutchinson" only.
        step: the method that solves backward; not for "discrete", which is Euler's by definition.
            Default: `rk4`, which on mixtures of Gaussians is closer than `heun` on the same grid,
            and for the same number of field calls where that is 80 or more.
        adjoint: how the loop is differentiated, as in `solve`.

    Returns:
        The log density, a scalar of x's dtype but at least float32.

    Raises:
        TypeError: if a leaf of x or the value of init_log_prob is not real floating, field is an
            `SDE` (the likelihood is that of the flow), known to be no velocity or not callable,
            init_log_prob is not callable, probes is not a static int, or key is not a key.
        ValueError: if method is none of the three; "hutchinson" has no key, or another method has
            key, probes or, if "discrete", a step; ts decreases (where it is not traced);
            init_log_prob returns no scalar; or probes is below one. `solve` raises for the rest,
            such as a time at which the field says nothing.

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
        Hutchinson (1989), "A stochastic estimator of the trace of the influence matrix for
        Laplacian smoothing splines", Communications in Statistics 18.
        Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole (2021), "Score-based generative modeling
        through stochastic differential equations", arXiv 2011.13456, section 4.3.
    """
    x, ts = _check.state(x, "x"), _check.time_grid(ts)
    probes = _check.positive_int(probes, "probes")
    _check_arguments(field, init_log_prob, ts, method, key, probes, step)
    _check_times(field, ts, method, step)
    dtypes = [computing_dtype(leaf.dtype) for leaf in jax.tree.leaves(x)]
    dtype = max(dtypes, key=lambda dtype: jnp.finfo(dtype).bits)
    if method == "discrete":
        augmented, step = _Alone(field), _inverse_euler
    else:
        signs = None if method == "exact" else _signs(key, probes, x, dtype)
        augmented, step = _WithDivergence(field, signs), rk4 if step is None else step
    start = (x, jnp.zeros((), dtype))
    x0, log_volume = solve(augmented, start, ts[::-1], args, step=step, adjoint=adjoint)
    return _scalar(init_log_prob(x0), dtype) + log_volume


class _WithDivergence(eqx.Module):
    """The field of (x, log volume): the velocity, and its divergence, exact or by probes."""

    field: Any
    probes: Array | None  # (probes, d)

    def __call__(self, t: Any, state: State, args: Any) -> State:
        x, log_volume = state
        dtype, d = log_volume.dtype, sum(leaf.size for leaf in jax.tree.leaves(x))
        velocity, jvp = jax.linearize(lambda x: _velocity(self.field, t, x, args), x)

        def quadratic_form(v: Array) -> Array:
            return jnp.sum(v * _flat(jvp(_like(v, x)), dtype))

        def diagonal(i: Array) -> Array:
            return quadratic_form((jnp.arange(d) == i).astype(dtype))

        if self.probes is None:
            return velocity, jnp.sum(_mapped(diagonal, jnp.arange(d)))
        return velocity, jnp.mean(_mapped(quadratic_form, self.probes))


class _Alone(eqx.Module):
    """The field of (x, log volume) for a step that sees to the log volume itself."""

    field: Any

    def __call__(self, t: Any, state: State, args: Any) -> State:
        # Newton's method does not converge where an accelerator rounds the factors of products.
        with jax.default_matmul_precision("highest"):
            return _velocity(self.field, t, state[0], args), jnp.zeros_like(state[1])


def _inverse_euler(
    field: Field, t0: Scalar, t1: Scalar, state: State, args: Any, dw: None = None
) -> State:
    """From x at t0 to the y at t1 < t0 whose Euler step, y + (t0 - t1) u(t1, y), is x."""
    x, log_volume = state
    dtype = log_volume.dtype
    h, end = jnp.asarray(t0 - t1, dtype), _flat(x, dtype)
    eps = max(float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves(x))

    def residual(y: Array) -> Array:
        velocity, _ = field(t1, (_like(y, x), log_volume), args)
        return y + h * _flat(velocity, dtype) - end

    y, jacobian, found = root(residual, end, eps)
    sign, log_determinant = jnp.linalg.slogdet(jacobian)
    rounding = eps * (1 + norm(jacobian)) * norm(jnp.linalg.inv(jacobian))
    regular = (sign > 0) & (rounding < 0.1)
    # As a factor, NaN reaches the gradient too.
    valid = jnp.where(found & regular, 1.0, jnp.nan).astype(dtype)
    return _like(valid * y, x), valid * (log_volume - log_determinant)


def _mapped(function: Callable, xs: Array) -> Array:
    return jax.lax.map(function, xs, batch_size=min(xs.shape[0], _AT_ONCE))


def _velocity(field: Field, t: Any, x: State, args: Any) -> State:
    return _check.alike(field(t, x, args), x, "field output")


def _signs(key: Any, probes: int, x: State, dtype: Any) -> Array:
    """Random signs, (probes, d): those of normals, of which a key of any kind names the same."""
    normals = brownian_increments(key, np.arange(probes + 1.0), x)
    flat = jax.vmap(lambda v: _flat(v, dtype))(normals)
    return jnp.where(flat < 0, -1.0, 1.0).astype(dtype)


def _flat(x: State, dtype: Any) -> Array:
    return ravel_pytree(jax.tree.map(lambda leaf: leaf.astype(dtype), x))[0]


def _like(flat: Array, x: State) -> State:
    """A flat array in the structure, shapes and dtypes of x."""
    _, unravel = ravel_pytree(jax.tree.map(lambda leaf: leaf.astype(flat.dtype), x))
    return jax.tree.map(lambda part, leaf: part.astype(leaf.dtype), unravel(flat), x)


def _check_arguments(
    field: Any, init_log_prob: Any, ts: Array, method: Any, key: Any, probes: Any, step: Any
) -> None:
    """Refuses what `solve` would not refuse, or not in these words."""
    as_plain_field(field, "field")
    for name, function in (("field", field), ("init_log_prob", init_log_prob)):
        if not callable(function):
            raise TypeError(f"{name} must be callable, got {function!r}.")
    if not isinstance(ts, Tracer) and np.any(np.diff(np.asarray(ts)) < 0):
        raise ValueError(
            "ts must be the sampler's own grid, which increases, got one that decreases: "
            "log_likelihood runs through it backward itself."
        )
    if method not in ("exact", "hutchinson", "discrete"):
        raise ValueError(f"method must be 'exact', 'hutchinson' or 'discrete', got {method!r}.")
    if method == "hutchinson" and key is None:
        raise ValueError("method 'hutchinson' draws probes: give key (one JAX key).")
    if method != "hutchinson" and (key is not None or probes != 1):
        given = "probes" if key is None else "key"
        raise ValueError(f"{given} was given, but method {method!r} draws no probes: leave it out.")
    if method == "discrete" and step not in (None, euler):
        raise ValueError(
            f"step must be left out for method 'discrete', the density of the Euler sampler, "
            f"got {step!r}."
        )


def _check_times(field: Any, ts: Array, method: str, step: Any) -> None:
    """Lets the field refuse the times at which it is called, where they are not traced."""
    if isinstance(ts, Tracer):
        return
    if method == "discrete":
        check_times(ts, field, euler, drawn=False)
    else:
        check_times(ts[::-1], field, rk4 if step is None else step, drawn=False)


def _scalar(value: Any, dtype: Any) -> Array:
    """What init_log_prob returned, in `dtype`."""
    shape, found = jnp.shape(value), jnp.result_type(value)
    if shape != ():
        raise ValueError(f"init_log_prob must return a scalar, got shape {shape}.")
    if not jnp.issubdtype(found, jnp.floating):
        raise TypeError(f"init_log_prob must return a real floating scalar, got dtype {found}.")
    return jnp.asarray(value, dtype)
