"""Refusing what cannot be drawn, in words that name the argument and the shape it needs."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import numpy as np

from flowjax import _check


def numbers(value: Any, name: str) -> np.ndarray:
    """`value` as an array of real numbers."""
    try:
        array = np.asarray(value)
    # Leaves of several shapes, keys, and what is traced.
    except (TypeError, ValueError):
        array = np.asarray(None)
    # bfloat16 and its like are not among NumPy's own kinds.
    if array.dtype.kind not in "biufV":
        raise ValueError(f"{name} must hold real numbers, got {eqx.tree_pformat(value)}.")
    return array if array.dtype.kind in "iuf" else array.astype(np.float32)


def expect(fits: bool, wanted: str, *arrays: Any) -> None:
    """Refuses arrays of another shape than is wanted."""
    if not fits:
        shapes = " and ".join(str(array.shape) for array in arrays)
        raise ValueError(f"{wanted}, got shape {shapes}.")


def finite(array: np.ndarray) -> bool:
    """Whether an array holds something, and nothing but finite numbers."""
    return array.size > 0 and bool(np.isfinite(array).all())


def times_and_paths(ts: Any, xs: Any, other: str, many: bool = False) -> tuple:
    """Times (n + 1,) and scalar paths (paths, n + 1); `other` says who draws the rest."""
    ts, xs = numbers(ts, "ts"), numbers(xs, "xs")
    xs = xs if many else np.atleast_2d(xs)
    fits = ts.ndim == 1 and xs.ndim == 2 and xs.shape[1] == ts.size > 0 < len(xs) and finite(ts)
    shape = "(paths, n + 1)" if many else "(n + 1,) or (paths, n + 1)"
    also = f" (for paths in the plane: {other})" if xs.ndim == 3 and xs.shape[-1] == 2 else ""
    expect(fits, f"ts must have shape (n + 1,), finite, and xs {shape}{also}", ts, xs)
    return ts, xs


def corners(low: Any, high: Any) -> np.ndarray:
    """Two corners of a rectangle in the plane, (2, 2)."""
    pairs = numbers((low, high), "low and high")
    fits = pairs.shape == (2, 2) and finite(pairs) and bool(np.all(pairs[0] != pairs[1]))
    expect(fits, "low and high must be two pairs of finite numbers that differ", pairs)
    return pairs


def corners_around(points: np.ndarray, low: Any, high: Any) -> np.ndarray:
    """The corners that are given; those that are not, so that every point is inside."""
    points = points.reshape(-1, 2)
    inside = np.isfinite(points).all(1)
    least, most = points[inside].min(0), points[inside].max(0)
    margin = 0.05 * np.where(most > least, most - least, 1.0)
    return corners(least - margin if low is None else low, most + margin if high is None else high)


def ascending(low: Any, high: Any, names: str = "low and high") -> tuple[float, float]:
    """Two finite numbers, the second the greater."""
    pair = numbers((low, high), names)
    expect(pair.shape == (2,), f"{names} must be two numbers", pair)
    if not (finite(pair) and pair[0] < pair[1]):
        raise ValueError(f"{names} must be finite, the second the greater, got {pair.tolist()}.")
    return float(pair[0]), float(pair[1])


def number_shown(shown: Any) -> int:
    """How many of the paths are drawn, none or more."""
    if not _check.is_int(shown):
        raise TypeError(f"shown must be a static int, got {shown!r}.")
    if shown < 0:
        raise ValueError(f"shown must be 0 or more, got {shown}.")
    return int(shown)


def spread(size: int, num: int) -> np.ndarray:
    """At most so many places from the first to the last, evenly spread."""
    return np.unique(np.linspace(0, size - 1, min(num, size)).round().astype(int))


def values_of(function: Any, name: str, *columns: Any) -> np.ndarray:
    """A density at many places: one number each, not negative."""
    try:
        values = numbers(jax.vmap(function)(*columns), f"{name}(x)")
    except jax.errors.JAXTypeError as error:
        raise TypeError(
            f"{name} must be a function for JAX, of jax.numpy and jax.scipy and without values as "
            f"Python floats, got {function!r}."
        ) from error
    expect(values.shape == columns[0].shape, f"{name} must return a scalar", values[0])
    bad = ~(values >= 0)
    if bad.any():
        value, place = values[bad][0], columns[-1][bad][0]
        raise ValueError(f"{name} must not be negative or NaN, got {value} at x = {place}.")
    return values


def curves(x: Any, errors: Any, name: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Each method's places and errors, all positive or not finite: one curve each."""
    if not isinstance(errors, Mapping) or not errors:
        raise TypeError(f"errors must be a mapping from the methods' names, got {errors!r}.")
    if isinstance(x, Mapping) and set(x) != set(errors):
        raise ValueError(f"{name} must have the names of errors, got {sorted(map(str, x))}.")
    found = {}
    for method, error in errors.items():
        places = numbers(x[method] if isinstance(x, Mapping) else x, name)
        error = numbers(error, f"errors[{method!r}]")
        fits = places.ndim == 1 and error.shape == places.shape and places.size > 1
        expect(fits, f"{name} and errors[{method!r}] must both have shape (n,)", places, error)
        if not bool(np.all(places > 0) and np.all(error >= 0) and np.isfinite(places).all()):
            raise ValueError(f"{name} must be positive and errors[{method!r}] not negative.")
        found[str(method)] = (places, error)
    return found
