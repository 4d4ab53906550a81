"""What every public step, schedule, adjoint and target keeps; whoever adds one adds its entry here.

Four tables say what is to be expected of each name, and by which oracle; below them is one test for
each promise, run on every entry. A public name without an entry fails. An entry such as
"edm_heun()" speaks for what `edm_heun` makes.

Nothing here is estimated from samples: where there is noise, its moments are computed exactly, so
that no test ever raises a false alarm. Derivatives are compared with complex steps, exact to
rounding, or with central differences.
"""

import functools
import inspect
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import flowjax as fj

pytestmark = pytest.mark.usefixtures("x64")

# --- the problems that steps are tried on ---------------------------------------------------------

N = 32
TIMES = np.linspace(0.05, 0.95, N + 1)
X0 = np.array([0.5, 1.0, 1.5])
THETA, STD = 0.8, 0.5
KEY = np.array([1, 2], np.uint32)
NOWHERE = 2.0

traced: list[Any] = []
"""One entry for each time that a field below was traced."""

compiled: list[str] = []
"""One entry for each program that was compiled."""


def count_programs(event, *_, **__):
    if event.endswith("backend_compile_duration"):
        compiled.append(event)


jax.monitoring.register_event_duration_secs_listener(count_programs)


def of_each_kind(value):
    """The same number as an array, a Python float and a NumPy scalar."""
    return {"array": jnp.asarray(value, float), "float": float(value), "NumPy": np.float64(value)}


def as_field(formula):
    """The field of a formula (t, x, theta), on pytrees, for args (theta, the time where it is NaN).

    Theta is a number or a tree of equal ones.
    """

    def field(t, x, args):
        traced.append(formula)
        thetas, undefined_at = jax.tree.map(lambda value: jnp.asarray(value, t.dtype), args)
        thetas = jax.tree.leaves(thetas)
        theta = sum(thetas) / len(thetas)

        def on_leaf(leaf):
            value = formula(t, leaf.astype(t.dtype), theta)
            return jnp.where(t == undefined_at, jnp.nan, value).astype(leaf.dtype)

        return jax.tree.map(on_leaf, x)

    return field


def riccati(t, x, theta):
    return -theta * (1 + t) * x * x


def riccati_flow(x0, t0, t1):
    return x0 / (1 + THETA * x0 * (t1 - t0 + (t1**2 - t0**2) / 2))


def proportional(t, x, theta):
    return theta * x


def gaussian_velocity(t, x, theta):
    """The velocity of data N(theta, STD^2) under `CondOT`."""
    return theta + (t * STD**2 - (1 - t)) / ((t * STD) ** 2 + (1 - t) ** 2) * (x - t * theta)


def gaussian_law(t):
    """Mean and standard deviation of the path."""
    return t * THETA, np.hypot(t * STD, 1 - t)


def gaussian_flow(x0, t0, t1):
    (mean0, std0), (mean1, std1) = gaussian_law(t0), gaussian_law(t1)
    return mean1 + std1 / std0 * (x0 - mean0)


RICCATI = as_field(riccati)
GEOMETRIC = fj.SDE(as_field(proportional), as_field(proportional))
VELOCITY = fj.velocity(as_field(gaussian_velocity), fj.CondOT())
NOISED = fj.with_noise(VELOCITY, lambda t: 1 - t)

# --- the errors by which orders are measured, after n steps ---------------------------------------


def flow_error(field, flow, step, n):
    """Of the states at the end, by the flow in closed form."""
    ts = np.linspace(TIMES[0], TIMES[-1], n + 1)
    ends = fj.solve(field, X0, ts, (of_each_kind(THETA), NOWHERE), step=step)
    return np.max(np.abs(ends - flow(X0, ts[0], ts[-1])))


