"""The density of one step of an SDE."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from flowjax._numerics import widest
from flowjax.solver.brownian import root_of_step
from flowjax.solver.sde import SDE, noise_like
from flowjax.solver.sde_steps import euler_maruyama
from flowjax.solver.stepper import name_of


def gaussian_step(sde: Any, step: Any) -> Any:
    """The step, refused unless it is Gaussian element by element given where it begins."""
    if not isinstance(sde, SDE):
        raise TypeError(f"sde must be an SDE(drift, diffusion), got {sde!r}.")
    if step is not None and step is not euler_maruyama:
        raise ValueError(
            f"step must have a density given where it begins, as euler_maruyama has, got "
            f"{name_of(step)}."
        )
    if sde.noise is not None:
        raise ValueError("sde must multiply its noise elementwise, without noise=.")
    return euler_maruyama


def log_prob_of_step(sde: SDE, step: Any, t0: Any, t1: Any, x0: Any, x1: Any, args: Any) -> Array:
    """log p(x1 | x0), but for a constant."""
    none = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), noise_like(sde, x0))
    ones = jax.tree.map(jnp.ones_like, none)
    mean, g = jax.jvp(lambda dw: step(sde, t0, t1, x0, args, dw), (none,), (ones,))

    def of_leaf(x1: Array, mean: Array, g: Array) -> Array:
        deviation = jnp.abs(g) * root_of_step(t0, t1).astype(g.dtype)
        z = (x1 - mean) / deviation
        return jnp.sum(-(z**2) / 2 - jnp.log(deviation)).astype(widest(x0))

    return sum(jax.tree.leaves(jax.tree.map(of_leaf, x1, mean, g)), jnp.zeros((), widest(x0)))
