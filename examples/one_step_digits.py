"""Digits in one step: MeanFlow, which learns the average velocity over an interval.

A model of two times is trained, and draws in 1, 2 and 4 steps by `fj.flow_map`. The same model on
its diagonal is the velocity, which Euler's method solves in 100 steps: the teacher. A classifier
that has seen real digits only judges how many are the digit that was asked for.

    python examples/one_step_digits.py pictures
"""

import pathlib
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from matplotlib.figure import Figure
from sklearn.svm import SVC

import flowjax as fj
from flowjax import plot

STEPS = 3000


class Average(eqx.Module):
    """The average velocity from t to r; the network sees r - t as one more row of pixels."""

    network: fj.models.MLP

    def __call__(self, t, r, x, label):
        padded = jnp.concatenate([x, jnp.full((1, 8), r - t)])
        return self.network(t, padded, label)[:8]


def loss(model, digit, key):
    law = fj.losses.logit_normal(0.4)
    return fj.losses.mean_flow(model, digit.image, key, digit.label, time=law, instant=0.5)


def ema(step):
    return jnp.minimum(0.998, (1 + step) / (10 + step))


def main(out="out/one_step_digits"):
    model_key, fit_key, key = jax.random.split(jax.random.key(0), 3)
    digits = fj.data.digits()
    network = fj.models.MLP((9, 8), width=256, depth=3, num_classes=10, key=model_key)
    rate = optax.warmup_cosine_decay_schedule(0.0, 1e-3, 100, STEPS)
    how = {"optimizer": optax.adam(rate), "steps": STEPS, "batch_size": 128, "ema": ema}
    state, _ = fj.training.fit(Average(network), loss, digits.train, fit_key, progress=True, **how)

    field = fj.two_time(fj.training.averaged(state))
    flat = lambda images: jnp.reshape(images, (len(images), -1))  # noqa: E731
    judge = SVC(C=10).fit(flat(digits.train.image), digits.train.label)
    labels, init = jnp.tile(jnp.arange(10), 100), fj.CondOT().prior((8, 8)).sample
    figure = Figure(figsize=(13, 3.2), dpi=120, layout="compressed")
    accuracies = []
    for ax, (n, step) in zip(
        figure.subplots(1, 4),
        ((1, fj.flow_map), (2, fj.flow_map), (4, fj.flow_map), (100, fj.euler)),
        strict=True,
    ):
        how = {"args": labels, "args_axes": 0, "step": step}
        images = fj.sample(key, field, init, fj.uniform_grid(n), 1000, **how)
        accuracies.append(judge.score(flat(images), labels))
        title = f"{n} step{'s' * (n > 1)} of {step.__name__}: {accuracies[-1]:.1%}"
        print(title)
        plot.image_grid(images[:80], ax=ax, title=title)
    pathlib.Path(out).mkdir(parents=True, exist_ok=True)
    figure.savefig(f"{out}/one_step_digits.png")
    return accuracies


if __name__ == "__main__":
    main(*sys.argv[1:2])
