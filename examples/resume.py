"""A training that stops, is written to a file and goes on: the same bits as one that never stops."""

import pathlib
import sys

import equinox as eqx
import jax
import optax

import flowjax as fj


def main(out="out/resume", steps=400):
    data_key, model_key, key = jax.random.split(jax.random.key(0), 3)
    data = fj.data.checkerboard(data_key, 4096)
    model = fj.models.MLP((2,), width=64, depth=2, key=model_key)
    optimizer = optax.adamw(optax.warmup_cosine_decay_schedule(0.0, 1e-3, 50, 2 * steps))
    how = {"optimizer": optimizer, "batch_size": 256, "ema": 0.99}
    loss = fj.losses.flow_matching

    whole, _ = fj.training.fit(model, loss, data, key, steps=2 * steps, **how)

    file = pathlib.Path(out, "state.eqx")
    file.parent.mkdir(parents=True, exist_ok=True)
    save = lambda state, info: eqx.tree_serialise_leaves(file, state)
    fj.training.fit(model, loss, data, key, steps=steps, callback=save, every=100, **how)

    # Another day: the same model, loss and optimiser are built anew, and filled from the file.
    begun = fj.training.init(model, loss, key, optimizer=optimizer, ema=0.99)
    state = eqx.tree_deserialise_leaves(file, begun)
    print(f"going on from step {state.step}")
    state, _ = fj.training.fit(model, loss, data, key, steps=steps, state=state, **how)

    same = eqx.tree_equal(state.model, whole.model) & eqx.tree_equal(state.ema, whole.ema)
    print(f"after {state.step} steps, the same bit for bit: {bool(same)}")
    return bool(same)


if __name__ == "__main__":
    sys.exit(not main(*sys.argv[1:2]))
