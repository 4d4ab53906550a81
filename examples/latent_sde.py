"""A latent SDE: a hidden Ornstein-Uhlenbeck process, learnt from noisy observations at odd times.

    dX = -theta X dt + sigma dW,   X_0 stationary,   y_k = X_{t_k} + noise                    (p)
    dX = (-theta X + sigma u) dt + sigma dW,   u = sigma d/dx log N(z_k; E[X_{t_k} | x], V)   (q)

The posterior q steers X to a goal z_k at the next observation; V = Var[X_{t_k} | x] + v_k, and an
encoder gives z = A y. The exact posterior has this form; where p is not linear, u is a network. A
fold along the path of q, with the dW that moved it, gives a log weight whose mean is the ELBO:

    log p(x_0) / q(x_0) + sum_k log p(y_k | X_{t_k}) - int u^2 / 2 dt - int u dW.

The log evidence above it is known here, as y is Gaussian. The script takes half a minute.

References: Li, Wong, Chen, Duvenaud, "Scalable gradients for stochastic differential equations",
2020, arXiv 2001.01328; Schauer, van der Meulen, van Zanten, "Guided proposals", arXiv 1311.3606.
"""

import argparse
import pathlib
import sys

import jax
import jax.numpy as jnp
import optax

import flowjax as fj
from flowjax import plot

TRUTH, NOISE, SERIES, STEPS = jnp.array([1.0, 1.0]), 0.5, 64, 300  # the truth: theta and sigma
ts, at = fj.grid_through([0, 0.4, 1.5, 1.9, 2.8, 3.2, 4.5, 5.1, 6.0], max_step=0.0025)
times = ts[at]


def control(t, x, args):
    theta, sigma, std, goals = args
    k = jnp.sum(times <= t)  # the next observation
    decay = jnp.exp(-theta * (times[k] - t))
    variance = sigma**2 / (2 * theta) * (1 - decay**2) + std[k] ** 2
    return sigma * decay * (goals[k] - decay * x) / variance


posterior = fj.SDE(lambda t, x, a: a[1] * control(t, x, a) - a[0] * x, lambda t, x, a: a[1])


def negative_elbo(model, y, key):
    theta, sigma, std, goals = args = (*map(jnp.exp, model[:3]), model[3] @ y)
    p, q = fj.Gaussian(0.0, sigma / jnp.sqrt(2 * theta)), fj.Gaussian(goals[0], std[0])

    def update(value, t0, t1, x0, x1, dw):
        u = control(t0, x0, args)
        seen = jnp.where(times[1:] == t1, jax.scipy.stats.norm.logpdf(y, x1, NOISE), 0.0)
        return value + jnp.sum(seen) - u**2 / 2 * (t1 - t0) - u * dw

    start_key, path_key = jax.random.split(key)
    x0 = q.sample(start_key)
    init = p.log_prob(x0) - q.log_prob(x0)
    return -fj.fold(posterior, x0, ts, args, key=path_key, init=init, update=update)[1]


def log_evidence(log_parameters, ys):
    theta, sigma = jnp.exp(log_parameters)
    hidden = sigma**2 / (2 * theta) * jnp.exp(-theta * jnp.abs(times[1:, None] - times[None, 1:]))
    law = fj.Gaussian(jnp.zeros(8), hidden + NOISE**2 * jnp.eye(8))
    return jnp.mean(jax.vmap(law.log_prob)(ys))


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Learn a latent SDE.")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/latent_sde"))
    parser.add_argument("--seed", type=int, default=0, help="names all that is random")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    data_key, noise_key, fit_key, key = jax.random.split(jax.random.key(options.seed), 4)
    sde, law = fj.ornstein_uhlenbeck(*TRUTH), fj.Gaussian(0.0, TRUTH[1] / jnp.sqrt(2 * TRUTH[0]))
    xs = fj.sample_paths(data_key, sde, law.sample, ts, SERIES)
    ys = xs[:, at[1:]] + NOISE * jax.random.normal(noise_key, (SERIES, 8))

    # From theta = 0.5, sigma = 2, and as the goal the next observation itself.
    model = jnp.log(0.5), jnp.log(2.0), jnp.full(9, jnp.log(NOISE)), jnp.eye(9, 8, -1)
    how = {"optimizer": optax.adam(optax.cosine_decay_schedule(0.03, STEPS)), "steps": STEPS}
    state, losses = fj.training.fit(model, negative_elbo, ys, fit_key, batch_size=SERIES, **how)
    model, fit, end = state.model, jnp.stack(state.model[:2]), losses[-STEPS // 4 :]
    errors = jnp.sqrt(jnp.diag(jnp.linalg.inv(-SERIES * jax.hessian(log_evidence)(fit, ys))))
    for name, true, log, error in zip(("theta", "sigma"), TRUTH, fit, errors, strict=True):
        print(f"{name} {jnp.exp(log):.3f} ± {jnp.exp(log) * error:.3f}, in truth {true}")
    elbo, exact, error = -jnp.mean(end), log_evidence(fit, ys), jnp.std(end) / len(end) ** 0.5
    print(f"ELBO {elbo:.3f} ± {error:.3f}, log evidence {exact:.3f} for each series")
    *_, std, goals = args = (*map(jnp.exp, model[:3]), model[3] @ ys[0])
    paths = fj.sample_paths(key, posterior, fj.Gaussian(goals[0], std[0]).sample, ts, 40, args=args)
    figure = plot.trajectories(ts, paths, title="hidden (black), observed (red), inferred (blue)")
    figure.axes[0].plot(ts, xs[0], "k", linewidth=1)
    figure.axes[0].errorbar(times[1:], ys[0], NOISE, fmt="ro", clip_on=False)
    figure.savefig(options.out / "latent_sde.png", dpi=120)
    if jnp.any(jnp.abs(fit - jnp.log(TRUTH)) > 5 * errors) or not -0.2 < elbo - exact < 5 * error:
        sys.exit("FAILED: theta, sigma or the ELBO is off")  # by chance once in a million runs


if __name__ == "__main__":
    main()
