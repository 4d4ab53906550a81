"""A training that stops, is written to a file and goes on: bit for bit as if it had not stopped.

The keys of all steps follow from one key and the number of the step, and the state is all else that
a step reads. So half of the steps, the state written and read, and the other half are the whole.

    python examples/resume.py 500
"""

import sys

import equinox as eqx
import jax
import optax

import flowjax as fj


def main(steps=500):
    data_key, model_key, key = jax.random.split(jax.random.key(0), 3)
    data = fj.data.checkerboard(data_key, 4096)
    model, loss = fj.models.MLP((2,), width=64, depth=2, key=model_key), fj.losses.flow_matching
    rate = optax.warmup_cosine_decay_schedule(0.0, 1e-3, 50, 2 * steps)
    how = {"optimizer": optax.adamw(rate), "ema": 0.99}

    def save(state, info):
        fj.training.save("training.state", state)

    whole, _ = fj.training.fit(model, loss, data, key, steps=2 * steps, batch_size=256, **how)
    how_half = {"steps": steps, "batch_size": 256, **how}
    fj.training.fit(model, loss, data, key, callback=save, every=100, **how_half)

    # Another day: the same model, loss and optimiser are made anew, and filled from the file.
    state = fj.training.restore("training.state", fj.training.init(model, loss, key, **how))
    print(f"going on from step {state.step}")
    state, _ = fj.training.fit(model, loss, data, key, state=state, **how_half)
    same = eqx.tree_equal((state.model, state.ema), (whole.model, whole.ema))
    print(f"after {state.step} steps, the same bit for bit: {bool(same)}")
    sys.exit(not same)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
