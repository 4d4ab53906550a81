"""What the path densities refuse: steps that are not Gaussian, paths that do not fit, no noise."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from flowjax import _check
from flowjax._numerics import wide
from flowjax._types import State
from flowjax.densities.transitions import Transition, same_noise, transition
from flowjax.solver.compiled import Static, prepared, unpacked
from flowjax.solver.door import as_precise, check_pair, described
from flowjax.solver.sde import SDE
from flowjax.solver.sde_steps import euler_maruyama
from flowjax.solver.stepper import Stepper, fact, name_of, needs_noise
from flowjax.solver.times import check_times

_GAUSSIAN = (
    "fj.euler_maruyama, fj.exponential_euler, fj.ancestral, fj.stochastic_ddim(eta), or a step of "
    "your own that is linear in dw and says so by gaussian = True"
)


def gaussian_step(sde: Any, step: Any, name: str = "sde") -> Any:
    """The step, `euler_maruyama` for None, refused unless with this SDE it is Gaussian."""
    step = euler_maruyama if step is None else step
    check_pair(sde, step)
    if not isinstance(sde, SDE) and not fact(step, "reads"):
        raise TypeError(
            f"{name} must be an SDE, whose noise gives its paths a density, got {described(sde)}: "
            f"make one by fj.SDE(drift, diffusion) or fj.with_noise(velocity, diffusion), or give "
            f"a velocity a step that draws noise, such as step=fj.ancestral."
        )
    if not needs_noise(step, isinstance(sde, SDE)):
        raise TypeError(
            f"step {name_of(step)} draws no noise, so its paths have no density: take {_GAUSSIAN}. "
            f"For the density of the end of a flow there is fj.log_likelihood."
        )
    if isinstance(step, Stepper):
        raise ValueError(
            f"step {name_of(step)} remembers the steps before, so the state alone does not say "
            f"where it goes: take {_GAUSSIAN}."
        )
    if not fact(step, "gaussian"):
        raise ValueError(
            f"step {name_of(step)} is not Gaussian given the state, so the density of its path is "
            f"not known: take {_GAUSSIAN}."
        )
    return step


def path_and_times(path: Any, ts: Any, sdes: list[Any], step: Any) -> tuple[State, Array]:
    """A path and its times as arrays, refused where they do not fit each other or the SDEs."""
    path, ts = _check.state(path, "path"), _check.time_grid(ts)
    for name, leaf in _check.leaves_with_names(path, "path"):
        if leaf.shape[:1] != ts.shape:
            raise ValueError(
                f"{name} must have the states at the {ts.shape[0]} times of ts along its first "
                f"axis, got shape {leaf.shape}."
            )
    if not isinstance(ts, Tracer) and not np.all(np.diff(np.asarray(ts, float)) > 0):
        raise ValueError(f"ts must increase in each step of the path, got {np.asarray(ts)}.")
    for sde in sdes:
        check_times(ts, sde, step, drawn=True)
    return path, as_precise(ts, path)


def refuse_no_noise(path: State, sde: Any, ts: Array, args: Any, step: Any) -> None:
    """Refuses steps whose noise leaves out a direction, where that is known."""
    where = _first(_lacks, path, [sde], ts, args, step)
    if where is not None:
        raise ValueError(
            f"path has no density where the noise of the SDE is zero, or leaves out a direction, "
            f"as in {where}. Leave out a last step without noise, by path[:-1] and ts[:-1]."
        )


def refuse_other_noise(path: State, sdes: list[Any], ts: Array, args: Any, step: Any) -> None:
    """Refuses SDEs of different noise, where that is known."""
    where = _first(_differs, path, sdes, ts, args, step)
    if where is not None:
        raise ValueError(
            f"sde_p and sde_q must have the same noise, and have not in {where}: the more steps, "
            f"the less their paths have in common. For the steps as they are, the difference of "
            f"two path_log_prob is the log ratio."
        )


def _lacks(law: Transition) -> Array:
    return law.noise.lacks()


def _differs(p: Transition, q: Transition) -> Array:
    return ~same_noise(p, q)


def _first(
    wrong: Callable[..., Array], path: State, sdes: list[Any], ts: Array, args: Any, step: Any
) -> str | None:
    """The first step with something wrong about its noise, None if there is none or it is traced.

    The noise of a step does not depend on the drift, so no model is called.
    """
    starts = jax.tree.map(lambda leaf: leaf[:-1], path)
    if _any_traced((starts, args)):
        # Any state does where noise does not depend on it; other noise is traced.
        x, g = (
            jax.tree.map(lambda leaf: leaf[0], starts),
            [s.diffusion for s in sdes if isinstance(s, SDE)],
        )
        if _found(lambda: [diffusion(ts[0], x, args) for diffusion in g]) is None:
            return None
        starts, args = jax.tree.map(_in_place_of_traced, (starts, args))
    quiet = [_without_drift(sde) for sde in sdes]
    run, arrays = prepared(_in_each_step, wrong, quiet, ts, starts, args, step)
    found = None if _any_traced(arrays) else _found(lambda: run(arrays))
    if found is None or not np.any(np.asarray(found)):
        return None
    # By NumPy: under `jit` a part of a JAX array is traced, even where the array is known.
    k = int(np.argmax(np.asarray(found)))
    start, end = np.asarray(ts)[k : k + 2]
    return f"step {k}, from t = {start} to {end}"


def _in_each_step(static: Static, arrays: list[Any]) -> Array:
    """Whether something is wrong in it."""
    wrong, sdes, ts, starts, args, step = unpacked(static, arrays)

    def in_step(t0: Array, t1: Array, x: State) -> Array:
        return wrong(*(transition(sde, step, t0, t1, x, args) for sde in sdes))

    return jax.vmap(in_step)(ts[:-1], ts[1:], wide(starts))


def _found(compute: Callable[[], Any]) -> Any:
    """What is computed, None if it is traced."""
    try:
        return _check.concrete(compute)
    # What cannot be computed here and now, such as a sum over a named axis, is not looked at.
    except Exception:
        return None


def _any_traced(tree: Any) -> bool:
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


def _in_place_of_traced(leaf: Any) -> Any:
    return np.ones(leaf.shape, leaf.dtype) if isinstance(leaf, Tracer) else leaf


def _without_drift(sde: Any) -> Any:
    """The same noise, with a drift or a model that is zero."""
    part: Any = sde.drift if isinstance(sde, SDE) else sde
    if hasattr(type(part), "with_model"):
        part = part.with_model(_Nothing(getattr(part.model, "schedule", None)))
    else:
        part = _zero
    return SDE(part, sde.diffusion, sde.noise) if isinstance(sde, SDE) else part


def _zero(t: Any, x: State, args: Any) -> State:
    return jax.tree.map(jnp.zeros_like, x)


class _Nothing(eqx.Module):
    """A model that says zero, under the schedule of another."""

    schedule: Any

    def __call__(self, t: Any, x: State, args: Any) -> State:
        return _zero(t, x, args)
