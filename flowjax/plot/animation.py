"""Pictures that move."""

import io
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from flowjax import _check
from flowjax._optional import optional

# How many of the frames the common colours are taken from, and how many of these there are.
_SEEN, _COLOURS = 6, 128


def animate(
    draw: Callable[[int], Any],
    num: int,
    path: str | os.PathLike | None = None,
    *,
    fps: Any = 20.0,
    hold: Any = 1.0,
    dpi: Any = 80.0,
) -> bytes:
    """An animated GIF of any picture: its frame k is the figure ``draw(k)``.

    All frames have the layout of the first and the same colours, taken from some of them, so what
    stands still neither jumps nor flickers, and costs almost nothing. Give the pictures the same
    limits, as axes that grow with their content move all that is in them.

    Args:
        draw: a function ``k -> figure``, called for k from 0 to num - 1. The figures must be of
            one size.
        num: how many frames there are.
        path: the file to write. Default: none.
        fps: frames a second; the format rounds their length to hundredths of a second.
        hold: how many seconds the last frame stays, before it begins anew.
        dpi: the dots per inch.

    Returns:
        The bytes of the GIF. A notebook shows them by ``IPython.display.Image(data=...)``.

    Raises:
        TypeError: draw is no function or does not return a figure, or num is no int.
        ValueError: num is below 1, fps, hold or dpi is not positive, or the figures' sizes differ.
        ImportError: matplotlib is not installed.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> from flowjax import plot
        >>> ts, lines = jnp.linspace(0, 1, 3), plot.grid_lines(num=5, points=9)
        >>> flow = [fj.linear_flow(t, lines, jnp.array([1.0, -0.2])) for t in ts]
        >>> corners = {"low": (-3, -3), "high": (3, 3)}
        >>> gif = plot.animate(lambda k: plot.flow_grid(ts[k], flow[k], **corners), 3)
        >>> gif[:6]
        b'GIF89a'
    """
    _check.function(draw, "draw", "k -> figure", takes=1)
    num = _check.positive_int(num, "num")
    for value, name in ((fps, "fps"), (hold, "hold"), (dpi, "dpi")):
        _check.require(
            lambda value: 0 < value < float("inf"),
            _check.static_number(value, name),
            message=f"{name} must be positive",
        )
    figures = (_checked(draw(k), k) for k in range(num))
    first = next(figures)
    frames = [_picture(first, dpi)]
    frames += [_picture(_laid_out_as(first, figure), dpi) for figure in figures]
    sizes = {frame.size for frame in frames}
    if len(sizes) > 1:
        raise ValueError(f"draw must return figures of one size, got {sorted(sizes)} in dots.")
    colours = _common_colours(frames)
    frames = [frame.quantize(palette=colours, dither=0) for frame in frames]
    length = max(2, round(100 / fps)) * 10
    file = io.BytesIO()
    frames[0].save(
        file, "GIF", save_all=True, append_images=frames[1:], loop=0, optimize=True,
        duration=[*[length] * (num - 1), max(length, round(100 * hold) * 10)],
    )  # fmt: skip
    if path is not None:
        with open(path, "wb") as target:
            target.write(file.getvalue())
    return file.getvalue()


def _checked(figure: Any, k: int) -> Any:
    if not hasattr(figure, "savefig"):
        raise TypeError(f"draw must return a matplotlib figure, got {figure!r} for frame {k}.")
    return figure


def _laid_out_as(first: Any, figure: Any) -> Any:
    """The figure, with its axes where they are in the first, if it has as many."""
    if figure is not first and len(figure.axes) == len(first.axes) and figure.get_layout_engine():
        figure.set_layout_engine("none")
        for ax, like in zip(figure.axes, first.axes, strict=True):
            ax.set_position(like.get_position(original=True))
    return figure


def _picture(figure: Any, dpi: Any) -> Any:
    """The figure as an image of Pillow's, without transparency."""
    image = optional("PIL.Image", "flowjax.plot.animate", "examples")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi, pil_kwargs={"compress_level": 0})
    return image.open(file).convert("RGB")


def _common_colours(frames: list) -> Any:
    """The colours of some frames, evenly spread, as an image of Pillow's."""
    image = optional("PIL.Image", "flowjax.plot.animate", "examples")
    seen = frames[:: -(-len(frames) // _SEEN)] + frames[-1:]
    width, height = frames[0].size
    sheet = image.new("RGB", (width, height * len(seen)))
    for i, frame in enumerate(seen):
        sheet.paste(frame, (0, height * i))
    found = sheet.quantize(_COLOURS)
    # The colours are averages, but that of the paper stays what it is, which those become that
    # Pillow does not tell apart from it.
    _, paper = max(frames[0].getcolors(width * height))
    colours = np.array(found.getpalette() or [])[: 3 * _COLOURS].reshape(-1, 3)
    near = np.abs(colours - paper).max(1) <= 8
    found.putpalette(np.where(near[:, None], paper, colours).ravel().tolist())
    return found
