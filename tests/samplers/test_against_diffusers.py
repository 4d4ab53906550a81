"""Each step against its counterpart among the schedulers of diffusers, where that is installed.

Both solve the same mixture from the same states through the scheduler's own levels with the same
noise. flowjax computes in float64, so that what differs is the scheduler's rounding; a scheduler
that can be made to compute in float64 too is compared a second time, with the bound of float64.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

import flowjax as fj
from flowjax.solver.stepper import name_of, needs_noise
from tests.samplers import oracles

diffusers = pytest.importorskip("diffusers")
torch = pytest.importorskip("torch")

# The schedulers hand tensors to NumPy in a way that it warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

N = 8
# In units of the noise at the start.
X0 = np.array([-1.7, -0.8, -0.3, 0.4, 1.1, 1.9])
DATA = oracles.denoiser(oracles.MIXTURE)


class Levels(fj.Schedule):
    """The schedule that has a scheduler's levels at N + 1 evenly spaced times.

    Its rates are any that tell data from noise, since a sampler's step depends on nothing of the
    path but its ends, and the field is a velocity at the same rates.
    """

    alphas: Array
    sigmas: Array

    def alpha(self, t: Any) -> Array:
        return self.alphas[jnp.round(t * N).astype(int)]

    def sigma(self, t: Any) -> Array:
        return self.sigmas[jnp.round(t * N).astype(int)]

    def __call__(self, t: Any) -> tuple[Array, Array]:
        return self.alpha(t), self.sigma(t)

    def rates(self, t: Any) -> tuple[Array, Array]:
        alpha, sigma = self(t)
        return sigma, -alpha


class Case(NamedTuple):
    """A scheduler by its name without the word Scheduler, its arguments, and flowjax's step."""

    scheduler: str
    arguments: dict[str, Any]
    step: Any
    family: str
    """Where alpha and sigma lie: on the circle, on the line alpha + sigma = 1, or with alpha 1."""
    eta: float | None = None
    """How much of the memoryless noise DDIM is to draw."""

    def __str__(self) -> str:
        given = {**self.arguments, **({} if self.eta is None else {"eta": self.eta})}
        words = [f"{name}={value}" for name, value in given.items()]
        return "-".join([name_of(self.step), self.scheduler, *words])


def heun_but_for_the_last(field, t0, t1, x, args, dw=None):
    """The step of FlowMatchHeunDiscrete, which takes the last as Euler's."""
    heun, euler = (
        lambda x, step=step: step(field, t0, t1, x, args) for step in (fj.heun, fj.euler)
    )
    return jax.lax.cond(t1 < 1, heun, euler, x)


SAMPLE = {"prediction_type": "sample"}
FIRST = {**SAMPLE, "solver_order": 1}
PLAIN = {**SAMPLE, "clip_sample": False}
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
# Theirs and ours lower the order of the last step: it is far longer than the one before.
TO_SIGMA_MIN = {**SAMPLE, "final_sigmas_type": "sigma_min"}
SDE = {"algorithm_type": "sde-dpmsolver++"}
# DEIS holds the noise and multiplies x by alpha_1 / alpha_0, which this beta_end keeps small.
DEIS = {**FIRST, "beta_end": 0.005}

# Those that do not turn what they are given into float32.
WIDE = [
    Case("DDIM", PLAIN, fj.ddim, "circle"),
    Case("DDPM", PLAIN, fj.ancestral, "circle"),
    Case("DDIM", PLAIN, fj.ancestral, "circle", eta=1.0),
    Case("DDIM", PLAIN, fj.stochastic_ddim(0.5), "circle", eta=0.5),
    *(Case("DDIM", PLAIN, fj.exponential_euler, "circle", eta) for eta in (0.0, 0.5, 1.0)),
    Case("DEISMultistep", DEIS, fj.ddim, "circle"),
    Case("EDMDPMSolverMultistep", {}, fj.dpmpp_2m, "one"),
    Case("EDMDPMSolverMultistep", SDE, fj.dpmpp_2m_sde, "one"),
    *(Case("UniPCMultistep", given, fj.unipc, "circle") for given in (SAMPLE, TO_SIGMA_MIN)),
    Case("UniPCMultistep", FLOW, fj.unipc, "line"),
    Case("HeunDiscrete", SAMPLE, fj.edm_heun(), "one"),
]
CASES = [
    *WIDE,
    Case("DPMSolverMultistep", FIRST, fj.ddim, "circle"),
    Case("EulerDiscrete", SAMPLE, fj.ddim, "one"),
    Case("EDMEuler", {}, fj.ddim, "one"),
    Case("FlowMatchEulerDiscrete", {"shift": 3.0}, fj.ddim, "line"),
    Case("DPMSolverMultistep", {**FIRST, **SDE}, fj.ancestral, "circle"),
    Case("EulerAncestralDiscrete", {}, fj.ancestral, "one"),
    Case("DPMSolverMultistep", SAMPLE, fj.dpmpp_2m, "circle"),
    Case("DPMSolverMultistep", TO_SIGMA_MIN, fj.dpmpp_2m, "circle"),
    Case("DPMSolverMultistep", FLOW, fj.dpmpp_2m, "line"),
    Case("DPMSolverMultistep", {**SAMPLE, **SDE}, fj.dpmpp_2m_sde, "circle"),
    Case("DPMSolverMultistep", {**TO_SIGMA_MIN, **SDE}, fj.dpmpp_2m_sde, "circle"),
    Case("DPMSolverMultistep", {**FLOW, **SDE}, fj.dpmpp_2m_sde, "line"),
    Case("FlowMatchHeunDiscrete", {"shift": 3.0}, heun_but_for_the_last, "line"),
]


