"""Row posterior: how far from a posterior that is known the samples of each method are.

The prior is a mixture of 25 Gaussians of unit covariance with equal weights, at (-8i, -8j) for i
and j from -2 to 2, repeated to d dimensions, with its exact denoiser. The observation is A x plus
standard normal noise, A = U diag(s) V^T with U and V uniform orthogonal and s sorted uniform
numbers: the setting of Cardoso et al., "Monte Carlo guided diffusion for Bayesian linear inverse
problems", 2023, arXiv 2308.07983. The distance of 1000 samples to 1000 of the posterior is the
sliced 1-Wasserstein distance; that of two sets of the posterior is the floor.
"""

from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import flowjax as fj
from benchmarks.record import Result, counted
from benchmarks.rows import Case, Say
from benchmarks.timing import FULL, Settings, spread

_SAMPLES, _PROJECTIONS = 1000, 1000
_OBSERVATIONS = (1, 2, 4)
# By the dimension: seeds of a full run. In the largest ten minutes for each number of observations.
_SEEDS = {8: 20, 80: 20, 800: 20}
_FLOOR = "two sets of the posterior"
# Of one element of the data.
_DATA_STD = float(np.sqrt(1 + 128))


class Problem(NamedTuple):
    """A linear observation, and the posterior as a mixture of Gaussians of one covariance."""

    matrix: np.ndarray
    observed: np.ndarray
    weights: np.ndarray
    means: np.ndarray
    root: np.ndarray

    def sample(self, random: np.random.Generator) -> np.ndarray:
        """Samples of the posterior."""
        which = random.choice(len(self.weights), _SAMPLES, p=self.weights)
        noise = random.standard_normal((_SAMPLES, len(self.root)))
        return self.means[which] + noise @ self.root.T


class Denoiser(eqx.Module):
    """E[x_1 | x_t] of the prior."""

    means: jax.Array

    def __call__(self, t: jax.Array, x: jax.Array, args: None) -> jax.Array:
        alpha, sigma = fj.CondOT()(t)
        variance = alpha**2 + sigma**2
        apart = x - alpha * self.means
        shares = jax.nn.softmax(-jnp.sum(apart**2, axis=1) / (2 * variance))
        return (alpha * x + sigma**2 * (shares @ self.means)) / variance


class Linear(eqx.Module):
    """The operator of the observation."""

    matrix: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.matrix @ x


def cases() -> list[Case]:
    """The cases of this row."""
    return [
        Case("posterior", f"d = {d}, dim y = {m}", partial(_distances, d, m))
        for d in _SEEDS
        for m in _OBSERVATIONS
    ]


def _distances(d: int, m: int, settings: Settings, say: Say) -> list[Result]:
    full = settings.name == FULL.name
    seeds, steps = (_SEEDS[d], 200) if full else (1, 20)
    draw = jax.jit(partial(drawn, steps=steps, samples=_SAMPLES))
    found: dict[str, list[float]] = {}
    for seed in range(seeds):
        say(f"problem {seed + 1} of {seeds}")
        random = np.random.default_rng([d, m, seed])
        problem = drawn_problem(random, d, m)
        truth = problem.sample(random)
        sets = {_FLOOR: problem.sample(random)}
        numbers = (means(d), problem.matrix, problem.observed)
        sets |= draw(jax.random.key(seed), *(jnp.asarray(n, jnp.float32) for n in numbers))
        for who, samples in sets.items():
            found.setdefault(who, []).append(sliced_distance(np.asarray(samples), truth, random))
    name, floors = f"d = {d}, dim y = {m}", (_FLOOR,)
    spreads = {who: spread(values) for who, values in found.items()}
    ratios = {who: of.median / spreads[_FLOOR].median for who, of in spreads.items()}
    averages = {who: float(np.mean(values)) for who, values in found.items()}
    return [
        Result("posterior", name, "sliced distance", "", floors, spreads, ratios),
        # What papers state.
        counted("posterior", name, "mean sliced distance", "", averages, floors),
    ]


def means(d: int) -> np.ndarray:
    """Those of the prior's components."""
    plane = [(-8.0 * i, -8.0 * j) for i in range(-2, 3) for j in range(-2, 3)]
    return np.tile(plane, (1, d // 2))


def drawn_problem(random: np.random.Generator, d: int, m: int) -> Problem:
    """A problem, and its posterior in closed form."""
    prior = means(d)
    left, right = (np.linalg.qr(random.standard_normal((n, m)))[0] for n in (m, d))
    matrix = left @ np.diag(np.sort(random.uniform(size=m))) @ right.T
    x = prior[random.integers(len(prior))] + random.standard_normal(d)
    observed = matrix @ x + random.standard_normal(m)
    covariance = matrix @ matrix.T + np.eye(m)
    gain = np.linalg.solve(covariance, matrix).T
    residuals = observed - prior @ matrix.T
    logs = -np.einsum("km,km->k", residuals, np.linalg.solve(covariance, residuals.T).T) / 2
    weights = np.exp(logs - logs.max())
    root = np.linalg.cholesky(np.eye(d) - gain @ matrix)
    return Problem(matrix, observed, weights / weights.sum(), prior + residuals @ gain.T, root)


def drawn(
    key: jax.Array,
    prior: jax.Array,
    matrix: jax.Array,
    observed: jax.Array,
    *,
    steps: int,
    samples: int,
) -> dict[str, jax.Array]:
    """Samples of each method, by its name."""
    v = fj.velocity(Denoiser(prior), fj.CondOT(), "data")
    given: Any = (observed, Linear(matrix), 1.0)
    velocities = {
        "DPS": fj.inverse.dps(v, *given),
        "PiGDM, c = 1": fj.inverse.pigdm(v, *given),
        "PiGDM, c = 11": fj.inverse.pigdm(v, *given, data_std=_DATA_STD),
        "MMPS": fj.inverse.mmps(v, *given),
    }
    init, later = v.schedule.prior(prior.shape[1:]).sample, fj.uniform_grid(steps, 1e-3)
    sets = {
        who: fj.sample(key, posterior, init, later, samples, step=fj.ancestral)
        for who, posterior in velocities.items()
    }
    observation, ts = fj.inverse.Observation(*given), fj.uniform_grid(steps)
    particles = fj.inverse.twisted_smc(key, v, observation, init, ts, samples, data_std=_DATA_STD)
    return {**sets, "twisted SMC": particles.samples}


def sliced_distance(x: np.ndarray, y: np.ndarray, random: np.random.Generator) -> float:
    """The mean 1-Wasserstein distance of two sets of one size along random lines."""
    lines = random.standard_normal((x.shape[1], _PROJECTIONS))
    lines /= np.linalg.norm(lines, axis=0)
    return float(np.mean(np.abs(np.sort(x @ lines, axis=0) - np.sort(y @ lines, axis=0))))
