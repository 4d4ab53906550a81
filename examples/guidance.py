"""Guided flows side by side on a mixture: where each ends, and how far that is from p^w.

Velocities are exact. Classifier-free guidance mixes the scores of p^w = p_1^w p_0^(1-w), known,
with p_1 data of a label and p_0 all; its flow ends elsewhere, and weighted particles lead there.
"""

import pathlib

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

import flowjax as fj

NUM, W, PATH, TS = 1000, 3.0, fj.CondOT(), fj.uniform_grid(100)
CENTRES = jnp.array([[-1.6, 0.0], [0.0, 1.4], [1.6, 0.0], [0.0, -1.4]])
SHARES = jnp.array(
    [[0.5, 0.4, 0.05, 0.05], [0.25, 0.25, 0.25, 0.25]]
)  # of label 0, and of all: label 1


def law(row, std=0.5):
    return fj.GaussianMixture(SHARES[row], CENTRES, std)


def model(std):
    return fj.velocity(lambda t, x, row: law(row, std).velocity(PATH)(t, x, None), PATH)


@jax.jit
def power(key, w):
    """Samples of p_1^w p_0^(1-w), on a fine grid."""
    points = jnp.stack(jnp.meshgrid(*2 * [jnp.linspace(-4, 4, 401)]), -1).reshape(-1, 2)
    log_p1, log_p0 = (jax.vmap(law(row).log_prob)(points) for row in (0, 1))
    shares = jax.nn.softmax(w * log_p1 + (1 - w) * log_p0)
    return jax.random.choice(key, points, (NUM,), p=shares)


def methods(init, args):
    v, weak, key = model(0.5), model(0.8), jax.random.key(1)
    cfg = fj.guidance.classifier_free(v, W, null=1)
    velocities = {
        "not guided": v,
        "classifier_free": cfg,
        "interval": fj.guidance.interval(cfg, 0.2, 0.8),
        "cfg_zero": fj.guidance.cfg_zero(v, W, null=1, zero_until=TS[1]),
        "autoguidance": fj.guidance.autoguidance(v, weak, W),
    }
    for name, guided in velocities.items():
        yield name, fj.sample(key, guided, init, TS, NUM, args=args)
    particles = fj.guidance.corrected(key, v, W, jnp.array(1), init, TS, 10 * NUM, args)
    yield "corrected", particles.samples[::10]


def distance(x, y):
    pairs = fj.couplings.exact(jax.random.key(0), x, y)
    return float(jnp.mean(jnp.sum((pairs.x0 - pairs.x1) ** 2, -1)))


def main(out="."):
    truth, again, data = (power(jax.random.key(k), w) for k, w in ((2, W), (3, W), (4, 1.0)))
    distances, chance = {}, distance(again, truth)
    figure = Figure((10, 7.2), 120, layout="compressed")
    axes = figure.subplots(2, 3, sharex=True, sharey=True).flat
    samples = methods(PATH.prior((2,)).sample, jnp.array(0))
    for ax, (name, x) in zip(axes, samples, strict=True):
        distances[name] = distance(x, truth), distance(x, data)
        ax.plot(*truth.T, ".", color="0.8", markersize=2)
        ax.plot(*x.T, ".", color="tab:blue", markersize=2)
        text = "to $p^w$: {:.2f}, to $p_1$: {:.2f}".format(*distances[name])
        ax.set(xlim=(-3.6, 2.8), ylim=(-2.6, 3.2), aspect="equal", title=f"{name}\n{text}")
        print(f"{name:16}", text.replace("$", ""))
    figure.suptitle(f"Grey: $p^w$, w = {W:g}. Squared distances; by chance {chance:.2f}")
    figure.savefig(pathlib.Path(out) / "guidance.png")
    return chance, distances


if __name__ == "__main__":
    main()
