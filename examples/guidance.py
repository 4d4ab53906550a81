"""Guided flows side by side on a mixture: where each ends, and how far that is from p^w.

The velocities are exact, of labelled data p_1 and all data p_0. Classifier-free guidance mixes the
scores of p^w = p_1^w p_0^(1-w), known here; its flow ends elsewhere. Each method is drawn over p^w;
the squared Wasserstein distances of a second draw from p^w itself say what chance does.
"""

import pathlib

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

import flowjax as fj

NUM, W, PATH, TS = 1000, 3.0, fj.CondOT(), fj.uniform_grid(100)
CENTRES = jnp.array([[-1.6, 0.0], [0.0, 1.4], [1.6, 0.0], [0.0, -1.4]])
SHARES = jnp.array([[0.5, 0.4, 0.05, 0.05], [0.25, 0.25, 0.25, 0.25]])  # of the label, and of all


def law(row, std=0.5):
    return fj.GaussianMixture(SHARES[row], CENTRES, std)


def model(std):
    # Label 0 is the condition, label 1 stands for none.
    return fj.velocity(lambda t, x, row: law(row, std).velocity(PATH)(t, x, None), PATH)


@jax.jit
def power(key, w):
    """Samples of p_1^w p_0^(1-w), on a fine grid."""
    side = jnp.linspace(-4, 4, 401)
    points = jnp.stack(jnp.meshgrid(side, side), -1).reshape(-1, 2)
    log_p1, log_p0 = (jax.vmap(law(row).log_prob)(points) for row in (0, 1))
    shares = jax.nn.softmax(w * log_p1 + (1 - w) * log_p0)
    return jax.random.choice(key, points, (NUM,), p=shares)


def methods():
    v, weak = model(0.5), model(0.8)
    cfg = fj.guidance.classifier_free(v, W, null=1)
    return {
        "not guided": v,
        "classifier_free": cfg,
        "interval": fj.guidance.interval(cfg, 0.2, 0.8),
        "cfg_zero": fj.guidance.cfg_zero(v, W, null=1, zero_until=TS[1]),
        "autoguidance": fj.guidance.autoguidance(v, weak, W),
    }


def distance(x, y):
    pairs = fj.couplings.exact(jax.random.key(0), x, y)
    return float(jnp.mean(jnp.sum((pairs.x0 - pairs.x1) ** 2, -1)))


def main(out="."):
    keys = jax.random.split(jax.random.key(0), 4)
    truth, again, data = power(keys[0], W), power(keys[1], W), power(keys[2], 1.0)
    samples, init = {"p^w itself": again}, PATH.prior((2,)).sample
    for name, v in methods().items():
        samples[name] = fj.sample(keys[3], v, init, TS, NUM, args=jnp.array(0))
    distances = {name: (distance(x, truth), distance(x, data)) for name, x in samples.items()}
    figure = Figure((10, 7.2), 120, layout="compressed")
    axes = figure.subplots(2, 3, sharex=True, sharey=True)
    for ax, (name, x) in zip(axes.flat, samples.items(), strict=True):
        ax.plot(*truth.T, ".", color="0.8", markersize=2)
        ax.plot(*x.T, ".", color="tab:blue", markersize=2)
        text = "to p^w: {:.2f}, to p_1: {:.2f}".format(*distances[name])
        ax.set(xlim=(-3.6, 2.8), ylim=(-2.6, 3.2), aspect="equal")
        ax.set_title(f"{name}\n{text}".replace("p^w", "$p^w$").replace("p_1", "$p_1$"))
        print(f"{name:16}", text)
    figure.suptitle(f"Grey: $p^w = p_1^w\\,p_0^{{1-w}}$, w = {W:g}; squared Wasserstein distances")
    figure.savefig(pathlib.Path(out) / "guidance.png")
    return distances


if __name__ == "__main__":
    main()
