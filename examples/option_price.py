"""The price of a call and its delta by Monte Carlo, plain and better, beside Black-Scholes.

The price is e^-r E max(X_1 - K, 0), under dX = r X dt + v X dW, and delta its derivative in X_0.
`expectation` takes plain samples, antithetic pairs, or the stock as a control, whose mean is known;
`multilevel` goes to a tolerance in continuous time. Delta comes through the paths or their density.

    python examples/option_price.py pictures
"""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import norm

import flowjax as fj

RATE, VOLATILITY, STRIKE, STEPS = 0.05, 0.2, 100.0, 16
sde = fj.SDE(lambda t, x, args: RATE * x, lambda t, x, args: VOLATILITY * x)
ts, key = fj.uniform_grid(STEPS), jax.random.key(0)


def start(key, spot):
    return jnp.asarray(spot)


def payoff(x):
    return jnp.exp(-RATE) * jnp.maximum(x - STRIKE, 0)


def black_scholes(spot):
    d = (np.log(spot / STRIKE) + RATE) / VOLATILITY + VOLATILITY / 2
    return spot * norm.cdf(d) - STRIKE * np.exp(-RATE) * norm.cdf(d - VOLATILITY), norm.cdf(d)


def main(out="out/option", *, tolerances=(0.1, 0.05, 0.02), num=200_000):
    what, how = (key, sde, start, ts, num), {"args": STRIKE, "batch_size": num // 10}
    stock = (lambda x: x, STRIKE * (1 + RATE / STEPS) ** STEPS)
    (price, delta), fe = black_scholes(STRIKE), fj.estimators
    rows = {
        "plain": (fe.expectation(payoff, *what, **how), price),
        "antithetic": (fe.expectation(payoff, *what, antithetic=True, **how), price),
        "control": (fe.expectation(payoff, *what, control=stock, **how), price),
        "delta, pathwise": (fe.pathwise_gradient(payoff, *what, **how), delta),
        "delta, log-density": (fe.log_density_gradient(payoff, *what, **how), delta),
    }
    print(f"{'':20}estimate  error  standard error, of {num} paths")
    for name, (got, truth) in rows.items():
        print(f"{name:20}{got.mean:8.4f} {got.mean - truth:7.4f} {got.standard_error:9.4f}")
    figure, costs = Figure((9, 3.6), 120, layout="constrained"), {}
    left, right = figure.subplots(1, 2)
    problem = (payoff, key, sde, start, fj.uniform_grid(1))
    for name, step in (("Euler-Maruyama", fj.euler_maruyama), ("Milstein", fj.milstein)):
        runs = [fe.multilevel(*problem, eps, args=STRIKE, step=step) for eps in tolerances]
        levels = runs[-1].levels
        for tolerance, got in zip(tolerances, runs, strict=True):
            cost = int(np.sum(got.levels.num * got.levels.cost))
            plain = 2 * float(got.levels.plain_variance[-1]) / tolerance**2 * got.levels.steps[-1]
            costs[name, tolerance] = cost, plain, abs(float(got.mean) - price)
            print(f"{name}, to {tolerance}: {got.mean:.4f}, {cost:.2g} steps, plain {plain:.2g}")
        (line,) = left.semilogy(levels.variance, "o-", label=name)
        left.semilogy(levels.plain_variance, ":", color=line.get_color())
        for i, style, kind in ((0, "o-", "levels"), (1, ":", "plain")):
            mine = [costs[name, tolerance][i] for tolerance in tolerances]
            right.loglog(tolerances, mine, style, color=line.get_color(), label=f"{name}, {kind}")
        left.set(xlabel="level", title="variance", xticks=range(len(levels.num)))
    right.minorticks_off()
    right.set(xlabel="tolerance", title="cost in steps", xticks=tolerances, xticklabels=tolerances)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    pathlib.Path(out).mkdir(parents=True, exist_ok=True)
    figure.savefig(f"{out}/option_price.png")
    return rows, costs


if __name__ == "__main__":
    main(*sys.argv[1:2])
