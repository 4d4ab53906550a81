"""From 8 Gaussians to two moons, by independent pairs and by optimal transport on each batch.

Pairs of optimal transport cross less, so the paths of the flow are straighter and their energy, the
mean integral of the squared velocity, is nearly the least of any flow between the two data sets.

    python examples/transport.py 5000
"""

import sys

import jax
import jax.numpy as jnp
import optax
from matplotlib.figure import Figure

import flowjax as fj


def main(steps=5000):
    model_key, fit_key, start_key = jax.random.split(jax.random.key(0), 3)
    network, ts = fj.models.MLP((2,), width=64, depth=3, key=model_key), fj.uniform_grid(100)
    how = {"optimizer": optax.adam(1e-3), "steps": steps, "ema": 0.99, "progress": True}
    starts, figure = fj.data.eight_gaussians(start_key, 1000), Figure((9, 4.5), 120, layout="tight")

    def loss(model, pair, key):
        return fj.losses.flow_matching(model, pair.x1, key, x0=pair.x0)

    for ax, name in zip(figure.subplots(1, 2), ("independent", "exact"), strict=True):

        def batch(key, i, coupling=getattr(fj.couplings, name)):
            keys = jax.random.split(key, 3)
            x0, x1 = fj.data.eight_gaussians(keys[0], 256), fj.data.moons(keys[1], 256)
            return coupling(keys[2], x0, x1)

        state, _ = fj.training.fit(network, loss, batch, fit_key, **how)
        v = fj.velocity(fj.training.averaged(state), fj.CondOT(), coupled=True)
        paths = jax.vmap(lambda x, v=v: fj.trajectory(v, x, ts))(starts)
        energy = 100 * jnp.sum(jnp.diff(paths, axis=1) ** 2) / len(paths)
        ax.set(title=f"{name} pairs: path energy {energy:.1f}", aspect="equal")
        ax.plot(*paths[:300].T, "k-", linewidth=0.2)
        ax.plot(*paths[:, 0].T, ".", *paths[:, -1].T, ".", markersize=2)
        print(ax.get_title())
    figure.savefig("transport.png")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
