r"""The law of one step of an SDE: Gaussian given its start, by the step itself.

A step that says `gaussian` is linear in dW, $x_1 = m(x) + G(x)\,dW$: m is the step with dW = 0, and
G its derivative by dW. So one mechanism serves every such step, and its formula is written once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from flowjax import _check
from flowjax._numerics import widest
from flowjax._types import State
from flowjax.densities.backward import flat, like
from flowjax.densities.gaussians import Diagonal, Matrix, either, tolerance, total
from flowjax.solver.brownian import root_of_step
from flowjax.solver.sde import SDE, noise_like


class Transition(NamedTuple):
    """The Gaussian law of the state after a step."""

    mean: State
    noise: Diagonal | Matrix


def transition(field: Any, step: Any, t0: Array, t1: Array, x: State, args: Any) -> Transition:
    """The law of the state after the step from x."""
    none, ones = _numbers(noise_like(field, x))
    root, dtype = root_of_step(t0, t1), widest(x)

    def end(dw: State) -> State:
        return _check.alike(step(field, t0, t1, x, args, dw), x, "step output", exact=False)

    if not (isinstance(field, SDE) and field.noise is not None):
        mean, g = jax.jvp(end, (none,), (ones,))
        deviations = jax.tree.map(lambda g: jnp.abs(g) * root.astype(g.dtype), g)
        return Transition(mean, Diagonal(deviations))
    mean, product = jax.linearize(end, none)
    units = jnp.eye(flat(none, dtype).size, dtype=dtype)
    g = jax.vmap(lambda unit: flat(product(like(unit, none)), dtype), out_axes=1)(units)
    return Transition(mean, Matrix(g * root.astype(dtype)))


def _numbers(noise: Any) -> tuple[State, State]:
    """Zeros and ones that the compiler does not know.

    It would leave out products with them in one program and not in another, and round otherwise.
    """
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), noise)
    return jax.lax.optimization_barrier((zeros, jax.tree.map(jnp.ones_like, zeros)))


def log_prob(law: Transition, x: State) -> Array:
    """The log density at x, a sum over all elements.

    There is none where the noise leaves out a direction: -inf if an element without noise moved by
    more than rounding, else NaN.
    """
    off = jax.tree.map(jnp.subtract, x, law.mean)
    moved = jax.tree.map(jnp.logical_and, law.noise.silent(x), _large(off, x, law.mean))
    return jnp.where(either(moved), -jnp.inf, law.noise.log_prob(off))


def log_ratio(p: Transition, q: Transition, x: State) -> Array:
    r"""The log of the ratio of two densities at x, of one noise.

    $$\log\frac{p(x)}{q(x)} = \delta \cdot z - \tfrac12\,|\delta|^2, \qquad
    A \delta = m_p - m_q, \quad A z = x - m_q$$

    A may leave out directions in which the means agree. NaN where they do not, where the noise of
    the two differs, or where x moved otherwise in those directions, as neither law lets it.
    """
    shift = _shift(p, q, x)
    z, rest = q.noise.divide(jax.tree.map(jnp.subtract, x, q.mean))
    possible = ~either(_large(rest, x, q.mean))
    ratio = total([jnp.sum(d * z - d**2 / 2) for d, z in zip(shift, z, strict=True)], widest(x))
    return jnp.where(possible, 1.0, jnp.nan).astype(ratio.dtype) * ratio


def kl(q: Transition, p: Transition, x: State) -> Array:
    r"""The divergence of two laws of one noise, $|\delta|^2 / 2$ with the delta of `log_ratio`."""
    return total([jnp.sum(d**2) / 2 for d in _shift(p, q, x)], widest(x))


def _shift(p: Transition, q: Transition, x: State) -> list[Array]:
    """The difference of the means in units of the noise; NaN where there is no ratio."""
    shift, rest = q.noise.divide(jax.tree.map(jnp.subtract, p.mean, q.mean))
    # The means differ by a step's length times what the drifts do: no more than rounding may pass.
    exists = same_noise(p, q) & ~either(_large(rest, x, q.mean, lambda d: 32 * jnp.finfo(d).eps))
    return [jnp.where(exists, 1.0, jnp.nan).astype(part.dtype) * part for part in shift]


def same_noise(p: Transition, q: Transition) -> Array:
    """Whether the noise of two laws is the same, refused if that of one alone is a matrix."""
    of_p: Any = p.noise
    of_q: Any = q.noise
    if type(of_p) is not type(of_q):
        raise ValueError(
            "sde_p and sde_q must have the same noise, got one that multiplies dW elementwise and "
            "one that is a matrix."
        )
    return of_p.is_that_of(of_q)


def _large(off: State, x: State, mean: State, part: Callable[[Any], Any] = tolerance) -> Any:
    """Where a difference of two states is more than such a part of them, of rounding by default."""
    return jax.tree.map(
        lambda off, x, mean: jnp.abs(off) > part(off.dtype) * (jnp.abs(x) + jnp.abs(mean)),
        *(off, x, mean),
    )