def levels_of(case, scheduler):
    """Alpha and sigma at each call of the model and at the end, as the scheduler rounds them."""
    if case.scheduler in ("DDIM", "DDPM"):
        bars = np.append(scheduler.alphas_cumprod[scheduler.timesteps].double().numpy(), 1)
        return np.sqrt(bars), np.sqrt(1 - bars)
    sigma = scheduler.sigmas.double().numpy()
    if case.family == "circle":
        alpha = 1 / np.sqrt(1 + sigma**2)
        return alpha, sigma * alpha
    return 1 - sigma if case.family == "line" else np.ones_like(sigma), sigma


def output(scheduler, x, alpha, sigma):
    """What the scheduler expects of its model, of the exact data."""
    data = DATA(x, alpha, sigma)
    noise = (x - alpha * data) / sigma
    if hasattr(scheduler, "precondition_outputs"):
        scale = scheduler.config.sigma_data
        total = np.hypot(sigma, scale)
        return (data - (scale / total) ** 2 * x) * total / (sigma * scale)
    kind = scheduler.config.get("prediction_type", "flow_prediction")
    return {"sample": data, "epsilon": noise, "flow_prediction": noise - data}[kind]


def theirs(case, dtype):
    """Alpha and sigma at the steps, the scheduler's states there, and the noise it drew."""
    scheduler = getattr(diffusers, f"{case.scheduler}Scheduler")(**case.arguments)
    scheduler.set_timesteps(N)
    for name in ("sigmas", "alphas_cumprod"):
        if hasattr(scheduler, name):
            setattr(scheduler, name, getattr(scheduler, name).to(dtype))
    alpha, sigma = levels_of(case, scheduler)
    given = {} if case.eta is None else {"eta": case.eta}
    if "generator" in scheduler.step.__code__.co_varnames:
        given["generator"] = torch.Generator().manual_seed(0)
    x = torch.from_numpy(sigma[0] * X0 + alpha[0])[None].to(dtype)
    states = [x]
    for i, t in enumerate(scheduler.timesteps):
        if hasattr(scheduler, "scale_model_input"):
            scheduler.scale_model_input(x, t)
        value = output(scheduler, x.double().numpy(), alpha[i], sigma[i])
        x = scheduler.step(torch.from_numpy(value).to(dtype), t, x, return_dict=False, **given)[0]
        # Heun's schedulers take a step in two calls.
        if getattr(scheduler, "state_in_first_order", True) or i + 1 == len(scheduler.timesteps):
            states.append(x)
    again, shape = torch.Generator().manual_seed(0), (1, X0.size)
    xi = [torch.randn(shape, generator=again, dtype=dtype) for _ in range(N)]
    states, xi = (torch.cat(values).double().numpy() for values in (states, xi))
    once = np.append(True, np.diff(sigma) != 0)
    return alpha[once], sigma[once], states, xi


def ours(case, alpha, sigma, x0, xi):
    """flowjax's states at the steps, and their derivatives with respect to the start."""
    if case.family == "line":
        schedule, ts = fj.CondOT(), 1 - sigma
    else:
        schedule, ts = Levels(jnp.asarray(alpha), jnp.asarray(sigma)), np.arange(N + 1) / N
    g = dw = None
    if needs_noise(case.step, False):
        dw = xi * np.sqrt(np.diff(ts))[:, None]
    if case.step is fj.exponential_euler:
        g = noise_of_eta(case.eta, alpha, sigma)
    states = paths(case.step, schedule, jnp.asarray(x0), jnp.asarray(ts), dw, g)
    return [np.asarray(value) for value in states]


@eqx.filter_jit
def paths(step, schedule, x0, ts, dw, g):
    field = fj.GaussianMixture(*oracles.MIXTURE).velocity(schedule)
    if g is not None:
        field = fj.with_noise(field, lambda t: g[jnp.round(t * N).astype(int)])

    def path(x, dw):
        return fj.trajectory(field, x, ts, step=step, increments=dw)

    batched = jax.vmap(path, (0, None if dw is None else 1), 1)
    return jax.jvp(lambda x0: batched(x0, dw), (x0,), (jnp.ones_like(x0),))


