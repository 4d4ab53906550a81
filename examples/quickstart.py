"""Quickstart: from an ODE with a closed form to new handwritten digits.

A flow model and a diffusion model are one equation each,

    dX = u_t(X) dt                      (an ODE)
    dX = u_t(X) dt + g_t dW             (an SDE)

and flowjax solves both with the same call. This script does so three times.

1. The linear ODE dx/dt = -theta x by Euler's method, beside its closed form: the error is of the
   predicted size and halves when the step does.
2. The Ornstein-Uhlenbeck process by the Euler-Maruyama method, beside the exact mean and variance
   of that method: one key for each path.
3. A flow model of scikit-learn's handwritten digits: a small network learns the velocity u_t(x, y)
   that carries noise to images of the digit y by flow matching, and draws new digits by the ODE and
   by an SDE with the same marginals. A classifier that has seen real digits only judges whether
   each is the digit that was asked for.

It takes a minute or two on two CPU cores:

    python examples/quickstart.py --out pictures

It writes the pictures, and exits with an error if a measurement is off.
"""

import argparse
import itertools
import pathlib
import sys
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import SVC
from tqdm.auto import tqdm

import flowjax as fj
from flowjax import plot

SAMPLES_PER_DIGIT = 100
ASKED = np.repeat(np.arange(10), SAMPLES_PER_DIGIT)
LEAST_ACCURACY = 0.90


def main() -> None:
    parser = argparse.ArgumentParser(description="Solve an ODE and an SDE, and generate digits.")
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("out/quickstart"), help="where pictures go"
    )
    parser.add_argument("--seed", type=int, default=0, help="names all that is random")
    parser.add_argument("--steps", type=int, default=2500, help="how many training steps")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    sde_key, train_key, digits_key = jax.random.split(jax.random.key(options.seed), 3)

    failures = [
        *linear_ode(options.out),
        *ornstein_uhlenbeck(sde_key, options.out),
        *handwritten_digits(train_key, digits_key, options.steps, options.out),
    ]

    print(f"\nPictures: {options.out.resolve()}")
    for picture in sorted(options.out.glob("*.png")):
        print(f"  {picture.name}")
    print(f"Time: {time.perf_counter() - start:.0f} s")
    if failures:
        sys.exit("FAILED: " + "; ".join(failures))


# --- 1. an ODE ------------------------------------------------------------------------------------


