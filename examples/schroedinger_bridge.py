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
from flowjax import plot

NUM, LIMIT = 8192, (5**0.5 - 1) / 2
optimizer, ts = optax.adam(1e-3), fj.uniform_grid(50)


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


def bridge(key, data, rounds, steps):
    """The SDE from the first data set to the second, and the pairs that it draws in each round."""
    model_key, fit_key, key = jax.random.split(key, 3)
    network = fj.models.MLP(data[0].shape[1:], width=128, depth=2, key=model_key)
    states, pairs, drawn = [None, None], data, []
    for i in range(2 * rounds):
        way = i % 2
        how = {"optimizer": optimizer, "steps": steps, "batch_size": 256, "ema": 0.995}
        states[way], _ = fj.training.fit(
            Drift(network), loss, pairs, fit_key, state=states[way], **how
        )
        sde = fj.SDE(fj.training.averaged(states[way]), unit)
        sample_key, start = jax.random.fold_in(key, i), data[way]
        ends = fj.sample_pairs(sample_key, sde, given, ts, NUM, args=start, args_axes=0)
        drawn += [] if way else [ends]
        pairs = ends[::-1]
    return fj.SDE(fj.training.averaged(states[0]), unit), drawn


def moments(pairs):
    """Mean and variance of what a drift leads to, and its covariance with where it began."""
    x0, x1 = pairs
    covariance = jnp.mean((x0 - x0.mean(axis=0)) * (x1 - x1.mean(axis=0)))
    return float(x1.mean()), float(x1.var(axis=0).mean()), float(covariance)


def main(out="out/schroedinger_bridge", rounds=5, steps=1500):
    rows = []
    for dimension in (5, 20):
        keys = jax.random.split(jax.random.key(dimension), 3)
        data = [m + jax.random.normal(k, (NUM, dimension)) for m, k in zip((-1, 1), keys[1:])]
        sde, drawn = bridge(keys[0], data, rounds, steps)
        for number, (mean, variance, covariance) in enumerate(map(moments, drawn)):
            print(f"{dimension} {number} {mean:.3f} {variance:.3f} {covariance:.3f}", flush=True)
    return rows


if __name__ == "__main__":
    main(*sys.argv[1:2])
