"""One network, six samplers: how good the digits are for how many calls of the network.

The network of quickstart.py is trained once. Then new digits are drawn by

- Euler's and Heun's methods, on uniform times;
- DPM-Solver++ 2M, and Adams's method, on the times of `fj.beta_grid`;
- two SDEs with the flow's marginals: the quickstart's by Euler-Maruyama, and the memoryless one by
  DPM-Solver++ 2M, both on uniform times.

All begin with the same noise, and each is charged what it costs: Heun's method calls the network
twice in a step and takes half as many steps, the others call it once.

Two things are measured. The first is how many digits a classifier of real ones takes for the digit
that was asked for. It does not see whether they vary as real ones do. The second does: the energy
distance between the drawn images X and held-out real ones Y of the same digit,

    2 E|X - Y| - E|X - X'| - E|Y - Y'|,

the mean over the ten digits. It is zero where the two laws are the same and positive elsewhere. The
estimate has no bias, so it may be below zero. For real digits, those to train on beside those held
out, it clearly is: every fifth image of the file is held out, and two such parts are more alike
than those of a random split, for which it is zero within its error.

    python examples/digit_samplers.py --out pictures

takes a few minutes on two CPU cores. It prints both tables, draws them, and exits with an error if
a sampler has not come to digits like the real ones after the most calls.
"""

import argparse
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from scipy.spatial.distance import cdist
from tqdm.auto import tqdm

import flowjax as fj
import quickstart

