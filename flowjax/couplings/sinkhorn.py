"""Sinkhorn's iteration, for plans and for the dual variables that an assignment begins with."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import logsumexp

# A step changes a scaling by a factor within [1/N, N]: after so many it is far inside float32's
# range, and what the kernel lost to underflow is far below its error.
_STEPS_AT_ONCE = 5


class Duals(NamedTuple):
    """A plan exp(f_i + g_j - c_ij / epsilon): its dual variables, how far it is off, the steps."""

    f: Array
    g: Array
    error: Array
    steps: Array


@jax.jit
def sinkhorn(cost: Any, epsilon: Any, damping: Any, tolerance: Any, max_steps: Any) -> Duals:
    r"""The plan of N rows and columns that keeps the columns' sums, and the rows' by a penalty.

    $$\min_P \sum_{ij} P_{ij} c_{ij} + \epsilon P_{ij} \log P_{ij}
    + \rho\,\mathrm{KL}\big(P 1 \,\big|\, \tfrac1N 1\big), \quad P^T 1 = \tfrac1N 1, \quad
    \mathrm{damping} = \frac{\rho}{\rho + \epsilon}$$

    with damping 1 for rows whose sums are kept too. Some steps at once multiply by one kernel,
    which then takes up their scalings, so that most need no exponential and none underflows
    (Schmitzer 2016, arXiv 1610.06519, section 3.1). A pair of infinite cost is not used. The error
    is the sum of how much the last step changed the rows' sums.
    """
    logits = -cost / epsilon
    log_count = jnp.log(jnp.asarray(cost.shape[0], cost.dtype))

    def rows(g: Array) -> Array:
        return -damping * (log_count + logsumexp(logits + g[None, :], axis=1))

    def columns(f: Array) -> Array:
        return -log_count - logsumexp(logits + f[:, None], axis=0)

    def go_on(state: Duals) -> Array:
        return (state.error > tolerance) & (state.steps < max_steps)

    def improved(state: Duals) -> Duals:
        scaled = logits + state.g[None, :]
        largest = jnp.max(scaled, axis=1)
        kernel = jnp.exp(scaled - largest[:, None])

        def weights(sums: Array) -> Array:
            """exp(f + largest), where exp(f) alone might not be a number of the dtype."""
            return jnp.exp((1 - damping) * largest - damping * (log_count + jnp.log(sums)))

        def step(_: Any, g: Array) -> Array:
            return jnp.exp(-log_count) / (weights(kernel @ g) @ kernel)

        before = jax.lax.fori_loop(0, _STEPS_AT_ONCE - 1, step, jnp.ones_like(state.g))
        after = step(0, before)
        changes = weights(kernel @ before) - weights(kernel @ after)
        error = jnp.sum(jnp.abs(changes) * (kernel @ after))
        return Duals(state.f, state.g + jnp.log(after), error, state.steps + _STEPS_AT_ONCE)

    f = rows(jnp.zeros_like(log_count, shape=cost.shape[0]))
    first = Duals(f, columns(f), jnp.asarray(jnp.inf, cost.dtype), jnp.asarray(0))
    last = jax.lax.while_loop(go_on, improved, first)
    f = rows(last.g)
    return Duals(f, columns(f), last.error, last.steps)


def log_plan(cost: Array, epsilon: Any, duals: Duals) -> Array:
    """The logarithm of each entry of the plan, which sum to one."""
    return duals.f[:, None] + duals.g[None, :] - cost / epsilon
