"""From 8 Gaussians to two moons, by independent pairs and by optimal transport on each batch."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import optax
from matplotlib.figure import Figure

import flowjax as fj


def main(out="out/transport", steps=4000):
    model_key, fit_key, start_key, end_key = jax.random.split(jax.random.key(0), 4)
    x0, moons = fj.data.eight_gaussians(start_key, 1000), fj.data.moons(end_key, 1000)
    figure = Figure(figsize=(9, 4.5), dpi=120, layout="constrained")
    for ax, couple in zip(figure.subplots(1, 2), ("independent", "exact"), strict=True):

        def batch(key, i, coupling=getattr(fj.couplings, couple)):
            keys = jax.random.split(jax.random.fold_in(key, i), 3)
            ends = fj.data.eight_gaussians(keys[1], 256), fj.data.moons(keys[2], 256)
            return coupling(keys[0], *ends)

        network = fj.models.MLP((2,), width=64, depth=3, key=model_key)
        loss = lambda model, pair, key: fj.losses.flow_matching(model, pair.x1, key, x0=pair.x0)
        how = {"optimizer": optax.adam(1e-3), "steps": steps, "ema": 0.999, "progress": True}
        state, _ = fj.training.fit(network, loss, batch, fit_key, **how)
        v = fj.velocity(fj.training.averaged(state), fj.CondOT(), coupled=True)
        paths = jax.vmap(lambda x, v=v: fj.trajectory(v, x, fj.uniform_grid(100), every=10))(x0)
        energy = 10 * jnp.sum(jnp.diff(paths, axis=1) ** 2) / len(paths)
        pairs = fj.couplings.exact(end_key, paths[:, -1], moons)
        distance = jnp.sqrt(jnp.mean(jnp.sum((pairs.x0 - pairs.x1) ** 2, axis=1)))
        title = f"{couple}: energy {energy:.1f}, 2-Wasserstein distance {distance:.2f}"
        print(title)
        ax.plot(*paths[:300].T, "k-", linewidth=0.2)
        ax.plot(*paths[:, [0, -1]].T, ".", markersize=2)
        ax.set(title=title, aspect="equal")
    pathlib.Path(out).mkdir(parents=True, exist_ok=True)
    figure.savefig(f"{out}/transport.png")


if __name__ == "__main__":
    main(*sys.argv[1:2])
