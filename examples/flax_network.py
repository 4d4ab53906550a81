"""A network of one's own, in Flax: NNX and Linen modules are trained by the same calls.

What is trained is a pytree: of NNX the state that `nnx.split` gives, of Linen the parameters.
"""

import sys

import jax
import jax.numpy as jnp
import optax
from flax import linen, nnx

import flowjax as fj


class OfNNX(nnx.Module):
    def __init__(self, *, rngs):
        self.first = nnx.Linear(3, 128, rngs=rngs)
        self.second = nnx.Linear(128, 128, rngs=rngs)
        self.last = nnx.Linear(128, 2, rngs=rngs)

    def __call__(self, t, x, args):
        hidden = jax.nn.silu(self.first(jnp.append(x, t)))
        return self.last(jax.nn.silu(self.second(hidden)))


class OfLinen(linen.Module):
    @linen.compact
    def __call__(self, t, x, args):
        hidden = jnp.append(x, t)
        for _ in range(2):
            hidden = jax.nn.silu(linen.Dense(128)(hidden))
        return linen.Dense(2)(hidden)


def main(steps=2000):
    truth = fj.GaussianMixture(jnp.array([0.3, 0.7]), jnp.array([[-2.0, 0.0], [2.0, 1.0]]), 0.5)
    data_key, model_key, fit_key, key = jax.random.split(jax.random.key(0), 4)
    data = jax.vmap(truth.sample)(jax.random.split(data_key, 4096))

    graph, nnx_state = nnx.split(OfNNX(rngs=nnx.Rngs(model_key)))
    module = OfLinen()
    parameters = module.init(model_key, 0.0, jnp.zeros(2), None)
    networks = {
        "nnx": (nnx_state, lambda state: nnx.merge(graph, state)),
        "linen": (parameters, lambda parameters: lambda *a: module.apply(parameters, *a)),
    }
    how = {"optimizer": optax.adam(1e-3), "steps": steps, "batch_size": 256, "ema": 0.99}
    scores = []
    for name, (trained, field) in networks.items():

        def loss(trained, x1, key, field=field):
            return fj.losses.flow_matching(field(trained), x1, key)

        state, _ = fj.training.fit(trained, loss, data, fit_key, **how)
        v = fj.velocity(field(fj.training.averaged(state)), fj.CondOT())
        xs = fj.sample(key, v, fj.CondOT().prior((2,)).sample, fj.uniform_grid(50), 4096)
        scores.append(float(jnp.mean(jax.vmap(truth.log_prob)(xs))))
        print(f"{name}: mean log-density of the samples under the truth {scores[-1]:.3f}")
    print(f"of the truth's own {jnp.mean(jax.vmap(truth.log_prob)(data)):.3f}")
    return scores


if __name__ == "__main__":
    sys.exit(min(main()) < -2.5)
