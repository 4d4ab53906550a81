"""Pictures of trajectories, vector fields, images and densities.

Each function draws into the matplotlib axes it is given, or into a new figure, and returns the
figure. Nothing is shown and no setting of matplotlib is changed.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flowjax import _check


def trajectories(
    ts: Any, xs: Any, *, exact: Any = None, ax: Any = None, title: str | None = None
) -> Any:
    """Draws scalar paths over time.

    Args:
        ts: (n + 1,) times.
        xs: the paths, (n + 1,) or (paths, n + 1).
        exact: closed forms of the same shape to compare with, drawn dashed.
        ax: matplotlib axes to draw into. Default: a new figure.
        title: the title of the axes.

    Returns:
        The matplotlib figure.

    Raises:
        TypeError: ax is not matplotlib's.
        ValueError: the shapes do not fit, or what is to be drawn is no real number.
        ImportError: matplotlib is not installed.

    Example:
        >>> import jax
        >>> import flowjax as fj
        >>> from flowjax import plot
        >>> ts = fj.uniform_grid(20)
        >>> xs = jax.vmap(lambda x0: fj.trajectory(fj.linear_field, x0, ts, args=2.0))(ts)
        >>> figure = plot.trajectories(ts, xs, title="dx/dt = -2 x")
        >>> len(figure.axes[0].lines)
        21
    """
    ts, xs = _numbers(ts, "ts"), np.atleast_2d(_numbers(xs, "xs"))
    fits = ts.ndim == 1 and xs.ndim == 2 and xs.shape[1] == ts.size > 0 < len(xs)
    fits = fits and bool(np.isfinite(ts).all())
    _expect(fits, "ts must have shape (n + 1,), finite, and xs (n + 1,) or (paths, n + 1)", ts, xs)
    figure, ax = _axes(ax, (6.0, 4.0))
    # Few paths stand out each by its colour, many show where they are dense.
    many = len(xs) > 12
    style = {"color": "tab:blue", "alpha": max(0.08, 15 / len(xs))} if many else {}
    lines = ax.plot(ts, xs.T, linewidth=1.0 if many else 1.4, **style)
    if exact is not None:
        exact = np.atleast_2d(_numbers(exact, "exact"))
        _expect(exact.shape == xs.shape, "exact must have the shape of xs", exact, xs)
        dashes = ax.plot(ts, exact.T, "k--", linewidth=0.9)
        ax.legend([lines[0], dashes[0]], ["solver", "closed form"], frameon=False)
    ax.set(xlabel="t", ylabel="x", xlim=(ts.min(), ts.max()))
    return _finished(figure, ax, title)


def vector_field(
    field: Callable[[Any, Any, Any], Any],
    t: Any = 0.0,
    args: Any = None,
    *,
    low: tuple[float, float] = (-2.0, -2.0),
    high: tuple[float, float] = (2.0, 2.0),
    num: int = 17,
    paths: Any = None,
    ax: Any = None,
    title: str | None = None,
) -> Any:
    """Draws a field of the plane at one time: arrows of one length, coloured by speed.

    Args:
        field: a field ``(t, x, args) -> dx`` on states of shape (2,).
        t: the time.
        args: passed on to the field.
        low: the lower left corner.
        high: the upper right corner.
        num: how many arrows along each side.
        paths: trajectories to draw on top, (n + 1, 2) or (paths, n + 1, 2); each starts at a dot.
        ax: matplotlib axes to draw into. Default: a new figure.
        title: the title of the axes.

    Returns:
        The matplotlib figure.

    Raises:
        TypeError: field is no function, num no int, or ax not matplotlib's.
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
    corners = _numbers((low, high), "low and high")
    fits = corners.shape == (2, 2) and bool(
        np.all(np.isfinite(corners) & (corners[0] != corners[1]))
    )
    _expect(fits, "low and high must be two pairs of finite numbers that differ", corners)
    sides = (jnp.linspace(start, stop, num) for start, stop in corners.T)
    points = jnp.stack(jnp.meshgrid(*sides), axis=-1).reshape(-1, 2)
    arrows = _numbers(jax.vmap(lambda x: field(t, x, args))(points), "the field's output")
    points = np.asarray(points)
    _expect(arrows.shape == points.shape, "field must return (2,) numbers for one state", arrows[0])

    figure, ax = _axes(ax, (5.0, 4.5))
    speed = np.hypot(*arrows.T)
    directions = arrows / np.where(speed > 0, speed, 1.0)[:, None]
    quiver = ax.quiver(
        *points.T, *directions.T, speed, cmap="viridis", angles="xy", pivot="mid", scale=1.3 * num
    )
    figure.colorbar(quiver, ax=ax, label="speed", shrink=0.85)
    if paths is not None:
        paths = _numbers(paths, "paths")
        paths = paths[None] if paths.ndim == 2 else paths
        fits = paths.ndim == 3 and paths.shape[-1] == 2 and paths.size > 0
        _expect(fits, "paths must have shape (n + 1, 2) or (paths, n + 1, 2)", paths)
        for path in paths:
            ax.plot(*path.T, color="tab:red", linewidth=1.2)
            ax.plot(*path[0], "o", color="tab:red", markersize=4)
    ax.set(xlabel="first coordinate", ylabel="second coordinate", aspect="equal")
    return _finished(figure, ax, title)


