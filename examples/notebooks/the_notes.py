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
# # Flow and diffusion models, step by step
#
# After the notes of MIT 6.S184, [Flow Matching and Diffusion
# Models](https://diffusion.csail.mit.edu): a trajectory, the field it follows, the flow of all
# trajectories, Euler's method, Brownian motion, the Euler-Maruyama method, and what these are
# for, a flow model and a diffusion model. Each number that is computed stands beside one that is
# known.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax

import flowjax as fj
from flowjax import plot

# %% [markdown]
# ## A field and its trajectories
#
# A field gives the velocity $u_t(x)$ at each time and place, and a trajectory follows it:
#
# $$\frac{d}{dt} x_t = u_t(x_t), \qquad x_0 \text{ given.}$$
#
# In flowjax a field is any function of `(t, x, args)`. This one turns and shrinks the plane.


# %%
def spiral(t, x, args):
    return jnp.array([-x[0] - 3 * x[1], 3 * x[0] - x[1]])


ts = fj.uniform_grid(200)  # 0, h, 2h, ..., 1
corners = jnp.array([[1.5, 1.5], [-1.5, 1.0], [0.5, -1.8]])
paths = jax.vmap(lambda x0: fj.trajectory(spiral, x0, ts))(corners)
figure, ax = plt.subplots(figsize=(5.5, 4.2))
_ = plot.vector_field(spiral, paths=paths, ax=ax, title="a field and three trajectories")

# %% [markdown]
# ## The flow
#
# The flow $\psi_t(x_0)$ is where the trajectory from $x_0$ is at time $t$. It carries a whole
# grid of points at once. Points that start apart stay apart: the flow has an inverse, the solve
# backward.

# %%
side = jnp.linspace(-1.5, 1.5, 13)
grid = jnp.stack(jnp.meshgrid(side, side), axis=-1).reshape(-1, 2)
flow = jax.vmap(lambda x0: fj.solve(spiral, x0, ts, step=fj.rk4))
back = jax.vmap(lambda x1: fj.solve(spiral, x1, ts[::-1], step=fj.rk4))
figure, ax = plt.subplots(figsize=(4.5, 4.5))
ax.plot(*grid.T, ".", label="t = 0")
ax.plot(*flow(grid).T, ".", label="t = 1")
ax.set(aspect="equal", title="a grid under the flow")
ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
print(f"back to where they were within {jnp.abs(back(flow(grid)) - grid).max():.0e}")

# %% [markdown]
# ## Euler's method
#
# $$X_{t+h} = X_t + h\,u_t(X_t)$$
#
# For $u(x) = -\theta x$ the flow is $\psi_t(x_0) = e^{-\theta t} x_0$. The error of Euler's
# method halves with the step; that of Heun's method, which averages the slopes at both ends, is
# quartered.

# %%
steps = jnp.array([10, 20, 40, 80, 160])
for step in (fj.euler, fj.heun):
    errors = [
        abs(fj.solve(fj.linear_field, 1.0, fj.uniform_grid(int(n)), 2.0, step=step) - jnp.exp(-2.0))
        for n in steps
    ]
    plt.loglog(1 / steps, jnp.array(errors), "o-", label=step.__name__)
    print(f"{step.__name__}: {errors[-2] / errors[-1]:.2f} times less from half of the step")
plt.gca().set(xlabel="step h", ylabel="error at t = 1", title="dx/dt = −2x")
_ = plt.legend()

# %% [markdown]
# ## Brownian motion
#
# $W_0 = 0$, and the increments over times that do not overlap are independent, $W_t - W_s \sim
# N(0, t - s)$. A key names one path: the same key gives the same path, on any device and in any
# batch.

# %%
keys = jax.random.split(jax.random.key(0), 2000)
brownian = jax.vmap(lambda key: fj.brownian_path(key, ts, jnp.float32(0)))(keys)
print(f"Var W_1 = {brownian[:, -1].var():.3f}, in truth 1, of {len(keys)} paths")
figure, ax = plt.subplots(figsize=(7, 3.2))
_ = plot.trajectories(ts, brownian[:12], ax=ax, title="12 paths of Brownian motion")

# %% [markdown]
# ## The Euler-Maruyama method
#
# An SDE adds noise to the field, $dX_t = u_t(X_t)\,dt + \sigma_t\,dW_t$, and its steps are those
# of Euler with an increment of the path:
#
# $$X_{t+h} = X_t + h\,u_t(X_t) + \sigma_t\,(W_{t+h} - W_t)$$
#
# The Ornstein-Uhlenbeck process $dX = -\theta X\,dt + \sigma\,dW$ has the variance $\sigma^2 /
# 2\theta$ in the end, whatever it starts from.

# %%
process = fj.ornstein_uhlenbeck(theta=2.0, sigma=1.0)
times = fj.uniform_grid(200, 0.0, 2.0)
paths = jax.vmap(lambda key: fj.trajectory(process, 2.0, times, key=key))(keys)
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
plot.trajectories(times, paths[:12], ax=left, title="12 paths from 2")
law = fj.Gaussian(2 * jnp.exp(-4.0), jnp.sqrt((1 - jnp.exp(-8.0)) / 4))
_ = plot.histogram(paths[:, -1], lambda x: jnp.exp(law.log_prob(x)), ax=right, title="at t = 2")

# %% [markdown]
# ## A flow model
#
# Noise $X_0 \sim N(0, I)$ is carried to data $X_1 \sim p_{data}$ by a field that a network has
# learned. By flow matching the network regresses on the velocity $x_1 - x_0$ of straight paths
# $x_t = t x_1 + (1 - t) x_0$ from noise to data, of which the mean is the field that is wanted.

# %%
data = fj.data.moons(jax.random.key(1), 8192)
network = fj.models.MLP((2,), width=64, depth=3, key=jax.random.key(2))
state, losses = fj.training.fit(
    network,
    fj.losses.flow_matching,
    data,
    jax.random.key(3),
    optimizer=optax.adam(2e-3),
    steps=2000,
    batch_size=256,
    ema=0.99,
)
v = fj.velocity(fj.training.averaged(state), fj.CondOT())
init = v.schedule.prior((2,)).sample
flowed = fj.sample(jax.random.key(4), v, init, fj.uniform_grid(50), 4000, step=fj.heun)

# %% [markdown]
# ## A diffusion model
#
# The score $\nabla \log p_t$ follows from the velocity. With it, noise of any size may be added
# along the way without a change of the laws on it:
#
# $$dX_t = \Big(u_t + \tfrac{\sigma_t^2}{2} \nabla \log p_t\Big)(X_t)\,dt + \sigma_t\,dW_t$$

# %%
sde = fj.with_noise(v, lambda t: 1 - t)
diffused = fj.sample(jax.random.key(5), sde, init, fj.uniform_grid(200), 4000)
other = fj.data.moons(jax.random.key(6), 4000)
figure, axes = plt.subplots(1, 3, figsize=(11, 3.8), sharex=True, sharey=True)
for ax, (name, x) in zip(
    axes, {"data": data, "flow": flowed, "diffusion": diffused}.items(), strict=True
):
    ax.plot(*x[:2000].T, ".", markersize=1.5)
    ax.set(aspect="equal", title=name)
    pairs = fj.couplings.exact(jax.random.key(7), x[:1000], other[:1000])
    distance = jnp.mean(jnp.sum((pairs.x0 - pairs.x1) ** 2, axis=-1))
    print(f"{name}: squared Wasserstein distance to other data {distance:.3f}")
