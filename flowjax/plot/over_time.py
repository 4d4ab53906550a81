"""Pictures of what a flow or a diffusion makes of a law over time."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from flowjax import _check
from flowjax.plot._inputs import (
    ascending,
    corners_around,
    expect,
    finite,
    number_shown,
    numbers,
    spread,
    times_and_paths,
    values_of,
)
from flowjax.plot._style import (
    axes,
    colour_bar,
    finished,
    finished_panels,
    legend,
    palette,
    panels,
    scale,
)


def density_map(
    ts: Any,
    xs: Any,
    *,
    bins: int = 60,
    low: Any = None,
    high: Any = None,
    shown: int = 12,
    ax: Any = None,
    title: str | None = None,
) -> Any:
    r"""Draws how the law of a scalar moves over time: its density as colour, some paths on top.

    $$p_t(x)\,dx \approx \frac{\#\{i : X^i_t \in [x, x + dx)\}}{\#\{i\}}$$

    Args:
        ts: (n + 1,) times, ascending.
        xs: the paths, (paths, n + 1).
        bins: how many bins of x there are.
        low: the least x that is drawn. Default: that of the paths.
        high: the greatest.
        shown: how many of the paths are drawn, the first ones; 0 for none.
        ax: matplotlib axes to draw into. Default: a new figure.
        title: the title of the axes.

    Returns:
        The matplotlib figure. The brightest hundredth of what is drawn has one colour.

    Raises:
        TypeError: bins or shown is no int, or ax not matplotlib's.
        ValueError: the shapes do not fit, times do not ascend, or a path is not finite.
        ImportError: matplotlib is not installed.

    Example:
        >>> import jax
        >>> import flowjax as fj
        >>> from flowjax import plot
        >>> field, ts = fj.Gaussian(2.0, 0.3).velocity(fj.CondOT()), fj.uniform_grid(20)
        >>> xs = fj.sample_paths(jax.random.key(0), field, jax.random.normal, ts, 500)
        >>> figure = plot.density_map(ts, xs, shown=3)
        >>> len(figure.axes[0].lines)
        3
    """
    ts, xs = _times_and_finite_paths(ts, xs)
    if ts.size < 2 or not np.all(np.diff(ts) > 0):
        raise ValueError("ts must be two times or more, each after the one before.")
    bins = _check.positive_int(bins, "bins")
    shown = number_shown(shown)
    low = xs.min() if low is None else low
    edges = np.linspace(*ascending(low, xs.max() if high is None else high), bins + 1)
    counts = np.stack([np.histogram(column, edges)[0] for column in xs.T], axis=1)
    density = counts / len(xs) / np.diff(edges)[:, None]
    # Each time's column reaches half way to its neighbours.
    middles = (ts[1:] + ts[:-1]) / 2
    sides = np.concatenate([ts[:1], middles, ts[-1:]])

    figure, ax = axes(ax, (6.4, 4.0))
    brightest = max(float(np.quantile(density, 0.99)), 1e-30)
    mesh = ax.pcolormesh(sides, edges, density, cmap="viridis", vmin=0, vmax=brightest)
    colour_bar(figure, ax, mesh, "density", extend="max")
    ax.plot(ts, xs[:shown].T, color="white", linewidth=0.8, alpha=0.8)
    ax.set(xlabel="t", ylabel="x", xlim=(ts[0], ts[-1]), ylim=(edges[0], edges[-1]))
    return finished(figure, ax, title)


def density_ridges(
    ts: Any,
    xs: Any,
    density: Callable[[Any, Any], Any] | None = None,
    *,
    num: int = 6,
    bins: int = 40,
    ax: Any = None,
    title: str | None = None,
) -> Any:
    """Draws the law of a scalar at some times as ridges, one above the other.

    Each ridge is a histogram that stands on its time; all have the same scale.

    Args:
        ts: (n + 1,) times.
        xs: the paths, (paths, n + 1).
        density: a function ``(t, x) -> p_t(x)`` of two scalars, drawn as a line.
        num: how many times are drawn, evenly spread over the n + 1.
        bins: how many bins of x there are.
        ax: matplotlib axes to draw into. Default: a new figure.
        title: the title of the axes.

    Returns:
        The matplotlib figure.

    Raises:
        TypeError: density is no function, num or bins no int, or ax not matplotlib's.
        ValueError: the shapes do not fit, a path is not finite, or the density is no scalar.
        ImportError: matplotlib is not installed.

    Example:
        >>> import jax
        >>> import flowjax as fj
        >>> from flowjax import plot
        >>> field, ts = fj.Gaussian(2.0, 0.3).velocity(fj.CondOT()), fj.uniform_grid(20)
        >>> xs = fj.sample_paths(jax.random.key(0), field, jax.random.normal, ts, 500)
        >>> figure = plot.density_ridges(ts, xs, num=5)
        >>> figure.axes[0].get_ylabel()
        't'
    """
    ts, xs = _times_and_finite_paths(ts, xs)
    chosen = spread(ts.size, _check.positive_int(num, "num"))
    edges = np.linspace(xs.min(), xs.max(), _check.positive_int(bins, "bins") + 1)
    if edges[0] == edges[-1]:
        raise ValueError("xs must hold more than one number for a density to be drawn.")
    counts = np.stack([np.histogram(xs[:, k], edges)[0] for k in chosen])
    heights = counts / len(xs) / np.diff(edges)
    grid = np.linspace(edges[0], edges[-1], 300, dtype=np.float32)
    lines = []
    if density is not None:
        p = _check.function(density, "density", "(t, x) -> p(x)", takes=2)
        times = jnp.asarray(ts[chosen], grid.dtype)
        lines = [values_of(lambda x, t=t: p(t, x), "density", grid) for t in times]
    # Neighbours overlap by a half.
    step = np.ptp(ts[chosen]) / max(1, len(chosen) - 1) or 1.0
    unit = 1.5 * step / heights.max()

    figure, ax = axes(ax, (6.0, 4.6))
    paper, ink, _, (colour, *_), _ = palette()
    for i, k in reversed(list(enumerate(chosen))):
        # The ridges that come first in time stand in front.
        options = {"zorder": 2 + 2 * (len(chosen) - i)}
        top = ts[k] + unit * heights[i]
        ax.stairs(top, edges, baseline=ts[k], fill=True, color=paper, alpha=0.75, **options)
        ax.stairs(top, edges, baseline=ts[k], fill=True, color=colour, alpha=0.55, **options)
        if lines:
            ax.plot(grid, ts[k] + unit * lines[i], color=ink, linewidth=1.2, **options)
    if lines:
        handles = [ax.patches[-1], ax.lines[-1]]
        legend(ax, handles, [f"{len(xs)} samples", "exact"])
    ax.set(xlabel="x", ylabel="t", yticks=ts[chosen], xlim=(edges[0], edges[-1]))
    ax.set_yticklabels([f"{t:.3g}" for t in ts[chosen]])
    return finished(figure, ax, title)


def point_clouds(
    ts: Any,
    xs: Any,
    *,
    values: Any = None,
    num: int = 5,
    low: Any = None,
    high: Any = None,
    ax: Any = None,
    title: str | None = None,
) -> Any:
    """Draws samples in the plane at some times, a panel for each.

    A point keeps its colour from panel to panel, so that one sees where it came from.

    Args:
        ts: one time, or (n + 1,) times.
        xs: the samples, (samples, 2) for one time, or paths (samples, n + 1, 2).
        values: (samples,) numbers that the colours stand for. Default: each sample's first
            coordinate at the first time.
        num: how many times are drawn, evenly spread over the n + 1.
        low: the lower left corner. Default: that every point is inside.
        high: the upper right corner.
        ax: matplotlib axes to draw into, as many as times are drawn. Default: a new figure.
        title: the title of the figure.

    Returns:
        The matplotlib figure.

    Raises:
        TypeError: num is no int, or ax not matplotlib's.
        ValueError: the shapes do not fit, or what is to be drawn is no finite number.
        ImportError: matplotlib is not installed.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> from flowjax import plot
        >>> field, ts = (
        ...     fj.Gaussian(jnp.array([3.0, 0.0]), 0.5).velocity(fj.CondOT()),
        ...     fj.uniform_grid(20),
        ... )
        >>> init = lambda key: jax.random.normal(key, (2,))
        >>> xs = fj.sample_paths(jax.random.key(0), field, init, ts, 200)
        >>> figure = plot.point_clouds(ts, xs, num=3)
        >>> [ax.get_title() for ax in figure.axes]
        ['t = 0', 't = 0.5', 't = 1']
    """
    ts, xs = numbers(ts, "ts"), numbers(xs, "xs")
    if ts.ndim == 0:
        ts, xs = ts[None], xs[:, None] if xs.ndim == 2 else xs
    also = " (for scalar paths: density_map or density_ridges)" if xs.ndim == 2 else ""
    fits = ts.ndim == 1 and xs.ndim == 3 and xs.shape[1:] == (ts.size, 2) and finite(xs)
    wanted = "xs must be finite and of shape (samples, 2) for one time ts, or (samples, n + 1, 2) "
    expect(fits, f"{wanted}for ts of shape (n + 1,){also}", xs, ts)
    values = xs[:, 0, 0] if values is None else numbers(values, "values")
    expect(values.shape == xs.shape[:1], "values must have shape (samples,)", values, xs)
    chosen = spread(ts.size, _check.positive_int(num, "num"))
    (left, below), (right, above) = corners_around(xs[:, chosen], low, high)
    figure, axes_of = panels(ax, len(chosen), (2.8 * len(chosen) + 0.6, 3.7))
    for axis, k in zip(axes_of, chosen, strict=True):
        axis.scatter(*xs[:, k].T, s=5, c=values, cmap=scale(), linewidths=0, alpha=0.8)
        axis.set(aspect="equal", xlim=(left, right), ylim=(below, above))
        axis.set_xlabel("first coordinate")
    axes_of[0].set_ylabel("second coordinate")
    names = [f"t = {t:.3g}" for t in ts[chosen]]
    return finished_panels(figure, axes_of, names, title, ax is None)


def _times_and_finite_paths(ts: Any, xs: Any) -> tuple[np.ndarray, np.ndarray]:
    ts, xs = times_and_paths(ts, xs, "point_clouds", many=True)
    expect(finite(xs), "xs must be finite", xs)
    return ts, xs