def strong_error(correction, step, n):
    """The root mean square over all paths, on dX = theta X dt + theta X dW until t = 1.

    A step multiplies X, what it remembers and the exact X = exp(correction h + theta dW) by random
    numbers that are independent from step to step, so the second moments follow a recursion. The
    expectations over dW are sums over the nodes of Gauss and Hermite.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    dw, weights = nodes / np.sqrt(n), weights / np.sum(weights)
    matrices = np.asarray(_matrices(step)(1 / n, dw))
    exact = np.exp(correction / n + THETA * dw)

    first = np.asarray(_first(step))
    of_both, mixed, of_exact = np.outer(first, first), first, 1.0
    for _ in range(n):
        of_both = np.einsum("q,qij,jk,qlk->il", weights, matrices, of_both, matrices)
        mixed = np.einsum("q,q,qij,j->i", weights, exact, matrices, mixed)
        of_exact = np.sum(weights * exact**2) * of_exact
    return np.sqrt(of_both[0, 0] - 2 * mixed[0] + of_exact)


@functools.cache
def _matrices(step):
    """By which a step over h multiplies X and its memory, for each of many increments."""
    args = THETA, NOWHERE
    _, unravel = ravel_pytree(_start(step))

    def one(state, h, dw):
        x, memory = unravel(state)
        if isinstance(step, fj.Stepper):
            return ravel_pytree(step.step(GEOMETRIC, 0 * h, h, x, args, dw, memory))[0]
        return ravel_pytree((step(GEOMETRIC, 0 * h, h, x, args, dw), None))[0]

    derivative = jax.jit(jax.vmap(jax.jacfwd(one), (None, None, 0)))
    return functools.partial(derivative, _first(step))


def _start(step):
    x0 = jnp.ones(())
    remembers = isinstance(step, fj.Stepper)
    memory = step.init(GEOMETRIC, jnp.zeros(()), x0, (THETA, NOWHERE)) if remembers else None
    return x0, memory


def _first(step):
    return ravel_pytree(_start(step))[0]


def law_error(sde, step, n):
    """Of mean and variance at the end, where all laws are Gaussian.

    There the end of a solve is affine in its start and in its increments. One solve of a state of
    n + 3 elements reads the coefficients off: from 0 without noise, from 1, with one increment
    of 1 each, and, to see that it is affine, with all of them.
    """
    ts = np.linspace(TIMES[0], TIMES[-1], n + 1)
    starts = np.concatenate([[0.0, 1.0], np.zeros(n), [1.0]])
    increments = np.concatenate([np.zeros((n, 2)), np.eye(n), np.ones((n, 1))], axis=1)
    args = (of_each_kind(THETA), NOWHERE)
    ends = np.asarray(fj.solve(sde, starts, ts, args, step=step, increments=increments))
    offset, of_start, of_noise = ends[0], ends[1] - ends[0], ends[2:-1] - ends[0]
    np.testing.assert_allclose(ends[-1], offset + of_start + np.sum(of_noise), rtol=1e-10)

    mean, std = gaussian_law(ts[0])
    mean, variance = offset + of_start * mean, (of_start * std) ** 2 + of_noise**2 @ np.diff(ts)
    exact_mean, exact_std = gaussian_law(ts[-1])
    return abs(mean - exact_mean) + abs(variance - exact_std**2)


# --- steps ----------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """What a step is for."""

    field: Any
    """What it is tried on."""
    error: Callable[..., Any]
    """``(step, n)``, by which its order is measured."""
    noisy: bool
    refused: Any
    """A field of another kind."""


ITO, STRATONOVICH = THETA - THETA**2 / 2, THETA
KINDS = {
    "field": Kind(
        RICCATI, functools.partial(flow_error, RICCATI, riccati_flow), False, refused=GEOMETRIC
    ),
    "Ito": Kind(GEOMETRIC, functools.partial(strong_error, ITO), True, refused=RICCATI),
    "Stratonovich": Kind(
        GEOMETRIC, functools.partial(strong_error, STRATONOVICH), True, refused=RICCATI
    ),
    "velocity": Kind(
        VELOCITY, functools.partial(flow_error, VELOCITY, gaussian_flow), False, refused=RICCATI
    ),
    "velocity with noise": Kind(
        VELOCITY, functools.partial(law_error, VELOCITY), True, refused=RICCATI
    ),
    "with_noise": Kind(NOISED, functools.partial(law_error, NOISED), True, refused=GEOMETRIC),
}


class Step(NamedTuple):
    """A step, its kind, and its order: strong for an SDE, weak for a sampler with noise."""

    step: Any
    kind: str
    order: float
    twice: Any = None
    """The step for twice as many steps, where it is another."""


STEPS = {
    "euler": Step(fj.euler, "field", 1),
    "heun": Step(fj.heun, "field", 2),
    "midpoint": Step(fj.midpoint, "field", 2),
    "rk4": Step(fj.rk4, "field", 4),
    "adams(order=2)": Step(fj.adams(order=2), "field", 3),
    "euler_maruyama": Step(fj.euler_maruyama, "Ito", 0.5),
    "milstein": Step(fj.milstein, "Ito", 1),
    "stochastic_heun": Step(fj.stochastic_heun, "Stratonovich", 1),
    "reversible_heun": Step(fj.reversible_heun, "Stratonovich", 1),
    "ddim": Step(fj.ddim, "velocity", 1),
    "dpmpp_2m": Step(fj.dpmpp_2m, "velocity", 2),
    # One more than that of its predictor, inside a schedule.
    "unipc": Step(fj.unipc, "velocity", 3),
    "edm_heun()": Step(fj.edm_heun(), "velocity", 2),
    "ancestral": Step(fj.ancestral, "velocity with noise", 1),
    "stochastic_ddim(eta=0.5)": Step(fj.stochastic_ddim(0.5), "velocity with noise", 1),
    "dpmpp_2m_sde": Step(fj.dpmpp_2m_sde, "velocity with noise", 2),
    "edm_heun(churn=2 / n)": Step(
        fj.edm_heun(churn=2 / N), "velocity with noise", 2, twice=fj.edm_heun(churn=1 / N)
    ),
    "exponential_euler": Step(fj.exponential_euler, "with_noise", 1),
}

# --- adjoints: each beside its discrete scheme, as a loop that takes complex numbers --------------

GRID = np.linspace(0.0, 1.0, 8) ** 1.3


def euler_path(x, ts, theta, normals):
    path = [x]
    for t0, t1 in itertools.pairwise(ts):
        x = x + (t1 - t0) * riccati(t0, x, theta)
        path.append(x)
    return path


def path_of_the_last(last):
    """The states before the last steps are constants, but for the first, which is x0 itself."""

    def path_of(x, ts, theta, normals):
        k = len(ts) - 1 - last
        early = [np.real(state) for state in euler_path(x, ts[: k + 1], theta, normals)]
        return [x, *early[1:], *euler_path(early[-1], ts[k:], theta, normals)[1:]]

    return path_of


def reversible_path(x, ts, theta, normals, coupling=0.999):
    """McCallum and Foster 2024, definition 2.1, of Euler's step."""
    path, y, z = [x], x, x
    for t0, t1 in itertools.pairwise(ts):
        y = coupling * y + (1 - coupling) * z + (t1 - t0) * riccati(t0, z, theta)
        z = z - (t0 - t1) * riccati(t1, y, theta)
        path.append(y)
    return path


