"""The schedulers of diffusers, each with its documented settings: optional, never required.

They are driven as its pipelines do it, step by step in float32 on torch, with a model that knows
the exact data and noise at the scheduler's own levels (alpha, sigma), whatever it rounds its
timesteps to. A sample starts at the flow's own state at the first level.
"""

import importlib
import itertools
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.known_maps import KnownMap


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


torch = _imported("torch")
diffusers = torch and _imported("diffusers")
if diffusers:
    diffusers.utils.logging.set_verbosity_error()

# The levels of each scheduler, and what its model returns.
_VARIANCE_EXPLODING = ("EulerDiscrete", "HeunDiscrete", "LMSDiscrete", "KDPM2Discrete")
_DISCRETE = ("DDIM", "PNDM")
_FLOW = ("FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete")


class Setting(NamedTuple):
    """A scheduler by its name in diffusers, without the word Scheduler, and its arguments."""

    scheduler: str
    arguments: dict[str, Any]

    def __str__(self) -> str:
        words = ", ".join(f"{name}={value}" for name, value in self.arguments.items())
        return f"{self.scheduler}({words})"


_BETAS = (
    {"beta_schedule": "linear"},
    {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    {"beta_schedule": "squaredcos_cap_v2"},
)
_SPACINGS = tuple({"timestep_spacing": name} for name in ("linspace", "leading", "trailing"))
_SIGMAS = tuple({f"use_{name}_sigmas": True} for name in ("karras", "exponential", "beta"))
_LU = {"use_lu_lambdas": True}


def settings(every: bool) -> list[Setting]:
    """Those that were the best of all for a target and a number of calls, or all that are known.

    A benchmark has room for the former; which they are is found by the latter.
    """
    return [one for one in _every() if every or str(one) in _BEST]


def _every() -> Iterable[Setting]:
    """Each scheduler with its noise schedules, spacings and orders; deterministic ones only."""
    predicts = {"prediction_type": "sample"}
    grids = _SPACINGS + _SIGMAS
    to_zero, to_least = ({"final_sigmas_type": name} for name in ("zero", "sigma_min"))
    low = ({"lower_order_final": True}, {"lower_order_final": False})
    flows = tuple({"use_flow_sigmas": True, "flow_shift": shift} for shift in (0.5, 1.0, 2.0, 3.0))
    yield from _product("DDIM", _BETAS, _SPACINGS, ({**predicts, "clip_sample": False},))
    yield from _product(
        "PNDM", _BETAS, _SPACINGS, ({"skip_prk_steps": True, "set_alpha_to_one": True},)
    )
    orders = ({"solver_order": 2}, {"solver_order": 3})
    multistep = ("DPMSolverMultistep", _BETAS, (*grids, _LU))
    yield from _product(*multistep, (to_zero, to_least), (predicts,), orders, low)
    yield from _product(*multistep, ({**to_least, "algorithm_type": "dpmsolver"},), orders)
    yield from _product("DPMSolverMultistep", flows, (predicts,), orders, low)
    yield from _product(
        *("DPMSolverSinglestep", _BETAS, ({}, *_SIGMAS), (to_zero, to_least), (predicts,)),
        *(orders, low),
    )
    unipc = tuple({"solver_order": order} for order in (2, 3, 4)), low
    yield from _product("UniPCMultistep", _BETAS, grids, (to_zero, to_least), (predicts,), *unipc)
    ends = tuple(
        {"sigma_min": low, "sigma_max": high}
        for low, high in itertools.product((0.002, 0.02, 0.1), (14.6, 80.0))
    )
    yield from _product("UniPCMultistep", _SIGMAS, ends, (predicts,), *unipc)
    yield from _product("UniPCMultistep", flows, ({"prediction_type": "flow_prediction"},), *unipc)
    yield from _product("DEISMultistep", _BETAS, grids, orders, low)
    yield from _product(
        *("SASolver", _BETAS, grids, ({**predicts, "tau_func": _never},)),
        tuple({"predictor_order": p, "corrector_order": c} for p, c in ((2, 2), (3, 3), (3, 4))),
    )
    for name in _VARIANCE_EXPLODING:
        yield from _product(name, _BETAS, grids)
    karras = [{"sigma_schedule": "karras", "rho": rho} for rho in (1.5, 3.0, 7.0)]
    shapes = (*karras, {"sigma_schedule": "exponential"})
    yield from _product("EDMEuler", shapes, ends)
    yield from _product("EDMDPMSolverMultistep", shapes, ends, orders, low)
    shifts = tuple({"shift": shift} for shift in (0.5, 1.0, 2.0, 3.0))
    yield from _product("FlowMatchEulerDiscrete", shifts, ({}, *_SIGMAS))
    yield from _product("FlowMatchHeunDiscrete", shifts)


def _product(scheduler: str, *choices: Iterable[dict[str, Any]]) -> Iterable[Setting]:
    for parts in itertools.product(*choices):
        yield Setting(scheduler, {name: part[name] for part in parts for name in part})


def _never(t: Any) -> float:
    """The tau of SA-Solver that makes it deterministic."""
    return 0.0


# Each was the best of all at one or more of the row's targets and numbers of calls.
_BEST = (
    "DEISMultistep(beta_schedule=scaled_linear, beta_start=0.00085, beta_end=0.012, "
    "use_karras_sigmas=True, solver_order=3, lower_order_final=False)",
    "DEISMultistep(beta_schedule=squaredcos_cap_v2, timestep_spacing=leading, solver_order=2, "
    "lower_order_final=False)",
    "DPMSolverMultistep(beta_schedule=scaled_linear, beta_start=0.00085, beta_end=0.012, "
    "use_karras_sigmas=True, final_sigmas_type=sigma_min, algorithm_type=dpmsolver, "
    "solver_order=3)",
    "PNDM(beta_schedule=squaredcos_cap_v2, timestep_spacing=leading, skip_prk_steps=True, "
    "set_alpha_to_one=True)",
    "UniPCMultistep(beta_schedule=scaled_linear, beta_start=0.00085, beta_end=0.012, "
    "use_exponential_sigmas=True, final_sigmas_type=sigma_min, prediction_type=sample, "
    "solver_order=2, lower_order_final=True)",
    "UniPCMultistep(beta_schedule=squaredcos_cap_v2, timestep_spacing=linspace, "
    "final_sigmas_type=sigma_min, prediction_type=sample, solver_order=2, "
    "lower_order_final=True)",
    "UniPCMultistep(use_exponential_sigmas=True, sigma_min=0.002, sigma_max=14.6, "
    "prediction_type=sample, solver_order=3, lower_order_final=True)",
    "UniPCMultistep(use_flow_sigmas=True, flow_shift=0.5, prediction_type=flow_prediction, "
    "solver_order=3, lower_order_final=True)",
    "UniPCMultistep(use_flow_sigmas=True, flow_shift=0.5, prediction_type=flow_prediction, "
    "solver_order=4, lower_order_final=True)",
    "UniPCMultistep(use_flow_sigmas=True, flow_shift=1.0, prediction_type=flow_prediction, "
    "solver_order=2, lower_order_final=True)",
    "UniPCMultistep(use_flow_sigmas=True, flow_shift=1.0, prediction_type=flow_prediction, "
    "solver_order=3, lower_order_final=True)",
    "UniPCMultistep(use_karras_sigmas=True, sigma_min=0.002, sigma_max=14.6, "
    "prediction_type=sample, solver_order=4, lower_order_final=True)",
)


def made(setting: Setting) -> Any:
    """The scheduler."""
    return getattr(diffusers, f"{setting.scheduler}Scheduler")(**setting.arguments)


def levels(scheduler: Any, name: str, i: int) -> tuple[float, float]:
    """Alpha and sigma where the i-th call of the model is made."""
    if name in _DISCRETE:
        product = float(scheduler.alphas_cumprod[int(scheduler.timesteps[i])])
        return product**0.5, (1 - product) ** 0.5
    sigma = scheduler.sigmas[i]
    if name in _FLOW:
        return 1 - float(sigma), float(sigma)
    if name in _VARIANCE_EXPLODING or name.startswith("EDM"):
        return 1.0, float(sigma)
    alpha, sigma = scheduler._sigma_to_alpha_sigma_t(sigma)
    return float(alpha), float(sigma)


def output(scheduler: Any, name: str, x: np.ndarray, data: Any, noise: Any, level: Any) -> Any:
    """What the scheduler expects of its model."""
    alpha, sigma = level
    if name.startswith("EDM"):
        scale = scheduler.config.sigma_data
        total = np.hypot(sigma, scale)
        return (data - (scale / total) ** 2 * x) * total / (sigma * scale)
    predicts = "flow_prediction" if name in _FLOW else scheduler.config.prediction_type
    return {
        "epsilon": noise,
        "sample": data,
        "v_prediction": alpha * noise - sigma * data,
        "flow_prediction": noise - data,
    }[predicts]


def end_states(setting: Setting, calls: int, maps: Sequence[KnownMap]) -> list[np.ndarray] | None:
    """The end states by target, after at most so many model calls.

    None if no number of steps takes as few calls, if the scheduler refuses the number, or if it
    starts where there is less noise than data, so that it leaves out most of the flow.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = made(setting)
        for steps in range(calls, 0, -1):
            try:
                scheduler.set_timesteps(steps)
            except (ValueError, IndexError):
                return None
            if len(scheduler.timesteps) <= calls:
                return _driven(scheduler, setting.scheduler, maps)
    return None


def _driven(scheduler: Any, name: str, maps: Sequence[KnownMap]) -> Any:
    first = levels(scheduler, name, 0)
    angle = np.arctan2(*first)
    if angle > np.pi / 4:
        return None
    start = np.concatenate([one.states(angle).ravel() for one in maps]) * np.hypot(*first)
    x = torch.from_numpy(start.astype(np.float32))[None]
    ends = np.cumsum([one.noise.size for one in maps])[:-1]
    for i, t in enumerate(scheduler.timesteps):
        alpha, sigma = levels(scheduler, name, i)
        here = x.numpy()[0].astype(np.float64)
        parts = [
            one.expected(part.reshape(one.noise.shape), alpha, sigma)
            for one, part in zip(maps, np.split(here, ends), strict=True)
        ]
        data, noise = (np.concatenate([part[k].ravel() for part in parts]) for k in (0, 1))
        value = output(scheduler, name, here, data, noise, (alpha, sigma))
        scheduler.scale_model_input(x, t) if name not in _FLOW else None
        try:
            value = torch.from_numpy(value.astype(np.float32))[None]
            x = scheduler.step(value, t, x, return_dict=False)[0]
        except (IndexError, AssertionError, RuntimeError):
            return None
    split = np.split(x.numpy()[0].astype(np.float64), ends)
    return [part.reshape(one.noise.shape) for one, part in zip(maps, split, strict=True)]
