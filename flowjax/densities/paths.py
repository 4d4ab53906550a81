"""Densities of paths: of the states that the steps of an SDE go through, given the first."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from flowjax._numerics import widest
from flowjax._types import State
from flowjax.densities.along import Law, LogProb, LogRatio, zero
from flowjax.densities.door import gaussian_step, path_and_times
from flowjax.solver.views import fold, trajectory


def path_log_prob(path: Any, sde: Any, ts: Any, args: Any = None, *, step: Any = None) -> Array:
    """The log density of a path, given its first state."""
    step = gaussian_step(sde, step)
    path, ts = path_and_times(path, ts, {"sde": sde}, step)
    return _along(path, ts, LogProb(_law(path, sde, step, args)))


def transition_log_probs(
    path: Any, sde: Any, ts: Any, args: Any = None, *, step: Any = None
) -> Array:
    """The log density of each state of a path given the one before: the terms of `path_log_prob`."""
    step = gaussian_step(sde, step)
    path, ts = path_and_times(path, ts, {"sde": sde}, step)
    scored = _Scored(LogProb(_law(path, sde, step, args)))
    first, rest = _split(path)
    start, given = (first, zero(first)), (rest, jnp.zeros(ts.shape[0] - 1, widest(first)))
    return trajectory(_still, start, ts, step=scored, increments=given)[1][1:]


def path_log_ratio(
    path: Any, sde_p: Any, sde_q: Any, ts: Any, args: Any = None, *, step: Any = None
) -> Array:
    """The log of the ratio of the densities that two SDEs of one noise give a path."""
    step = gaussian_step(sde_p, gaussian_step(sde_q, step, "sde_q"), "sde_p")
    path, ts = path_and_times(path, ts, {"sde_p": sde_p, "sde_q": sde_q}, step)
    laws = [_law(path, sde, step, args) for sde in (sde_p, sde_q)]
    return _along(path, ts, LogRatio(*laws))


def _law(path: State, sde: Any, step: Any, args: Any) -> Law:
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), path)
    return Law(sde, step, args, like)


def _split(path: State) -> tuple[State, State]:
    return jax.tree.map(lambda leaf: leaf[0], path), jax.tree.map(lambda leaf: leaf[1:], path)


def _along(path: State, ts: Array, update: Any) -> Array:
    """What a fold would have come to along a path, had it been solved."""
    first, rest = _split(path)
    return fold(_still, first, ts, step=_given, increments=rest, init=zero, update=update)[1]


# A stored path is gone through by the loop that solved it: its states are given as the increments.


def _still(t: Any, x: State, args: Any) -> State:
    return jax.tree.map(jnp.zeros_like, x)


def _given(field: Any, t0: Any, t1: Any, x: State, args: Any, dw: State) -> State:
    return dw


class _Scored(eqx.Module):
    """The state that is given, and the log density of it."""

    log_prob: LogProb

    def __call__(self, field: Any, t0: Any, t1: Any, x: State, args: Any, dw: State) -> State:
        return dw[0], self.log_prob.of_step(t0, t1, x[0], dw[0])