def euler_maruyama_path(x, ts, theta, normals):
    path = [x]
    for (t0, t1), normal in zip(itertools.pairwise(ts), normals, strict=True):
        x = x + (t1 - t0) * theta * x + theta * x * np.sqrt(t1 - t0) * normal
        path.append(x)
    return path


def reversible_heun_path(x, ts, theta, normals):
    """Kidger et al. 2021, algorithm 1."""
    path, y = [x], x
    for (t0, t1), normal in zip(itertools.pairwise(ts), normals, strict=True):
        change = (t1 - t0) + np.sqrt(t1 - t0) * normal
        y, before = 2 * x - y + theta * y * change, y
        x = x + theta * (before + y) / 2 * change
        path.append(x)
    return path


class Adjoint(NamedTuple):
    """An adjoint, with a step for it, and the states of the discrete scheme."""

    adjoint: Any
    step: Any
    path: Callable[..., Any]


ADJOINTS = {
    "Checkpointed()": Adjoint(fj.Checkpointed(), fj.euler, euler_path),
    "Checkpointed(segments=3)": Adjoint(fj.Checkpointed(segments=3), fj.euler, euler_path),
    "Checkpointed(), with noise": Adjoint(
        fj.Checkpointed(), fj.euler_maruyama, euler_maruyama_path
    ),
    "Direct()": Adjoint(fj.Direct(), fj.euler, euler_path),
    "Truncated(last=3)": Adjoint(fj.Truncated(last=3), fj.euler, path_of_the_last(3)),
    "Reversible()": Adjoint(fj.Reversible(), fj.euler, reversible_path),
    "Reversible(), with noise": Adjoint(fj.Reversible(), fj.reversible_heun, reversible_heun_path),
}

# --- schedules: each beside its alpha and sigma squared, as formulas that take complex numbers ----


class Own(fj.Schedule):
    """A user's own: the rest follows from these four lines."""

    power: Any

    def alpha(self, t):
        return t**self.power

    def variance(self, t):
        return 1 - self.alpha(t) ** 2


class Schedule(NamedTuple):
    """How a schedule is made of its parameters, and its formulas ``(t, *parameters)``."""

    make: Callable[..., Any]
    parameters: tuple[float, ...]
    alpha: Callable[..., Any]
    variance: Callable[..., Any]


def noise_of_vp(t, low, high):
    return (1 - t) * low + (1 - t) ** 2 * (high - low) / 2


SCHEDULES = {
    "CondOT": Schedule(fj.CondOT, (), lambda t: t, lambda t: (1 - t) ** 2),
    "Trigonometric": Schedule(
        fj.Trigonometric,
        (),
        lambda t: np.sin(np.pi / 2 * t),
        lambda t: np.sin(np.pi / 2 * (1 - t)) ** 2,
    ),
    "VariancePreserving": Schedule(
        fj.VariancePreserving,
        (0.1, 20.0),
        lambda t, low, high: np.exp(-noise_of_vp(t, low, high) / 2),
        lambda t, low, high: -np.expm1(-noise_of_vp(t, low, high)),
    ),
    "VarianceExploding": Schedule(
        fj.VarianceExploding,
        (0.02, 30.0),
        lambda t, low, high: 1 + 0 * t * low * high,
        lambda t, low, high: high**2 * (low / high) ** (2 * t),
    ),
    "SquareRoot": Schedule(fj.SquareRoot, (), lambda t: t, lambda t: 1 - t),
    "Polynomial": Schedule(fj.Polynomial, (2.5,), lambda t, n: t**n, lambda t, n: (1 - t**n) ** 2),
    "EDM": Schedule(
        fj.EDM, (80.0,), lambda t, top: 1 + 0 * t * top, lambda t, top: (top * (1 - t)) ** 2
    ),
    "a user's own": Schedule(Own, (2.0,), lambda t, n: t**n, lambda t, n: 1 - t ** (2 * n)),
}

# --- targets: each as a field of one parameter, and what its truth is compared with ---------------

WEIGHTS, MEANS = np.array([0.3, 0.7]), np.array([[-1.0, 0.5], [1.0, 0.0]])
COVARIANCES = np.array([[[0.5, 0.2], [0.2, 0.4]], [[1.0, -0.3], [-0.3, 0.6]]])
POINTS = np.array([[0.3, -0.8], [1.2, 0.4]])


def continuity(target):
    """d/dt log p + div u + u . score of a target's marginals, and zero."""

    def log_density(schedule, t, x):
        return target.marginal(schedule, t).log_prob(x)

    @functools.partial(jax.jit, static_argnums=0)
    def residual(schedule, t, x):
        rate, score = jax.grad(log_density, (1, 2))(schedule, t, x)
        velocity = target.velocity(schedule)
        u, jacobian = velocity(t, x, None), jax.jacfwd(velocity, 1)(t, x, None)
        return rate + jnp.trace(jacobian) + u @ score

    schedules, times = (fj.CondOT(), fj.VariancePreserving()), (0.2, 0.7)
    points = itertools.product(schedules, times, POINTS)
    return np.array([residual(*each) for each in points]), np.zeros(8)


