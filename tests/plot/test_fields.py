"""Fields and flows of the plane: arrows and lines are where and as the field has them."""

import jax.numpy as jnp
import numpy as np
import pytest

from flowjax import plot
from flowjax.targets.linear import linear_field


def rotation(t, x, args):
    return jnp.array([-x[1], x[0]]) * args


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
    np.testing.assert_array_equal(ax.lines[1].get_xydata(), path[:1])


def test_the_time_is_an_array_as_in_a_solve():
    def field(t, x, args):
        assert (t.shape, t.dtype) == ((), x.dtype)
        return x + t[None]

    for t in (1, 1.0, np.float64(1), jnp.float32(1)):
        (quiver,) = (
            item
            for item in plot.vector_field(field, t, num=2).axes[0].collections
            if hasattr(item, "U")
        )
        np.testing.assert_allclose(quiver.get_array().max(), 3 * np.sqrt(2), rtol=1e-6)


def test_the_streamlines_of_a_rotation_are_circles_coloured_by_their_radius():
    figure = plot.vector_field(
        rotation, args=2.0, lines=True, num=25, low=(2.0, -2.0), high=(-2.0, 2.0)
    )
    ax = figure.axes[0]
    lines = ax.collections[0]
    segments = np.array(lines.get_segments())
    radii = np.hypot(segments[..., 0], segments[..., 1])
    # The chords of the interpolated field leave the circles by the square of their length.
    np.testing.assert_allclose(radii[:, 0], radii[:, 1], atol=0.01)
    np.testing.assert_allclose(lines.get_array(), 2 * radii.mean(1), atol=0.1)
    # Arrow heads turn the way of the field, counter-clockwise.
    heads = [np.array(patch._posA_posB) for patch in ax.patches]
    assert len(heads) > 10
    for start, end in heads:
        assert start[0] * end[1] - start[1] * end[0] > 0


def test_grid_lines_are_upright_then_level():
    lines = np.asarray(plot.grid_lines((-1.0, 0.0), (1.0, 4.0), num=3, points=5))
    assert lines.shape == (6, 5, 2)
    for i, x in enumerate([-1, 0, 1]):
        np.testing.assert_allclose(lines[i], [[x, y] for y in [0, 1, 2, 3, 4]])
    for i, y in enumerate([0, 2, 4]):
        np.testing.assert_allclose(lines[3 + i], [[x, y] for x in [-1, -0.5, 0, 0.5, 1]])


def test_the_grid_is_drawn_where_the_flow_has_carried_it():
    start = plot.grid_lines(num=4, points=6)
    carried = np.stack([np.asarray(start) * factor for factor in (1.0, 0.5, 3.0)])
    figure = plot.flow_grid([0.0, 0.25, 1.0], carried, start=start)
    assert [ax.get_title() for ax in figure.axes] == ["t = 0", "t = 0.25", "t = 1"]
    for ax, lines in zip(figure.axes, carried, strict=True):
        drawn = [line.get_xydata() for line in ax.lines]
        np.testing.assert_allclose(drawn, np.concatenate([start, lines]))
        assert len({line.get_color() for line in ax.lines[8:12]}) == 1
        assert len({line.get_color() for line in ax.lines}) == 3
        # All points of all times are inside, with the same limits.
        np.testing.assert_allclose([*ax.get_xlim(), *ax.get_ylim()], [-6.6, 6.6, -6.6, 6.6])


def test_the_corners_of_a_grid_can_be_said():
    lines = plot.grid_lines(num=2, points=2)
    (ax,) = plot.flow_grid(jnp.asarray(0.5), lines, low=(-1, -2), high=(3, 4), title="a").axes
    assert (ax.get_xlim(), ax.get_ylim()) == ((-1, 3), (-2, 4))
    assert ax.get_title() == "a, t = 0.5"


def arrows(field=linear_field, **options):
    return plot.vector_field(field, args=1.0, **options)


LINES = np.zeros((4, 3, 2))


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: arrows(paths=np.zeros((4, 3))), "paths must have shape"),
        (lambda: arrows(None), "field must be a function .*got None"),
        (lambda: arrows(lambda t, x, args: x[0]), r"field must return \(2,\).*got shape \(\)"),
        (lambda: arrows(lambda t, x, args: jnp.ones(3)), r"field must return .*got shape \(3,\)"),
        (lambda: arrows(num=2.5), "num must be a static positive int, got 2.5"),
        (lambda: arrows(num=0), "num must be a static positive int, got 0"),
        (lambda: arrows(num=1, lines=True), "num must be at least 2 for streamlines, got 1"),
        (lambda: arrows(low=-2.0), "low and high must hold real numbers, got .-2.0"),
        (lambda: arrows(low=(0, 0, 0), high=(1, 1, 1)), "low and high must be two pairs of"),
        (lambda: arrows(high="top"), "low and high must hold real numbers, got .*'top'"),
        (lambda: plot.flow_grid(0.0, LINES[0]), r"lines must be .*\(lines, points, 2\).* got sha"),
        (lambda: plot.flow_grid([0.0, 1.0], LINES), r"\(times, lines, points, 2\) for ts of"),
        (lambda: plot.flow_grid([0.0, 1.0], LINES[None]), r"got shape \(1, 4, 3, 2\) and \(2,\)"),
        (lambda: plot.flow_grid(0.0, LINES + np.nan), "lines must be finite"),
        (lambda: plot.flow_grid(0.0, LINES, start=LINES[0]), "start must have the shape of the"),
        (lambda: plot.flow_grid(0.0, LINES, low=1.0), "low and high must"),
        (lambda: plot.grid_lines(low=(0, 0), high=(0, 1)), "low and high must be two pairs of"),
        (lambda: plot.grid_lines(num=0), "num must be a static positive int, got 0"),
        (lambda: plot.grid_lines(points=2.0), "points must be a static positive int, got 2.0"),
    ],
)
def test_what_is_not_of_the_plane_is_refused(unchecked, draw, words):
    with pytest.raises((TypeError, ValueError), match=words):
        draw()
