"""Pictures of errors: against the step, and against what they cost."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from flowjax.plot._inputs import curves, numbers
from flowjax.plot._style import MARKERS, axes, finished, legend, palette


def convergence_orders(
    hs: Any,
    errors: Mapping[str, Any],
    *,
    orders: Any = None,
    ax: Any = None,
    title: str | None = None,
) -> Any:
    r"""Draws errors over the step, both as logarithms, where a method of order p is a line.

    $$e(h) \approx C\,h^p, \qquad \log e \approx p \log h + \log C$$

    The slope that the legend names is that of the least squares line through all of a method's
    errors that are positive and finite: leave out those at rounding, and steps too long.

    Args:
        hs: (n,) steps, the same for all methods; or a mapping from each name to its own.
        errors: a mapping from the name of each method to its errors, (n,).
        orders: slopes of lines to compare with, drawn dashed. Default: the multiples of a half
            that are nearest to the slopes.
        ax: matplotlib axes to draw into. Default: a new figure.
        title: the title of the axes.

    Returns:
        The matplotlib figure.

    Raises:
        TypeError: errors is no mapping, or ax not matplotlib's.
        ValueError: shapes or names do not fit, a step is not positive, an error is negative, or a
            method has less than two positive errors at different steps.
        ImportError: matplotlib is not installed.

    Example:
        >>> import numpy as np
        >>> from flowjax import plot
        >>> hs = np.array([0.1, 0.05, 0.025])
        >>> figure = plot.convergence_orders(hs, {"euler": 2 * hs, "heun": hs**2})
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        ['euler: slope 1.00', 'heun: slope 2.00']
    """
    found = curves(hs, errors, "hs")
    fits = {name: _line(h, error, name) for name, (h, error) in found.items()}
    if orders is not None:
        orders = numbers(orders, "orders").ravel().tolist()
    figure, ax = axes(ax, (6.6, 4.0))
    _draw(ax, found, {name: f"{name}: slope {slope:.2f}" for name, (slope, _) in fits.items()})
    for order in orders or sorted({round(2 * slope) / 2 for slope, _ in fits.values()}):
        # Below the method whose slope is nearest, through the middle of its steps.
        nearest = min(fits, key=lambda name: abs(fits[name][0] - order))
        slope, constant = fits[nearest]
        h = np.sort(found[nearest][0])[[0, -1]]
        middle = np.log(h).mean()
        line = np.exp(slope * middle + constant + order * (np.log(h) - middle)) / 2
        ax.plot(h, line, "--", color=palette().ink, linewidth=0.9)
        ax.annotate(
            f"order {order:g}", (h[0], line[0]), (2, -3), textcoords="offset points",
            va="top", fontsize="small", color=palette().ink,
        )  # fmt: skip
    _beside(ax)
    ax.set(xlabel="step h", ylabel="error")
    return finished(figure, ax, title)


def error_against_calls(
    calls: Any, errors: Mapping[str, Any], *, ax: Any = None, title: str | None = None
) -> Any:
    """Draws errors over the calls of the field that they cost, both as logarithms.

    Args:
        calls: the numbers of calls, (n,), the same for all methods; or a mapping from each name to
            its own.
        errors: a mapping from the name of each method to its errors, (n,).
        ax: matplotlib axes to draw into. Default: a new figure.
        title: the title of the axes.

    Returns:
        The matplotlib figure. What is zero or not finite has no place on it.

    Raises:
        TypeError: errors is no mapping, or ax not matplotlib's.
        ValueError: shapes or names do not fit, a number of calls is not positive, or an error is
            negative.
        ImportError: matplotlib is not installed.

    Example:
        >>> import numpy as np
        >>> from flowjax import plot
        >>> steps = np.array([10, 20, 40])
        >>> calls = {"euler": steps, "heun": 2 * steps}
        >>> errors = {"euler": 1 / steps, "heun": 1 / steps**2}
        >>> figure = plot.error_against_calls(calls, errors)
        >>> figure.axes[0].get_xlabel()
        'calls of the field (NFE)'
    """
    found = curves(calls, errors, "calls")
    figure, ax = axes(ax, (6.6, 4.0))
    _draw(ax, found, {name: name for name in found})
    _beside(ax)
    ax.set(xlabel="calls of the field (NFE)", ylabel="error")
    return finished(figure, ax, title)


def _draw(ax: Any, found: dict, labels: dict) -> None:
    colours = palette().colours
    ax.set(xscale="log", yscale="log")
    for i, (name, (x, error)) in enumerate(found.items()):
        order = np.argsort(x)
        ax.plot(
            x[order], np.where(error > 0, error, np.nan)[order], marker=MARKERS[i % len(MARKERS)],
            color=colours[i % len(colours)], label=labels[name], markersize=5, linewidth=1.4,
        )  # fmt: skip
    ax.grid(which="major", color=palette().faint, alpha=0.4, linewidth=0.6)
    ax.margins(y=0.1)
    # Few places that lie apart are all named, in place of powers of ten.
    places = np.unique(np.concatenate([x for x, _ in found.values()]))
    if len(places) <= 7 and np.all(places[1:] > 1.4 * places[:-1]):
        ax.set_xticks(places, [f"{place:.3g}" for place in places])
        ax.set_xticks([], minor=True)


def _beside(ax: Any) -> None:
    """The methods' names to the right of the axes, where no line can be below them."""
    legend(ax, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _line(h: np.ndarray, error: np.ndarray, name: str) -> tuple[float, float]:
    """Slope and constant of the least squares line through the logarithms."""
    used = (error > 0) & np.isfinite(error)
    if len(set(h[used].tolist())) < 2:
        raise ValueError(f"errors[{name!r}] must be positive at two different steps or more.")
    slope, constant = np.polyfit(np.log(h[used]), np.log(error[used]), 1)
    return float(slope), float(constant)
