"""A latent SDE: a hidden Ornstein-Uhlenbeck process, learnt from noisy observations at odd times.

    dX = -theta X dt + sigma dW,   X_0 ~ N(0, sigma^2 / (2 theta)),   y_k = X_{t_k} + noise

Theta and sigma are learnt beside a posterior SDE of the same diffusion, which a control u steers

    dX = (-theta X + sigma u) dt + sigma dW,   u(t, x) = sigma d/dx log N(z_k; E[X_{t_k} | x], V),

to a goal z_k at the next observation: V = Var[X_{t_k} | x] + v_k, and an encoder gives z = A y. The
exact posterior has this form; where the model is not linear, u is a network. One fold along the
path, with the dW that moved it, gives log p(x, y) / q(x), whose mean is the ELBO:

    log p(x_0) / q(x_0) + sum_k log p(y_k | X_{t_k}) - int u^2 / 2 dt - int u dW.

The log evidence above it is known here, where y is Gaussian. The script takes half a minute.

References: Li, Wong, Chen, Duvenaud, "Scalable gradients for stochastic differential equations",
2020, arXiv 2001.01328; Schauer, van der Meulen, van Zanten, "Guided proposals", arXiv 1311.3606.
"""

import argparse
import pathlib
import sys

import jax
import jax.numpy as jnp
import optax
from jax.scipy.stats import norm

import flowjax as fj
import quickstart
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
        seen = jnp.where(times[1:] == t1, norm.logpdf(y, x1, NOISE), 0.0)
        return value + jnp.sum(seen) - u**2 / 2 * (t1 - t0) - u * dw

    start_key, path_key = jax.random.split(key)
    x0 = q.sample(start_key)
    fold = {"init": p.log_prob(x0) - q.log_prob(x0), "update": update}
    return -fj.fold(posterior, x0, ts, args, key=path_key, **fold)[1]


def log_evidence(log_parameters, ys):
    theta, sigma = jnp.exp(log_parameters)
    hidden = sigma**2 / (2 * theta) * jnp.exp(-theta * jnp.abs(times[1:, None] - times[None, 1:]))
    law = fj.Gaussian(jnp.zeros(len(hidden)), hidden + NOISE**2 * jnp.eye(len(hidden)))
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
    how = {"steps": STEPS, "batch_size": SERIES}
    how["optimizer"] = optax.adam(optax.cosine_decay_schedule(0.03, STEPS))
    model, losses = fj.training.fit(model, negative_elbo, ys, fit_key, **how)

    fit, end = jnp.stack(model[:2]), losses[-STEPS // 4 :]
    information = -SERIES * jax.hessian(log_evidence)(fit, ys)  # of the logs of theta and sigma
    errors = jnp.sqrt(jnp.diag(jnp.linalg.inv(information)))
    table = [TRUTH, jnp.exp(fit), jnp.exp(fit) * errors, scores := (fit - jnp.log(TRUTH)) / errors]
    rows = [(name, *(f"{x:.3f}" for x in row)) for name, *row in zip(("theta", "sigma"), *table)]
    quickstart.print_table(("", "truth", "learnt", "standard error", "errors off"), rows)
    elbo, evidence, error = -jnp.mean(end), log_evidence(fit, ys), jnp.std(end) / len(end) ** 0.5
    print(f"   ELBO {elbo:.3f} ± {error:.3f}, log evidence {evidence:.3f}, for each series")

    *_, std, goals = args = (*map(jnp.exp, model[:3]), model[3] @ ys[0])
    paths = fj.sample_paths(key, posterior, fj.Gaussian(goals[0], std[0]).sample, ts, 40, args=args)
    figure = plot.trajectories(
        ts, paths, title="the hidden path (black) and draws of the posterior"
    )
    figure.axes[0].plot(ts, xs[0], "k")
    figure.axes[0].errorbar(times[1:], ys[0], NOISE, fmt="ro", label="observations ± noise")
    figure.savefig(options.out / "latent_sde.png")
    # Five standard errors: by chance once in a million runs.
    if jnp.max(jnp.abs(scores)) > 5 or not -0.2 < elbo - evidence < 5 * error:
        sys.exit("FAILED: theta, sigma or the ELBO is off")


if __name__ == "__main__":
    main()
