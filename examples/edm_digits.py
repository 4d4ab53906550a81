"""Digits by EDM's recipe: preconditioning, weights, noise levels, warm-up, a moving average.

The network predicts the data and one label in ten is dropped, so that classifier-free guidance can
sharpen what is drawn, in 18 steps of Heun's method on the grid of Karras et al., 2022.

    python examples/edm_digits.py 3000
"""

import sys

import jax
import jax.numpy as jnp
import optax

import flowjax as fj
from flowjax import plot


def main(steps=3000):
    model_key, fit_key, key = jax.random.split(jax.random.key(0), 3)
    digits, path, null = fj.data.digits().train, fj.CondOT(), 10
    std = float(digits.image.std())
    law = {"time": fj.losses.edm_times(path), "weight": fj.losses.edm_weight(std)}

    def loss(model, digit, key):
        key, label_key = jax.random.split(key)
        label = fj.losses.drop_label(label_key, digit.label, null, rate=0.1)
        return fj.losses.flow_matching(model, digit.image, key, label, predicts="data", **law)

    network = fj.models.MLP((8, 8), 256, 3, num_classes=10, key=model_key)
    rate = optax.warmup_cosine_decay_schedule(0.0, 2e-3, steps // 20, steps)
    how = {"optimizer": optax.adam(rate), "batch_size": 128, "progress": True}
    how["ema"] = lambda step: jnp.minimum(0.999, (1 + step) / (10 + step))
    model = fj.precondition(network, path, std)
    state, _ = fj.training.fit(model, loss, digits, fit_key, steps=steps, **how)

    v = fj.velocity(fj.training.averaged(state), path, predicts="data")
    v = fj.guidance.classifier_free(v, 2.0, null)
    ts, labels = fj.karras_grid(18, path), jnp.tile(jnp.arange(10), 100)
    init, how = path.prior((8, 8), ts[0]).sample, {"args": labels, "args_axes": 0}
    images = fj.sample(key, v, init, ts, 1000, step=fj.edm_heun(), **how)
    plot.image_grid(images[:80], title="18 steps, 35 calls").savefig("edm_digits.png")
    return images, labels


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
