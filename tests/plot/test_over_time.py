"""Laws over time: colours, ridges and points are those of the samples at each time."""

import jax.numpy as jnp
import numpy as np
import pytest

from flowjax import plot

TIMES = np.array([0.0, 0.1, 0.3, 0.6, 1.0])
PATHS = np.cumsum(np.random.default_rng(0).normal(size=(400, 5)), axis=1)
PLANE = np.random.default_rng(1).normal(size=(30, 5, 2))


def test_each_column_of_the_map_is_the_density_at_its_time():
    figure = plot.density_map(TIMES, PATHS, bins=9, shown=4)
    ax = figure.axes[0]
    mesh = ax.collections[0]
    drawn, edges = np.asarray(mesh.get_array()), np.linspace(PATHS.min(), PATHS.max(), 10)
    for column, xs in zip(drawn.T, PATHS.T, strict=True):
        np.testing.assert_allclose(column, np.histogram(xs, edges)[0] / 400 / np.diff(edges))
        np.testing.assert_allclose(np.sum(column * np.diff(edges)), 1)
    corners = mesh.get_coordinates()
    np.testing.assert_allclose(corners[0, :, 0], [0, 0.05, 0.2, 0.45, 0.8, 1])
    np.testing.assert_allclose(corners[:, 0, 1], edges)
    assert mesh.get_clim() == (0, np.quantile(drawn, 0.99))
    np.testing.assert_array_equal([line.get_ydata() for line in ax.lines], PATHS[:4])
    assert figure.axes[1].get_ylabel() == "density"


def test_the_map_may_have_no_paths_and_other_limits():
    ax = plot.density_map(TIMES, PATHS, low=-1, high=1, shown=0).axes[0]
    assert not ax.lines
    assert ax.get_ylim() == (-1, 1)


def test_ridges_stand_on_their_times_in_one_scale():
    density = lambda t, x: jnp.exp(-(x**2) / 2 - t)  # noqa: E731
    (ax,) = plot.density_ridges(TIMES, PATHS, density, num=3, bins=12).axes
    # From the last time, which stands behind, to the first; each on a patch of paper.
    edges = np.linspace(PATHS.min(), PATHS.max(), 13)
    heights = {k: np.histogram(PATHS[:, k], edges)[0] / 400 / np.diff(edges) for k in (0, 2, 4)}
    unit = 1.5 * 0.5 / max(height.max() for height in heights.values())
    for patch, line, k in zip(ax.patches[1::2], ax.lines, [4, 2, 0], strict=True):
        values, drawn_edges, baseline = patch.get_data()
        np.testing.assert_allclose(drawn_edges, edges)
        np.testing.assert_allclose(baseline, TIMES[k])
        np.testing.assert_allclose(values, TIMES[k] + unit * heights[k])
        x, y = line.get_data()
        exact = np.exp(-(x**2) / 2 - TIMES[k])
        np.testing.assert_allclose(y, TIMES[k] + unit * exact, rtol=1e-5)
    order = [patch.get_zorder() for patch in ax.patches]
    assert order == sorted(order)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["400 samples", "exact"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["0", "0.3", "1"]


def test_points_keep_their_colours_from_panel_to_panel():
    figure = plot.point_clouds(TIMES, PLANE, num=3)
    assert [ax.get_title() for ax in figure.axes] == ["t = 0", "t = 0.3", "t = 1"]
    for ax, k in zip(figure.axes, [0, 2, 4], strict=True):
        (points,) = ax.collections
        np.testing.assert_allclose(points.get_offsets(), PLANE[:, k])
        np.testing.assert_array_equal(points.get_array(), PLANE[:, 0, 0])
        low, high = np.array([ax.get_xlim(), ax.get_ylim()]).T
        drawn = PLANE[:, [0, 2, 4]].reshape(-1, 2)
        assert np.all(low < drawn.min(0))
        assert np.all(drawn.max(0) < high)


def test_one_time_has_one_panel():
    values = np.arange(30)
    (ax,) = plot.point_clouds(0.3, PLANE[:, 2], values=values, low=(-1, -1), high=(2, 2)).axes
    (points,) = ax.collections
    np.testing.assert_allclose(points.get_offsets(), PLANE[:, 2])
    np.testing.assert_array_equal(points.get_array(), values)
    assert (ax.get_title(), ax.get_xlim()) == ("t = 0.3", (-1, 2))


def mapped(ts=TIMES, xs=PATHS, **options):
    return lambda: plot.density_map(ts, xs, **options)


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (mapped(xs=TIMES), r"xs \(paths, n \+ 1\), got shape \(5,\) and \(5,\)"),
        (mapped(xs=PLANE), "for paths in the plane: point_clouds"),
        (mapped(xs=PATHS * np.inf), "xs must be finite"),
        (mapped(ts=TIMES[::-1]), "ts must be two times or more, each after the one before"),
        (mapped(ts=TIMES[:1], xs=PATHS[:, :1]), "ts must be two times or more"),
        (mapped(bins=0), "bins must be a static positive int, got 0"),
        (mapped(shown=0.0), "shown must be a static int, got 0.0"),
        (mapped(shown=-1), "shown must be 0 or more, got -1"),
        (mapped(low=1, high=0), "low and high must be finite, the second the greater, got"),
        (lambda: plot.density_ridges(TIMES, PLANE), "for paths in the plane: point_clouds"),
        (lambda: plot.density_ridges(TIMES, PATHS, num=0), "num must be a static positive int"),
        (lambda: plot.density_ridges(TIMES, PATHS, 1.0), r"density must be a function \(t, x\) ->"),
        (lambda: plot.density_ridges(TIMES, PATHS, lambda x: x), "density must be a function"),
        (
            lambda: plot.density_ridges(TIMES, PATHS, lambda t, x: -1 + 0 * x),
            "or NaN, got -1.0 at x",
        ),
        (lambda: plot.density_ridges(TIMES, np.ones((3, 5))), "xs must hold more than one number"),
        (lambda: plot.point_clouds(TIMES, PATHS), "for scalar paths: density_map or density_ridg"),
        (lambda: plot.point_clouds(TIMES, PLANE[:, :3]), r"got shape \(30, 3, 2\) and \(5,\)"),
        (lambda: plot.point_clouds(0.0, PLANE), r"\(samples, 2\) for one time ts"),
        (lambda: plot.point_clouds(TIMES, PLANE * np.nan), "xs must be finite"),
        (lambda: plot.point_clouds(TIMES, PLANE, num=1.0), "num must be a static positive int"),
        (lambda: plot.point_clouds(TIMES, PLANE, values=TIMES), r"values must have shape \(sampl"),
    ],
)
def test_what_is_no_law_over_time_is_refused(unchecked, draw, words):
    with pytest.raises((TypeError, ValueError), match=words):
        draw()
