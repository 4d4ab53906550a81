"""One network, six samplers: how good the digits are for how many calls of the network.

The network is that of digits.py, read from where it was written, or trained. Each sampler is
charged what it costs: Heun's method calls the network twice in a step and takes half as many steps.
A classifier of real digits counts those that are the digit that was asked for. Whether they vary as
real ones do, the energy distance of the drawn X to held-out real ones Y says, a mean over digits,

    2 E|X - Y| - E|X - X'| - E|Y - Y'|,

zero where the laws are the same. The estimate has no bias: for the real digits to train on it is
below zero, as every fifth of the file is held out, so that the parts are more alike than by chance.
The script takes some minutes, and exits with an error if a sampler's last digits are not like real.

    python examples/digit_samplers.py pictures
"""

import pathlib
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from scipy.spatial.distance import cdist
from sklearn.svm import SVC

import flowjax as fj

CALLS, LABELS, PATH = (4, 6, 10, 20, 50), np.repeat(np.arange(10), 100), fj.CondOT()


def main(out="out", steps=2500, seed=0):
    out, (train_key, key) = pathlib.Path(out), jax.random.split(jax.random.key(seed))
    real, held_out = fj.data.digits()
    v = fj.velocity(network(out / "digits.eqx", real, train_key, steps), PATH)
    classifier = SVC(C=10).fit(flat(real.image), np.asarray(real.label))
    right, rows = lambda images, labels: classifier.score(flat(images), np.asarray(labels)), {}
    for name, (field, step, grid, calls_per_step) in samplers(v).items():
        rows[name] = []
        for calls in CALLS:
            images = drawn(key, field, step, grid(calls // calls_per_step))
            rows[name].append((right(images, LABELS), *mean_energy(images, LABELS, held_out)))
    rows["real digits"] = [(right(*held_out), *mean_energy(*real, held_out))] * len(CALLS)
    report(rows, out)
    for name, (*_, (accuracy, energy, error)) in rows.items():
        if accuracy < 0.9 or energy > 5 * error:
            sys.exit(f"FAILED: after {CALLS[-1]} calls {name}'s are not like the held-out digits")


def samplers(v):
    """A field or SDE, a step, a grid, and how often a step calls the network."""
    sde = fj.with_noise(v, lambda t: 1 - t)
    return {
        "Euler": (v, fj.euler, fj.uniform_grid, 1),
        "Heun": (v, fj.heun, fj.uniform_grid, 2),
        "DPM-Solver++ 2M": (v, fj.dpmpp_2m, fj.beta_grid, 1),
        "Adams": (v, fj.adams(), fj.beta_grid, 1),
        "SDE: Euler-Maruyama": (sde, fj.euler_maruyama, fj.uniform_grid, 1),
        "SDE: DPM-Solver++ 2M": (v, fj.dpmpp_2m_sde, fj.uniform_grid, 1),
    }


def drawn(key, field, step, ts):
    init, how = PATH.prior((8, 8)).sample, {"args": jnp.asarray(LABELS), "args_axes": 0}
    return fj.sample(key, field, init, ts, len(LABELS), step=step, **how)


def network(saved, data, key, steps):
    model_key, fit_key = jax.random.split(key)
    model = fj.models.MLP((8, 8), width=256, depth=3, num_classes=10, key=model_key)
    if saved.exists():
        return eqx.tree_deserialise_leaves(saved, model)
    rate = optax.warmup_cosine_decay_schedule(0.0, 1e-3, 100, max(steps, 101))
    how = {"optimizer": optax.adamw(rate), "steps": steps, "batch_size": 128, "progress": True}
    loss = lambda model, x, key: fj.losses.flow_matching(model, x.image, key, x.label)  # noqa: E731
    return fj.training.fit(model, loss, data, fit_key, **how)[0].model


def flat(images):
    return np.asarray(images).reshape(len(images), -1)


def mean_energy(images, labels, held_out):
    """The mean over the digits of the energy distance to real ones, and its standard error."""
    x, y = flat(images), flat(held_out.image)
    each = [energy_distance(x[labels == k], y[held_out.label == k]) for k in range(10)]
    return np.mean(each, axis=0)[0], np.linalg.norm(each, axis=0)[1] / 10


def energy_distance(x, y):
    """That of the rows and its standard error, to first order: Szekely, Rizzo, 2013, JSPI 143."""
    between = cdist(x, y)
    # No row is compared with itself; its distance of zero is in the sum only.
    within_x, within_y = (np.sum(cdist(rows, rows), axis=1) / (len(rows) - 1) for rows in (x, y))
    from_x = 2 * np.mean(between, axis=1) - 2 * within_x
    from_y = 2 * np.mean(between, axis=0) - 2 * within_y
    error = np.sqrt(np.var(from_x, ddof=1) / len(x) + np.var(from_y, ddof=1) / len(y))
    return (np.mean(from_x) + np.mean(from_y)) / 2, error


def report(rows, out):
    figure = Figure(figsize=(11, 4.6), dpi=120, layout="constrained")
    titles = ("share of the digits that were asked for", "energy distance to held-out digits")
    for i, (ax, title) in enumerate(zip(figure.subplots(1, 2), titles, strict=True)):
        print(f"\n   {title}\n   {'calls of the network':<20}", *(f"{calls:7}" for calls in CALLS))
        for name, row in rows.items():
            print(f"   {name:<20}", *(f"{values[i]:+7.3f}" for values in row))
            style = {"real": "k:", "SDE:": "o--"}.get(name.split()[0], "o-")
            ax.plot(CALLS, [values[i] for values in row], style, label=name)
        ax.set(xlabel="calls of the network", title=title)
        ax.set_xticks(CALLS, CALLS)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "digit_samplers.png")


if __name__ == "__main__":
    main(*sys.argv[1:2])
