"""The door of a solve: what comes in as one record, and every refusal that a solve makes.

`solve`, `trajectory`, `sample` and the likelihoods all come through here, and all that they know
of a step or a field they read from its facts (see `stepper` and `Domain`). `admit` looks at what
only a call can show, the values of the times above all; `validate` at shapes and dtypes, once for
each compilation; `outputs` at what a field and a step return, when they are traced.
"""

from inspect import isfunction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from flowjax import _check
from flowjax._numerics import widest
from flowjax._progress import require_tqdm
from flowjax.solver.compiled import Number, is_array
from flowjax.solver.field import as_field, why_no_field
from flowjax.solver.sde import SDE, noise_like
from flowjax.solver.stepper import Stepper, fact, name_of, needs_noise
from flowjax.solver.times import check_times


class Problem(NamedTuple):
    """The arguments of a solve; see `solve` and, for init and update, `fold`."""

    field: Any
    x0: Any
    ts: Any
    args: Any = None
    step: Any = None
    key: Any = None
    increments: Any = None
    adjoint: Any = None
    first_step: Any = 0
    progress: Any = False
    init: Any = None
    update: Any = None


def admit(problem: Problem) -> Problem:
    """The problem with its times, floats and NumPy numbers as arrays, refused by what they are."""
    field, x0, ts, args, step, *_ = problem
    if type(ts) is np.ndarray or not is_array(ts):
        ts = _check.as_times(ts)
    check_pair(field, step)
    check_times(ts, field, step, drawn=problem.key is not None)
    if args is not None and not is_array(args):
        _refuse_options(args)
    x0, args = traced(x0), traced(args)
    first, shown = first_of_path(problem.first_step, problem.key), is_shown(problem.progress)
    return Problem(field, x0, ts, args, *problem[4:8], first, shown, problem.init, problem.update)


class First(NamedTuple):
    """The number of a first step, traced, and whether it is even, which is not."""

    index: Any
    even: bool


def first_index(value: Any) -> First | None:
    """The number of a first step, None for 0; refused unless it is a static int below 2^31.

    A `First`, whose index is traced, passes.
    """
    if isinstance(value, First):
        return value
    if type(value) is int and value == 0:
        return None
    if not _check.is_int(value) or not 0 <= value < 2**31:
        raise ValueError(f"first_step must be a static int from 0 to 2**31 - 1, got {value!r}.")
    value = int(value)
    return First(Number(np.uint32(value)), value % 2 == 0) if value else None


def first_of_path(first_step: Any, key: Any) -> First | None:
    """The number of a first step, None for 0; refused, but for 0, where no key names a path."""
    first = first_index(first_step)
    if first is not None and key is None:
        raise ValueError(
            f"first_step is the number of a step in the path that key names: without a key leave "
            f"it out, got {first_step}."
        )
    return first


def is_shown(progress: Any) -> bool | None:
    """Whether to show a bar, as True or None, which is no leaf of a problem."""
    if progress is False:
        return None
    if progress is not True:
        raise TypeError(f"progress must be True or False, got {progress!r}.")
    require_tqdm()
    return True


def traced(tree: Any) -> Any:
    """`tree` with every Python float traced, so that a new value of it compiles nothing."""
    if tree is None or is_array(tree):
        return tree
    return jax.tree.map(
        lambda leaf: Number(leaf) if isinstance(leaf, (float, np.number)) else leaf, tree
    )


def _refuse_options(args: Any) -> None:
    """Refuses an option of a solve in the place of args, which are for the field."""
    own = str(getattr(args, "__module__", "")).startswith("flowjax.")
    if isinstance(args, Stepper) or (own and (isfunction(args) or hasattr(args, "scan"))):
        raise TypeError(
            f"args is passed on to the field, got {name_of(args)}: name the option, as in "
            f"step=fj.heun or adjoint=fj.Direct()."
        )


# --- a step and a field ---------------------------------------------------------------------------

_STEPS = (
    "fj.euler, heun, midpoint, rk4 or adams() for a field; fj.euler_maruyama, milstein, "
    "stochastic_heun or reversible_heun for an SDE; fj.ddim, ancestral, stochastic_ddim(eta), "
    "dpmpp_2m, dpmpp_2m_sde, unipc or edm_heun() for a fj.Velocity; fj.exponential_euler for what "
    "fj.with_noise makes"
)


def check_pair(field: Any, step: Any) -> None:
    """Refuses a field of another kind than the step reads, and what is no step."""
    reads = "" if step is None else fact(step, "reads")
    if not reads and getattr(type(field), "gives", "") == "data":
        raise TypeError(
            "field must give a velocity, got a field of the data: make a velocity of it by "
            "fj.velocity(model, schedule, predicts='data')."
        )
    if step is None:
        return
    parts = (step.init, step.step) if isinstance(step, Stepper) else (step,)
    if isinstance(step, type) or not all(map(callable, parts)):
        kind = step if isinstance(step, type) else type(step)
        advice = ""
        if kind.__module__.partition(".")[0] == "diffrax":
            advice = " A solver of diffrax becomes a step by flowjax.interop.from_diffrax(solver)."
        raise TypeError(
            f"step must be a function or a Stepper, such as {_STEPS}, got {step!r}.{advice}"
        )
    if reads not in ("", "velocity", "with_noise"):
        raise ValueError(
            f"reads of step {name_of(step)} must be '', 'velocity' or 'with_noise', got {reads!r}."
        )
    if reads == "velocity":
        field = as_velocity(field, f"step {name_of(step)}")
        if field.coupled and needs_noise(step, False):
            refuse_coupled(f"step {name_of(step)}")
    elif reads == "with_noise":
        # The drift of such an SDE knows the noise, which is the diffusion.
        noise = getattr(field.drift, "noise", None) if isinstance(field, SDE) else None
        if noise is None or type(noise) is not type(field.diffusion):
            raise TypeError(
                f"step {name_of(step)} needs an SDE made by fj.with_noise(velocity, diffusion), "
                f"got {described(field)}."
            )


