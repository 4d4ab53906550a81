"""The pictures hold the numbers they were given."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from flowjax import plot
from flowjax.targets.gaussian import Gaussian
from flowjax.targets.linear import linear_field


def test_trajectories_are_drawn_as_they_are():
    ts = jnp.linspace(0.0, 1.0, 5)
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5)))
    figure = plot.trajectories(ts, xs, exact=xs + 1, title="three paths")
    (ax,) = figure.axes
    assert ax.get_title() == "three paths"
    for line, path in zip(ax.lines, np.concatenate([xs, xs + 1]), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), ts)
        np.testing.assert_array_equal(line.get_ydata(), path)


def test_one_path_may_come_without_the_axis_of_paths():
    (ax,) = plot.trajectories(jnp.linspace(0.0, 1.0, 5), jnp.arange(5, dtype=jnp.bfloat16)).axes
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), np.arange(5))


def test_arrows_point_along_the_field_and_their_colour_is_its_speed():
    rates = jnp.array([1.0, 3.0])
    path = jnp.array([[1.0, 1.0], [0.5, 0.2], [0.1, 0.0]])
    figure = plot.vector_field(linear_field, args=rates, num=5, paths=path)
    ax = figure.axes[0]
    (quiver,) = (item for item in ax.collections if hasattr(item, "U"))
    points = quiver.get_offsets()
    np.testing.assert_allclose(np.unique(points), np.linspace(-2, 2, 5))
    velocity = -np.asarray(rates) * points
    speed = np.hypot(*velocity.T)
    np.testing.assert_allclose(quiver.get_array(), speed, rtol=1e-6)
    arrows = np.column_stack([quiver.U, quiver.V])
    np.testing.assert_allclose(arrows * speed[:, None], velocity, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), path)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_each_image_stands_in_its_place(channels):
    images = np.random.default_rng(0).uniform(-1, 1, size=(7, 4, 6, *channels))
    figure = plot.image_grid(images, columns=3, column_names="abc", title="seven")
    (ax,) = figure.axes
    sheet = np.asarray(ax.images[0].get_array())
    assert sheet.shape[:2] == (3 * 5 + 1, 3 * 7 + 1)
    for i, image in enumerate(images):
        top, left = 1 + 5 * (i // 3), 1 + 7 * (i % 3)
        np.testing.assert_allclose(sheet[top : top + 4, left : left + 6], (image + 1) / 2)
    paper = np.ones(sheet.shape[:2], bool)
    for i in range(7):
        paper[1 + 5 * (i // 3) :, 1 + 7 * (i % 3) :][:4, :6] = False
    np.testing.assert_array_equal(sheet[paper], 1.0 if channels else 0.0)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b", "c"]
    np.testing.assert_allclose(ax.get_xticks(), [3.5, 10.5, 17.5])


def test_a_histogram_is_a_density_beside_the_exact_one():
    samples = np.random.default_rng(0).normal(size=5000)
    law = Gaussian(0.0, 1.0)
    (ax,) = plot.histogram(samples, lambda x: jnp.exp(law.log_prob(x)), bins=20).axes
    heights = np.array([bar.get_height() for bar in ax.patches])
    counts, edges = np.histogram(samples, 20)
    np.testing.assert_allclose(heights, counts / 5000 / np.diff(edges))
    x, y = ax.lines[0].get_data()
    np.testing.assert_allclose(y, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), rtol=1e-4)


def test_axes_that_are_given_are_drawn_into():
    figure = Figure()
    axes = figure.subplots(1, 4)
    ts = jnp.linspace(0.0, 1.0, 3)
    assert plot.trajectories(ts, ts, ax=axes[0]) is figure
    assert plot.vector_field(linear_field, args=1.0, num=3, ax=axes[1]) is figure
    assert plot.image_grid(np.zeros((2, 3, 3)), ax=axes[2]) is figure
    assert plot.histogram(ts, ax=axes[3]) is figure
    assert len(axes[0].lines) == len(axes[1].collections) == len(axes[2].images) == 1
    assert len(axes[3].patches) == 40


def test_pictures_can_be_written(tmp_path):
    plot.image_grid(np.zeros((2, 3, 3))).savefig(tmp_path / "grid.png")
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")


TIMES, THREE = np.linspace(0, 1, 5), np.ones((3, 8, 8))


def arrows(field=linear_field, **options):
    return plot.vector_field(field, args=1.0, **options)


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: plot.trajectories(np.zeros(3), np.zeros((2, 4))), r"xs .*got shape \(3,\) and"),
        (
            lambda: plot.trajectories(np.zeros((3, 5)), TIMES),
            "ts must have shape .*finite, and",
        ),
        (lambda: plot.trajectories(TIMES[:0], np.zeros((2, 0))), "ts must have shape"),
        (lambda: plot.trajectories(TIMES, np.zeros((0, 5))), "ts must have shape"),
        (
            lambda: plot.trajectories(TIMES, TIMES, exact=np.zeros(3)),
            "exact must have the shape of",
        ),
        (lambda: plot.trajectories(TIMES, ["a"] * 5), "xs must hold real numbers"),
        (lambda: plot.trajectories(TIMES, None), "xs must hold real numbers, got None"),
        (lambda: plot.trajectories(TIMES, TIMES * 1j), "xs must hold real numbers"),
        (
            lambda: plot.trajectories(TIMES, TIMES, exact=linear_field),
            "exact must hold real numbers",
        ),
        (lambda: plot.trajectories(TIMES, TIMES, ax="left"), "ax must be one of matplotlib's axes"),
        (lambda: plot.trajectories(TIMES, TIMES, ax=Figure()), "ax must be one of matplotlib's"),
        (lambda: arrows(paths=np.zeros((4, 3))), "paths must have shape"),
        (lambda: arrows(None), "field must be a function .*got None"),
        (lambda: arrows(lambda t, x, args: x[0]), r"field must return \(2,\).*got shape \(\)"),
        (lambda: arrows(lambda t, x, args: jnp.ones(3)), r"field must return .*got shape \(3,\)"),
        (lambda: arrows(num=2.5), "num must be a static positive int, got 2.5"),
        (lambda: arrows(num=0), "num must be a static positive int, got 0"),
        (lambda: arrows(low=-2.0), "low and high must hold real numbers, got .-2.0"),
        (lambda: arrows(low=(0, 0, 0), high=(1, 1, 1)), "low and high must be two pairs of"),
        (lambda: arrows(high="top"), "low and high must hold real numbers, got .*'top'"),
        (lambda: plot.image_grid(np.zeros((8, 8))), "images must have shape .*got shape .8, 8."),
        (lambda: plot.image_grid(np.zeros((0, 8, 8))), "images must have shape"),
        (lambda: plot.image_grid(np.zeros((2, 8, 8, 2))), "images must have shape"),
        (lambda: plot.image_grid((np.zeros((2, 8)), [1])), "images must hold real numbers, got"),
        (lambda: plot.image_grid(THREE, 0), "columns must be a static positive int, got 0"),
        (lambda: plot.image_grid(THREE, 1.5), "columns must be a static positive int, got 1.5"),
        (
            lambda: plot.image_grid(THREE, low=1, high=1),
            "low and high must differ.* got 1",
        ),
        (lambda: plot.image_grid(THREE, low="0"), "low must be a real number, got '0'"),
        (lambda: plot.histogram(np.zeros((2, 2))), r"samples must be .* shape \(N,\), got shape"),
        (lambda: plot.histogram(np.zeros(0)), "samples must be finite and of shape"),
        (lambda: plot.histogram([0.0, np.nan]), "samples must be finite and of shape"),
        (lambda: plot.histogram(TIMES, 1.0), "density must be a function x -> p.x., got 1.0"),
        (lambda: plot.histogram(TIMES, Gaussian), "density must be a function .*got <class"),
        (lambda: plot.histogram(TIMES, lambda x: jnp.ones(3)), "density must return a scalar"),
    ],
)
def test_what_cannot_be_drawn_is_refused(unchecked, draw, words):
    with pytest.raises((TypeError, ValueError), match=words):
        draw()


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'flowjax-solvers\[examples\]'"):
        plot.histogram(jax.numpy.zeros(3))


def test_importing_flowjax_imports_none_of_the_extras():
    program = (
        "import sys, flowjax, flowjax.plot;"
        "print({'matplotlib', 'sklearn', 'tqdm'} & set(sys.modules) or 'none')"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout == "none\n", run.stderr
