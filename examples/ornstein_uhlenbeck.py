"""The Ornstein-Uhlenbeck process by the Euler-Maruyama method, beside that method's exact moments.

    dX = -theta X dt + sigma dW

Each path has a key of its own. With steps of h, and r = 1 - theta h, the end of the n-th step is
Gaussian, of mean x_0 r^n and variance sigma^2 h (1 - r^2n) / (1 - r^2). The script holds the mean
and the variance of 20,000 paths against these, draws some paths and the density of their ends, and
exits with an error if a moment is more than five standard errors off.

    python examples/ornstein_uhlenbeck.py pictures
"""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import flowjax as fj
from flowjax import plot

THETA, SIGMA, X0, STEPS, NUM = 2.0, 1.0, 2.0, 100, 20_000


def main(out="out", seed=0, sigma=SIGMA):
    sde, ts = fj.ornstein_uhlenbeck(THETA, sigma), fj.uniform_grid(STEPS)
    ends_key, paths_key = jax.random.split(jax.random.key(seed))
    ends = np.asarray(fj.sample(ends_key, sde, lambda key: jnp.asarray(X0), ts, NUM), float)

    h = 1 / STEPS
    r = 1 - THETA * h
    mean, variance = X0 * r**STEPS, SIGMA**2 * h * (1 - r ** (2 * STEPS)) / (1 - r**2)
    print(f"Ornstein-Uhlenbeck process by Euler-Maruyama, {NUM} paths, {STEPS} steps, at t = 1\n")
    print("              measured    exact   standard error      z")
    scores = []
    for name, measured, exact, error in (
        ("mean", ends.mean(), mean, np.sqrt(variance / NUM)),
        ("variance", ends.var(ddof=1), variance, variance * np.sqrt(2 / (NUM - 1))),
    ):
        scores.append((measured - exact) / error)
        print(f"   {name:<8}   {measured:8.4f} {exact:8.4f} {error:16.4f} {scores[-1]:+6.1f}")

    figure = Figure(figsize=(11, 4.2), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    keys = jax.random.split(paths_key, 60)
    paths = jax.vmap(lambda key: fj.trajectory(sde, X0, ts, key=key))(keys)
    draw_paths(left, ts, paths)
    density = lambda x: jnp.exp(fj.Gaussian(mean, np.sqrt(variance)).log_prob(x))  # noqa: E731
    plot.histogram(ends, density, ax=right, title="X₁ and its exact density")
    pathlib.Path(out).mkdir(parents=True, exist_ok=True)
    figure.savefig(f"{out}/ornstein_uhlenbeck.png")
    print(f"\nPicture: {out}/ornstein_uhlenbeck.png\n")
    # By chance this happens once in a million runs.
    if max(np.abs(scores)) > 5:
        sys.exit("FAILED: the moments are more than 5 standard errors off")


def draw_paths(ax, ts, paths):
    """The paths with their mean and a band of two standard deviations, in continuous time."""
    plot.trajectories(ts, paths, ax=ax, title="dX = −2X dt + dW: 60 paths from X₀ = 2")
    times = np.asarray(ts)
    centre = X0 * np.exp(-THETA * times)
    band = 2 * np.sqrt(SIGMA**2 * (1 - np.exp(-2 * THETA * times)) / (2 * THETA))
    ax.plot(times, centre, "k-", linewidth=1.5, label="mean")
    ax.plot(times, centre - band, "k--", linewidth=1, label="mean ± 2 standard deviations")
    ax.plot(times, centre + band, "k--", linewidth=1)
    ax.legend(frameon=False)


if __name__ == "__main__":
    main(*sys.argv[1:2])
