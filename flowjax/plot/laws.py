"""Pictures of laws by samples of them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from flowjax import _check
from flowjax.plot._inputs import ascending, expect, numbers, values_of
from flowjax.plot._style import axes, finished, legend, palette


def histogram(
    samples: Any,
    density: Callable[[Any], Any] | None = None,
    *,
    bins: int = 40,
    low: Any = None,
    high: Any = None,
    top: Any = None,
    ax: Any = None,
    title: str | None = None,
) -> Any:
    """Draws the histogram of scalar samples, with a density to compare with.

    Args:
        samples: (N,) numbers.
        density: a function of one scalar, drawn as a line.
        bins: how many bins.
        low: the least x that is drawn. Default: the least sample.
        high: the greatest. Samples outside are counted, and not drawn.
        top: the greatest density that is drawn. Default: that of the samples or more.
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
    samples = numbers(samples, "samples")
    fits = samples.ndim == 1 and samples.size > 0 and bool(np.isfinite(samples).all())
    expect(fits, "samples must be finite and of shape (N,)", samples)
    bins = _check.positive_int(bins, "bins")
    ends = samples.min() if low is None else low, samples.max() if high is None else high
    # Where all samples are one number, NumPy takes an interval of length 1 around it.
    ends = ends if low is None and high is None else ascending(*ends)
    counts, edges = np.histogram(samples, bins, ends)
    grid = np.linspace(edges[0], edges[-1], 400, dtype=np.float32)
    if density is not None:
        _check.function(density, "density", "x -> p(x)", takes=1)
    values = None if density is None else values_of(density, "density", grid)
    figure, ax = axes(ax, (6.0, 4.0))
    heights = counts / samples.size / np.diff(edges)
    label = f"{samples.size} samples"
    ax.bar(
        edges[:-1], heights, np.diff(edges), align="edge", alpha=0.6, label=label,
        color=palette().colours[0],
    )  # fmt: skip
    if values is not None:
        ax.plot(grid, values, color=palette().ink, linewidth=1.5, label="exact")
        legend(ax)
    ax.set(xlabel="x", ylabel="density")
    if top is not None:
        ax.set_ylim(*ascending(0.0, top, "0 and top"))
    return finished(figure, ax, title)
