"""What may be a field, and what an error says of one whose arguments are swapped."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowjax import _check
from flowjax._types import State


def as_field(value: Any, name: str, form: str = "(t, x, args) -> dx") -> Any:
    """The field itself, refused, with advice, unless it is a function (t, x, args)."""
    advice = why_no_field(value)
    if advice:
        raise TypeError(f"{name} must be a function {form}, got {advice}")
    return value


def why_no_field(value: Any) -> str:
    """What a value that is no field is, and what to do about it; nothing for a field."""
    if isinstance(value, type):
        return f"the class {value.__name__}, not an object of it."
    kind = type(value)
    if not callable(value):
        if kind.__module__.partition(".")[0] == "diffrax":
            return (
                f"{kind.__name__}, a term of diffrax: give the function inside, its vector_field; "
                f"for a drift and a diffusion write fj.SDE(drift, diffusion)."
            )
        if kind.__module__ in ("builtins", "numpy") or isinstance(value, jax.Array):
            return f"{value!r}."
        return (
            f"an object of the class {kind.__name__}, which cannot be called: give a method of it, "
            f"or define __call__(self, t, x, args)."
        )
    if _check.binds(value, 3):
        return ""
    got = f"one of {inspect.signature(value)}: {value!r}."
    if _check.binds(value, 2):
        return f"{got} It is given args too, and may leave them alone: (t, x, args=None)."
    if _check.binds(value, 1):
        return (
            f"{got} For a network of x alone write field = lambda t, x, network: network(x), and "
            f"solve with args=network."
        )
    return got


def output_of(field: Any, t: Any, x: State, args: Any, look: Any, name: str) -> Any:
    """What a field gives, as `look` returns it; an error says it if (t, x) may be swapped."""
    try:
        out = field(t, x, args)
    except Exception as error:
        note_if_swapped(error, field, t, x, args, look, name)
        raise
    return fitting(out, field, t, x, args, look, name)


def note_if_swapped(error: Exception, *called: Any) -> None:
    """Adds to what a field raised, which stays what it is, that its arguments may be swapped."""
    advice = _advice(*called)
    if advice:
        error.add_note(advice)


def fitting(out: Any, field: Any, t: Any, x: State, args: Any, look: Any, name: str) -> Any:
    """The output as `look` returns it; of other shapes than the state's, with the same advice."""
    try:
        return look(out)
    except (TypeError, ValueError) as error:
        advice = "" if _same_shapes(out, x) else _advice(field, t, x, args, look, name)
        if not advice:
            raise
        raise type(error)(f"{error} {advice}") from None


def _advice(field: Any, t: Any, x: State, args: Any, look: Any, name: str) -> str:
    """What to say if the field of (x, t, args) gives what fits x, which a scalar does not tell."""
    if _check.is_leaf(x) and jnp.shape(x) == ():
        return ""
    try:
        out = jax.eval_shape(lambda: field(x, t, args))
        if not _same_shapes(out, x):
            if _check.is_leaf(out) and out.shape == ():
                return ""
            jax.eval_shape(lambda: look(field(x, t, args)))
    except Exception:
        return ""
    return (
        f"{name} must take (t, x, args) in this order: called as (x, t, args) it gives what fits "
        f"the state, so its arguments may be swapped."
    )


def _same_shapes(out: Any, x: State) -> bool:
    if jax.tree.structure(out) != jax.tree.structure(x):
        return False
    return jax.tree.map(np.shape, out) == jax.tree.map(np.shape, x)
