"""Pictures of scalar paths over time."""

from typing import Any

import numpy as np

from flowjax import _check
from flowjax.plot._inputs import expect, number_shown, numbers, times_and_paths
from flowjax.plot._style import axes, finished, legend, palette


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
    ts, xs = times_and_paths(ts, xs, "vector_field(..., paths=xs)")
    if exact is not None:
        exact = np.atleast_2d(numbers(exact, "exact"))
        expect(exact.shape == xs.shape, "exact must have the shape of xs", exact, xs)
    figure, ax = axes(ax, (6.0, 4.0))
    # Few paths stand out each by its colour, many show where they are dense.
    many = len(xs) > 12
    style = {"color": palette().colours[0], "alpha": np.clip(15 / len(xs), 0.08, 1)} if many else {}
    lines = ax.plot(ts, xs.T, linewidth=1.0 if many else 1.4, **style)
    if exact is not None:
        dashes = ax.plot(ts, exact.T, "--", color=palette().ink, linewidth=0.9)
        legend(ax, [lines[0], dashes[0]], ["solver", "closed form"])
    _over_time(ax, ts)
    return finished(figure, ax, title)


def stochastic_paths(
    ts: Any,
    xs: Any,
    *,
    level: Any = 0.9,
    exact_mean: Any = None,
    exact_band: Any = None,
    shown: int = 30,
    ax: Any = None,
    title: str | None = None,
) -> Any:
    r"""Draws random paths, their mean and the band that holds most of them at each time.

    $$[q_{(1-\ell)/2}(t),\ q_{(1+\ell)/2}(t)], \qquad \Pr(X_t \le q_p(t)) = p$$

    for a share l of the paths. Mean and quantiles are those of all the paths that are given.

    Args:
        ts: (n + 1,) times.
        xs: the paths, (paths, n + 1).
        level: the share of the paths inside the band at each time, between 0 and 1.
        exact_mean: the mean in closed form, (n + 1,), drawn dashed.
        exact_band: the lower and the upper quantile in closed form, (2, n + 1), drawn dotted.
        shown: how many of the paths are drawn, the first ones; 0 for none.
        ax: matplotlib axes to draw into. Default: a new figure.
        title: the title of the axes.

    Returns:
        The matplotlib figure.

    Raises:
        TypeError: shown is no int, level no number, or ax not matplotlib's.
        ValueError: the shapes do not fit, what is to be drawn is no real number, or level is not
            between 0 and 1.
        ImportError: matplotlib is not installed.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> from flowjax import plot
        >>> sde, ts = fj.ornstein_uhlenbeck(theta=2.0, sigma=1.0), fj.uniform_grid(50)
        >>> xs = fj.sample_paths(jax.random.key(0), sde, lambda key: jnp.asarray(2.0), ts, 200)
        >>> figure = plot.stochastic_paths(ts, xs, exact_mean=2 * jnp.exp(-2 * ts))
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        ['mean of 200 paths', 'quantiles 5 % to 95 %', 'exact mean']
    """
    ts, xs = times_and_paths(ts, xs, "point_clouds", many=True)
    shown = number_shown(shown)
    level = _check.static_number(level, "level")
    _check.require(lambda level: 0 < level < 1, level, message="level must be between 0 and 1")
    if exact_mean is not None:
        exact_mean = numbers(exact_mean, "exact_mean")
        expect(exact_mean.shape == ts.shape, "exact_mean must have shape (n + 1,)", exact_mean, ts)
    if exact_band is not None:
        exact_band = numbers(exact_band, "exact_band")
        fits = exact_band.shape == (2, ts.size)
        expect(fits, "exact_band must have shape (2, n + 1)", exact_band, ts)

    figure, ax = axes(ax, (6.0, 4.0))
    ink, (first, second, *_) = palette().ink, palette().colours
    ax.plot(ts, xs[:shown].T, color=first, linewidth=0.7, alpha=0.35)
    ends = (1 - level) / 2, (1 + level) / 2
    name = f"quantiles {100 * ends[0]:.3g} % to {100 * ends[1]:.3g} %"
    (mean,) = ax.plot(ts, xs.mean(0), color=second, label=f"mean of {len(xs)} paths")
    band = ax.fill_between(
        ts, *np.quantile(xs, ends, axis=0), color=second, alpha=0.2, linewidth=0, label=name
    )
    handles = [mean, band]
    if exact_mean is not None:
        handles += ax.plot(ts, exact_mean, "--", color=ink, linewidth=1.2, label="exact mean")
    if exact_band is not None:
        lines = ax.plot(
            ts, exact_band.T, ":", color=ink, linewidth=1.2, label=["exact quantiles", ""]
        )
        handles.append(lines[0])
    legend(ax, handles=handles, fontsize="small")
    _over_time(ax, ts)
    return finished(figure, ax, title)


def _over_time(ax: Any, ts: np.ndarray) -> None:
    ax.set(xlabel="t", ylabel="x")
    if ts.min() < ts.max():
        ax.set_xlim(ts.min(), ts.max())
