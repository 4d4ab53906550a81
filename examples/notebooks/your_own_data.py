# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own data
#
# Put an array of samples into the next cell, train, draw new ones, and ask how likely any sample
# is. The samples may be numbers, vectors, images, volumes or a pytree of arrays: the first axis
# is that of samples, and all the rest is one sample. As it stands, the data are made here: waves
# of random frequency and phase, seen at 16 times.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import flowjax as fj

# %% [markdown]
# ## The data
#
# Replace `samples` by your own, such as `np.load("mine.npy")`. Noise is standard normal, so the
# numbers should be of order one: they are scaled here, and scaled back in the end.

# %%
rng = np.random.default_rng(0)
frequency, phase = rng.uniform(0.5, 2.0, (4096, 1)), rng.uniform(0, 2 * np.pi, (4096, 1))
times = np.linspace(0, 1, 16)
samples = np.sin(2 * np.pi * frequency * times + phase) + 0.05 * rng.normal(size=(4096, 16))

# %%
mean, std = samples.mean(axis=0), samples.std()
data = jnp.asarray((samples - mean) / std, jnp.float32)
train, held_out = data[: len(data) * 9 // 10], data[len(data) * 9 // 10 :]
shape = data.shape[1:]
print(f"{len(train)} samples of shape {shape} to train on, {len(held_out)} held out")

# %% [markdown]
# ## The model
#
# A network is any function of time, one sample and `args`, with an output like the sample; this
# one is small and dense. For images a convolutional one, for molecules one that knows their
# symmetries, does better; it is an `equinox.Module`, or of Flax (see `examples/flax_network.py`).

# %%
network = fj.models.MLP(shape, width=128, depth=3, key=jax.random.key(0))
state, losses = fj.training.fit(
    network,
    fj.losses.flow_matching,
    train,
    jax.random.key(1),
    optimizer=optax.adam(optax.cosine_decay_schedule(2e-3, 2500)),
    steps=2500,
    batch_size=256,
    ema=0.999,
)
v = fj.velocity(fj.training.averaged(state), fj.CondOT())
smooth = np.convolve(losses, np.ones(50) / 50, mode="valid")
_ = plt.plot(smooth), plt.xlabel("training step"), plt.ylabel("loss, mean of 50")

# %% [markdown]
# ## New samples
#
# By the flow in few steps, and by an SDE with the same law. Every sample has a key of its own.

# %%
init = v.schedule.prior(shape).sample
by_flow = fj.sample(jax.random.key(2), v, init, fj.beta_grid(20), 1000, step=fj.dpmpp_2m)
sde, ts = fj.with_noise(v, lambda t: 1 - t), fj.uniform_grid(100)
by_sde = fj.sample(jax.random.key(3), sde, init, ts, 1000)
new = np.asarray(by_flow) * std + mean

# %%
sets = {"held out": held_out, "flow, 20 calls": by_flow, "SDE, 100 calls": by_sde}
figure, axes = plt.subplots(1, 3, figsize=(11, 3), sharex=True, sharey=True)
for ax, (name, x) in zip(axes, sets.items(), strict=True):
    ax.plot(np.reshape(x[:12], (12, -1)).T, linewidth=1)
    ax.set(title=name, xlabel="entry")

# %% [markdown]
# ## Are they like the data?
#
# The energy distance $2\,E|X - Y| - E|X - X'| - E|Y - Y'|$ is zero where two laws are the same.
# That of training data to those held out says what chance makes of it, that of noise what is far.


# %%
def energy_distance(x, y):
    x, y = (np.reshape(a, (len(a), -1)) for a in (x, y))
    between = lambda a, b: np.linalg.norm(a[:, None] - b[None], axis=-1).sum()  # noqa: E731
    n, m = len(x), len(y)
    within = between(x, x) / (n * (n - 1)) + between(y, y) / (m * (m - 1))
    return 2 * between(x, y) / (n * m) - within


noise = jax.vmap(init)(jax.random.split(jax.random.key(4), 400))
for name, x in {"training data": train, **sets, "noise": noise}.items():
    if name != "held out":
        print(f"{name:<15} {energy_distance(x[:400], held_out[:400]):+.4f}")

# %% [markdown]
# ## How likely is a sample?
#
# The log density of the flow at any sample, by the divergence of its velocity along the way back
# to noise. Samples that are unlike the data have a lower one. `fj.Hutchinson(key, probes)`
# estimates it for samples of many numbers. In your own units it is less by `data[0].size *
# log(std)`.

# %%
prior = fj.Gaussian(jnp.zeros(shape), 1.0)
log_p = jax.jit(jax.vmap(lambda x: fj.log_likelihood(x, v, prior.log_prob, fj.uniform_grid(25))))
jagged = held_out[:100][:, ::-1] * jnp.where(jnp.arange(16) % 2, 1, -1)
for name, x in {"training": train[:100], "held out": held_out[:100], "jagged": jagged}.items():
    print(f"{name:<9} mean log density {log_p(x).mean():8.1f}")

# %% [markdown]
# ## To keep
#
# `fj.training.save("mine.state", state)` writes all that `fj.training.fit` needs to go on, and
# `fj.training.restore` reads it; `np.save("new.npy", new)` keeps the samples in your own units.
