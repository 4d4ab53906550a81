"""Compiling a function once for each static part of its arguments, while that part lives."""

import dataclasses
import functools
import types
import weakref
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

Static = tuple[Any, tuple[Any, ...]]


@dataclasses.dataclass(slots=True)
class Number:
    """A Python float or a NumPy scalar that is traced: that takes a third of converting it."""

    value: float | np.generic


# The types of arrays that have been seen: to ask JAX takes ten times as long as to look here.
_ARRAYS: set[type] = {np.ndarray}


def is_array(leaf: Any) -> bool:
    """Whether a leaf is an array of JAX or NumPy, traced or not."""
    if type(leaf) in _ARRAYS:
        return True
    found = type(leaf) is not types.FunctionType and isinstance(leaf, jax.Array)
    if found and not isinstance(leaf, Tracer):
        _ARRAYS.add(type(leaf))
    return found


def prepared(function: Callable[..., Any], *arguments: Any) -> tuple[Callable[..., Any], list[Any]]:
    """`function` compiled, and its arrays: ``run, arrays``, of which ``run(arrays)`` is the result.

    The arrays among the leaves of the arguments, and every `Number`, are traced, the rest is
    static: what `equinox.filter_jit` does, at a third of its cost per call, which is most of the
    cost of a short solve. Static leaves must be hashable; a call with equal ones, of equal types,
    compiles nothing.

    What was compiled dies with any function or object that is static in it: whatever is equal to
    itself alone (also the object of a bound method) is held weakly. With the same ones, the 128
    programs used last are kept, which differ in what else is static: numbers, strings, structures
    and other values.

    Args:
        function: ``(static, arrays) -> result``, which begins with
            ``arguments = unpacked(static, arrays)``.
        arguments: pytrees.
    """
    leaves, structure = jax.tree.flatten(arguments)
    arrays: list[Any] = []
    others: list[Any] = []
    programs = _PROGRAMS
    for leaf in leaves:
        kind = type(leaf)
        if kind is Number or is_array(leaf):
            if kind is np.ndarray and leaf.dtype.kind in "OSUMm":
                raise TypeError(
                    f"arrays among the arguments must hold numbers, got dtype {leaf.dtype}."
                )
            arrays.append(leaf.value if kind is Number else leaf)
            others.append(None)
            continue
        # A bound method is made anew at each access; what lives is its object.
        bound = isinstance(leaf, types.MethodType)
        value = leaf.__self__ if bound else leaf
        if type(value).__eq__ is object.__eq__ and type(value).__weakrefoffset__:
            programs = programs.of(value)
            value = weakref.ref(value)
        others.append((type(leaf), value, leaf.__func__ if bound else None))
    static = (structure, tuple(others))
    try:
        run = programs.compiled(function, static)
    except TypeError as error:
        raise TypeError(
            f"what is no array in the field and in args must be hashable: {error}. Freeze it, by "
            f"@dataclass(frozen=True) or as an equinox.Module, and pass what changes in args."
        ) from None
    return run or jax.jit(functools.partial(function, static)), arrays


def unpacked(static: Static, arrays: list[Any]) -> Any:
    """The arguments that `prepared` was given, with these arrays."""
    structure, others = static
    traced = iter(arrays)
    leaves = [next(traced) if other is None else _value(*other) for other in others]
    return jax.tree.unflatten(structure, leaves)


def _value(kind: type, value: Any, function: Any) -> Any:
    value = value() if type(value) is weakref.ref else value
    return value if function is None else kind(function, value)


class _Programs:
    """What was compiled for a sequence of living objects, and for the longer ones it begins."""

    def __init__(self) -> None:
        self.compiled = functools.lru_cache(maxsize=128)(_compiled)
        self.longer = weakref.WeakKeyDictionary()

    def of(self, value: Any) -> "_Programs":
        found = self.longer.get(value)
        if found is None:
            found = self.longer[value] = _Programs()
        return found


def _compiled(function: Callable[..., Any], static: Static) -> Callable[..., Any] | None:
    """The program, or None: a cache that outlives a trace must not hold its tracers."""
    if any(other is not None and _holds_tracer(_value(*other)) for other in static[1]):
        return None
    return jax.jit(functools.partial(function, static))


_PROGRAMS = _Programs()


def _holds_tracer(value: Any, seen: Any = None) -> bool:
    """Whether a function closes over a value of a trace under way, directly or through others."""
    seen = {} if seen is None else seen
    if isinstance(value, Tracer):
        return True
    if id(value) in seen:
        return False
    seen[id(value)] = value
    if isinstance(value, types.FunctionType):
        cells = [cell for cell in value.__closure__ or () if cell != types.CellType()]
        parts = [*(cell.cell_contents for cell in cells), *(value.__defaults__ or ())]
    elif isinstance(value, types.MethodType):
        parts = [value.__self__, value.__func__]
    elif isinstance(value, functools.partial):
        parts = [value.func, *value.args, *value.keywords.values()]
    else:
        parts = [leaf for leaf in jax.tree.leaves(value) if leaf is not value]
    return any(_holds_tracer(part, seen) for part in parts)
