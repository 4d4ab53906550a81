"""Paths over time: the lines are the numbers that were given, and the bands their quantiles."""

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.colors import same_color

from flowjax import plot
from flowjax.plot import _style
from flowjax.targets.linear import linear_field

TIMES = np.linspace(0, 1, 5)
PATHS = np.random.default_rng(0).normal(size=(40, 5))


def test_trajectories_are_drawn_as_they_are():
    ts, xs = jnp.linspace(0.0, 1.0, 5), jnp.asarray(PATHS[:3])
    figure = plot.trajectories(ts, xs, exact=xs + 1, title="three paths")
    (ax,) = figure.axes
    assert ax.get_title() == "three paths"
    for line, path in zip(ax.lines, np.concatenate([xs, xs + 1]), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), ts)
        np.testing.assert_array_equal(line.get_ydata(), path)
    assert ax.get_xlim() == (0, 1)


def test_one_path_may_come_without_the_axis_of_paths():
    (ax,) = plot.trajectories(jnp.linspace(0.0, 1.0, 5), jnp.arange(5, dtype=jnp.bfloat16)).axes
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), np.arange(5))


def test_one_time_is_a_path_that_begins():
    (ax,) = plot.trajectories(TIMES[:1], PATHS[:3, :1]).axes
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[0, x]] for x in PATHS[:3, 0]]


def test_few_paths_have_their_colours_and_many_have_one():
    few, many = (plot.trajectories(TIMES, xs).axes[0].lines for xs in (PATHS[:6], PATHS))
    assert [line.get_color() for line in few] == list(_style.LIGHT.colours)
    assert {line.get_color() for line in many} == {_style.LIGHT.colours[0]}


@pytest.mark.parametrize("num", [13, 14, 16])
def test_so_many_paths_are_hardly_transparent(num):
    (ax,) = plot.trajectories(TIMES, PATHS[:num]).axes
    assert {line.get_alpha() for line in ax.lines} == {min(1, 15 / num)}


def test_a_second_call_goes_on_with_the_colours():
    (ax,) = plot.trajectories(TIMES, PATHS[0]).axes
    plot.trajectories(TIMES, PATHS[1], ax=ax)
    assert [line.get_color() for line in ax.lines] == list(_style.LIGHT.colours[:2])


def test_the_band_may_stand_alone():
    (ax,) = plot.stochastic_paths(TIMES, PATHS, shown=0).axes
    assert len(ax.lines) == 1


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_mean_and_band_are_those_of_all_the_paths(level):
    (ax,) = plot.stochastic_paths(TIMES, PATHS, level=level, shown=7).axes
    *paths, mean = ax.lines
    np.testing.assert_array_equal([path.get_ydata() for path in paths], PATHS[:7])
    np.testing.assert_allclose(mean.get_ydata(), PATHS.mean(0))
    (band,) = ax.collections
    corners = band.get_paths()[0].vertices
    for time, column in zip(TIMES, np.sort(PATHS, axis=0).T, strict=True):
        # Quantiles by hand: linear between the 40 sorted values, the first at 0, the last at 1.
        places = 39 * np.array([(1 - level) / 2, (1 + level) / 2])
        quantiles = np.interp(places, np.arange(40), column)
        drawn = np.unique(corners[corners[:, 0] == time, 1])
        np.testing.assert_allclose(drawn, quantiles)


def test_closed_forms_are_drawn_beside_what_was_measured():
    band = np.stack([-TIMES, 2 * TIMES])
    (ax,) = plot.stochastic_paths(TIMES, PATHS, shown=1, exact_mean=TIMES**2, exact_band=band).axes
    _, _, mean, lower, upper = ax.lines
    np.testing.assert_array_equal(mean.get_ydata(), TIMES**2)
    np.testing.assert_array_equal([lower.get_ydata(), upper.get_ydata()], band)
    assert mean.get_linestyle() == "--"
    assert same_color(lower.get_color(), _style.LIGHT.ink)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "mean of 40 paths",
        "quantiles 5 % to 95 %",
        "exact mean",
        "exact quantiles",
    ]


def refused(**options):
    return lambda: plot.stochastic_paths(TIMES, PATHS, **options)


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: plot.trajectories(np.zeros(3), np.zeros((2, 4))), r"xs .*got shape \(3,\) and"),
        (lambda: plot.trajectories(np.zeros((3, 5)), TIMES), "ts must have shape .*finite, and"),
        (lambda: plot.trajectories(TIMES[:0], np.zeros((2, 0))), "ts must have shape"),
        (lambda: plot.trajectories(TIMES, np.zeros((0, 5))), "ts must have shape"),
        (lambda: plot.trajectories(TIMES, np.zeros((3, 5, 2))), r"vector_field\(..., paths=xs\)"),
        (lambda: plot.trajectories(TIMES, TIMES, exact=np.zeros(3)), "exact must have the shape"),
        (lambda: plot.trajectories(TIMES, ["a"] * 5), "xs must hold real numbers"),
        (lambda: plot.trajectories(TIMES, None), "xs must hold real numbers, got None"),
        (lambda: plot.trajectories(TIMES, TIMES * 1j), "xs must hold real numbers"),
        (lambda: plot.trajectories(TIMES, TIMES, exact=linear_field), "exact must hold real num"),
        (lambda: plot.stochastic_paths(TIMES, TIMES), r"xs \(paths, n \+ 1\), got shape"),
        (lambda: plot.stochastic_paths(TIMES, np.zeros((3, 5, 2))), "plane: point_clouds"),
        (refused(level=1.0), "level must be between 0 and 1, got 1.0"),
        (refused(level="most"), "level must be a static number"),
        (refused(shown=0.0), "shown must be a static int, got 0.0"),
        (refused(exact_mean=np.zeros(4)), r"exact_mean must have shape \(n \+ 1,\), got"),
        (refused(exact_band=np.zeros(5)), r"exact_band must have shape \(2, n \+ 1\), got"),
    ],
)
def test_what_is_no_scalar_path_is_refused(unchecked, draw, words):
    with pytest.raises((TypeError, ValueError), match=words):
        draw()
