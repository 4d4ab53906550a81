"""What is computed step by step along states that are stored, in the loop of a solve."""

from collections.abc import Callable
from typing import Any

import jax

from flowjax._numerics import narrow, wide, widest
from flowjax._types import Scalar, State
from flowjax.solver.compiled import is_array
from flowjax.solver.sde import SDE
from flowjax.solver.views import solve


def along(
    step: Callable[..., Any], start: Any, ts: Any, given: State, args: Any, run: Any = solve
) -> Any:
    """`solve`, or another view, by ``value = step(_, t0, t1, value, args, given)``.

    The leaves of `given` have the steps on their first axis; each comes in the place of the noise,
    in the widest dtype of the value.
    """
    shapes = jax.tree.map(lambda leaf: leaf.shape[1:], given)
    given = jax.tree.map(lambda leaf: leaf.astype(widest(start)), given)
    return run(SDE(_unused, _unused, shapes), start, ts, args, step=step, increments=given)


def as_state(x: State, like: State) -> State:
    """A state that was given, in the dtypes in which a solve of states like `like` has it."""
    return wide(narrow(x, like))


def fixed(tree: Any) -> Any:
    """The same without a gradient."""
    return jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf) if is_array(leaf) else leaf, tree)


def _unused(t: Scalar, x: State, args: Any) -> State:
    raise NotImplementedError