def linear_ode(out: pathlib.Path) -> list[str]:
    """Euler's method on dx/dt = -theta x, against x_0 exp(-theta t)."""
    theta, x0 = 2.0, jnp.linspace(-2.0, 2.0, 9)
    exact = fj.linear_flow(1.0, x0, theta)

    rows, errors = [], []
    for n in (100, 200, 400):
        x1 = fj.solve(fj.linear_field, x0, fj.uniform_grid(n), args=theta)
        errors.append(float(jnp.max(jnp.abs(x1 - exact))))
        # The leading term of x_0 (exp(-theta) - (1 - theta/n)^n), greatest at |x_0| = 2.
        expected = 2.0 * theta**2 / (2 * n) * np.exp(-theta)
        halving = f"{errors[-2] / errors[-1]:.3f}" if len(errors) > 1 else "-"
        rows.append((n, f"{errors[-1]:.2e}", f"{expected:.2e}", halving))
    print("\n1. Linear ODE dx/dt = -2 x by Euler, at t = 1")
    print_table(("steps", "largest error", "first-order theory", "error ratio"), rows)

    coarse = fj.uniform_grid(20)
    figure = Figure(figsize=(11, 4.2), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    plot.trajectories(
        coarse,
        fj.trajectory(fj.linear_field, x0, coarse, args=theta).T,
        exact=jax.vmap(fj.linear_flow, in_axes=(0, None, None))(coarse, x0, theta).T,
        ax=left,
        title="dx/dt = −2x: Euler with 20 steps and the closed form",
    )
    rates, corners = jnp.array([1.0, 3.0]), jnp.array([[2.0, 2.0], [-1.0, 2.0], [-2.0, -1.0]])
    fine = fj.uniform_grid(100, 0.0, 2.0)
    plot.vector_field(
        fj.linear_field,
        args=rates,
        paths=jax.vmap(lambda x: fj.trajectory(fj.linear_field, x, fine, args=rates))(corners),
        ax=right,
        title="the field (−x₁, −3x₂) and three of its trajectories",
    )
    figure.savefig(out / "linear_ode.png")
    halves = all(1.9 < coarse / fine < 2.1 for coarse, fine in itertools.pairwise(errors))
    return [] if halves else ["Euler's error does not halve with the step"]


# --- 2. an SDE ------------------------------------------------------------------------------------


def ornstein_uhlenbeck(key: jax.Array, out: pathlib.Path) -> list[str]:
    """Euler-Maruyama on dX = -theta X dt + sigma dW, against that method's own exact moments."""
    theta, sigma, start, n, num = 2.0, 1.0, 2.0, 100, 20_000
    sde = fj.ornstein_uhlenbeck(theta, sigma)
    ts = fj.uniform_grid(n)
    ends = np.asarray(fj.sample(key, sde, lambda key: jnp.asarray(start), ts, num), float)

    h = 1 / n
    r = 1 - theta * h
    mean, variance = start * r**n, sigma**2 * h * (1 - r ** (2 * n)) / (1 - r**2)
    rows, scores = [], []
    for name, measured, exact, error in (
        ("mean", ends.mean(), mean, np.sqrt(variance / num)),
        ("variance", ends.var(ddof=1), variance, variance * np.sqrt(2 / (num - 1))),
    ):
        scores.append((measured - exact) / error)
        rows.append((name, f"{measured:.4f}", f"{exact:.4f}", f"{error:.4f}", f"{scores[-1]:+.1f}"))
    print(f"\n2. Ornstein-Uhlenbeck process by Euler-Maruyama, {num} paths, {n} steps, at t = 1")
    print_table(("", "measured", "exact", "standard error", "z"), rows)

    figure = Figure(figsize=(11, 4.2), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    keys = jax.random.split(jax.random.fold_in(key, num), 60)
    paths = jax.vmap(lambda key: fj.trajectory(sde, start, ts, key=key))(keys)
    plot.trajectories(ts, paths, ax=left, title="dX = −2X dt + dW: 60 paths from X₀ = 2")
    # Its mean and band of two standard deviations, in continuous time.
    times = np.asarray(ts)
    centre = start * np.exp(-theta * times)
    band = 2 * np.sqrt(sigma**2 * (1 - np.exp(-2 * theta * times)) / (2 * theta))
    left.plot(times, centre, "k-", linewidth=1.5, label="mean")
    left.plot(times, centre - band, "k--", linewidth=1, label="mean ± 2 standard deviations")
    left.plot(times, centre + band, "k--", linewidth=1)
    left.legend(frameon=False)
    law = fj.Gaussian(mean, np.sqrt(variance))
    plot.histogram(
        ends, lambda x: jnp.exp(law.log_prob(x)), ax=right, title="X₁ and its exact density"
    )
    figure.savefig(out / "ornstein_uhlenbeck.png")
    # By chance this happens once in a million runs.
    return ["the moments are more than 5 standard errors off"] if max(np.abs(scores)) > 5 else []


# --- 3. a flow model and a diffusion model --------------------------------------------------------


def handwritten_digits(
    train_key: jax.Array, key: jax.Array, steps: int, out: pathlib.Path
) -> list[str]:
    """Learns the velocity of the digits, draws new ones by an ODE and an SDE, and judges them."""
    digits = fj.data.digits()
    print(f"\n3. Handwritten digits: {len(digits.train.image)} real images to train on")
    network, losses = trained(digits, train_key, steps)
    v = fj.velocity(network, fj.CondOT())

    ode_key, sde_key, film_key = jax.random.split(key, 3)
    ts = fj.uniform_grid(100)
    # The SDE dX = (u + g^2/2 score) dt + g dW has the flow's marginals for any noise g.
    sde = fj.with_noise(v, lambda t: 1 - t)
    drawn = {
        "flow (ODE)": draw_digits(ode_key, v, ts, progress="drawing by the ODE"),
        "diffusion (SDE)": draw_digits(sde_key, sde, ts, progress="drawing by the SDE"),
    }
    accuracies = report(digits, drawn)

    draw_loss(losses, out)
    draw_samples(digits, drawn, out)
    draw_generation(film_key, v, sde, ts, out)
    return [
        f"only {accuracy:.1%} of the digits of the {name} are the ones asked for"
        for name, accuracy in accuracies.items()
        if accuracy < LEAST_ACCURACY
    ]


def trained(digits: fj.data.Digits, key: jax.Array, steps: int) -> tuple[fj.models.MLP, jax.Array]:
    """A network that has learned the velocity u_t(x, y) of the digits, and its losses."""
    model_key, fit_key = jax.random.split(key)
    network = fj.models.MLP((8, 8), width=256, depth=3, num_classes=10, key=model_key)

    def loss(network, sample, key):
        return fj.losses.flow_matching(network, sample.image, key, sample.label)

    state, losses = fj.training.fit(
        network,
        loss,
        digits.train,
        fit_key,
        optimizer=optax.adamw(optax.warmup_cosine_decay_schedule(0.0, 1e-3, 100, max(steps, 101))),
        steps=steps,
        batch_size=128,
        progress=True,
    )
    return state.model, losses


def draw_digits(
    key: jax.Array, field_or_sde, ts: jax.Array, step=None, progress: str | None = None
) -> np.ndarray:
    """100 images of each digit: shape (1000, 8, 8), in the order of the labels `ASKED`."""
    return np.concatenate(
        [
            fj.sample(
                jax.random.fold_in(key, label),
                field_or_sde,
                noise_image,
                ts,
                SAMPLES_PER_DIGIT,
                args=jnp.asarray(label),
                step=step,
            )
            for label in tqdm(range(10), desc=progress, unit="digit", disable=progress is None)
        ]
    )


def noise_image(key: jax.Array) -> jax.Array:
    return jax.random.normal(key, (8, 8))


def judge(digits: fj.data.Digits) -> SVC:
    """A classifier that has seen the real digits to train on, and no other."""
    return SVC(C=10).fit(flat(digits.train.image), np.asarray(digits.train.label))


def report(digits: fj.data.Digits, drawn: dict) -> dict[str, float]:
    """Prints how the drawn digits compare with real ones that nobody was trained on."""
    classifier = judge(digits)
    neighbours = NearestNeighbors(n_neighbors=1).fit(flat(digits.train.image))

    sets = {name: (images, ASKED) for name, images in drawn.items()}
    sets["real, held out"] = (digits.test.image, np.asarray(digits.test.label))
    rows = {
        "images": [],
        "classified as the digit asked for": [],
        "distance to the nearest training image, median": [],
        "distance to the nearest training image, least": [],
        "spread within a digit": [],
    }
    accuracies = {}
    for name, (images, labels) in sets.items():
        points = flat(images)
        accuracy = classifier.score(points, labels)
        distances = neighbours.kneighbors(points)[0]
        spread = np.mean([points[labels == digit].std(axis=0).mean() for digit in range(10)])
        values = (
            len(images),
            f"{accuracy:.1%}",
            f"{np.median(distances):.2f}",
            f"{distances.min():.2f}",
            f"{spread:.3f}",
        )
        for row, value in zip(rows.values(), values, strict=True):
            row.append(value)
        if name in drawn:
            accuracies[name] = float(accuracy)
    print("\n   The digits drawn, judged by what has seen real training digits only")
    print_table(("", *sets), [(name, *values) for name, values in rows.items()])
    print("   Copies of training images would be at a distance near zero.")
    return accuracies


def flat(images) -> np.ndarray:
    return np.asarray(images).reshape(len(images), -1)


def draw_loss(losses: jax.Array, out: pathlib.Path) -> None:
    each = np.asarray(losses)
    window = max(1, len(each) // 50)
    smooth = np.convolve(each, np.ones(window) / window, mode="valid")
    figure = Figure(figsize=(6, 4), dpi=120, layout="constrained")
    ax = figure.add_subplot()
    ax.plot(each, alpha=0.3, linewidth=0.8, label="each batch")
    ax.plot(np.arange(len(smooth)) + window // 2, smooth, "k-", label=f"mean of {window}")
    ax.set(xlabel="training step", ylabel="flow matching loss", ylim=(0, None))
    ax.set_title("learning the velocity of the digits")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    figure.savefig(out / "training_loss.png")


def draw_samples(digits: fj.data.Digits, drawn: dict, out: pathlib.Path) -> None:
    """Eight images of each digit: real ones and drawn ones, a column for each digit."""
    image, label = np.asarray(digits.test.image), np.asarray(digits.test.label)
    by_label = [image[label == digit] for digit in range(10)]
    sheets = {"real, held out": by_label} | {
        name: images.reshape(10, -1, 8, 8) for name, images in drawn.items()
    }
    figure = Figure(figsize=(12, 3.9), dpi=150, layout="compressed")
    for ax, (name, columns) in zip(figure.subplots(1, 3), sheets.items(), strict=True):
        rows = np.concatenate([[column[i] for column in columns] for i in range(8)])
        plot.image_grid(rows, column_names=range(10), ax=ax, title=name)
    figure.savefig(out / "digits.png", bbox_inches="tight")


def draw_generation(
    key: jax.Array, v: fj.Velocity, sde: fj.SDE, ts: jax.Array, out: pathlib.Path
) -> None:
    """The way from noise to five digits, by the ODE and by the SDE from the same noise."""
    labels = jnp.array([0, 2, 3, 5, 8])
    keys = jax.random.split(key, len(labels))

    @eqx.filter_jit
    def paths(field_or_sde, noisy):
        def path(key, label):
            start_key, path_key = jax.random.split(key)
            path_key = path_key if noisy else None
            x0 = noise_image(start_key)
            return fj.trajectory(field_or_sde, x0, ts, args=label, key=path_key, every=10)

        return jax.vmap(path)(keys, labels)

    figure = Figure(figsize=(12, 3.5), dpi=150, layout="compressed")
    names = [f"{t:.1f}" for t in ts[::10]]
    for ax, (name, film) in zip(
        figure.subplots(1, 2),
        {"flow (ODE)": paths(v, False), "diffusion (SDE)": paths(sde, True)}.items(),
        strict=True,
    ):
        plot.image_grid(
            film.reshape(-1, 8, 8),
            len(names),
            column_names=names,
            ax=ax,
            title=f"{name}: from noise at t = 0 to a digit at t = 1",
        )
    figure.savefig(out / "noise_to_digits.png", bbox_inches="tight")


def print_table(header: tuple, rows: list[tuple]) -> None:
    """Prints columns that are aligned: the first to the left, numbers to the right."""
    lines = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    for number, (first, *others) in enumerate(lines):
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        print("   " + "   ".join([first.ljust(widths[0]), *cells]))
        if number == 0:
            print("   " + "   ".join("-" * width for width in widths))


if __name__ == "__main__":
    main()