def as_velocity(field: Any, who: str) -> Any:
    """The field, refused unless it is a `Velocity`, which knows its schedule."""
    # A model may have the first of them; see `Velocity`.
    if not all(hasattr(type(field), name) for name in ("data_and_noise", "with_model")):
        raise TypeError(
            f"{who} needs a fj.Velocity, which knows its schedule, got {described(field)}: make "
            f"one by fj.velocity(model, schedule, predicts=...) or target.velocity(schedule)."
        )
    return field


def as_plain_field(field: Any, name: str) -> Any:
    """The field, refused if it is an SDE, not callable or known to be no velocity."""
    wrong = isinstance(field, (SDE, type)) or not callable(field)
    if wrong or getattr(type(field), "gives", "velocity") != "velocity":
        raise TypeError(
            f"{name} must be a velocity, a plain field (t, x, args) -> dx of a flow, got "
            f"{described(field)}."
        )
    return as_field(field, name)


def refuse_coupled(who: str) -> None:
    """Refuses a velocity of coupled pairs where its score is needed."""
    raise ValueError(
        f"{who} needs the score, which a velocity of coupled pairs does not determine: X_0 is not "
        f"independent of X_1, or not Gaussian. Sample its flow, by a step without noise."
    )


def described(field: Any) -> str:
    """What a field is, in words."""
    if isinstance(field, SDE):
        return "an SDE"
    if isinstance(field, type):
        return f"the class {field.__name__}, not one of it"
    gives = getattr(type(field), "gives", None)
    if gives is not None:
        return f"a field of the {gives}"
    if callable(field):
        return f"a plain function, {name_of(field)}"
    return why_no_field(field).removesuffix(".")


# --- shapes, dtypes and noise, once for each compilation ------------------------------------------


def validate(problem: Problem) -> tuple[Problem, bool]:
    """The problem with its state and times as arrays, and whether its step takes noise."""
    sde, step = isinstance(problem.field, SDE), problem.step
    fields = {"drift": problem.field.drift, "diffusion": problem.field.diffusion} if sde else {}
    for name, field in fields.items() or (("field", problem.field),):
        _refuse_no_function(field, name)
    x0, ts = _check.state(problem.x0), _check.time_grid(problem.ts)
    ts = as_precise(ts, x0)
    noisy = needs_noise(step, sde)
    if sde and not noisy:
        raise TypeError(
            f"step {name_of(step)} is for an ODE: it takes no Brownian increment (dw has a "
            f"default). For an SDE use euler_maruyama, milstein or stochastic_heun, or make dw "
            f"required; for one of with_noise there is exponential_euler too."
        )
    _check_noise(noisy, sde, problem)
    adjoint = problem.adjoint
    if isinstance(adjoint, type) or not hasattr(adjoint, "scan"):
        raise TypeError(f"adjoint must be one of flowjax's adjoints, got {adjoint!r}.")
    increments = problem.increments
    if increments is not None:
        noise = noise_of(step, problem.field, x0)
        pair = fact(step, "levy_area")
        if pair and jax.tree.structure(increments) == jax.tree.structure(noise[0]):
            raise ValueError(
                f"increments must be a pair (dW, dB) for step {name_of(step)}, which takes the "
                f"Levy areas that an independent motion B makes, got those of one motion."
            )
        increments = as_increments(increments, noise, ts.shape[0] - 1, problem.field)
    return problem._replace(x0=x0, ts=ts, increments=increments), noisy


def as_increments(increments: Any, noise: Any, steps: int, field: Any) -> Any:
    """Increments as arrays, refused unless they are like the noise, for each of the steps."""
    of = "the state" if getattr(field, "noise", None) is None else "the noise"
    return _check.alike(increments, noise, "increments", steps=(steps,), of=of)


def noise_of(step: Any, field: Any, x: Any) -> Any:
    """The shapes and dtypes of what a step takes of the noise: one motion, or a pair of them."""
    noise = noise_like(field, x)
    return (noise, noise) if fact(step, "levy_area") else noise


def as_precise(ts: Array, x: PyTree) -> Array:
    """The times, at least as precise as the state: differences of them are taken in its dtype."""
    dtype = widest(x)
    return ts if jnp.finfo(ts.dtype).bits >= jnp.finfo(dtype).bits else ts.astype(dtype)


def _check_noise(noisy: bool, sde: bool, problem: Problem) -> None:
    """Noise where the step asks for it, from one source, and none where it does not."""
    step, key, increments = problem.step, problem.key, problem.increments
    if key is not None and increments is not None:
        raise ValueError("key and increments were both given: one path needs just one of them.")
    if key is None and increments is None:
        if noisy and sde:
            raise ValueError("an SDE needs its noise: give key (one JAX key) or increments.")
        if noisy:
            if fact(step, "reads"):
                raise TypeError(f"step {name_of(step)} draws noise: give key or increments.")
            raise TypeError(
                f"step {name_of(step)} asks for Brownian increments, as a step for an SDE does, "
                f"but was given a plain field and neither key nor increments."
            )
    elif not noisy:
        given = "key" if increments is None else "increments"
        raise ValueError(f"{given} was given, but this ODE step draws no noise: leave it out.")
    if key is not None:
        _check.single_key(key)


def _refuse_no_function(field: Any, name: str) -> None:
    """Refuses a field that cannot be called as one."""
    if isinstance(field, (tuple, list)):
        raise TypeError(f"for an SDE write fj.SDE(drift, diffusion), got {field!r}.")
    as_field(field, name)
