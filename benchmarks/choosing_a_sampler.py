"""The pictures of docs/choosing_a_sampler.md: ``python benchmarks/choosing_a_sampler.py [FOLDER]``.

Without noise: the mean distance of the end states from those of the exact flow, on the mixture in
three dimensions of `known_maps`. With noise: the 1-Wasserstein distance of 2^16 samples from the
exact quantiles of a mixture in one dimension. Every number is a function of the methods alone. A
run takes one to two minutes on a CPU.
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

PICTURES = ROOT / "docs" / "images"
CALLS = (4, 6, 10, 20, 50, 100)
SAMPLES = 2**16
# For those who do not tell red from green (Okabe and Ito).
COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#000000"]
MARKERS = "osD^vPX"
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


def draw(title: str, measure: str, lines: dict[str, list[tuple[int, float]]], path: Path) -> None:
    figure = Figure(figsize=(7, 4.8), dpi=120, layout="constrained")
    ax = figure.subplots()
    for (name, points), colour, marker in zip(lines.items(), COLOURS, MARKERS, strict=False):
        style = {"color": colour, "marker": marker, "markersize": 5}
        if name == "exact samples":
            style = {"color": "black", "linestyle": ":"}
        ax.loglog(*zip(*points, strict=True), label=name, linewidth=1.5, **style)
    ax.set(title=title, xlabel="calls of the model", ylabel=measure)
    ax.set_xticks(CALLS, [str(calls) for calls in CALLS])
    ax.minorticks_off()
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=9, loc="lower left" if len(lines) > 5 else "upper right")
    figure.savefig(path)


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURES
    pictures = {
        "without noise": (errors_without_noise(), "mean distance from the exact end of the flow"),
        "with noise": (errors_with_noise(), "1-Wasserstein distance from the data"),
    }
    for title, (lines, measure) in pictures.items():
        for name, points in lines.items():
            print(f"{name:40}", *(f"{calls}: {error:.2g}" for calls, error in points))
        draw(title, measure, lines, folder / f"samplers_{title.replace(' ', '_')}.png")


if __name__ == "__main__":
    main()
