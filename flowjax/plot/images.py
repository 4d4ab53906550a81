"""Pictures of images and videos."""

from typing import Any

import numpy as np

from flowjax import _check
from flowjax._optional import optional
from flowjax.plot._inputs import expect, numbers, spread
from flowjax.plot._style import axes, bare, finished, grey, palette, rgb


def image_grid(
    images: Any,
    columns: int = 10,
    *,
    low: Any = None,
    high: Any = None,
    column_names: Any = None,
    ax: Any = None,
    title: str | None = None,
) -> Any:
    """Draws images side by side, row after row.

    Args:
        images: (N, height, width) or (N, height, width, 1), drawn in ink on paper, or
            (N, height, width, 3) in colour.
        columns: how many images in a row.
        low: the value of the background, or of black in colour. Default: -1, or 0 of integers.
        high: the value of the ink, or of white in colour. Default: 1, or 255 of integers.
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
    images = numbers(images, "images")
    colour = images.ndim == 4 and images.shape[-1] == 3
    _refuse_one_in_colour(images)
    images = images[..., 0] if images.ndim == 4 and images.shape[-1] == 1 else images
    fits = (images.ndim == 3 or colour) and images.size > 0
    wanted = "images must have shape (N, height, width), or that and 1 or 3 channels"
    wanted += " (video_strip draws videos)" if images.ndim > 3 else ""
    expect(fits, wanted, images)
    columns = min(_check.positive_int(columns, "columns"), len(images))
    low, high = _ends(images, low, high)
    differ = lambda low, high: low != high and np.isfinite(low + high)  # noqa: E731
    _check.require(differ, low, high, message="low and high must differ, and be finite")
    if column_names is not None and len(column_names) != columns:
        raise ValueError(f"column_names must be {columns}, one each, got {column_names!r}.")
    rows = -(-len(images) // columns)
    _, height, width, *channels = images.shape
    images = (images - low) / (high - low)

    side = max(0.6, 3.6 / columns)
    figure, ax = axes(ax, (side * columns, side * rows * height / width + 0.5))
    # One picture of all, with a gap of an eighth of an image around each.
    gap = max(1, height // 8)
    paper = rgb(palette().paper) if colour else np.zeros(())
    tall, wide = rows * (height + gap) + gap, columns * (width + gap) + gap
    sheet = np.full((tall, wide, *channels), paper)
    for i, image in enumerate(images):
        top = gap + (i // columns) * (height + gap)
        left = gap + (i % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image

    ax.imshow(np.clip(sheet, 0, 1), cmap=grey(), vmin=0, vmax=1, interpolation="nearest")
    bare(ax)
    if column_names is not None:
        centres = gap + (width - 1) / 2 + np.arange(columns) * (width + gap)
        ax.set_xticks(centres, [str(name) for name in column_names])
        ax.tick_params(top=True, bottom=False, labeltop=True, labelbottom=False, length=0)
    # The names stand between the images and the title.
    return finished(figure, ax, title, pad=6 if column_names is None else 20)


def video_strip(
    videos: Any,
    ts: Any = None,
    *,
    frames: int = 8,
    low: Any = None,
    high: Any = None,
    ax: Any = None,
    title: str | None = None,
) -> Any:
    """Draws videos as strips: a row for each, its frames from the first to the last.

    Args:
        videos: (N, T, height, width) or (N, T, height, width, 1), drawn in ink on paper, or
            (N, T, height, width, 3) in colour. One video is ``video[None]``.
        ts: (T,) times, written above the frames. Default: the frames' numbers.
        frames: how many frames of each are drawn, evenly spread over the T.
        low: the value of the background, or of black in colour. Default: -1, or 0 of integers.
        high: the value of the ink, or of white in colour. Default: 1, or 255 of integers.
        ax: matplotlib axes to draw into. Default: a new figure.
        title: the title of the axes.

    Returns:
        The matplotlib figure.

    Raises:
        TypeError: frames is no int, low or high no number, or ax not matplotlib's.
        ValueError: videos or ts has another shape, or low and high are equal.
        ImportError: matplotlib is not installed.

    Example:
        >>> import jax.numpy as jnp
        >>> from flowjax import plot
        >>> picture = jnp.ones((1, 6, 8, 8)) * jnp.linspace(-1, 1, 6)[None, :, None, None]
        >>> figure = plot.video_strip(picture, jnp.linspace(0, 1, 6), frames=3)
        >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
        ['t = 0', 't = 0.4', 't = 1']
    """
    videos = numbers(videos, "videos")
    images = videos.ndim == 4 and videos.shape[-1] in (1, 3)
    fits = videos.ndim == 4 or (videos.ndim == 5 and videos.shape[-1] in (1, 3))
    wanted = "videos must have shape (N, T, height, width), or that and 1 or 3 channels"
    also = " (image_grid draws images; one video is video[None])"
    expect(fits and not images and videos.size > 0, wanted + also, videos)
    length = videos.shape[1]
    chosen = spread(length, _check.positive_int(frames, "frames"))
    names = [f"frame {k}" for k in chosen]
    if ts is not None:
        ts = numbers(ts, "ts")
        expect(ts.shape == (length,), "ts must have shape (T,), one time for each frame", ts)
        names = [f"t = {t:.2g}" for t in ts[chosen]]
    height, width = videos.shape[2:4]
    channels = videos.shape[4] if videos.ndim == 5 else 1
    flat = videos[:, chosen].reshape(-1, height, width, channels)
    _, ax = axes(ax, (1.1 * len(chosen), 1.1 * len(videos) * height / width + 0.6))
    figure = image_grid(
        flat, len(chosen), low=low, high=high, column_names=names, ax=ax, title=title
    )
    # Motion is seen against the frames' edges.
    gap = max(1, height // 8)
    for i in range(len(flat)):
        row, column = divmod(i, len(chosen))
        corner = gap + column * (width + gap) - 0.5, gap + row * (height + gap) - 0.5
        _draw_edge(ax, corner, width, height)
    return figure


def _refuse_one_in_colour(images: np.ndarray) -> None:
    """Refuses an image (height, width, 3 or 4); square images of that width are taken for grey."""
    if images.ndim == 3 and images.shape[2] in (3, 4) and images.shape[1] != images.shape[2]:
        raise ValueError(
            f"images must have shape (N, height, width), got shape {images.shape}: one colour "
            f"image is image[None, ..., :3], and grey images as narrow as this are "
            f"images[..., None]."
        )


def _ends(images: np.ndarray, low: Any, high: Any) -> tuple[Any, Any]:
    """The values of background and ink: those given, or those that the dtype stands for."""
    if images.dtype.kind in "iu" and (low is None or high is None):
        least, most = int(images.min()), int(images.max())
        if least < 0 or most > 255:
            raise ValueError(
                f"low and high must be given for integers that are not from 0 to 255, got "
                f"{least} to {most}."
            )
    usual = (0.0, 255.0) if images.dtype.kind in "iu" else (-1.0, 1.0)
    low, high = (end if one is None else one for one, end in zip((low, high), usual, strict=True))
    return _check.number(low, "low"), _check.number(high, "high")


def _draw_edge(ax: Any, corner: tuple[float, float], width: int, height: int) -> None:
    patches = optional("matplotlib.patches", "flowjax.plot", "examples")
    style = {"fill": False, "edgecolor": palette().faint, "linewidth": 0.8}
    ax.add_patch(patches.Rectangle(corner, width, height, **style))
