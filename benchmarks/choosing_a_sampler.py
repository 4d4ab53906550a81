"""The picture of docs/choosing_a_sampler.md: ``python benchmarks/choosing_a_sampler.py [PNG]``.

On the left, samplers without noise: the mean distance of the end states from those of the exact
flow, on the mixture in three dimensions of `known_maps`. On the right, those with noise, on a
mixture in one dimension: the 1-Wasserstein distance of 2^16 samples from the exact quantiles. Every
number is a function of the methods alone; a run takes one to two minutes on a CPU.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy import stats

import flowjax as fj
from benchmarks.known_maps import known_maps

PICTURE = ROOT / "docs" / "images" / "choosing_a_sampler.png"
CALLS = (4, 6, 10, 20, 50, 100)
SAMPLES = 2**16
MIXTURE = np.array([0.3, 0.7]), np.array([-2.0, 2.0]), np.array([0.5, 0.5])

# By name: the step, its grid, the calls of the model in a step.
WITHOUT_NOISE = {
    # Under CondOT this is ddim too.
    "euler, uniform_grid": (fj.euler, fj.uniform_grid, 1),
    "heun, uniform_grid": (fj.heun, fj.uniform_grid, 2),
    "rk4, uniform_grid": (fj.rk4, fj.uniform_grid, 4),
    "edm_heun(), uniform_grid": (fj.edm_heun(), fj.uniform_grid, 2),
    "dpmpp_2m, beta_grid": (fj.dpmpp_2m, fj.beta_grid, 1),
    "unipc, beta_grid": (fj.unipc, fj.beta_grid, 1),
    "adams(), beta_grid": (fj.adams(), fj.beta_grid, 1),
}
# By name: what is added to the velocity, and the step.
WITH_NOISE = {
    "with_noise(v, 1 - t), euler_maruyama": (lambda v: fj.with_noise(v, lambda t: 1 - t), None),
    "ancestral": (lambda v: v, fj.ancestral),
    "dpmpp_2m_sde": (lambda v: v, fj.dpmpp_2m_sde),
}


def errors_without_noise() -> dict[str, list[tuple[int, float]]]:
    """By sampler: (calls, mean distance from the exact end)."""
    one = known_maps()[-1]
    target = fj.GaussianMixture(*map(jnp.float32, (one.weights, one.means, one.stds)))
    v, end = target.velocity(fj.CondOT()), one.states(np.pi / 2)

    def error(step, ts):
        alpha, sigma = map(float, v.schedule(ts[0]))
        x0 = one.states(np.arctan2(alpha, sigma)) * np.hypot(alpha, sigma)
        x1 = jax.vmap(lambda x: fj.solve(v, x, ts, step=step))(jnp.float32(x0))
        return float(np.linalg.norm(x1 - end, axis=-1).mean())

    return {
        name: [(n, error(step, grid(n // calls))) for n in CALLS if n >= 2 * calls]
        for name, (step, grid, calls) in WITHOUT_NOISE.items()
    }


def errors_with_noise() -> dict[str, list[tuple[int, float]]]:
    """By sampler: (calls, 1-Wasserstein distance); that of exact samples is "exact samples"."""
    target = fj.GaussianMixture(*map(jnp.float32, MIXTURE))
    v, key = target.velocity(fj.CondOT()), jax.random.key(0)
    exact = quantiles((np.arange(SAMPLES) + 0.5) / SAMPLES)

    def distance(x):
        return float(np.mean(np.abs(np.sort(x) - exact)))

    def error(field, step, n):
        ts = fj.uniform_grid(n)
        return distance(fj.sample(key, field, jax.random.normal, ts, SAMPLES, step=step))

    found = {
        name: [(n, error(field(v), step, n)) for n in CALLS]
        for name, (field, step) in WITH_NOISE.items()
    }
    floor = distance(jax.vmap(target.sample)(jax.random.split(key, SAMPLES)))
    return found | {"exact samples": [(n, floor) for n in CALLS]}


def quantiles(levels: np.ndarray) -> np.ndarray:
    """Where the mixture's distribution function has these values: interpolated from a fine grid."""
    weights, means, stds = MIXTURE
    x = np.linspace(-6, 6, 200_001)
    return np.interp(levels, stats.norm.cdf((x[:, None] - means) / stds) @ weights, x)


def draw(left: dict, right: dict, path: Path) -> None:
    figure = Figure(figsize=(10, 5.6), dpi=110, layout="constrained")
    colours = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7f7f7f", "#000"]
    markers = "osD^vP*X"
    for ax, lines in zip(figure.subplots(1, 2), (left, right), strict=True):
        for (name, points), colour, marker in zip(lines.items(), colours, markers, strict=False):
            style = {"color": colour, "marker": marker, "markersize": 5}
            if name == "exact samples":
                style = {"color": "black", "linestyle": ":"}
            ax.loglog(*zip(*points, strict=True), label=name, linewidth=1.4, **style)
        ax.set_xlabel("calls of the model")
        ax.set_xticks(CALLS, [str(calls) for calls in CALLS])
        ax.minorticks_off()
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=8.5, loc="lower left" if lines is left else "upper right")
    first, second = figure.axes
    first.set(title="without noise", ylabel="mean distance from the exact end of the flow")
    second.set(title="with noise", ylabel="1-Wasserstein distance from the data")
    figure.savefig(path)


def main() -> None:
    left, right = errors_without_noise(), errors_with_noise()
    for name, points in {**left, **right}.items():
        print(f"{name:40}", *(f"{calls}: {error:.2g}" for calls, error in points))
    draw(left, right, Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE)


if __name__ == "__main__":
    main()
