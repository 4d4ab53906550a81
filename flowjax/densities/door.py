"""What the path densities refuse: a step that is not Gaussian, a path that fits no grid, no noise."""

from typing import Any

import jax
import numpy as np
from jax import Array
from jax.core import Tracer

from flowjax import _check
from flowjax._types import State
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


def path_and_times(path: Any, ts: Any, sdes: dict[str, Any], step: Any) -> tuple[State, Array]:
    """A path and its times as arrays, refused where they do not fit each other or the SDEs."""
    path, ts = _check.state(path, "path"), _check.time_grid(ts)
    for name, leaf in _check.leaves_with_names(path, "path"):
        if leaf.ndim == 0 or leaf.shape[0] != ts.shape[0]:
            raise ValueError(
                f"{name} must have the state at each of the {ts.shape[0]} times of ts on its first "
                f"axis, got shape {leaf.shape}."
            )
    if not isinstance(ts, Tracer) and not np.all(np.diff(np.asarray(ts)) > 0):
        raise ValueError(f"ts must increase from step to step, got {ts}.")
    for sde in sdes.values():
        check_times(ts, sde, step, drawn=True)
    return path, as_precise(ts, jax.tree.map(lambda leaf: leaf[0], path))