def linear_solve():
    """The field solved by rk4, and the exponential."""
    end = fj.solve(fj.linear_field, X0, np.linspace(0, 0.5, 65), THETA, step=fj.rk4)
    return end, X0 * np.exp(-0.5 * THETA)


def linear_closed_form():
    return fj.linear_flow(0.5, X0, THETA), X0 * np.exp(-0.5 * THETA)


def moments_of_ornstein_uhlenbeck(n=10, theta=1.5, sigma=0.6):
    """Of Euler-Maruyama from 1, read off as in `law_error`, and in closed form."""
    h, starts = 1 / n, np.concatenate([[1.0], np.zeros(n)])
    increments = np.concatenate([np.zeros((n, 1)), np.eye(n)], axis=1)
    sde = fj.ornstein_uhlenbeck(theta, sigma)
    mean, *of_noise = fj.solve(sde, starts, np.linspace(0, 1, n + 1), increments=increments)
    r = 1 - theta * h
    return (mean, h * np.sum(np.square(of_noise))), (
        r**n,
        sigma**2 * h * (1 - r ** (2 * n)) / (1 - r**2),
    )


def langevin_fields(sigma=0.7):
    """Drift and diffusion, and sigma^2 / 2 grad log p and sigma."""
    target = fj.GaussianMixture(WEIGHTS, MEANS, covariances=COVARIANCES)
    sde, x = fj.langevin(target.score, sigma), jnp.asarray(POINTS[0])
    got = jax.jit(lambda x: (sde.drift(0.0, x, None), sde.diffusion(0.0, x, None)))(x)
    score = jax.jit(jax.grad(target.log_prob))(x)
    return got, (sigma**2 / 2 * score, np.full(2, sigma))


def moments_of_bridge(n=200, sigma=0.8):
    """Mean and covariance at t = 1 by m' = A m + b, S' = A S + S A' + sigma^2 I, and the target's.

    The drift A x + b is read off at 0 and at the unit vectors; the method is Runge and Kutta's.
    """
    ends = [fj.Gaussian(*each) for each in zip(MEANS, COVARIANCES, strict=True)]
    drift = fj.gaussian_bridge(*ends, sigma).drift
    points = np.concatenate([np.zeros((1, 2)), np.eye(2)])
    at_points = jax.vmap(lambda t, x: drift(t, x, None), (None, 0))
    values = jax.jit(jax.vmap(at_points, (0, None)))(np.linspace(0, 1, 2 * n + 1), points)
    offsets = np.asarray(values[:, 0])
    slopes = np.swapaxes(values[:, 1:] - values[:, :1], 1, 2)

    def rate(i, state):
        mean, covariance = state[0], state[1:]
        spread = slopes[i] @ covariance
        of_covariance = spread + spread.T + sigma**2 * np.eye(2)
        return np.concatenate([[slopes[i] @ mean + offsets[i]], of_covariance])

    state, h = np.concatenate([MEANS[:1], COVARIANCES[0]]), 1 / n
    for i in range(0, 2 * n, 2):
        k1 = rate(i, state)
        k2 = rate(i + 1, state + h / 2 * k1)
        k3 = rate(i + 1, state + h / 2 * k2)
        k4 = rate(i + 2, state + h * k3)
        state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return state, np.concatenate([MEANS[1:], COVARIANCES[1]])


class Target(NamedTuple):
    """A field of one scalar parameter, and two values that are to be equal."""

    field: Callable[[Any], Any]
    truth: Callable[[], Any]


TARGETS = {
    "linear_field": Target(
        lambda theta: lambda t, x, args: fj.linear_field(t, x, theta), linear_solve
    ),
    "linear_flow": Target(
        lambda theta: lambda t, x, args: fj.linear_flow(t, x, theta), linear_closed_form
    ),
    "ornstein_uhlenbeck": Target(
        lambda theta: fj.ornstein_uhlenbeck(theta, 0.5).drift, moments_of_ornstein_uhlenbeck
    ),
    "langevin": Target(
        lambda theta: fj.langevin(fj.Gaussian(0.3, 0.7).score, theta).drift, langevin_fields
    ),
    "Gaussian": Target(
        lambda theta: fj.Gaussian(0.3, theta).velocity(fj.CondOT()),
        lambda: continuity(fj.Gaussian(MEANS[0], COVARIANCES[0])),
    ),
    "Gaussian, by standard deviations": Target(
        lambda theta: fj.Gaussian(theta, 0.7).velocity(fj.CondOT()),
        lambda: continuity(fj.Gaussian(MEANS[0], np.array([0.5, 0.8]))),
    ),
    "GaussianMixture": Target(
        lambda theta: fj.GaussianMixture(WEIGHTS, MEANS[:, 0], theta).velocity(fj.CondOT()),
        lambda: continuity(fj.GaussianMixture(WEIGHTS, MEANS, covariances=COVARIANCES)),
    ),
    "gaussian_bridge": Target(
        lambda theta: (
            fj.gaussian_bridge(fj.Gaussian(0.3, 1.0), fj.Gaussian(-1.0, 0.5), theta).drift
        ),
        moments_of_bridge,
    ),
}

TABLES = {"step": STEPS, "adjoint": ADJOINTS, "schedule": SCHEDULES, "target": TARGETS}
every_step = pytest.mark.parametrize("name", STEPS)
every_adjoint = pytest.mark.parametrize("name", ADJOINTS)
every_schedule = pytest.mark.parametrize("name", SCHEDULES)
every_target = pytest.mark.parametrize("name", TARGETS)

# --- every public name has an entry ---------------------------------------------------------------


