"""A neural SDE: a drift and a diffusion, learnt from paths that were observed at odd times.

    dX = f(X) dt + s dW,   f a small network, s a number (so Ito's is Stratonovich's)

In truth the data are of an Ornstein-Uhlenbeck process, f(x) = -theta x and s = sigma. The model
starts where an observed path y does, and its draws X, X' are compared with y by the energy score

    E|X - y| - E|X - X'| / 2,

which is least where X has the law of y; no density and no discriminator is needed. What is compared
are the increments between neighbouring times, each divided by the root of the time between them.

Eight networks learn from a data set each. Theta is the slope of -f, by least squares under the
stationary law; the standard error is that of the mean of the eight. It takes half a minute.

References: Issa, Horvath, Lemercier, Salvi, "Non-adversarial training of neural SDEs with signature
kernel scores", 2023, arXiv 2305.16274; Gneiting, Raftery, "Strictly proper scoring rules,
prediction, and estimation", 2007, doi 10.1198/016214506000001437.
"""

import argparse
import pathlib
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from matplotlib.figure import Figure

import flowjax as fj

THETA, SIGMA, SETS, PATHS, DRAWS, STEPS = 1.0, 1.0, 8, 2048, 4, 300
TIMES = [0.0, 0.1, 0.35, 0.5, 0.9, 1.0, 1.4, 2.0]
ts, at = fj.grid_through(TIMES, max_step=0.05)
sde = fj.SDE(lambda t, x, model: model[0](x), lambda t, x, model: jnp.exp(model[1]))


def new_model(key):
    return eqx.nn.MLP("scalar", "scalar", 16, 2, jax.nn.silu, key=key), jnp.log(0.5)


def scaled_increments(path):
    return jnp.diff(path) / jnp.sqrt(jnp.diff(ts[at]))


def energy_score(model, y, key):
    def draw(key):
        path = fj.trajectory(sde, y[0], ts, model, key=key, at=at, step=fj.stochastic_heun)
        return scaled_increments(path)

    xs = jax.vmap(draw)(jax.random.split(key, DRAWS))
    to_data = jnp.linalg.norm(xs - scaled_increments(y)[None], axis=1)
    pairs = jnp.triu_indices(DRAWS, 1)
    return jnp.mean(to_data) - jnp.mean(jnp.linalg.norm(xs[pairs[0]] - xs[pairs[1]], axis=1)) / 2


def loss(models, ys, key):
    return jnp.sum(eqx.filter_vmap(energy_score)(models, ys, jax.random.split(key, SETS)))


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Learn a neural SDE.")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/neural_sde"))
    parser.add_argument("--seed", type=int, default=0, help="names all that is random")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)

    data_key, model_key, fit_key = jax.random.split(jax.random.key(options.seed), 3)
    law, fine = fj.Gaussian(0.0, SIGMA / (2 * THETA) ** 0.5), fj.grid_through(TIMES, 0.005)
    truth, heun = fj.ornstein_uhlenbeck(THETA, SIGMA), fj.stochastic_heun
    ys = fj.sample_paths(data_key, truth, law.sample, fine[0], SETS * PATHS, at=fine[1], step=heun)
    models = eqx.filter_vmap(new_model)(jax.random.split(model_key, SETS))
    how = {"optimizer": optax.adam(optax.cosine_decay_schedule(0.02, STEPS)), "steps": STEPS}
    ys = ys.reshape(PATHS, SETS, -1)
    models = fj.training.fit(models, loss, ys, fit_key, batch_size=64, **how)[0].model

    x = law.std * jnp.linspace(-3, 3, 101)
    weight = jnp.exp(jax.vmap(law.log_prob)(x))
    drifts = eqx.filter_vmap(lambda model: jax.vmap(model[0])(x))(models)
    theta, sigma = -drifts @ (weight * x) / jnp.sum(weight * x**2), jnp.exp(models[1])

    figure = Figure(figsize=(6, 4), dpi=120, layout="constrained")
    ax = figure.add_subplot(xlabel="x", title="drifts: learnt, true (dashed); density (grey)")
    ax.fill_between(x, -3, weight - 3, color="0.9")
    ax.plot(x, drifts.T, "tab:blue", linewidth=1)
    ax.plot(x, -THETA * x, "k--")
    figure.savefig(options.out / "neural_sde.png")

    for name, learnt, true in (("theta", theta, THETA), ("sigma", sigma, SIGMA)):
        mean, error = jnp.mean(learnt), jnp.std(learnt, ddof=1) / SETS**0.5
        print(f"{name} {mean:.3f} ± {error:.3f}, in truth {true}")
        if not abs(mean - true) < 8 * error:  # by chance, by Student's law, once in 5000 runs
            sys.exit(f"FAILED: {name} is off")


if __name__ == "__main__":
    main()
