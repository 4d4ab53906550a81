"""Posterior sampling: one coordinate of the data is seen through noise, four methods draw the rest.

The prior is a mixture of twelve Gaussians in the plane, of different weights, with its exact flow,
which stands for a trained network. So the posterior is known too, and what a method draws is held
against it: by the weights of the modes, and by the mean squared distance of pairs under optimal
transport to samples of it, beside that of two sets of its own.

    python examples/posterior.py pictures
"""

import pathlib
import sys

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

import flowjax as fj

NUM, STEPS = 1000, 200
STD, OBSERVED, NOISE = 0.4, jnp.array(1.6), 0.5
angles = 2 * jnp.pi * jnp.arange(12.0) / 12
means = 4 * jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)
prior = fj.GaussianMixture(1 + jnp.arange(12.0), means, STD)


def first(x):
    return x[0]


def exact():
    """The posterior: each component by its likelihood, nearer to what was seen and narrower."""
    gain = STD**2 / (STD**2 + NOISE**2)
    logs = -((OBSERVED - means[:, 0]) ** 2) / (2 * (STD**2 + NOISE**2))
    centres = means.at[:, 0].add(gain * (OBSERVED - means[:, 0]))
    stds = jnp.array([STD * (1 - gain) ** 0.5, STD])
    weights = prior.weights * jnp.exp(logs)
    return fj.GaussianMixture(weights, centres, jnp.tile(stds, (12, 1)))


def upper(x):
    """The weight of the upper half of the plane."""
    return float(jnp.mean(x[:, 1] > 0))


def distance(x, y):
    pairs = fj.couplings.exact(jax.random.key(0), x, y)
    return float(jnp.mean(jnp.sum((pairs.x0 - pairs.x1) ** 2, axis=1)))


def main(out="out/posterior"):
    keys = jax.random.split(jax.random.key(1), 4)
    truth, other = (jax.vmap(exact().sample)(jax.random.split(key, NUM)) for key in keys[:2])
    v, given = prior.velocity(fj.CondOT()), (OBSERVED, first, NOISE)
    init, later = v.schedule.prior((2,)).sample, fj.uniform_grid(STEPS, 0.01)
    drawn = {"two sets of the posterior": other}
    for method in (fj.inverse.dps, fj.inverse.pigdm, fj.inverse.mmps):
        samples = fj.sample(keys[2], method(v, *given), init, later, NUM, step=fj.ancestral)
        drawn[method.__name__] = samples
    observation, ts = fj.inverse.Observation(*given), fj.uniform_grid(STEPS)
    particles = fj.inverse.twisted_smc(keys[3], v, observation, init, ts, NUM, data_std=3.0)
    drawn["twisted_smc"] = particles.samples
    found = {name: (distance(x, truth), upper(x)) for name, x in drawn.items()}
    figure = Figure((13, 3.2), 120, layout="constrained")
    for ax, (name, x) in zip(figure.subplots(1, 5), drawn.items(), strict=True):
        ax.axvspan(OBSERVED - NOISE, OBSERVED + NOISE, color="0.9", linewidth=0)
        ax.plot(*means.T, "k+")
        ax.plot(*x.T, ".", markersize=2)
        title = f"distance {found[name][0]:.2f}, above {found[name][1]:.0%}"
        ax.set(xlim=(-5.5, 5.5), ylim=(-5.5, 5.5), aspect="equal", title=f"{name}\n{title}")
        ax.set(xticks=(-4, 0, 4), yticks=(-4, 0, 4))
        print(f"{name:<26} {title}")
    pathlib.Path(out).mkdir(parents=True, exist_ok=True)
    figure.savefig(f"{out}/posterior.png")
    return found


if __name__ == "__main__":
    main(*sys.argv[1:2])
