"""Digits by EDM's recipe: preconditioning, weights, noise levels, warm-up, a moving average."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import optax

import flowjax as fj
from flowjax import plot


def main(out="out/edm_digits", steps=3000):
    model_key, fit_key, key = jax.random.split(jax.random.key(0), 3)
    digits, path = fj.data.digits().train, fj.CondOT()
    std = float(jnp.std(digits.image))
    network = fj.models.MLP((8, 8), width=256, depth=3, num_classes=10, key=model_key)
    model = fj.precondition(network, path, std)

    def loss(model, digit, key):
        key, label_key = jax.random.split(key)
        label = fj.losses.drop_label(label_key, digit.label, network.null)
        law = {"time": fj.losses.edm_times(path), "weight": fj.losses.edm_weight(std)}
        return fj.losses.flow_matching(model, digit.image, key, label, predicts="data", **law)

    rate = optax.warmup_cosine_decay_schedule(0.0, 2e-3, steps // 20, steps)
    how = {"optimizer": optax.adam(rate), "batch_size": 128, "ema": 0.999, "progress": True}
    state, losses = fj.training.fit(model, loss, digits, fit_key, steps=steps, **how)
    print(f"loss {losses[-500:].mean():.3f}")

    v = fj.velocity(fj.training.averaged(state), path, predicts="data")
    v = fj.guidance.classifier_free(v, 2.0, network.null)
    ts, labels = fj.karras_grid(18, path), jnp.tile(jnp.arange(10), 8)
    how = {"args": labels, "args_axes": 0, "step": fj.edm_heun()}
    images = fj.sample(key, v, path.prior((8, 8), ts[0]).sample, ts, 80, **how)
    pathlib.Path(out).mkdir(parents=True, exist_ok=True)
    plot.image_grid(images, title="EDM's recipe, 35 calls").savefig(f"{out}/edm_digits.png")


if __name__ == "__main__":
    main(*sys.argv[1:2])
