"""Compiling a function once for each static part of its arguments."""

import functools
import types
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

_ARRAYS = (jax.Array, np.ndarray)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, compiled: the arrays among its arguments' leaves are traced, the rest is static.

    What `equinox.filter_jit` does, for positional arguments and at a third of its cost per call,
    which is most of the cost of a short solve. Static leaves (functions, ints, strings) must be
    hashable; a call with equal ones, of equal types, compiles nothing.
    """

    @functools.wraps(function)
    def run(static: tuple[Any, tuple[Any, ...]], arrays: list[Any]) -> Any:
        structure, others = static
        leaves = [
            array if other is None else other[1]
            for array, other in zip(arrays, others, strict=True)
        ]
        return function(*jax.tree.unflatten(structure, leaves))

    # Inlined in a program that calls it, which is then a little quicker to compile.
    cached = jax.jit(run, static_argnums=0, inline=True)

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        leaves, structure = jax.tree.flatten(arguments)
        arrays: list[Any] = []
        others: list[Any] = []
        for leaf in leaves:
            traced = isinstance(leaf, _ARRAYS)
            arrays.append(leaf if traced else None)
            others.append(None if traced else (type(leaf), leaf))
        static = (structure, tuple(others))
        try:
            _check_static(static[1])
        except _HoldsTracer:
            # A cache that outlives a trace must not hold its tracers: a compilation of its own.
            return jax.jit(functools.partial(run, static))(arrays)
        except TypeError as error:
            raise TypeError(
                f"what is no array in the field and in args must be hashable: {error}."
            ) from None
        return cached(static, arrays)

    return call


class _HoldsTracer(Exception):
    """Something static closes over a value of a trace under way."""


@functools.lru_cache(maxsize=1024)
def _check_static(others: tuple[Any, ...]) -> None:
    """Refuses what holds a tracer; what was found to hold none is not looked at again."""
    if any(other is not None and _holds_tracer(other[1]) for other in others):
        raise _HoldsTracer


def _holds_tracer(value: Any, depth: int = 0) -> bool:
    """Whether a function closes over a value of a trace under way, directly or through others."""
    if isinstance(value, Tracer):
        return True
    if isinstance(value, types.FunctionType):
        cells = [cell for cell in value.__closure__ or () if cell != types.CellType()]
        parts = [*(cell.cell_contents for cell in cells), *(value.__defaults__ or ())]
    elif isinstance(value, types.MethodType):
        parts = [value.__self__, value.__func__]
    elif isinstance(value, functools.partial):
        parts = [value.func, *value.args, *value.keywords.values()]
    else:
        parts = [leaf for leaf in jax.tree.leaves(value) if leaf is not value]
    return depth < 10 and any(_holds_tracer(part, depth + 1) for part in parts)
