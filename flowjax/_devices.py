"""What JAX asks of arrays on several devices, and nothing where there is one."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import PyTree


def typed(step: Callable[[PyTree], PyTree], carry: PyTree) -> PyTree:
    """The carry of a loop, of the types that its step returns.

    A constant has other types than what the step makes of it: on a mesh with explicit axes it is
    not of the mesh, and in `jax.shard_map` it does not vary over the devices.
    """
    mesh = _mesh()
    if mesh is None or mesh.empty:
        return carry
    while True:
        after = jax.lax.stop_gradient(step(carry) if mesh.manual_axes else carry)
        cast = jax.tree.map(lambda leaf, new: jnp.where(False, new, leaf), carry, after)
        before, types = ([*map(jax.typeof, jax.tree.leaves(tree))] for tree in (carry, cast))
        if types == before:
            return carry
        carry = cast


def rows(array: Array, indices: Array) -> Array:
    """The rows of these indices; on a mesh with explicit axes, all of them on each device."""
    mesh = jax.typeof(array).sharding.mesh if hasattr(jax, "typeof") else None
    if mesh is None or not mesh.explicit_axes:
        return array[indices]
    return array.at[indices].get(out_sharding=NamedSharding(mesh, PartitionSpec()))


def _mesh() -> Any:
    """The mesh of the context; None in JAX before 0.7, which does not say."""
    return getattr(jax.sharding, "get_abstract_mesh", lambda: None)()
