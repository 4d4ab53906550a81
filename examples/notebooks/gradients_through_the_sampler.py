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
# # Gradients through the sampler
#
# A solve is a function of what the field holds, of its `args`, of the start and of the times, and
# JAX differentiates it. This notebook checks such a gradient against a closed form, measures what
# the ways to differentiate cost, and trains a sampler on a reward: by the reward alone, which
# goes too far, and by adjoint matching, which comes to the law that is aimed at.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax

import flowjax as fj

# %% [markdown]
# ## A gradient with a closed form
#
# On $dx/dt = -\theta x$ Euler's method ends at $x_0 (1 - \theta / n)^n$, of which the derivative
# in $\theta$ is $-x_0 (1 - \theta / n)^{n-1}$. Forward mode and second derivatives work too.

# %%
n, theta = 100, 2.0
ts = fj.uniform_grid(n)


def end(theta):
    return fj.solve(fj.linear_field, 1.0, ts, args=theta)


print(f"gradient         {jax.grad(end)(theta):.7f}, in truth {-((1 - theta / n) ** (n - 1)):.7f}")
print(f"forward mode     {jax.jvp(end, (theta,), (1.0,))[1]:.7f}")
truth = (n - 1) / n * (1 - theta / n) ** (n - 2)
print(f"second           {jax.grad(jax.grad(end))(theta):.7f}, in truth {truth:.7f}")

# %% [markdown]
# ## What a gradient costs
#
# The backward pass needs what the forward pass computed. `Checkpointed`, the default, stores
# states and computes each step again; `Direct` stores all that the field computes; `Reversible`
# runs the solve backward and stores nothing along the path; `Truncated` goes back over the last
# steps only, so that its gradient is another. Here the field is a network, and the bytes are
# those that the compiled gradient takes beside its inputs and outputs.

# %%
network = fj.models.MLP((2,), width=64, depth=2, key=jax.random.key(0))
starts = jax.random.normal(jax.random.key(1), (256, 2))


def loss(scale, adjoint):
    field = lambda t, x, args: scale * network(t, x, None)  # noqa: E731
    ends = jax.vmap(lambda x0: fj.solve(field, x0, ts, adjoint=adjoint))(starts)
    return jnp.mean(ends**2)


for adjoint in (fj.Checkpointed(), fj.Direct(), fj.Reversible(), fj.Truncated(last=10)):
    gradient = jax.jit(lambda scale, adjoint=adjoint: jax.grad(loss)(scale, adjoint))
    compiled = gradient.lower(1.0).compile()
    megabytes = compiled.memory_analysis().temp_size_in_bytes / 1e6
    print(f"{type(adjoint).__name__:<13} gradient {compiled(1.0):+.5f}, {megabytes:6.2f} MB")

# %% [markdown]
# ## A reward through the sampler
#
# A reward $r(x)$ says which samples are liked. The law that is aimed at is the tilted one,
# proportional to $p(x)\,e^{r(x)}$: more of what is liked, as far as the model knows it. Here $p$
# is a mixture of two Gaussians and $r$ a parabola, so the tilted law is known. What is trained is
# the mixture's own weights, means and spread; a network takes their place in the same way.

# %%
weights, means, std = jnp.array([0.8, 0.2]), jnp.array([[-1.0], [1.0]]), 0.4
model = fj.GaussianMixture(weights, means, std)
base = model.velocity(fj.CondOT())
factors, part = jnp.exp(-((means[:, 0] - 1.5) ** 2) / (std**2 + 1) / 2), 1 / (std**2 + 1)
tilted = fj.GaussianMixture(weights * factors, part * (means + 1.5 * std**2), part**0.5 * std)


def reward(x):
    return -jnp.sum((x - 1.5) ** 2) / 2


# %% [markdown]
# Two losses of one start $x_0$. The first is minus the reward at the end, and its gradient goes
# through the whole solve. The second is adjoint matching: along a path of memoryless noise the
# velocity is regressed on what the adjoint state asks of it, with no gradient through the path.


# %%
def reward_alone(model, x0, key):
    return -reward(fj.solve(model.velocity(fj.CondOT()), x0, fj.uniform_grid(20)))


def adjoint_matching(model, x0, key):
    v = model.velocity(fj.CondOT())
    return fj.rewards.adjoint_matching(v, base, reward, x0, fj.uniform_grid(40), key)


def trained(loss):
    starts = lambda key, i: jax.random.normal(key, (128, 1))  # noqa: E731
    how = {"optimizer": optax.adam(0.02), "steps": 400, "ema": 0.98}
    state, _ = fj.training.fit(model, loss, starts, jax.random.key(2), **how)
    return fj.training.averaged(state)


# %%
init, key = fj.CondOT().prior((1,)).sample, jax.random.key(3)
figure, axes = plt.subplots(1, 3, figsize=(12, 3.4), sharey=True, layout="constrained")
models = {
    "before": model,
    "the reward alone": trained(reward_alone),
    "adjoint matching": trained(adjoint_matching),
}
at = jnp.linspace(-2.5, 3, 300)
wanted = float(tilted.weights @ tilted.means[:, 0] / tilted.weights.sum())
for ax, (name, each) in zip(axes, models.items(), strict=True):
    v = each.velocity(fj.CondOT())
    x = fj.sample(key, v, init, fj.uniform_grid(100), 4000)[:, 0]
    ax.hist(x, 60, range=(-2.5, 3), density=True, color="0.8")
    ax.plot(at, jnp.exp(jax.vmap(tilted.log_prob)(at[:, None])), "k", label="tilted law")
    ax.set(title=name, xlabel="x", ylim=(0, 1.2))
    print(f"{name:<17} mean {x.mean():+.2f}, of the tilted law {wanted:+.2f}")
_ = axes[0].legend(frameon=False)
