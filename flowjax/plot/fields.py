"""Pictures of fields of the plane and of their flows."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowjax import _check
from flowjax.plot._inputs import corners, corners_around, expect, finite, numbers
from flowjax.plot._style import (
    axes,
    colour_bar,
    finished,
    finished_panels,
    palette,
    panels,
    scale,
)


def vector_field(
    field: Callable[[Any, Any, Any], Any],
    t: Any = 0.0,
    args: Any = None,
    *,
    low: Any = (-2.0, -2.0),
    high: Any = (2.0, 2.0),
    num: int = 17,
    lines: bool = False,
    paths: Any = None,
    ax: Any = None,
    title: str | None = None,
) -> Any:
    """Draws a field of the plane at one time: arrows of one length or streamlines, by speed.

    Args:
        field: a field ``(t, x, args) -> dx`` on states of shape (2,).
        t: the time.
        args: passed on to the field.
        low: the lower left corner.
        high: the upper right corner.
        num: how many arrows along each side; streamlines are about as dense, and need 2.
        lines: streamlines, the curves along the field at the time t, in place of arrows.
        paths: trajectories to draw on top, (n + 1, 2) or (paths, n + 1, 2); each starts at a dot.
        ax: matplotlib axes to draw into. Default: a new figure.
        title: the title of the axes.

    Returns:
        The matplotlib figure.

    Raises:
        TypeError: field is no function, t no number, num no int, or ax not matplotlib's.
        ValueError: low or high is no pair, or the field's output or paths have another shape.
        ImportError: matplotlib is not installed.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> from flowjax import plot
        >>> figure = plot.vector_field(fj.linear_field, args=jnp.array([1.0, 3.0]), num=9)
        >>> figure.axes[0].get_ylabel()
        'second coordinate'
    """
    _check.function(field, "field", "(t, x, args) -> dx")
    num = _check.positive_int(num, "num")
    if lines and num < 2:
        raise ValueError("num must be at least 2 for streamlines, got 1.")
    ends = np.sort(corners(low, high), axis=0).T.tolist()
    sides = [jnp.linspace(first, last, num) for first, last in ends]
    points = jnp.stack(jnp.meshgrid(*sides), axis=-1).reshape(-1, 2)
    t = _check.scalar_time(t).astype(points.dtype)
    arrows = numbers(jax.vmap(lambda x: field(t, x, args))(points), "the field's output")
    points = np.asarray(points)
    expect(arrows.shape == points.shape, "field must return (2,) numbers for one state", arrows[0])
    if paths is not None:
        paths = numbers(paths, "paths")
        paths = paths[None] if paths.ndim == 2 else paths
        fits = paths.ndim == 3 and paths.shape[-1] == 2 and paths.size > 0
        expect(fits, "paths must have shape (n + 1, 2) or (paths, n + 1, 2)", paths)

    figure, ax = axes(ax, (5.0, 4.5))
    speed = np.hypot(*arrows.T)
    if lines:
        u, v, colour = (column.reshape(num, num) for column in (*arrows.T, speed))
        drawn = ax.streamplot(
            *map(np.asarray, sides), u, v, color=colour, cmap=scale(), density=num / 17,
            linewidth=1.1, arrowsize=0.9,
        ).lines  # fmt: skip
    else:
        directions = arrows / np.where(speed > 0, speed, 1.0)[:, None]
        drawn = ax.quiver(
            *points.T, *directions.T, speed, cmap=scale(), angles="xy", pivot="mid",
            scale=1.3 * num,
        )  # fmt: skip
    colour_bar(figure, ax, drawn, "speed")
    # Paths stand out from the arrows' scale.
    accent = palette().colours[1]
    for path in () if paths is None else paths:
        ax.plot(*path.T, color=accent, linewidth=1.6)
        ax.plot(*path[0], "o", color=accent, markersize=5)
    ax.set(xlabel="first coordinate", ylabel="second coordinate", aspect="equal")
    return finished(figure, ax, title)


def grid_lines(
    low: Any = (-2.0, -2.0),
    high: Any = (2.0, 2.0),
    num: int = 11,
    points: int = 121,
) -> jax.Array:
    """The points of a square grid's lines, for a flow to carry and `flow_grid` to draw.

    Args:
        low: the lower left corner.
        high: the upper right corner.
        num: how many lines each way.
        points: how many points on each line.

    Returns:
        (2 * num, points, 2) points: first the upright lines from left to right, each from below
        upward, then the level ones from below upward, each from left to right.

    Raises:
        TypeError: num or points is no int.
        ValueError: low or high is no pair, or num or points is below 1.

    Example:
        >>> from flowjax import plot
        >>> lines = plot.grid_lines(num=3, points=5)
        >>> lines.shape, lines[0, :, 0].tolist()
        ((6, 5, 2), [-2.0, -2.0, -2.0, -2.0, -2.0])
    """
    num, points = _check.positive_int(num, "num"), _check.positive_int(points, "points")
    (left, below), (right, above) = corners(low, high).tolist()
    upright = jnp.meshgrid(
        jnp.linspace(left, right, num), jnp.linspace(below, above, points), indexing="ij"
    )
    level = jnp.meshgrid(jnp.linspace(left, right, points), jnp.linspace(below, above, num))
    return jnp.concatenate([jnp.stack(upright, -1), jnp.stack(level, -1)])


def flow_grid(
    ts: Any,
    lines: Any,
    *,
    start: Any = None,
    low: Any = None,
    high: Any = None,
    ax: Any = None,
    title: str | None = None,
) -> Any:
    r"""Draws how a flow deforms a grid of the plane: its lines under phi_t, a panel for each time.

    $$\phi_t(x), \quad x \text{ on the lines of } \mathtt{grid\_lines}, \qquad
    \tfrac{d}{dt}\phi_t(x) = u_t(\phi_t(x)),\ \phi_0(x) = x$$

    Args:
        ts: one time, or (times,).
        lines: where the flow has carried the points of the lines: (lines, points, 2) for one time,
            or (times, lines, points, 2). The first half of the lines is drawn in one colour, the
            second in another, as `grid_lines` orders them.
        start: the lines before, (lines, points, 2), drawn faintly below. Default: none.
        low: the lower left corner. Default: that every point is inside.
        high: the upper right corner.
        ax: matplotlib axes to draw into, as many as there are times. Default: a new figure.
        title: the title of the figure.

    Returns:
        The matplotlib figure.

    Raises:
        TypeError: ax is not matplotlib's.
        ValueError: the shapes do not fit, or what is to be drawn is no finite number.
        ImportError: matplotlib is not installed.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> from flowjax import plot
        >>> ts, rates = fj.uniform_grid(30), jnp.array([1.0, -0.5])
        >>> lines = fj.trajectory(fj.linear_field, plot.grid_lines(), ts, args=rates, every=15)
        >>> figure = plot.flow_grid(ts[::15], lines)
        >>> [ax.get_title() for ax in figure.axes]
        ['t = 0', 't = 0.5', 't = 1']
    """
    ts, lines = numbers(ts, "ts"), numbers(lines, "lines")
    if ts.ndim == 0:
        ts, lines = ts[None], lines[None]
    fits = ts.ndim == 1 and lines.ndim == 4 and len(lines) == ts.size and lines.shape[-1] == 2
    wanted = "lines must be finite and of shape (lines, points, 2) for one time ts, or "
    wanted += "(times, lines, points, 2) for ts of shape (times,)"
    expect(fits and finite(lines), wanted, lines, ts)
    every = lines
    if start is not None:
        start = numbers(start, "start")
        fits = start.shape == lines.shape[1:] and finite(start)
        expect(fits, "start must have the shape of the lines at one time", start, lines)
        every = np.concatenate([lines, start[None]])
    (left, below), (right, above) = corners_around(every, low, high)
    figure, axes_of = panels(ax, ts.size, (3.2 * ts.size + 0.6, 4.0))
    _, _, faint, colours, _ = palette()
    for axis, carried in zip(axes_of, lines, strict=True):
        if start is not None:
            axis.plot(*start.transpose(2, 1, 0), color=faint, linewidth=0.6)
        half = len(carried) // 2
        for part, colour in ((carried[:half], colours[0]), (carried[half:], colours[1])):
            axis.plot(*part.transpose(2, 1, 0), color=colour, linewidth=1.0)
        axis.set(aspect="equal", xlim=(left, right), ylim=(below, above))
        axis.set_xlabel("first coordinate")
    axes_of[0].set_ylabel("second coordinate")
    return finished_panels(figure, axes_of, [f"t = {t:.3g}" for t in ts], title, ax is None)
