"""One reward through a sampler in seven ways, beside the law that is aimed at, p(x) e^{r(x)}.

A network is added to the velocity of a mixture of two Gaussians. Three ways come to its tilted law,
on paths of memoryless noise; less noise leads to another, the reward alone towards one point.
"""

import sys
import time

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial
from matplotlib.figure import Figure

import flowjax as fj

STEPS, BATCH, NUM, ts, vmap = 400, 128, 4000, fj.uniform_grid(20), jax.vmap
# By r(x) = -(x - 1.5)^2 / 2 each component is multiplied with another Gaussian.
weights, means, std = jnp.array([0.8, 0.2]), jnp.array([[-1.0], [1.0]]), 0.4
init, at = fj.Gaussian(jnp.zeros(1), 1.0).sample, jnp.linspace(-2.5, 3, 300)
base = fj.GaussianMixture(weights, means, std).velocity(fj.CondOT())
factors, part = jnp.exp(-((means[:, 0] - 1.5) ** 2) / (std**2 + 1) / 2), 1 / (std**2 + 1)
tilted = fj.GaussianMixture(weights * factors, part * (means + 1.5 * std**2), part**0.5 * std)


def corrected(network, t, x, args):
    return base(t, x, args) + network(t, x)


def reward(x):
    return -jnp.sum((x - 1.5) ** 2) / 2


def noisy(v):
    return fj.with_noise(v, fj.memoryless(v.schedule, ts[1]))


def matching(v, x0, key, **how):
    return fj.rewards.adjoint_matching(v, base, reward, x0, ts, key, **how)[0]


def less_kl(v, x0, key):
    divergence = fj.densities.kl(noisy(v), noisy(base))
    x1, kl = fj.fold(noisy(v), x0, ts, key=key, **divergence._asdict())
    return kl - reward(x1)


def by_policy(v, x0, key):  # of two paths, each by its reward less log p / p_base
    keys = jax.random.split(key)
    paths = jax.lax.stop_gradient(vmap(lambda k: fj.trajectory(noisy(v), x0, ts, key=k))(keys))
    log_probs = vmap(lambda path: fj.transition_log_probs(path, noisy(v), ts))(paths)
    ratios = vmap(lambda path: fj.path_log_ratio(path, noisy(v), noisy(base), ts))(paths)
    gains = fj.rewards.group_advantages(vmap(reward)(paths[:, -1]) - ratios, scaled=False)
    loss = vmap(lambda *stored: fj.rewards.policy_gradient(noisy(v), *stored, ts))
    return loss(paths, log_probs, gains).mean()


def renoised(v, x0, key):
    x1, noise = jax.lax.stop_gradient(fj.solve(v, x0, ts)), jax.random.normal(key, (4, 1))
    late = vmap(lambda noise: fj.losses.interpolate(noise, x1, ts[-2], v.schedule))(noise)
    return -vmap(lambda x: reward(fj.solve(v, x, ts[-2:])))(late).mean()


METHODS = {
    "adjoint matching": matching,
    "all steps less KL": less_kl,
    "policy gradient": by_policy,
    "adjoint matching, g = 1 - t": lambda *a: matching(*a, diffusion=lambda t: 1 - t),
    "all steps": lambda v, x0, key: -reward(fj.solve(v, x0, ts)),
    "last step": lambda v, x0, key: -reward(fj.solve(v, x0, ts, adjoint=fj.Truncated(last=1))),
    "last step, 4 noises": renoised,
}


def main(out="."):
    keys, table = jax.random.split(jax.random.key(0), 5), {}
    figure = Figure((14, 6), 100, layout="constrained")
    network = fj.models.MLP((1,), width=16, depth=2, key=keys[0])
    starts = list(jax.random.normal(keys[1], (STEPS, BATCH, 1)))
    exact = jnp.sort(vmap(tilted.sample)(jax.random.split(keys[2], NUM))[:, 0])
    for i, (name, method) in enumerate(METHODS.items()):

        def loss(network, x0, key, method=method):
            return method(base.with_model(Partial(corrected, network)), x0, key)

        state = fj.training.init(network, loss, keys[3], optimizer=optax.adam(3e-3), ema=0.98)
        step = jax.jit(fj.training.step).lower(state, starts[0]).compile()
        begun = time.perf_counter()
        for x0 in starts:
            state, _ = step(state, x0)
        v = base.with_model(Partial(corrected, fj.training.averaged(state)))
        milliseconds = 1000 * (time.perf_counter() - begun) / STEPS
        x1 = fj.sample(keys[4], v, init, ts, NUM, step=fj.heun)[:, 0]
        distance, gain = jnp.abs(jnp.sort(x1) - exact).mean(), vmap(reward)(x1).mean()
        kilobytes = step.memory_analysis().temp_size_in_bytes / 1024
        table[name] = float(distance), float(gain), milliseconds, kilobytes
        print(f"{name:28}" + "".join(f"{number:9.2f}" for number in table[name]))
        ax = figure.add_subplot(2, 4, i + 1, title=f"{name}: {distance:.2f}", ylim=(0, 1.2))
        ax.hist(x1, bins=55, range=(-2.5, 3), density=True, color="0.8")
        ax.plot(at, jnp.exp(vmap(tilted.log_prob)(at[:, None])), "k")
    figure.savefig(f"{out}/rewards.png")
    return table


if __name__ == "__main__":
    main(*sys.argv[1:])
