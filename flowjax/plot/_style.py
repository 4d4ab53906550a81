"""The one style of all pictures: their colours, light and dark, and how axes are dressed.

The colours belong to each figure and its axes: no setting of matplotlib is read or changed.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np

from flowjax._optional import optional


class Palette(NamedTuple):
    """The colours of a picture."""

    paper: str
    ink: str
    faint: str
    colours: tuple[str, ...]
    # The part of viridis that stands out from the paper.
    scale: tuple[float, float]


# The categories are those of Okabe and Ito (2008), "Color universal design", which the colour-blind
# tell apart; those that stand out least from the paper come last.
LIGHT = Palette(
    "#ffffff",
    "#24292f",
    "#b4bac2",
    ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
    (0.0, 0.9),
)
DARK = Palette(
    "#0d1117",
    "#e6edf3",
    "#5b636e",
    ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00"),
    (0.3, 1.0),
)
MARKERS = "osD^vP"

_current: ContextVar[Palette] = ContextVar("palette", default=LIGHT)


@contextlib.contextmanager
def dark(on: bool = True) -> Iterator[None]:
    """Pictures made inside this context are light on dark.

    No setting of matplotlib is changed, and pictures made before keep their colours.

    Args:
        on: False for dark on light.

    Returns:
        A context manager.

    Example:
        >>> import flowjax as fj
        >>> from flowjax import plot
        >>> ts = fj.uniform_grid(20)
        >>> with plot.dark():
        ...     figure = plot.trajectories(ts, ts**2)
        >>> sum(figure.get_facecolor()[:3]) < 0.3
        True
    """
    token = _current.set(DARK if on else LIGHT)
    try:
        yield
    finally:
        _current.reset(token)


def palette() -> Palette:
    """The colours of the pictures that are being made."""
    return _current.get()


def axes(ax: Any, size: tuple[float, float]) -> tuple[Any, Any]:
    """The figure and the axes to draw into."""
    figure, (ax,) = panels(None if ax is None else [ax], 1, size)
    return figure, ax


def panels(given: Any, num: int, size: tuple[float, float]) -> tuple[Any, list[Any]]:
    """The figure and so many axes, each of one picture: those given, or new ones."""
    if given is None:
        figure = new_figure(size)
        every = figure.subplots(1, num, squeeze=False).ravel().tolist()
    else:
        every = np.atleast_1d(np.asarray(given, object)).ravel().tolist()
        for ax in every:
            if not hasattr(ax, "set_xlabel"):
                raise TypeError(f"ax must be one of matplotlib's axes, got {ax!r}.")
        if len(every) != num:
            raise ValueError(f"ax must be {num} axes, one for each time, got {len(every)}.")
        figure = every[0].figure
    for ax in every:
        dress(ax)
    return figure, every


def new_figure(size: tuple[float, float]) -> Any:
    """An empty figure, of so many inches."""
    figure = optional("matplotlib.figure", "flowjax.plot", "examples")
    return figure.Figure(figsize=size, dpi=120, layout="compressed", facecolor=palette().paper)


def dress(ax: Any) -> None:
    """Gives axes the colours of the style."""
    paper, ink, _, colours, _ = palette()
    ax.figure.set_facecolor(paper)
    ax.set_facecolor(paper)
    ax.tick_params(which="both", color=ink, labelcolor=ink)
    for spine in ax.spines.values():
        spine.set_color(ink)
    for text in (ax.xaxis.label, ax.yaxis.label, ax.title):
        text.set_color(ink)
    ax.spines[["top", "right"]].set_visible(False)
    if not ax.has_data():
        ax.set_prop_cycle(color=colours)


def bare(ax: Any) -> None:
    """Takes frame and ticks off axes whose places have no meaning."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def finished(figure: Any, ax: Any, title: str | None, pad: int = 6) -> Any:
    """The figure, with the title above its axes."""
    if title is not None:
        ax.set_title(title, y=1.0, pad=pad)
    return figure


def finished_panels(
    figure: Any, every: list[Any], names: list[str], title: str | None, new: bool
) -> Any:
    """The figure, each of its panels with its name, and the title above all if it is new."""
    for ax, name in zip(every, names, strict=True):
        ax.set_title(name, fontsize="medium")
    if title is not None and new and len(every) > 1:
        figure.get_layout_engine().set(h_pad=0.1)
        figure.suptitle(title, color=palette().ink)
    elif title is not None:
        every[0].set_title(f"{title}, {names[0]}")
    return figure


def legend(ax: Any, *arguments: Any, **options: Any) -> None:
    """A legend in the colours of the style."""
    ax.legend(*arguments, frameon=False, labelcolor=palette().ink, **options)


def scale() -> Any:
    """The part of viridis that stands out from the paper."""
    matplotlib = optional("matplotlib", "flowjax.plot", "examples")
    colors = optional("matplotlib.colors", "flowjax.plot", "examples")
    part = np.linspace(*palette().scale, 256)
    return colors.ListedColormap(matplotlib.colormaps["viridis"](part))


def grey() -> Any:
    """From the paper to the ink, through the greys between them."""
    colors = optional("matplotlib.colors", "flowjax.plot", "examples")
    ends = ["white", "black"] if palette() is LIGHT else [palette().paper, "white"]
    return colors.LinearSegmentedColormap.from_list("grey", ends)


def rgb(colour: str) -> np.ndarray:
    """Red, green and blue of a colour, each from 0 to 1."""
    colors = optional("matplotlib.colors", "flowjax.plot", "examples")
    return np.array(colors.to_rgb(colour))


def colour_bar(figure: Any, ax: Any, mappable: Any, label: str, **options: Any) -> None:
    """A bar beside the axes that says what a colour means."""
    ink = palette().ink
    bar = figure.colorbar(mappable, ax=ax, shrink=0.85, **options)
    bar.set_label(label, color=ink)
    bar.ax.tick_params(color=ink, labelcolor=ink)
    bar.outline.set_edgecolor(ink)