def table_for(value):
    """The table in which a public value has its entry; None if in none."""
    module = getattr(value, "__module__", "") or ""
    steps = ("flowjax.solver.ode_steps", "flowjax.solver.sde_steps", "flowjax.samplers.")
    if module.startswith("flowjax.targets"):
        return "target"
    # It takes fields of two times alone: tests/losses/test_two_times.py.
    if value is fj.flow_map:
        return None
    if isinstance(value, fj.Stepper) or (inspect.isfunction(value) and module.startswith(steps)):
        return "step"
    if inspect.isclass(value) and issubclass(value, fj.Schedule) and value is not fj.Schedule:
        return "schedule"
    return "adjoint" if inspect.isclass(value) and hasattr(value, "scan") else None


def without_entry(names):
    """The names, of a dict from names to values, that belong in a table and have no entry."""
    told = {
        (table, entry.partition("(")[0].partition(",")[0])
        for table, entries in TABLES.items()
        for entry in entries
    }
    tables = {name: table_for(value) for name, value in names.items()}
    return [name for name, table in tables.items() if table and (table, name) not in told]


PUBLIC = {name: getattr(fj, name) for name in fj.__all__}


def test_every_public_step_adjoint_schedule_and_target_has_an_entry():
    assert without_entry(PUBLIC) == []


@pytest.mark.parametrize("like", ["heun", "ddim", "unipc", "edm_heun", "EDM", "Direct", "Gaussian"])
def test_a_public_name_without_an_entry_is_caught(like):
    assert without_entry(PUBLIC | {"planted": PUBLIC[like]}) == ["planted"]


# --- what a step keeps ----------------------------------------------------------------------------


def end_of(name, x=X0, theta=THETA, undefined_at=NOWHERE, ts=TIMES, **noise):
    """The end of the solve that most promises are tried on; its program is compiled once."""
    step, kind, *_ = STEPS[name]
    theta = theta if isinstance(theta, dict) else of_each_kind(theta)
    if KINDS[kind].noisy and not noise:
        noise = {"key": KEY}
    return fj.solve(KINDS[kind].field, x, ts, (theta, undefined_at), step=step, **noise)


@functools.cache
def increments_of(name):
    """Those of the key, where the step asks for noise."""
    noisy = KINDS[STEPS[name].kind].noisy
    return {"increments": fj.brownian_increments(KEY, TIMES, X0)} if noisy else {}


def check_order(entry):
    error = KINDS[entry.kind].error
    shown = np.log2(error(entry.step, N) / error(entry.twice or entry.step, 2 * N))
    assert abs(shown - entry.order) < 0.2, f"the order is {shown:.2f}, not {entry.order}"


@every_step
def test_the_order_of_a_step_is_that_of_its_theory(name):
    check_order(STEPS[name])


def root_for_length(sde, t0, t1, x, args, dw):
    return fj.plus(x, (jnp.sqrt(t1 - t0), sde.drift(t0, x, args)), (sde.diffusion(t0, x, args), dw))


def more_noise(field, t0, t1, x, args, dw):
    return fj.ancestral(field, t0, t1, x, args, 1.05 * dw)


@pytest.mark.parametrize(
    "planted",
    [
        Step(fj.euler, "field", 2),
        Step(root_for_length, "Ito", 0.5),
        Step(fj.euler_maruyama, "Stratonovich", 0.5),
        Step(more_noise, "velocity with noise", 1),
    ],
    ids=["half the order", "sqrt(h) for h", "Ito for Stratonovich", "5 % more noise"],
)
def test_a_planted_fault_is_caught_by_the_order(planted):
    with pytest.raises(AssertionError, match="the order is"):
        check_order(planted)


@every_step
def test_a_step_calls_the_field_at_its_start_and_at_its_end_if_it_says_so(name):
    """Seen by a field that is NaN at one time."""
    ts = np.linspace(0, 1, N + 1)
    assert np.all(np.isfinite(end_of(name, ts=ts)))
    assert np.all(np.isnan(end_of(name, ts=ts, undefined_at=0.0)))
    at_end = np.isnan(end_of(name, ts=ts, undefined_at=1.0))
    assert np.all(at_end == getattr(STEPS[name].step, "calls_end", False))


CURVED = as_field(lambda t, x, theta: jnp.sin(3 * x))
CURVED_VELOCITY = fj.velocity(CURVED, fj.CondOT())
CURVED_FIELDS = {
    "Ito": fj.SDE(CURVED, as_field(proportional)),
    "Stratonovich": fj.SDE(CURVED, as_field(proportional)),
    "velocity with noise": CURVED_VELOCITY,
    "with_noise": fj.with_noise(CURVED_VELOCITY, lambda t: 1 - t),
}


@every_step
def test_a_step_says_whether_it_is_gaussian(name):
    """Given the state, linear in dw and element by element: the sum of two increments adds up."""
    step, kind, *_ = STEPS[name]
    says = getattr(step, "gaussian", False)
    if not KINDS[kind].noisy or isinstance(step, fj.Stepper):
        assert not says
        return
    t0, t1 = jnp.array([0.4, 0.5])
    args = (of_each_kind(THETA), NOWHERE)

    def end(dw):
        return step(CURVED_FIELDS[kind], t0, t1, jnp.asarray(X0), args, dw)

    dw, other = jnp.array([0.3, -0.2, 0.5]), jnp.array([-0.1, 0.4, 0.2])
    left = end(dw + other) - end(dw) - end(other) + end(0 * dw)
    by_noise = jax.jacobian(end)(dw)
    across = by_noise - jnp.diag(jnp.diag(by_noise))
    assert says == bool(jnp.all(jnp.abs(left) < 1e-12) & jnp.all(jnp.abs(across) < 1e-12))


