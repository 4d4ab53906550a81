"""Functions compiled once, ahead of time, with what the compiler says about them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax


class Compiled(NamedTuple):
    """A compiled function.

    Args:
        run: calls it on the i-th inputs and waits for the result.
        temporary_bytes: that it allocates besides inputs and outputs, where the compiler tells.
    """

    run: Callable[[int], Any]
    temporary_bytes: int | None


def compiled(function: Callable, *inputs: Sequence[Any]) -> Compiled:
    """Compiles `function` for one or several tuples of inputs of the same shapes."""
    on_device = [jax.device_put(tuple(arguments)) for arguments in inputs]
    executable = jax.jit(function).lower(*on_device[0]).compile()

    def run(i: int = 0) -> Any:
        return jax.block_until_ready(executable(*on_device[i]))

    return Compiled(run, temporary_bytes(executable))


def temporary_bytes(executable: Any) -> int | None:
    """What a compiled function allocates besides its inputs and outputs."""
    memory = executable.memory_analysis()
    return None if memory is None else int(memory.temp_size_in_bytes)


def equations(function: Callable, *arguments: Any) -> int:
    """How many equations the jaxpr of `function` has, with all those inside of them."""
    return _equations(jax.make_jaxpr(function)(*arguments).jaxpr)


def _equations(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        total += 1
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=_holds_jaxpr):
            if _holds_jaxpr(value):
                total += _equations(getattr(value, "jaxpr", value))
    return total


def _holds_jaxpr(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns")
