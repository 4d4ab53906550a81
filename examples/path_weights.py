"""A rare event by Girsanov weights: paths of a drift that seeks it, weighed back to the true one.

P is Brownian motion from 0, and the event that it ends above 4, of probability 3e-5: of 20,000 of
its paths one does, or none. Q pulls towards a goal, and each of its paths is weighed by dP / dQ, in
one fold and without storing the path. The weights are exact for the steps as they are, here ten.

    python examples/path_weights.py pictures
"""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from matplotlib.figure import Figure

import flowjax as fj

LEVEL, NUM = 4.0, 20_000
ts = fj.uniform_grid(10)


def unit(t, x, args):
    return 1.0


def to_goal(t, x, goal):
    return goal + 0 * x


P, Q = fj.SDE(lambda t, x, goal: 0 * x, unit), fj.SDE(to_goal, unit)


@jax.jit
def weighed(goal, key):
    """Whether each path of Q ends above the level, weighed."""
    along = fj.densities.log_ratio(P, Q, goal)

    def end(key):
        return fj.fold(Q, 0.0, ts, goal, key=key, **along._asdict())

    ends, log_weights = jax.vmap(end)(jax.random.split(key, NUM))
    return jnp.where(ends > LEVEL, jnp.exp(log_weights), 0)


def main(out="out/path_weights"):
    truth, figure = float(norm.sf(LEVEL)), Figure((9, 3.8), 120, layout="constrained")
    left, right = figure.subplots(1, 2)
    goals, found = np.arange(0.0, 7.0), []
    for goal in goals:
        values = weighed(goal, jax.random.key(0))
        mean, error = float(values.mean()), float(values.std()) / NUM**0.5
        found.append((mean, error))
        print(f"goal {goal:.0f}: {mean:.3e} ± {error:.1e}")
    print(f"exact:  {truth:.3e}")
    means, errors = np.array(found).T
    left.axhline(1e5 * truth, color="k", linewidth=1, label="exact")
    left.errorbar(goals, 1e5 * means, 1e5 * errors, fmt="o", capsize=3, label="weighed paths of Q")
    left.set(xlabel="goal of Q", title=f"100,000 P(X > {LEVEL:.0f}), and one standard error")
    left.legend(frameon=False)
    for key, sde, color in ((1, P, "C1"), (2, Q, "C0")):
        keys = jax.random.split(jax.random.key(key), 40)
        paths = jax.vmap(lambda key, sde=sde: fj.trajectory(sde, 0.0, ts, LEVEL, key=key))(keys)
        right.plot(ts, paths.T, color, linewidth=0.6)
    right.axhline(LEVEL, color="k", linewidth=1)
    right.set(xlabel="t", title=f"paths of P (orange), and of Q with goal {LEVEL:.0f} (blue)")
    pathlib.Path(out).mkdir(parents=True, exist_ok=True)
    figure.savefig(f"{out}/path_weights.png")
    best = int(np.argmin(np.where(goals >= 3, errors, np.inf)))
    if abs(means[best] - truth) > 5 * errors[best] or errors[best] > 0.05 * truth:
        sys.exit("FAILED: the weighed paths miss the probability")
    return means[best], errors[best], truth


if __name__ == "__main__":
    main(*sys.argv[1:2])