CALLS = (4, 6, 10, 20, 50)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Compare samplers on the digits, call by call.")
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("out/digit_samplers"), help="for pictures"
    )
    parser.add_argument("--seed", type=int, default=0, help="names all that is random")
    parser.add_argument("--steps", type=int, default=2500, help="how many training steps")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    # The quickstart's keys, so that the network is the same.
    _, train_key, key = jax.random.split(jax.random.key(options.seed), 3)

    digits = fj.data.digits()
    network, _ = quickstart.trained(digits, train_key, options.steps)
    v = fj.velocity(network, fj.CondOT())
    judge = quickstart.judge(digits)
    real_accuracy = judge.score(quickstart.flat(digits.test.image), digits.test.label)
    real = Quality(real_accuracy, *energy_by_digit(*digits.train, digits.test))
    measured: dict[str, list[Quality]] = {}
    for name, sampler in tqdm(samplers(v).items(), desc="drawing", unit="sampler"):
        measured[name] = []
        for calls in CALLS:
            ts = sampler.grid(calls // sampler.calls_per_step)
            images = quickstart.draw_digits(key, sampler.field, ts, sampler.step)
            accuracy = judge.score(quickstart.flat(images), quickstart.ASKED)
            energy = energy_by_digit(images, quickstart.ASKED, digits.test)
            measured[name].append(Quality(accuracy, *energy))

    report(measured, real)
    draw(measured, real, options.out / "digit_samplers.png")
    print(f"\nPicture: {options.out.resolve() / 'digit_samplers.png'}")
    failures = [
        f"after {CALLS[-1]} calls {name}'s are not like the held-out digits"
        for name, (*_, (accuracy, energy, error)) in measured.items()
        if accuracy < quickstart.LEAST_ACCURACY or energy > 5 * error
    ]
    if failures:
        sys.exit("FAILED: " + "; ".join(failures))


class Sampler(NamedTuple):
    """What `fj.sample` is given, and how often a step calls the network."""

    field: Any
    grid: Callable[[int], jax.Array]
    step: Any = None
    calls_per_step: int = 1


def samplers(v: fj.Velocity) -> dict[str, Sampler]:
    """The methods that are compared."""
    sde = fj.with_noise(v, lambda t: 1 - t)
    return {
        "Euler": Sampler(v, fj.uniform_grid, fj.euler),
        "Heun": Sampler(v, fj.uniform_grid, fj.heun, calls_per_step=2),
        "DPM-Solver++ 2M": Sampler(v, fj.beta_grid, fj.dpmpp_2m),
        "Adams": Sampler(v, fj.beta_grid, fj.adams()),
        "SDE: Euler-Maruyama": Sampler(sde, fj.uniform_grid, fj.euler_maruyama),
        "SDE: DPM-Solver++ 2M": Sampler(v, fj.uniform_grid, fj.dpmpp_2m_sde),
    }


# --- what is measured -----------------------------------------------------------------------------


class Quality(NamedTuple):
    """The share of the right digits; the energy distance and its standard error."""

    accuracy: float
    energy: float
    error: float


def energy_by_digit(images: Any, labels: Any, held_out: Any) -> tuple[float, float]:
    """The mean over the digits of the energy distance to real ones, and its standard error."""
    x, y = quickstart.flat(images), quickstart.flat(held_out.image)
    x_label, y_label = np.asarray(labels), np.asarray(held_out.label)
    of_each = [energy_distance(x[x_label == digit], y[y_label == digit]) for digit in range(10)]
    energies, errors = np.transpose(of_each)
    return float(np.mean(energies)), float(np.linalg.norm(errors)) / 10


def energy_distance(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| of the rows, without bias, and its standard error.

    The error is that of the first order, from what each row adds to the estimate; it is somewhat
    too large where the two laws are nearly the same.

    References: Szekely, Rizzo, "Energy statistics: a class of statistics based on distances", 2013,
    doi 10.1016/j.jspi.2013.03.018.
    """
    between = cdist(x, y)
    # No row is compared with itself; its distance of zero is in the sum only.
    within_x, within_y = (np.sum(cdist(rows, rows), axis=1) / (len(rows) - 1) for rows in (x, y))
    from_x = 2 * np.mean(between, axis=1) - 2 * within_x
    from_y = 2 * np.mean(between, axis=0) - 2 * within_y
    energy = (np.mean(from_x) + np.mean(from_y)) / 2
    error = np.sqrt(np.var(from_x, ddof=1) / len(x) + np.var(from_y, ddof=1) / len(y))
    return float(energy), float(error)


# --- tables and a picture -------------------------------------------------------------------------


def report(measured: dict[str, list[Quality]], real: Quality) -> None:
    header = ("calls of the network", *CALLS)
    print("\nClassified as the digit asked for")
    rows = [(name, *(f"{q.accuracy:.1%}" for q in row)) for name, row in measured.items()]
    quickstart.print_table(header, rows)
    print(f"   Real digits, held out: {real.accuracy:.1%}")

    print("\nEnergy distance to held-out digits")
    rows = [(name, *(f"{q.energy:+.4f}" for q in row)) for name, row in measured.items()]
    quickstart.print_table(header, rows)
    print(f"   Real digits to train on: {real.energy:+.4f} ± {real.error:.4f}")
    print(f"   The standard error is about {typical_error(measured):.4f}, but less of differences:")
    print("   all rows have the held-out digits and the initial noise in common.")


def typical_error(measured: dict[str, list[Quality]]) -> float:
    return float(np.mean([quality.error for row in measured.values() for quality in row]))


def draw(measured: dict[str, list[Quality]], real: Quality, path: pathlib.Path) -> None:
    figure = Figure(figsize=(11, 4.4), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    for ax, quantity in ((left, "accuracy"), (right, "energy")):
        for name, row in measured.items():
            style = "o--" if name.startswith("SDE") else "o-"
            values = [getattr(quality, quantity) for quality in row]
            ax.plot(CALLS, values, style, markersize=4, linewidth=1.4, label=name)
        ax.axhline(getattr(real, quantity), color="black", linestyle=":", label="real digits")
        ax.set(xscale="log", xlabel="calls of the network")
        ax.set_xticks(CALLS, [str(calls) for calls in CALLS])
        ax.minorticks_off()
        ax.spines[["top", "right"]].set_visible(False)
    left.set_title("classified as the digit asked for")
    left.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    right.set_title("energy distance to held-out digits")
    error = typical_error(measured)
    right.axhspan(-error, error, color="0.92", label="zero ± standard error")
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    main()
