"""Observers: what `fold` computes along a path without storing it, ready-made.

An observer is a pair of functions, `init` and `update`, which a fold is given by
``fold(..., **observer._asdict())``. The state is an array or a pytree; averages are taken over
time, leaf by leaf.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowjax import _check
from flowjax._numerics import plus, quotient, weighted, widest
from flowjax._types import State

__all__ = ["Observer", "cost", "energy", "histogram", "mean", "several", "straightness", "variance"]


class Observer(NamedTuple):
    r"""What a fold begins with, a function of x0, and how a step changes it.

    $$v_0 = \mathrm{init}(X_{t_0}), \qquad
    v_{i+1} = \mathrm{update}(v_i,\, t_i,\, t_{i+1},\, X_{t_i},\, X_{t_{i+1}},\, dW_i)$$

    Args:
        init: ``x0 -> value``.
        update: ``(value, t0, t1, x0, x1, dw) -> value``; see `fold`.

    Example:
        >>> import flowjax as fj
        >>> steps = fj.observers.Observer(lambda x0: 0, lambda value, *step: value + 1)
        >>> int(fj.fold(fj.linear_field, 1.0, fj.uniform_grid(8), args=1.0, **steps._asdict())[1])
        8
    """

    init: Callable[[State], Any]
    update: Callable[..., Any]


class Moments(NamedTuple):
    """The mean and the variance of a path over the time so far, each like the state."""

    time: Array
    mean: State
    variance: State


class Straightness(NamedTuple):
    """How far a path is from a straight line at constant speed; zero is straight."""

    time: Array
    start: State
    energy: Array
    straightness: Array


def mean() -> Observer:
    r"""The mean of the path over time, by the trapezoidal rule.

    $$\bar X = \frac{1}{T} \int_0^T X_t\,dt \approx
    \frac1T \sum_i |h_i|\,\frac{X_{t_i} + X_{t_{i+1}}}{2}$$

    Returns:
        An `Observer`, whose value is `(time, mean)`.

    Example:
        >>> import flowjax as fj
        >>> ts, averaged = fj.uniform_grid(100), fj.observers.mean()
        >>> line = lambda t, x, args: 0 * x + 1  # X_t = t
        >>> _, (time, mean) = fj.fold(line, 0.0, ts, **averaged._asdict())
        >>> print(f"{time:.2f} {mean:.2f}")
        1.00 0.50

    References:
        Mattingly, Stuart, Tretyakov (2010), "Convergence of numerical time-averaging and stationary
        measures via Poisson equations", SIAM Journal on Numerical Analysis 48.
    """
    return Observer(_no_mean, _mean)


def variance() -> Observer:
    r"""The mean and the variance of the path over time, by the trapezoidal rule.

    $$\frac1T \int_0^T (X_t - \bar X)^2\,dt$$

    Returns:
        An `Observer`, whose value is a `Moments(time, mean, variance)`, updated without
        cancellation.

    Example:
        >>> import flowjax as fj
        >>> ts, spread = fj.uniform_grid(100), fj.observers.variance()
        >>> line = lambda t, x, args: 0 * x + 1  # X_t = t
        >>> _, moments = fj.fold(line, 0.0, ts, **spread._asdict())
        >>> print(f"{moments.mean:.3f} {moments.variance:.3f}")  # 1 / 12
        0.500 0.083

    References:
        Chan, Golub, LeVeque (1983), "Algorithms for computing the sample variance", The American
        Statistician 37, equation 2.1.
    """
    return Observer(_no_moments, _moments)


def histogram(edges: Any, of: Callable[[State], Any] = lambda x: x) -> Observer:
    r"""How long the path is between edges: the time that `of(X)` spends in each bin.

    $$\sum_i |h_i|\,1[\,e_k \le \mathrm{of}(X_{t_i}) < e_{k+1}]$$

    A step counts where it begins. The value is an array of one time for each bin.

    Args:
        edges: (bins + 1,) numbers, increasing.
        of: what is counted, ``x -> scalar``. Default: a state that is a scalar itself.

    Returns:
        An `Observer`.

    Raises:
        ValueError: edges are not at least two numbers that increase.

    Example:
        >>> import flowjax as fj
        >>> line = lambda t, x, args: 0 * x + 1  # X_t = t
        >>> counts = fj.observers.histogram([0.0, 0.25, 1.0])
        >>> _, times = fj.fold(line, 0.0, fj.uniform_grid(8), **counts._asdict())
        >>> times.tolist()
        [0.25, 0.75]

    References:
        Karatzas, Shreve (1991), "Brownian motion and stochastic calculus", section 3.6.
    """
    bounds = np.asarray(edges)
    if bounds.ndim != 1 or len(bounds) < 2 or not np.all(np.diff(bounds) > 0):
        raise ValueError(f"edges must be at least 2 numbers that increase, got {edges!r}.")
    _check.function(of, "of", "x -> scalar", takes=1)
    counts = _Histogram(tuple(map(float, bounds)), of)
    return Observer(counts.init, counts.update)


def energy() -> Observer:
    r"""The kinetic energy of a flow's path, the integral of its speed squared.

    $$\int_0^T \|\dot X_t\|^2\,dt \approx \sum_i \frac{\|X_{t_{i+1}} - X_{t_i}\|^2}{|h_i|}$$

    It is least for the straight line. (For an SDE it grows without bound with the number of steps.)

    Returns:
        An `Observer`.

    Example:
        >>> import flowjax as fj
        >>> line = lambda t, x, args: 0 * x + 2
        >>> _, value = fj.fold(line, 0.0, fj.uniform_grid(8), **fj.observers.energy()._asdict())
        >>> float(value)
        4.0

    References:
        Benamou, Brenier (2000), "A computational fluid mechanics solution to the Monge-Kantorovich
        mass transfer problem", Numerische Mathematik 84.
    """
    return Observer(_zero, _add_energy)


def straightness() -> Observer:
    r"""How far a flow's path is from the straight line between its ends at constant speed.

    $$\int_0^T \Big\|\dot X_t - \frac{X_T - X_0}{T}\Big\|^2 dt
    = \int_0^T \|\dot X_t\|^2\,dt - \frac{\|X_T - X_0\|^2}{T}$$

    Returns:
        An `Observer`, whose value is a `Straightness`, with the field `straightness`. Its mean over
        samples is the S of rectified flow.

    Example:
        >>> import flowjax as fj
        >>> bent = lambda t, x, args: 0 * x + 2 * t  # X_t = t^2
        >>> ts, straight = fj.uniform_grid(100), fj.observers.straightness()
        >>> _, value = fj.fold(bent, 0.0, ts, step=fj.midpoint, **straight._asdict())
        >>> print(f"{value.straightness:.3f}")  # 4/3 - 1
        0.333

    References:
        Liu, Gong, Liu, "Flow straight and fast: learning to generate and transfer data with
        rectified flow", 2022, arXiv 2209.03003, section 2.2.
    """
    return Observer(_at_start, _straightness)


def cost(running: Callable[[Any, State], Any]) -> Observer:
    r"""A running cost, by the rule of Euler's method.

    $$\int_0^T c(t, X_t)\,dt \approx \sum_i |h_i|\,c(t_i, X_{t_i})$$

    Args:
        running: c, a function ``(t, x) -> scalar``.

    Returns:
        An `Observer`.

    Raises:
        TypeError: running is no such function.

    Example:
        >>> import flowjax as fj
        >>> ts, square = fj.uniform_grid(1000), fj.observers.cost(lambda t, x: x**2)
        >>> _, value = fj.fold(fj.linear_field, 1.0, ts, args=1.0, **square._asdict())
        >>> print(f"{value:.2f}")  # (1 - exp(-2)) / 2
        0.43

    References:
        Oksendal (2003), "Stochastic Differential Equations", chapter 11 (stochastic control).
    """
    _check.function(running, "running", "(t, x) -> scalar", takes=2)
    return Observer(_zero, _Cost(running))


def several(**observers: Observer) -> Observer:
    """Several observers as one, which looks at the same path; its value is a dictionary of theirs.

    Args:
        observers: each an `Observer`, by name.

    Returns:
        An `Observer`.

    Raises:
        TypeError: one of them is no `Observer`.

    Example:
        >>> import flowjax as fj
        >>> both = fj.observers.several(mean=fj.observers.mean(), energy=fj.observers.energy())
        >>> line = lambda t, x, args: 0 * x + 2
        >>> _, value = fj.fold(line, 0.0, fj.uniform_grid(8), **both._asdict())
        >>> float(value["energy"])
        4.0
    """
    for name, observer in observers.items():
        if not isinstance(observer, Observer):
            raise TypeError(f"{name} must be an Observer, got {observer!r}.")
    all_of_them = _Several(observers)
    return Observer(all_of_them.init, all_of_them.update)


# Functions and records that are equal if their options are: what is new at each call would be
# compiled at each call.


def _zero(x0: State) -> Array:
    return jnp.zeros((), widest(x0))


def _no_mean(x0: State) -> Any:
    return _zero(x0), jax.tree.map(jnp.zeros_like, x0)


def _mean(value: Any, t0: Any, t1: Any, x0: State, x1: State, dw: Any) -> Any:
    time, before = value
    share, total = _share(time, t0, t1)
    middle = weighted(x0, (0.5, x0), (0.5, x1))
    return total, plus(before, (share, middle), (-share, before))


def _no_moments(x0: State) -> Moments:
    zeros = jax.tree.map(jnp.zeros_like, x0)
    return Moments(_zero(x0), zeros, zeros)


def _moments(value: Any, t0: Any, t1: Any, x0: State, x1: State, dw: Any) -> Moments:
    share, total = _share(value.time, t0, t1)
    middle, half = weighted(x0, (0.5, x0), (0.5, x1)), weighted(x0, (0.5, x1), (-0.5, x0))
    off = weighted(x0, (1, middle), (-1, value.mean))
    squares = [jax.tree.map(jnp.square, part) for part in (half, off)]
    spread = plus(
        value.variance,
        *((-share, value.variance), (share, squares[0]), (share * (1 - share), squares[1])),
    )
    return Moments(total, plus(value.mean, (share, off)), spread)


class _Histogram(eqx.Module):
    edges: tuple[float, ...] = eqx.field(static=True)
    of: Callable[[State], Any]

    def init(self, x0: State) -> Array:
        return jnp.zeros(len(self.edges) - 1, widest(x0))

    def update(self, value: Any, t0: Any, t1: Any, x0: State, x1: State, dw: Any) -> Array:
        number = _check.returned_scalar(self.of(x0), "of")
        edges = jnp.asarray(self.edges, value.dtype)
        within = (edges[:-1] <= number) & (number < edges[1:])
        return value + jnp.where(within, _length(t0, t1, value.dtype), 0)


def _add_energy(value: Any, t0: Any, t1: Any, x0: State, x1: State, dw: Any) -> Array:
    return value + _energy(t0, t1, x0, x1, value.dtype)


def _at_start(x0: State) -> Straightness:
    return Straightness(_zero(x0), x0, _zero(x0), _zero(x0))


def _straightness(value: Any, t0: Any, t1: Any, x0: State, x1: State, dw: Any) -> Straightness:
    time = value.time + _length(t0, t1, value.time.dtype)
    total = value.energy + _energy(t0, t1, x0, x1, value.energy.dtype)
    line = _energy(0.0, time, value.start, x1, value.energy.dtype)
    return Straightness(time, value.start, total, total - line)


class _Cost(eqx.Module):
    running: Callable[[Any, State], Any]

    def __call__(self, value: Any, t0: Any, t1: Any, x0: State, x1: State, dw: Any) -> Array:
        rate = _check.returned_scalar(self.running(t0, x0), "running")
        return value + _length(t0, t1, value.dtype) * jnp.asarray(rate, value.dtype)


class _Several(eqx.Module):
    observers: dict[str, Observer]

    def init(self, x0: State) -> dict[str, Any]:
        return {name: observer.init(x0) for name, observer in self.observers.items()}

    def update(self, value: Any, t0: Any, t1: Any, x0: State, x1: State, dw: Any) -> dict[str, Any]:
        return {
            name: observer.update(value[name], t0, t1, x0, x1, dw)
            for name, observer in self.observers.items()
        }


def _length(t0: Any, t1: Any, dtype: Any) -> Array:
    """How long a step is, forward or backward in time."""
    return jnp.abs(jnp.asarray(t1 - t0, dtype))


def _share(time: Array, t0: Any, t1: Any) -> tuple[Array, Array]:
    """What a step is of the time so far with it, and that time."""
    h = _length(t0, t1, time.dtype)
    return quotient(h, time + h), time + h


def _energy(t0: Any, t1: Any, x0: State, x1: State, dtype: Any) -> Array:
    parts = jax.tree.map(lambda a, b: jnp.sum((b - a).astype(dtype) ** 2), x0, x1)
    return quotient(jnp.asarray(sum(jax.tree.leaves(parts))), _length(t0, t1, dtype))
