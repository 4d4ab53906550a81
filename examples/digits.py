"""Handwritten digits: a network learns the velocity from noise to images, and draws new ones.

By flow matching on scikit-learn's digits, a small network learns the velocity u_t(x, y) that
carries noise to images of the digit y. New ones are drawn by the flow, an ODE, and by an SDE with
the same marginals:

    dX = u_t(X, y) dt     and     dX = (u_t + g_t^2 / 2 score_t)(X, y) dt + g_t dW

A classifier that has seen real digits only judges how many are the digit that was asked for. Copies
of training images would be at a distance near zero from the nearest of them.

    python examples/digits.py pictures

takes about a minute on two CPU cores. It writes pictures, and the network for digit_samplers.py,
and exits with an error if too few of the digits are the right ones.
"""

import pathlib
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import SVC

import flowjax as fj
from flowjax import plot

LABELS, TS, LEAST_ACCURACY = np.repeat(np.arange(10), 100), fj.uniform_grid(100), 0.90
INIT = fj.CondOT().prior((8, 8)).sample


def main(out="out", steps=2500, seed=0):
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    train_key, film_key, *draw_keys = jax.random.split(jax.random.key(seed), 4)
    digits = fj.data.digits()
    print(f"Handwritten digits: {len(digits.train.image)} real images to train on\n")
    network, losses = trained(digits.train, train_key, steps)
    eqx.tree_serialise_leaves(out / "digits.eqx", network)

    v = fj.velocity(network, fj.CondOT())
    fields = {"flow (ODE)": v, "diffusion (SDE)": fj.with_noise(v, lambda t: 1 - t)}
    sets = {"real, held out": (np.asarray(digits.test.image), np.asarray(digits.test.label))}
    how = {"args": jnp.asarray(LABELS), "args_axes": 0, "progress": True}
    for key, (name, field) in zip(draw_keys, fields.items(), strict=True):
        sets[name] = np.asarray(fj.sample(key, field, INIT, TS, len(LABELS), **how)), LABELS
    accuracies = judged(digits.train, sets)

    figure = Figure(figsize=(6, 4), dpi=120, layout="constrained")
    plot_losses(figure.add_subplot(), np.asarray(losses))
    figure.savefig(out / "training_loss.png")
    figure = Figure(figsize=(12, 3.9), dpi=150, layout="compressed")
    for ax, (name, (images, labels)) in zip(figure.subplots(1, 3), sets.items(), strict=True):
        rows = np.stack([images[labels == digit][:8] for digit in range(10)], axis=1)
        plot.image_grid(rows.reshape(-1, 8, 8), column_names=range(10), ax=ax, title=name)
    figure.savefig(out / "digits.png", bbox_inches="tight")
    figure = Figure(figsize=(12, 3.5), dpi=150, layout="compressed")
    times, how = [f"{t:.1f}" for t in TS[::10]], {"args": jnp.arange(5), "args_axes": 0}
    for ax, (name, field) in zip(figure.subplots(1, 2), fields.items(), strict=True):
        title = f"{name}: from noise at t = 0 to digits at t = 1"
        films = fj.sample_paths(film_key, field, INIT, TS, 5, every=10, **how)
        plot.image_grid(films.reshape(-1, 8, 8), 11, column_names=times, ax=ax, title=title)
    figure.savefig(out / "noise_to_digits.png", bbox_inches="tight")
    print(f"\nPictures: {out}/digits.png, noise_to_digits.png and training_loss.png")
    if min(accuracies[name] for name in fields) < LEAST_ACCURACY:
        sys.exit(f"FAILED: less than {LEAST_ACCURACY:.0%} are the digits that were asked for")


def trained(data, key, steps):
    """A network that has learned the velocity u_t(x, y) of the digits, and its losses."""
    model_key, fit_key = jax.random.split(key)
    network = fj.models.MLP((8, 8), width=256, depth=3, num_classes=10, key=model_key)
    rate = optax.warmup_cosine_decay_schedule(0.0, 1e-3, 100, max(steps, 101))
    how = {"optimizer": optax.adamw(rate), "steps": steps, "batch_size": 128, "progress": True}

    def loss(network, digit, key):
        return fj.losses.flow_matching(network, digit.image, key, digit.label)

    state, losses = fj.training.fit(network, loss, data, fit_key, **how)
    return state.model, losses


def judged(real, sets):
    """Prints how each set compares with the real digits to train on; the share of right digits."""
    flat = lambda images: np.reshape(images, (len(images), -1))  # noqa: E731
    classifier = SVC(C=10).fit(flat(real.image), np.asarray(real.label))
    neighbours = NearestNeighbors(n_neighbors=1).fit(flat(real.image))
    print("\n                      right digit   distance to the nearest real one   spread of")
    print("                                        median            least          a digit")
    accuracies = {}
    for name, (images, labels) in sets.items():
        points = flat(images)
        accuracies[name] = float(classifier.score(points, labels))
        distances = neighbours.kneighbors(points)[0]
        spread = np.mean([points[labels == digit].std(axis=0).mean() for digit in range(10)])
        median, least = np.median(distances), distances.min()
        print(f"   {name:<18} {accuracies[name]:11.1%} {median:13.2f} {least:16.2f} {spread:16.3f}")
    return accuracies


def plot_losses(ax, losses):
    window = max(1, len(losses) // 50)
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    ax.plot(losses, alpha=0.3, linewidth=0.8, label="each batch")
    ax.plot(np.arange(len(smooth)) + window // 2, smooth, "k-", label=f"mean of {window}")
    ax.set(xlabel="training step", ylabel="flow matching loss", ylim=(0, None))
    ax.legend(frameon=False)


if __name__ == "__main__":
    main(*sys.argv[1:2])