def noise_of_eta(eta, alpha, sigma):
    """The diffusion g at the times with which exponential_euler draws as much noise as DDIM.

    It draws 1 - e^{-2 tau} with tau = h g^2 / g_m^2, g_m memoryless, where DDIM draws
    eta^2 (1 - e^{-2h}). The last step draws none.
    """
    h = -np.log(alpha[:-2] * sigma[1:-1] / (sigma[:-2] * alpha[1:-1]))
    share = -np.log1p(eta**2 * np.expm1(-2 * h)) / (2 * h)
    # With the rates of Levels, sigma and -alpha.
    memoryless = 2 * (sigma**3 / alpha + sigma * alpha)
    return jnp.asarray(np.sqrt(np.append(share, [0, 0]) * memoryless))


def bound(states, tangents, dtype):
    """How far rounding takes the states of a scheduler from exact ones, to first order.

    A step adds up terms that together are less than 5 times the largest state before or after it
    (4.8 in the second-order SDE's step to sigma_min, the most of all), each at the end of at most
    16 operations in a row that round by eps / 2. What this leaves at i reaches k as the start
    would, multiplied by T_k / T_i, T the derivative of the states with respect to the first.
    """
    size = np.max(np.abs(states), axis=1)
    size = np.maximum(size, np.append(size[:1], size[:-1]))
    made = 5 * 16 * torch.finfo(dtype).eps / 2 * size[:, None]
    return np.abs(tangents) * np.cumsum(made / np.abs(tangents), axis=0)


def compared(case, dtype, *, shift_levels=False, shift_noise=False):
    """How far flowjax is from the scheduler, and how far rounding may take it."""
    alpha, sigma, expected, xi = theirs(case, dtype)
    if shift_levels:
        alpha[4], sigma[4] = alpha[5], sigma[5]
    xi = np.roll(xi, 1, axis=0) if shift_noise else xi
    got, tangents = ours(case, alpha, sigma, expected[0], xi)
    return np.abs(got - expected), bound(expected, tangents, dtype)


@pytest.mark.parametrize(
    ("case", "dtype"),
    [*((case, torch.float32) for case in CASES), *((case, torch.float64) for case in WIDE)],
    ids=str,
)
def test_a_step_is_that_of_diffusers_to_rounding(case, dtype, x64):
    difference, tolerance = compared(case, dtype)
    assert np.all(difference <= tolerance)


# The order, the variant and the noise of another method; then one level, and the noise, of
# another step.
WRONG = [
    (Case("DPMSolverMultistep", FIRST, fj.dpmpp_2m, "circle"), {}),
    (Case("DPMSolverMultistep", {**SAMPLE, "solver_order": 3}, fj.dpmpp_2m, "circle"), {}),
    (Case("DPMSolverMultistep", {**SAMPLE, "solver_type": "heun"}, fj.dpmpp_2m, "circle"), {}),
    (Case("UniPCMultistep", {**TO_SIGMA_MIN, "solver_type": "bh1"}, fj.unipc, "circle"), {}),
    (Case("UniPCMultistep", {**SAMPLE, "disable_corrector": [3]}, fj.unipc, "circle"), {}),
    (Case("DDPM", {**PLAIN, "variance_type": "fixed_large"}, fj.ancestral, "circle"), {}),
    (Case("DDIM", PLAIN, fj.ddim, "circle"), {"shift_levels": True}),
    (Case("DDPM", PLAIN, fj.ancestral, "circle"), {"shift_noise": True}),
]


@pytest.mark.parametrize(("case", "bug"), WRONG, ids=str)
def test_another_method_level_or_noise_is_not_taken_for_rounding(case, bug, x64):
    difference, tolerance = compared(case, torch.float32, **bug)
    assert np.max(difference / tolerance) > 50


def test_the_grids_have_the_levels_of_their_schedulers(x64):
    """The last operation rounds to float32; of the shifted levels four more do."""
    edm = diffusers.EDMEulerScheduler()
    edm.set_timesteps(N)
    schedule = fj.EDM(sigma_max=80.0)
    alpha, sigma = schedule(fj.karras_grid(N, schedule))
    eps = float(np.finfo(np.float32).eps)
    np.testing.assert_allclose(sigma / alpha, edm.sigmas.numpy(), rtol=eps)

    flow = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    flow.set_timesteps(sigmas=np.linspace(1, 1 / N, N))
    _, sigma = fj.CondOT()(fj.shifted_grid(N, 3.0))
    np.testing.assert_allclose(sigma, flow.sigmas.numpy(), rtol=5 * eps)
