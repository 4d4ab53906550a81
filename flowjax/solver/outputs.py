"""What a field, a diffusion, a step and a method's memory return, looked at when it is traced."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from flowjax import _check
from flowjax._numerics import narrow, wide, widest
from flowjax._types import State
from flowjax.solver.sde import SDE


def checked(field: Any, like: State) -> Any:
    """The field or SDE that refuses an output unlike the state, and in all else is itself.

    It is given states in the dtype they are computed in, and shows the field those of `like`.
    """
    if isinstance(field, SDE):
        drift, diffusion = _checked(field.drift, like, "drift"), field.diffusion
        return SDE(drift, _Checked(diffusion, like, "diffusion"))
    return _checked(field, like, "field")


def _checked(field: Any, like: State, name: str) -> Any:
    # What is made of a model looks at its own output.
    if hasattr(type(field), "with_model"):
        return field.with_model(_Checked(field.model, like, "model"))
    return _Checked(field, like, name)


class _Checked(eqx.Module):
    """A field whose output is looked at; whatever else it is asked for, it is the field."""

    _field: Any
    _like: Any
    _name: str

    def __call__(self, t: Any, x: State, args: Any) -> Any:
        # The time has the state's precision, so that it does not promote what it multiplies.
        t = jnp.asarray(t, widest(x))
        seen = narrow(x, self._like)
        out, name = self._field(t, seen, args), f"{self._name} output"
        if self._name == "diffusion":
            return _diffusion_output(out, seen, name)
        return wide(_check.alike(out, seen, name))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._field, name)


def _diffusion_output(out: PyTree, x: PyTree, name: str) -> PyTree:
    """A diffusion, refused if it is no scalar nor, leaf by leaf, of the state's shape."""
    one_scalar = _check.is_leaf(out) and jnp.shape(out) == ()
    spread = jax.tree.map(lambda _: out, x) if one_scalar else out
    for leaf_name, got, want in _check.paired(spread, x, name):
        if jnp.shape(got) not in ((), want.shape) or not _check.is_floating(got):
            raise ValueError(
                f"{leaf_name} must be a real scalar or have the state's shape {want.shape} "
                f"(it multiplies dW elementwise), got shape {jnp.shape(got)} and dtype "
                f"{jnp.result_type(got)}."
            )
    return out


def as_memory(memory: PyTree, before: PyTree = None) -> PyTree[Array]:
    """A method's memory as arrays, in the dtypes that it had before."""
    if before is None:
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), memory)
    pairs = _check.paired(memory, before, "the step's memory", "its earlier")
    leaves = [jnp.asarray(leaf, like.dtype) for _, leaf, like in pairs]
    return jax.tree.unflatten(jax.tree.structure(before), leaves)
