"""An interval for any metric, from the same samples."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from flowjax import _check


class Interval(NamedTuple):
    """A metric of sets of samples, and what is known by them of that of their laws.

    Args:
        value: the metric of the sets themselves.
        standard_error: how much it varies from draw to draw.
        low: the lower end of the interval.
        high: the upper end.
    """

    value: float
    standard_error: float
    low: float
    high: float


def bootstrap(
    metric: Callable[..., Any],
    key: Array,
    *sets: Any,
    num: int = 200,
    level: float = 0.95,
) -> Interval:
    r"""A metric with an interval for it, from its values of random halves of the samples.

    $$[\,q_{(1-\mathrm{level})/2} - 2b,\;\; q_{(1+\mathrm{level})/2} - 2b\,], \qquad
    b = \mathrm{E}\,m^* - m$$

    where m is the metric of the sets, m* that of half of each of them, drawn without replacement,
    and q its quantiles. Halves without replacement vary about m as much as m about the truth, and
    no sample is in one twice, which the usual bootstrap has and which a distance between samples
    takes for structure.

    The interval is for the metric of the laws. A metric that is too large of few samples, as
    `energy_distance` is and more so `wasserstein`, is so twice over of halves: their mean shows
    this bias b, which is taken off. The interval may then lie below the value, and about zero where
    the laws are the same. That is right where the bias falls like 1/N, and too little for
    `wasserstein` in many dimensions. The interval is of many samples: at level 0.95 it was measured
    to hold the energy distance of N(0, 1) and N(m, 1) in 87 % to 100 % of draws of 60 and 200
    samples, m from 0 to 1; where all samples agree, as with an accuracy of 1, it has no width.

    Args:
        metric: ``metric(*sets) -> scalar``, such as `energy_distance`; options by
            `functools.partial`.
        key: one JAX key; it names the halves.
        *sets: one or more sets of samples, each an array with a leading axis of samples or a pytree
            of them. Samples of one set stay together, such as labels and what was asked for; sets
            are halved independently.
        num: how many times.
        level: the probability that the interval is meant to have.

    Returns:
        ``Interval(value, standard_error, low, high)``, floats.

    Raises:
        TypeError: metric is not a function of so many sets or does not return a real floating
            scalar, key is no key, a leaf is no array or is traced, or num is not an int.
        ValueError: key is a batch of keys, there is no set, one has fewer than four samples or
            leaves that differ in their number, num is below one, or level is not between 0 and 1.

    Example:
        >>> import jax
        >>> import flowjax as fj
        >>> x, y = jax.random.normal(jax.random.key(0), (2, 400, 2))
        >>> key, metric = jax.random.key(1), fj.metrics.energy_distance
        >>> found = fj.metrics.bootstrap(metric, key, x, y + 1, num=50)
        >>> found.low < 0.835 < found.high  # that of the laws
        True

    References:
        Bickel, Goetze, van Zwet, "Resampling fewer than n observations: gains, losses, and remedies
        for losses", 1997, Statistica Sinica 7; Shao, Wu, "A general theory for jackknife
        variance estimation", 1989, Annals of Statistics 17 (halves).
    """
    metric = _check.function(metric, "metric", "(*sets) -> scalar", takes=len(sets))
    _check.single_key(key)
    num, level = _check.positive_int(num, "num"), _check.static_number(level, "level")
    _check.require(lambda level: 0 < level < 1, level, message="level must be between 0 and 1")
    if not sets:
        raise ValueError("sets must be one or more sets of samples, got none.")
    sets = tuple(_arrays(one, f"sets[{i}]") for i, one in enumerate(sets))

    def value(sets: Any) -> float:
        return float(_check.returned_scalar(metric(*sets), "metric"))

    whole = value(sets)
    halves = np.array([value(_halves(jax.random.fold_in(key, i), sets)) for i in range(num)])
    bias = halves.mean() - whole
    low, high = np.quantile(halves, [(1 - level) / 2, (1 + level) / 2]) - 2 * bias
    return Interval(whole, float(halves.std()), float(low), float(high))


@jax.jit
def _halves(key: Array, sets: tuple[Any, ...]) -> tuple[Any, ...]:
    """A random half of each set."""

    def half(key: Array, one: Any) -> Any:
        count = jax.tree.leaves(one)[0].shape[0]
        chosen = jax.random.permutation(key, count)[: count // 2]
        return jax.tree.map(lambda leaf: leaf[chosen], one)

    return tuple(map(half, jax.random.split(key, len(sets)), sets))


def _arrays(one: Any, name: str) -> Any:
    for leaf_name, leaf in _check.leaves_with_names(one, name):
        if isinstance(leaf, Tracer) or not isinstance(leaf, (jax.Array, np.ndarray)):
            got = "a traced value" if isinstance(leaf, Tracer) else type(leaf).__name__
            raise TypeError(f"{leaf_name} must be an array of samples, got {got}.")
    _check.samples(one, name, least=4)
    return jax.tree.map(jnp.asarray, one)