@every_step
def test_noise_is_asked_for_or_refused(name):
    dw = np.ones((N, len(X0)))
    if KINDS[STEPS[name].kind].noisy:
        with pytest.raises((TypeError, ValueError), match="key"):
            end_of(name, key=None)
        with pytest.raises(ValueError, match="both"):
            end_of(name, key=KEY, increments=dw)
    else:
        for noise in ({"key": KEY}, {"increments": dw}):
            with pytest.raises(ValueError, match="draws no noise"):
                end_of(name, **noise)


@every_step
def test_a_field_of_another_kind_is_refused(name):
    step, kind, *_ = STEPS[name]
    noise = {"key": KEY} if KINDS[kind].noisy else {}
    with pytest.raises(TypeError, match=r"SDE|Velocity"):
        fj.solve(KINDS[kind].refused, X0, TIMES, (THETA, NOWHERE), step=step, **noise)


@every_step
def test_the_leaves_of_a_state_are_solved_alike_each_in_its_own_dtype(name):
    """In float32 and, carried in float32, in bfloat16; against one float64 array.

    Where there is noise it is given as the increments of the key, so these are compared too.
    """

    def leaves(array):
        single, half = array[..., :2], array[..., 2]
        return {"a": jnp.asarray(single, jnp.float32), "b": (jnp.asarray(half, jnp.bfloat16),)}

    def kinds(tree):
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)

    noise = {kind: leaves(values) for kind, values in increments_of(name).items()}
    got, expected = end_of(name, leaves(X0), **noise), end_of(name)
    assert kinds(got) == kinds(leaves(X0))
    np.testing.assert_allclose(got["a"], expected[:2], rtol=1e-5)
    # What the field takes and returns, an increment and the end are rounded to 2^-8 of them.
    np.testing.assert_allclose(np.float64(got["b"][0]), expected[2], rtol=3 * 2**-8)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_thousand_steps_in_half_precision_add_up(dtype):
    """Steps of 0.0025 that would be lost in a bfloat16 of 1."""
    half = jnp.dtype(dtype)
    field = lambda t, x, args: jnp.full_like(x, 2.5)  # noqa: E731
    end = fj.solve(field, jnp.ones(2, half), fj.uniform_grid(1000))
    assert end.dtype == half
    np.testing.assert_array_equal(np.float64(end), 3.5)


def assert_gradients(gradients, expected, rtol):
    """Of the mean of a number of each kind: all alike, and a third of what is expected.

    All of them may be batched, along the same axis.
    """
    for kind, gradient in gradients.items():
        np.testing.assert_allclose(3 * gradient, expected, rtol=rtol, err_msg=f"by the {kind}")


@every_step
def test_gradients_by_numbers_of_all_kinds_are_right_eager_and_as_a_compiled_batch(name):
    """By central differences; the batch is compared with the solves one by one.

    Where there is noise it is differentiated by its increments, which takes less to compile than by
    its key.
    """

    def loss(theta, x, **noise):
        return jnp.sum(end_of(name, x, theta, **noise) * np.array([1.0, -2.0, 3.0]))

    def by_increments(theta, x):
        return loss(theta, x, **increments_of(name))

    h, batch, theta = 1e-5, np.stack([X0, 1.2 * X0]), of_each_kind(THETA)
    exact = [(loss(THETA + h, x) - loss(THETA - h, x)) / (2 * h) for x in batch]
    assert_gradients(jax.grad(by_increments)(theta, X0), exact[0], rtol=1e-7)
    derive = jax.jit(jax.vmap(jax.value_and_grad(by_increments), (None, 0)))
    values, gradients = derive(theta, batch)
    np.testing.assert_allclose(values, [loss(THETA, x) for x in batch], rtol=1e-12)
    assert_gradients(gradients, exact, rtol=1e-7)


@every_step
def test_new_values_are_neither_traced_nor_compiled(name):
    end_of(name)
    before = len(traced), len(compiled)
    end_of(name, 0.9 * X0, 1.1 * THETA, ts=0.9 * TIMES)
    assert (len(traced), len(compiled)) == before


SYMMETRIC = [name for name, entry in STEPS.items() if getattr(entry.step, "symmetric", False)]


@pytest.mark.parametrize("name", SYMMETRIC)
def test_a_step_that_says_it_is_symmetric_goes_back_to_where_it_was(name):
    step, kind, *_ = STEPS[name]
    field, args, (t0, t1) = KINDS[kind].field, (THETA, NOWHERE), map(jnp.asarray, (0.2, 0.3))
    x, dw = jnp.asarray(X0), jnp.array([0.3, -0.2, 0.1])
    start = step.step(field, t0, t0, x, args, dw, step.init(field, t0, x, args))
    x1, memory = step.step(field, t0, t1, start[0], args, dw, start[1])
    back = step.step(field, t1, t0, x1, args, -dw, memory)
    jax.tree.map(lambda *pair: np.testing.assert_allclose(*pair, rtol=1e-12), back, start)


PACKAGE = Path(fj.__file__).parent


def frames_of_the_package():
    """The functions of flowjax on the stack, the innermost first."""
    frame, names = sys._getframe(), []
    while frame is not None:
        if Path(frame.f_code.co_filename).is_relative_to(PACKAGE):
            names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names