def image_grid(
    images: Any,
    columns: int = 10,
    *,
    low: float = -1.0,
    high: float = 1.0,
    column_names: Any = None,
    ax: Any = None,
    title: str | None = None,
) -> Any:
    """Draws images side by side, row after row.

    Args:
        images: (N, height, width), drawn dark on light, or (N, height, width, 3) in colour.
        columns: how many images in a row.
        low: the value of the background, or of black in colour.
        high: the value of the ink, or of white in colour.
        column_names: a name above each column.
        ax: matplotlib axes to draw into. Default: a new figure.
        title: the title of the axes.

    Returns:
        The matplotlib figure.

    Raises:
        TypeError: columns is no int, low or high no number, or ax not matplotlib's.
        ValueError: images has another shape, or holds none; or low and high are equal.
        ImportError: matplotlib is not installed.

    Example:
        >>> import flowjax as fj
        >>> from flowjax import plot
        >>> digits = fj.data.digits()
        >>> figure = plot.image_grid(digits.test.image[:30], title="held-out digits")
        >>> figure.axes[0].get_title()
        'held-out digits'
    """
    images = _numbers(images, "images")
    colour = images.ndim == 4 and images.shape[-1] == 3
    fits = (images.ndim == 3 or colour) and images.size > 0
    _expect(fits, "images must have shape (N, height, width) or (N, height, width, 3)", images)
    columns = min(_check.positive_int(columns, "columns"), len(images))
    low, high = _check.number(low, "low"), _check.number(high, "high")
    differ = lambda low, high: low != high and np.isfinite(low + high)  # noqa: E731
    _check.require(differ, low, high, message="low and high must differ, and be finite")
    if column_names is not None and len(column_names) != columns:
        raise ValueError(f"column_names must be {columns}, one each, got {column_names!r}.")
    rows = -(-len(images) // columns)
    _, height, width, *channels = images.shape
    images = (images - low) / (high - low)

    # One picture of all, with a light gap of an eighth of an image around each.
    gap = max(1, height // 8)
    paper = 1.0 if colour else 0.0
    tall, wide = rows * (height + gap) + gap, columns * (width + gap) + gap
    sheet = np.full((tall, wide, *channels), paper)
    for i, image in enumerate(images):
        top = gap + (i // columns) * (height + gap)
        left = gap + (i % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image

    figure, ax = _axes(ax, (0.6 * columns, 0.6 * rows + 0.5))
    ax.imshow(np.clip(sheet, 0, 1), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    if column_names is not None:
        centres = gap + (width - 1) / 2 + np.arange(columns) * (width + gap)
        ax.set_xticks(centres, [str(name) for name in column_names])
        ax.tick_params(top=True, bottom=False, labeltop=True, labelbottom=False, length=0)
    ax.spines[["bottom", "left"]].set_visible(False)
    # The names stand between the images and the title.
    return _finished(figure, ax, title, pad=6 if column_names is None else 20)


def histogram(
    samples: Any,
    density: Callable[[Any], Any] | None = None,
    *,
    bins: int = 40,
    ax: Any = None,
    title: str | None = None,
) -> Any:
    """Draws the histogram of scalar samples, with a density to compare with.

    Args:
        samples: (N,) numbers.
        density: a function of one scalar, drawn as a line.
        bins: how many bins.
        ax: matplotlib axes to draw into. Default: a new figure.
        title: the title of the axes.

    Returns:
        The matplotlib figure.

    Raises:
        TypeError: density is no function, or ax not matplotlib's.
        ValueError: samples has another shape, holds none or one that is not finite, or the density
            is no scalar.
        ImportError: matplotlib is not installed.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> from flowjax import plot
        >>> density = lambda x: jnp.exp(fj.Gaussian(0.0, 1.0).log_prob(x))
        >>> figure = plot.histogram(jax.random.normal(jax.random.key(0), (1000,)), density)
        >>> figure.axes[0].get_ylabel()
        'density'
    """
    samples = _numbers(samples, "samples")
    fits = samples.ndim == 1 and samples.size > 0 and bool(np.isfinite(samples).all())
    _expect(fits, "samples must be finite and of shape (N,)", samples)
    bins = _check.positive_int(bins, "bins")
    figure, ax = _axes(ax, (6.0, 4.0))
    ax.hist(samples, bins, density=True, alpha=0.6, label=f"{samples.size} samples")
    if density is not None:
        _check.function(density, "density", "x -> p(x)", takes=1)
        grid = np.linspace(samples.min(), samples.max(), 400, dtype=np.float32)
        values = _numbers(jax.vmap(density)(grid), "density(x)")
        fits = values.shape == grid.shape and bool(np.all(values >= 0))
        _expect(fits, "density must return a scalar, not negative", values[:1])
        ax.plot(grid, values, "k-", linewidth=1.5, label="exact")
        ax.legend(frameon=False)
    ax.set(xlabel="x", ylabel="density")
    return _finished(figure, ax, title)


def _axes(ax: Any, size: tuple[float, float]) -> tuple[Any, Any]:
    """The figure and the axes to draw into."""
    if ax is not None:
        if not hasattr(ax, "set_xlabel"):
            raise TypeError(f"ax must be one of matplotlib's axes, got {ax!r}.")
        return ax.figure, ax
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "flowjax.plot needs matplotlib: pip install 'flowjax-solvers[examples]'."
        ) from error
    figure = Figure(figsize=size, dpi=120, layout="compressed")
    return figure, figure.add_subplot()


def _finished(figure: Any, ax: Any, title: str | None, pad: int = 6) -> Any:
    ax.spines[["top", "right"]].set_visible(False)
    if title is not None:
        ax.set_title(title, y=1.0, pad=pad)
    return figure


def _numbers(value: Any, name: str) -> np.ndarray:
    try:
        array = np.asarray(value)
    # Leaves of several shapes, keys, and what is traced.
    except (TypeError, ValueError):
        array = np.asarray(None)
    # bfloat16 and its like are not among NumPy's own kinds.
    if array.dtype.kind not in "biufV":
        raise ValueError(f"{name} must hold real numbers, got {eqx.tree_pformat(value)}.")
    return array if array.dtype.kind in "iuf" else array.astype(np.float32)


def _expect(fits: bool, wanted: str, *arrays: Any) -> None:
    if not fits:
        shapes = " and ".join(str(array.shape) for array in arrays)
        raise ValueError(f"{wanted}, got shape {shapes}.")
