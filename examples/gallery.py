"""The gallery: the pictures of the lecture notes and more, still and moving, in half a minute.

python examples/gallery.py --out pictures [--dark]
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

import flowjax as fj
from flowjax import plot

CAFFEINE = [*"CNCNCCCONCCONC", *"HHHHHHHHHH"]
PLACES = """-3.22 -.84 0 -2.16 .12 0 -2.3 1.49 0 -1.13 2.1 0 -.22 1.08 0 -.82 -.14 0 -.09 -1.36 0
    -.64 -2.46 0 1.29 -1.17 0 2.15 -2.34 0 1.95 .08 0 3.18 .15 0 1.15 1.22 0 1.75 2.55 0
    -3.14 -1.46 .9 -3.14 -1.46 -.9 -4.19 -.32 0 -3.26 1.98 0 2.79 -2.31 .89 1.58 -3.27 0
    2.79 -2.31 -.89 1.42 3.09 -.89 2.84 2.5 0 1.42 3.09 .89"""


def fields():
    spiral = lambda t, x, args: jnp.array([[-0.3, -2.0], [2.0, -0.3]]) @ x  # noqa: E731
    path = fj.trajectory(spiral, jnp.array([1.8, 0.0]), fj.uniform_grid(200, 0, 4), step=fj.rk4)
    yield "vector_field", plot.vector_field(spiral, paths=path, title="a field and a trajectory")
    yield "streamlines", plot.vector_field(spiral, lines=True, title="streamlines of the field")


def linear(key, ts, theta=2.0, sigma=1.0, start=2.0):
    coarse, x0 = fj.uniform_grid(20), jnp.linspace(-2.0, 2.0, 9)
    exact = jax.vmap(lambda t: fj.linear_flow(t, x0, theta))(coarse)
    xs, title = fj.trajectory(fj.linear_field, x0, coarse, args=theta), "dx/dt = −2x by Euler"
    yield "linear_ode", plot.trajectories(coarse, xs.T, exact=exact.T, title=title)
    sde, title = fj.ornstein_uhlenbeck(theta, sigma), "dX = −2X dt + dW by Euler-Maruyama"
    xs = fj.sample_paths(key, sde, lambda key: jnp.asarray(start), ts, 2000)
    yield "stochastic_path", plot.trajectories(ts, xs[:1], title="one path of dX = −2X dt + dW")
    mean, variance = start * jnp.exp(-theta * ts), (1 - jnp.exp(-2 * theta * ts)) / (2 * theta)
    band = mean + 1.6449 * sigma * jnp.array([[-1.0], [1.0]]) * jnp.sqrt(variance)
    yield "linear_sde", plot.stochastic_paths(ts, xs, exact_mean=mean, exact_band=band, title=title)


def law(key, ts):
    weights, means, stds = jnp.array([[0.3, 0.7], [-2.0, 1.5], [0.3, 0.5]])
    target = fj.GaussianMixture(weights, means, stds)
    v, init = target.velocity(fj.CondOT()), jax.random.normal
    density = jax.jit(lambda t, x: jnp.exp(target.marginal(v.schedule, t).log_prob(x)))
    xs = fj.sample_paths(key, v, init, ts, 5000, step=fj.heun)
    noisy = fj.sample_paths(key, fj.with_noise(v, lambda t: 1 - t), init, ts, 5000)
    yield "flow", plot.density_map(ts, xs, title="a law carried by a flow")
    yield "diffusion", plot.density_map(ts, noisy, title="the same law carried by a diffusion")
    yield "ridges", plot.density_ridges(ts, xs, density, title="samples of a flow and $p_t(x)$")
    size = [{"bins": 60, "low": -4, "high": 4, "top": 0.6, "title": f"t = {t:.2f}"} for t in ts]
    exact = lambda k: lambda x: density(ts[k], x)  # noqa: E731
    yield "law", lambda k: plot.histogram(xs[:, k], exact(k), **size[k]), {"num": len(ts)}


def plane(key, ts):
    means = jnp.array([[0.0, 1.8], [1.56, -0.9], [-1.56, -0.9]])
    v = fj.GaussianMixture(jnp.ones(3), means, jnp.full(3, 0.5)).velocity(fj.CondOT())
    flow = jax.vmap(lambda x: fj.trajectory(v, x, ts), out_axes=1)
    start, frames, low, high = plot.grid_lines(num=13), {"num": len(ts)}, (-3.2, -3.2), (3.2, 3.2)
    lines, xs = jax.vmap(flow, out_axes=1)(start), flow(jax.random.normal(key, (1500, 2)))
    yield "grid", plot.flow_grid(ts[::15], lines[::15], title="a flow deforms a grid")
    yield "grid", lambda k: plot.flow_grid(ts[k], lines[k], start=start, low=low, high=high), frames
    first, xs_of = xs[0, :, 0], xs.swapaxes(0, 1)
    yield "samples", plot.point_clouds(ts, xs_of, num=4, title="samples carried by a flow")
    cloud = lambda k: plot.point_clouds(ts[k], xs[k], values=first, low=low, high=high)  # noqa: E731
    yield "samples", cloud, frames


def molecule():
    places = np.array(PLACES.split(), float).reshape(-1, 3)
    yield "molecule", plot.molecule(places, CAFFEINE, elevation=50, title="caffeine")
    turned = lambda k: plot.molecule(places, CAFFEINE, azimuth=10 * k, elevation=35)  # noqa: E731
    yield "molecule", turned, {"num": 36, "hold": 0.05}


def videos(key, ts):
    digits = jnp.full((100, 12, 16), -1.0).at[:, 2:10, :8].set(fj.data.digits().train.image[:100])
    data = jnp.stack([jnp.roll(digits, k, axis=2) for k in range(9)], axis=1)
    v = fj.GaussianMixture(jnp.ones(100), data, 0.01).velocity(fj.CondOT())
    made = fj.sample(key, v, lambda key: jax.random.normal(key, data[0].shape), ts, 4)
    yield "video", plot.video_strip(made, frames=5, title="videos drawn by a flow")
    yield "video", lambda k: plot.image_grid(made[:, k], 2), {"num": 9, "fps": 6}


def errors(ns=np.array([8, 16, 32, 64]), title="logistic growth"):
    growth, exact = lambda t, x, args: 8 * x * (1 - x), 1 / (1 + 49 * np.exp(-4.0))
    end = lambda n, step: fj.solve(growth, 0.02, fj.uniform_grid(n, 0, 0.5), step=step)  # noqa: E731
    methods = {"euler": fj.euler, "heun": fj.heun, "adams 2": fj.adams(2), "rk4": fj.rk4}
    wrong = {name: [abs(end(int(n), m) - exact) for n in ns] for name, m in methods.items()}
    yield "orders", plot.convergence_orders(0.5 / ns, wrong, title=title)
    calls = {"euler": ns, "heun": 2 * ns, "adams 2": ns, "rk4": 4 * ns}
    yield "calls", plot.error_against_calls(calls, wrong, title=title)


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Make the pictures of the gallery.")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/gallery"))
    parser.add_argument("--seed", type=int, default=0, help="names all that is random")
    parser.add_argument("--dark", action="store_true", help="light on dark")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    keys, ts, pictures = jax.random.split(jax.random.key(options.seed), 4), fj.uniform_grid(30), {}
    with plot.dark(options.dark):
        parts = [fields(), linear(keys[0], fj.uniform_grid(200)), law(keys[1], ts)]
        parts += [plane(keys[2], ts), molecule(), videos(keys[3], ts), errors()]
        for name, picture, *frames in (each for part in parts for each in part):
            file = f"{name}{'_dark' if options.dark else ''}.{'gif' if frames else 'png'}"
            pictures[file] = picture
            if frames:
                plot.animate(picture, path=options.out / file, **frames[0])
            else:
                picture.savefig(options.out / file, dpi=100)
    return pictures


if __name__ == "__main__":
    main()
