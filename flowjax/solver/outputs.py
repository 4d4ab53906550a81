"""What a field, a diffusion, a step and a method's memory return, looked at when it is traced."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from flowjax import _check
from flowjax._numerics import narrow, wide, widest
from flowjax._types import State, StateLike
from flowjax.solver.field import fitting, note_if_swapped
from flowjax.solver.sde import SDE, is_operator


def checked(field: Any, like: StateLike) -> Any:
    """The field or SDE that refuses an output unlike the state, and in all else is itself.

    It is given states in the dtype they are computed in, and shows the field those of `like`.
    """
    if isinstance(field, SDE):
        drift, noise = _checked(field.drift, like, "drift"), field.noise
        return SDE(drift, _Checked(field.diffusion, like, "diffusion", noise), noise)
    return _checked(field, like, "field")


def _checked(field: Any, like: StateLike, name: str) -> Any:
    # What is made of a model looks at its own output.
    if hasattr(type(field), "with_model"):
        return field.with_model(_Checked(field.model, like, "model"))
    return _Checked(field, like, name)


class _Checked(eqx.Module):
    """A field whose output is looked at; whatever else it is asked for, it is the field."""

    _field: Any
    _like: Any
    _name: str
    _noise: Any = None

    def __call__(self, t: Any, x: State, args: Any) -> Any:
        # The time has the state's precision, so that it does not promote what it multiplies.
        t = jnp.asarray(t, widest(x))
        seen = narrow(x, self._like)

        def look(out: Any) -> Any:
            name = f"{self._name} output"
            if self._name == "diffusion" and self._noise is not None:
                return _matrix_output(out, seen, self._noise)
            if self._name == "diffusion":
                return _diffusion_output(out, seen, name)
            return wide(_check.alike(out, seen, name))

        called = self._field, t, seen, args, look, self._name
        # As `output_of`, whose frame would stand in every traceback of a field.
        try:
            out = self._field(t, seen, args)
        except Exception as error:
            note_if_swapped(error, *called)
            raise
        return fitting(out, *called)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._field, name)


def _diffusion_output(out: PyTree, x: PyTree, name: str) -> PyTree:
    """A diffusion, refused if it is no scalar nor, leaf by leaf, of the state's shape."""
    if is_operator(out):
        raise ValueError(
            f"{name} must multiply dW elementwise where fj.SDE is given no noise: for an operator "
            f"give it the shape of the noise, noise=..., got {type(out).__name__}."
        )
    one_scalar = _check.is_leaf(out) and jnp.shape(out) == ()
    spread = jax.tree.map(lambda _: out, x) if one_scalar else out
    for leaf_name, got, want in _check.paired(spread, x, name):
        if jnp.shape(got) not in ((), want.shape) or not _check.is_floating(got):
            raise ValueError(
                f"{leaf_name} must be a real scalar or have the state's shape {want.shape} "
                f"(it multiplies dW elementwise; for a matrix give fj.SDE the shape of the noise, "
                f"noise=...), got shape {jnp.shape(got)} and dtype {jnp.result_type(got)}."
            )
    return out


def _matrix_output(out: PyTree, x: PyTree, noise: Any) -> PyTree:
    """A diffusion for noise of some shapes, refused if it does not take them to the state."""
    name = "diffusion output"
    if is_operator(out):
        like = jax.tree.unflatten(noise.structure, noise.shapes)
        parts = out.in_structure(), out.out_structure()
        got = [jax.tree.map(lambda leaf: leaf.shape, part) for part in parts]
        if got != [like, jax.tree.map(jnp.shape, x)]:
            raise ValueError(
                f"{name} must take the noise, of shape {like}, to the state, got an operator from "
                f"{got[0]} to {got[1]}."
            )
        return out
    leaves, structure = jax.tree.flatten(x)
    try:
        rows = structure.flatten_up_to(out)
        columns = [noise.structure.flatten_up_to(row) if row is not None else [] for row in rows]
    except ValueError as error:
        raise ValueError(
            f"{name} must have the state's structure, with that of the noise, {noise.structure}, "
            f"in the place of each leaf, got {jax.tree.structure(out)}."
        ) from error
    for leaf, row in zip(leaves, columns, strict=True):
        for part, shape in zip(row, noise.shapes[: len(row)], strict=True):
            want = (*leaf.shape, *shape)
            fits = part is None or (_check.is_leaf(part) and jnp.shape(part) == want)
            if not fits or (part is not None and not _check.is_floating(part)):
                raise ValueError(
                    f"{name} must have shape {want}, of the state {leaf.shape} and the noise "
                    f"{shape}, got {eqx.tree_pformat(part)}."
                )
    return out


def first_value(init: Any, x: State) -> PyTree[Array]:
    """What a fold begins with, as arrays: init itself, or what it makes of the state."""
    value = init(x) if callable(init) else init
    for name, leaf in _check.leaves_with_names(value, "init"):
        if not isinstance(leaf, (jax.Array, np.ndarray, np.generic, int, float, complex)):
            raise TypeError(f"{name} must be an array or a number, got {leaf!r}.")
    return as_memory(value)


def as_value(value: PyTree, before: PyTree) -> PyTree[Array]:
    """The value of a fold, refused unless it is of the structure, shapes and dtypes before."""
    for name, got, want in _check.paired(value, before, "the value that update returns", "its"):
        fits = isinstance(got, (jax.Array, np.ndarray, np.generic, int, float, complex))
        if not fits or jnp.shape(got) != want.shape or jnp.result_type(got) != want.dtype:
            raise ValueError(
                f"{name} must keep its shape {want.shape} and dtype {want.dtype}, got "
                f"{eqx.tree_pformat(got)}."
            )
    return jax.tree.map(jnp.asarray, value)


def as_memory(memory: PyTree, before: PyTree = None) -> PyTree[Array]:
    """A method's memory as arrays, in the dtypes that it had before."""
    if before is None:
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), memory)
    pairs = _check.paired(memory, before, "the step's memory", "its earlier")
    leaves = [jnp.asarray(leaf, like.dtype) for _, leaf, like in pairs]
    return jax.tree.unflatten(jax.tree.structure(before), leaves)
