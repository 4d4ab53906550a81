"""A Schroedinger bridge between two data sets, by DSBM's iterations, beside its closed form.

Of all processes that carry one law to another it is the one nearest to Brownian motion. A drift and
the drift of the reverse are trained in turn by `losses.bridge`, each on the pairs that the other
draws from its own true end. Between N(-1, I) and N(1, I), for sigma = 1, both ends of a coordinate
have variance 1 and covariance (sqrt(5) - 1) / 2.

    python examples/schroedinger_bridge.py pictures
"""

import pathlib
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from matplotlib.figure import Figure

import flowjax as fj

NUM, ITERATIONS, STEPS = 8192, 5, 1500
# Of the covariance, after exact iterations from independent pairs.
EXACT = (0.546, 0.611, 0.617, 0.618, 0.618)
optimizer, ts = optax.adam(2e-3), fj.uniform_grid(50)


class Drift(eqx.Module):
    """A drift; the state it begins with comes as args and is not used."""

    network: fj.models.MLP

    def __call__(self, t, x, start):
        return self.network(t, x)


def loss(model, pair, key):
    return fj.losses.bridge(model, pair[1], key, x0=pair[0], sigma=1.0)


def unit(t, x, args):
    return 1.0


def given(key, start):
    return start


def bridge(key, data):
    """The pairs that are drawn in each iteration, forwards and backwards in turn."""
    model_key, fit_key, key = jax.random.split(key, 3)
    network = fj.models.MLP(data[0].shape[1:], width=128, depth=2, key=model_key)
    states, pairs, drawn = [None, None], data, []
    for i in range(ITERATIONS):
        way = i % 2
        how = {"optimizer": optimizer, "steps": STEPS, "batch_size": 256, "ema": 0.99}
        states[way], _ = fj.training.fit(
            Drift(network), loss, pairs, fit_key, state=states[way], **how
        )
        sde = fj.SDE(fj.training.averaged(states[way]), unit)
        sample_key, start = jax.random.fold_in(key, i), data[way]
        ends = fj.sample_pairs(sample_key, sde, given, ts, NUM, args=start, args_axes=0)
        drawn.append(ends)
        pairs = ends[::-1]
    return drawn


def moments(x0, x1):
    """Mean and variance of what a drift leads to, and its covariance with where it began."""
    covariance = jnp.mean(x0 * x1) - jnp.mean(x0) * jnp.mean(x1)
    return float(x1.mean()), float(x1.var(axis=0).mean()), float(covariance)


def main(out="out/bridge"):
    numbers, figure = range(1, ITERATIONS + 1), Figure((6, 4), 120, layout="constrained")
    ax = figure.add_subplot(xlabel="iteration", xticks=numbers, title="covariance of the two ends")
    for dimension in (5, 20):
        keys = jax.random.split(jax.random.key(dimension), 3)
        noise = [jax.random.normal(key, (NUM, dimension)) for key in keys[1:]]
        found = [moments(*pairs) for pairs in bridge(keys[0], (noise[0] - 1, noise[1] + 1))]
        print(f"d = {dimension}: mean, variance, covariance, in the end ±1, 1, {EXACT[-1]}")
        for number, values in zip(numbers, found, strict=True):
            print(f"  iteration {number}: " + ", ".join(f"{value:.3f}" for value in values))
        mean, variance, covariance = found[-1]
        if max(abs(abs(mean) - 1), abs(variance - 1), abs(covariance - EXACT[-1])) > 0.1:
            sys.exit("FAILED: the bridge is off")
        ax.plot(numbers, [covariance for *_, covariance in found], "o-", label=f"d = {dimension}")
    ax.plot(numbers, EXACT[:ITERATIONS], "k_", markersize=16, label="exact")
    ax.legend(frameon=False)
    pathlib.Path(out).mkdir(parents=True, exist_ok=True)
    figure.savefig(f"{out}/schroedinger_bridge.png")


if __name__ == "__main__":
    main(*sys.argv[1:2])