@pytest.mark.parametrize("kind", ["ODE", "SDE"])
def test_a_solve_is_traced_through_few_frames_of_the_package(kind):
    seen = []

    def field(t, x, args):
        seen.append(frames_of_the_package())
        return -x

    if kind == "ODE":
        fj.solve(field, X0, TIMES)
    else:
        fj.solve(fj.SDE(field, lambda t, x, args: 1.0), X0, TIMES, key=KEY)
    assert seen
    for frames in seen:
        assert frames[-1] == "solve"
        assert len(frames) <= 10, frames


# --- what an adjoint keeps ------------------------------------------------------------------------


def problem_of(name, view=fj.solve):
    """``(x0, ts, theta)`` to the end of the solve, or to its path."""
    adjoint, step, _ = ADJOINTS[name]
    noisy = name.endswith("with noise")
    field, noise = (GEOMETRIC, {"key": KEY}) if noisy else (RICCATI, {})
    return lambda x0, ts, theta: view(
        field, x0, ts, (theta, NOWHERE), step=step, adjoint=adjoint, **noise
    )


@functools.cache
def normals_of_the_key():
    return np.asarray(fj.brownian_increments(KEY, GRID, np.zeros(()))) / np.sqrt(np.diff(GRID))


def exact_of(name, x0, weights):
    """The states of the scheme; and of their weighted sum the derivatives in x0, ts and theta."""

    def states(x0, ts, theta):
        return np.array(ADJOINTS[name].path(x0, ts, theta, normals_of_the_key()))

    by_x0, *by_ts, by_theta = (
        np.imag(weights @ states(x0 + move[0], GRID + move[1:-1], THETA + move[-1])) / 1e-30
        for move in 1e-30j * np.eye(len(GRID) + 2)
    )
    return np.real(states(x0, GRID, THETA)), (by_x0, np.array(by_ts), by_theta)


def assert_exact(gradients, exact):
    for got, expected in zip(gradients[:2], exact[:2], strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)
    assert_gradients(gradients[2], exact[2], rtol=1e-9)


@every_adjoint
def test_an_adjoint_gives_the_discrete_scheme_and_its_exact_gradient(name):
    """In x0, the times and numbers of all kinds; new ones are neither traced nor compiled."""
    derive = jax.value_and_grad(problem_of(name), argnums=(0, 1, 2))
    of_the_end = np.eye(len(GRID))[-1]
    for x0 in (1.3, 0.7):
        before = len(traced), len(compiled)
        value, gradients = derive(x0, GRID, of_each_kind(THETA))
        states, exact = exact_of(name, x0, of_the_end)
        np.testing.assert_allclose(value, states[-1], rtol=1e-12)
        assert_exact(gradients, exact)
    assert (len(traced), len(compiled)) == before


@every_adjoint
def test_the_paths_of_a_compiled_batch_and_their_gradients_are_exact_too(name):
    weights, starts = np.cos(np.arange(len(GRID))), np.array([1.3, 0.7])

    def loss(x0, ts, theta):
        path = problem_of(name, fj.trajectory)(x0, ts, theta)
        return jnp.sum(weights * path), path

    derive = jax.vmap(jax.grad(loss, argnums=(0, 1, 2), has_aux=True), (0, None, None))
    gradients, paths = jax.jit(derive)(starts, GRID, of_each_kind(THETA))
    for i, x0 in enumerate(starts):
        states, exact = exact_of(name, x0, weights)
        np.testing.assert_allclose(paths[i], states, rtol=1e-12)
        assert_exact(jax.tree.map(lambda leaf: leaf[i], gradients), exact)  # noqa: B023


# --- what a schedule keeps ------------------------------------------------------------------------


WHOLE = np.linspace(0, 1, 11)
INSIDE, ENDS = slice(1, -1), np.array([0, -1])


def values_of(schedule, t):
    """What a schedule says of a time."""
    log_snr = schedule.log_snr(t)
    beyond = jnp.full_like(log_snr, jnp.inf)
    return {
        "alpha and sigma": schedule(t),
        "rates": schedule.rates(t),
        "half_variance_rate": schedule.half_variance_rate(t),
        "log_snr": log_snr,
        "time_at": schedule.time_at(log_snr),
        "time_at beyond": (schedule.time_at(-beyond), schedule.time_at(beyond)),
    }


@functools.cache
def compiled_values(name, dtype="float64"):
    """At WHOLE; in float64 as a batch."""
    schedule = SCHEDULES[name].make(*SCHEDULES[name].parameters)
    evaluate = functools.partial(values_of, schedule)
    if dtype == "float64":
        evaluate = jax.vmap(evaluate)
    return jax.jit(evaluate)(jnp.asarray(WHOLE, dtype))


def formulas_of(name):
    """The same by the formulas, in float64."""
    _, parameters, alpha, variance = SCHEDULES[name]
    with np.errstate(divide="ignore"):
        a, s2 = alpha(WHOLE, *parameters), variance(WHOLE, *parameters)
        a_rate, s2_rate = (
            np.imag(f(WHOLE + 1e-30j, *parameters)) / 1e-30 for f in (alpha, variance)
        )
        return {
            "alpha and sigma": (a, np.sqrt(s2)),
            "rates": (a_rate, s2_rate / 2 / np.where(s2 > 0, np.sqrt(s2), np.nan)),
            "half_variance_rate": s2_rate / 2,
            "log_snr": 2 * np.log(a) - np.log(s2),
            "time_at": WHOLE,
            "time_at beyond": (0 * WHOLE, 0 * WHOLE + 1),
        }


