"""The gallery's pictures show what they say; all of it, written, in the nightly run."""

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import flowjax as fj
from flowjax import plot
from tests.examples import imported


@pytest.fixture(scope="module")
def gallery():
    return imported("gallery")


def test_the_molecule_is_caffeine(gallery):
    elements = gallery.CAFFEINE
    assert {e: elements.count(e) for e in set(elements)} == {"C": 8, "H": 10, "N": 4, "O": 2}
    (_, figure), (_, frame, frames) = gallery.molecule()
    sticks = [len(path.vertices) == 5 for path in figure.axes[0].collections[0].get_paths()]
    # 24 atoms without rings have 23 bonds, and each of the two rings has one more.
    assert sum(sticks) == 2 * 25
    assert frames["num"] * 10 == 360
    assert isinstance(frame(3), Figure)


def test_the_linear_equations_are_drawn_beside_their_closed_forms(gallery):
    with jax.numpy_rank_promotion("allow"):
        pictures = dict(gallery.linear(jax.random.key(0), fj.uniform_grid(4)))
    lines = pictures["linear_ode"].axes[0].lines
    for euler, exact, x0 in zip(lines[:9], lines[9:], np.linspace(-2, 2, 9), strict=True):
        ts = euler.get_xdata()
        np.testing.assert_allclose(euler.get_ydata(), x0 * 0.9 ** np.arange(21), rtol=1e-5)
        np.testing.assert_allclose(exact.get_ydata(), x0 * np.exp(-2 * ts), rtol=1e-5)
    upper = pictures["linear_sde"].axes[0].lines[-1].get_ydata()[-1]
    # The quantile 95 % at t = 1: mean + 1.6449 standard deviations.
    assert upper == pytest.approx(2 * np.exp(-2) + 1.6449 * np.sqrt((1 - np.exp(-4)) / 4), rel=1e-5)


@pytest.mark.nightly
@pytest.mark.usefixtures("standard_promotion")
def test_the_gallery_is_written(gallery, tmp_path):
    with jax.numpy_rank_promotion("allow"):
        pictures = gallery.main(["--out", str(tmp_path), "--dark"])
    assert {path.name for path in tmp_path.iterdir()} == set(pictures)
    for name, picture in pictures.items():
        path = tmp_path / name
        assert path.stat().st_size < 1_000_000
        with Image.open(path) as image:
            assert isinstance(picture, Figure) or image.n_frames > 8
            assert image.convert("RGB").getpixel((0, 0)) == (13, 17, 23)
    orders = pictures["orders_dark.png"].axes[0]
    slopes = {t.get_text().split(":")[0]: float(t.get_text().split()[-1]) for t in legend(orders)}
    for method, order in {"euler": 1, "heun": 2, "rk4": 4}.items():
        assert abs(slopes[method] - order) < 0.25
    # The histogram of the last frame is the mixture's: 30 % of the samples are below zero, to five
    # standard errors of 5000 (a false alarm in 2 million).
    with plot.dark():
        last = pictures["law_dark.gif"](30)
    below = sum(
        bar.get_height() * bar.get_width() for bar in last.axes[0].patches if bar.get_x() < -0.3
    )
    assert abs(below - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 5000)


def legend(ax):
    return ax.get_legend().get_texts()