def assert_all_close(got, expected, at, **tolerance):
    """At the times that `at` selects."""

    def compare(got, expected):
        np.testing.assert_allclose(got[at], expected[at], **tolerance)

    jax.tree.map(compare, got, expected)


@every_schedule
def test_a_schedule_is_its_formulas(name):
    got, expected = compiled_values(name), formulas_of(name)
    assert_all_close(got, expected, INSIDE, rtol=1e-9, atol=1e-12)


@every_schedule
def test_both_ends_of_a_schedule_are_exact(name):
    """But for the rate of a sigma that is zero, which may be infinite."""
    got, expected = compiled_values(name), formulas_of(name)
    got, expected = ({**each, "rates": each["rates"][0]} for each in (got, expected))
    assert_all_close(got, expected, ENDS, rtol=1e-9, atol=1e-12)
    for value, formula in zip(got["alpha and sigma"], expected["alpha and sigma"], strict=True):
        np.testing.assert_array_equal(value[ENDS] == 0, formula[ENDS] == 0)


@every_schedule
def test_what_a_schedule_says_is_of_the_dtype_of_the_time_but_at_least_float32(name):
    got = compiled_values(name, "float32")
    assert_all_close(got, formulas_of(name), INSIDE, rtol=3e-5, atol=1e-6)
    schedule = SCHEDULES[name].make(*SCHEDULES[name].parameters)
    of_half = jax.eval_shape(values_of, schedule, jnp.asarray(0.5, jnp.bfloat16))
    for values, dtype in (
        (compiled_values(name), "float64"),
        (got, "float32"),
        (of_half, "float32"),
    ):
        assert {str(leaf.dtype) for leaf in jax.tree.leaves(values)} == {dtype}


@every_schedule
def test_a_schedule_that_is_not_compiled_says_the_same(name):
    schedule, k = SCHEDULES[name].make(*SCHEDULES[name].parameters), 4
    alone = values_of(schedule, jnp.asarray(WHOLE[k]))
    jax.tree.map(
        lambda alone, batch: np.testing.assert_allclose(alone, batch[k], rtol=1e-12, atol=1e-14),
        *(alone, compiled_values(name)),
    )


@pytest.mark.parametrize("name", [name for name in SCHEDULES if SCHEDULES[name].parameters])
def test_the_gradient_by_a_parameter_of_a_schedule_is_exact(name):
    """By numbers of all kinds, compiled, and by a Python float also not compiled."""
    entry, t, weights = SCHEDULES[name], 0.4, np.array([1.0, -2.0, 0.5])
    numbers = tuple(range(len(entry.parameters)))

    def combination(*parameters):
        schedule = entry.make(*parameters)
        return weights @ jnp.stack([*schedule(t), schedule.log_snr(t)])

    def exact(i):
        parameters = np.array(entry.parameters) + 1e-30j * np.eye(len(numbers))[i]
        a, s2 = entry.alpha(t, *parameters), entry.variance(t, *parameters)
        return np.imag(weights @ [a, np.sqrt(s2), np.log(a**2 / s2)]) / 1e-30

    expected, derive = [exact(i) for i in numbers], jax.grad(combination, numbers)
    np.testing.assert_allclose(derive(*entry.parameters), expected, rtol=1e-9)
    for kind in of_each_kind(0.0):
        parameters = [of_each_kind(value)[kind] for value in entry.parameters]
        np.testing.assert_allclose(jax.jit(derive)(*parameters), expected, rtol=1e-9)


# --- what a target keeps --------------------------------------------------------------------------


@every_target
def test_a_target_is_what_its_truth_says(name):
    got, expected = TARGETS[name].truth()
    jax.tree.map(
        lambda *pair: np.testing.assert_allclose(*pair, rtol=1e-8, atol=1e-10), got, expected
    )


@functools.cache
def programs_of(name):
    """The field of a target as a function of (theta, x), at one time, and its derivative."""

    def value(theta, x):
        return TARGETS[name].field(theta)(0.4, x, None)

    return value, jax.jit(value), jax.jit(jax.vmap(jax.value_and_grad(value), (None, 0)))


@every_target
def test_the_field_of_a_target_is_of_the_dtype_of_the_state_compiled_or_not(name):
    plain, value, _ = programs_of(name)
    x = jnp.asarray(0.5)
    expected = value(THETA, x)
    np.testing.assert_allclose(plain(THETA, x), expected, rtol=1e-12)
    for dtype, rtol in (("float32", 1e-5), ("bfloat16", 2**-8)):
        got = value(THETA, x.astype(dtype))
        assert got.dtype == dtype
        np.testing.assert_allclose(np.float64(got), expected, rtol=rtol)


@every_target
def test_the_field_of_a_target_has_gradients_by_numbers_of_all_kinds(name):
    """In a compiled batch; by central differences of the values one by one."""
    _, value, batch = programs_of(name)
    h, x = 1e-5, jnp.asarray(X0)
    exact = [(value(THETA + h, one) - value(THETA - h, one)) / (2 * h) for one in x]
    for theta in of_each_kind(THETA).values():
        values, gradients = batch(theta, x)
        np.testing.assert_allclose(values, [value(THETA, one) for one in x], rtol=1e-12)
        np.testing.assert_allclose(gradients, exact, rtol=1e-7)
