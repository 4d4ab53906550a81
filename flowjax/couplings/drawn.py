"""Couplings that are drawn from a smoothed plan of transport, whole or relaxed at one end."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer

from flowjax import _check
from flowjax.couplings.pairs import Pairs, checked, costs, rows
from flowjax.couplings.sinkhorn import log_plan, sinkhorn


def entropic(
    key: Array,
    x0: Any,
    x1: Any,
    labels: Any = None,
    *,
    epsilon: Any = None,
    cost: Callable[[Any, Any], Any] | None = None,
    tolerance: float = 1e-3,
    max_steps: int = 2000,
) -> Pairs:
    r"""Pairs drawn from the entropic plan of transport between the samples of a batch.

    $$\min_P \sum_{ij} P_{ij}\, c(x_0^i, x_1^j) + \epsilon P_{ij} \log P_{ij}, \qquad
    P 1 = P^T 1 = \tfrac1N 1$$

    Each x1 is taken once, in its order, with an x0 drawn from its column of the plan. So the data
    are kept exactly, and the law of each pair is the plan; about 37 % of the x0 are left out, and
    others drawn again. A small epsilon leads to `exact`, a large one to `independent` pairs. It
    runs on the device, inside `jit` and `vmap` too, where x0 is NaN if a cost is not finite.

    Args:
        key: one JAX key; it names the draws.
        x0: a batch of noise, as in `exact`.
        x1: a batch of data, of x0's structure, shapes and dtypes.
        labels: arrays with the same leading axis, which stay with their x1.
        epsilon: in the units of the cost, above 0. Default: a twentieth of the batch's mean cost.
            2 sigma^2 makes the pairs of the Schroedinger bridge of noise sigma.
        cost: of two samples, as in `exact`.
        tolerance: at which mean relative error of the sums over x1 the iteration stops.
        max_steps: after how many steps it stops, with a RuntimeWarning outside `jit`.

    Returns:
        ``Pairs(x0, x1, labels)``, of which x0 is drawn anew.

    Raises:
        TypeError: as `exact`; or an option is not a number, or max_steps not an int.
        ValueError: as `exact`; or epsilon, tolerance or max_steps is not above 0.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> x0, x1 = jnp.array([1.0, 2.0, 3.0]), jnp.array([30.0, 10.0, 20.0])
        >>> fj.couplings.entropic(jax.random.key(0), x0, x1, epsilon=1.0).x0.tolist()
        [3.0, 1.0, 2.0]

    References:
        Cuturi, "Sinkhorn distances", 2013, arXiv 1306.0895; Tong et al., "Simulation-free
        Schroedinger bridges via score and flow matching", 2023, arXiv 2307.03672, proposition 3.3.
    """
    x0, x1, labels = checked(key, x0, x1, labels)
    logits = _log_plan(costs(x0, x1, cost), epsilon, jnp.inf, tolerance, max_steps)
    return Pairs(rows(x0, _one_of_each_column(key, logits)), x1, labels)


def unbalanced(
    key: Array,
    x0: Any,
    x1: Any,
    labels: Any = None,
    *,
    penalty: Any = None,
    epsilon: Any = None,
    cost: Callable[[Any, Any], Any] | None = None,
    tolerance: float = 1e-3,
    max_steps: int = 2000,
) -> Pairs:
    r"""Pairs drawn from a plan that keeps all of the noise, but not data that are far from any.

    $$\min_P \sum_{ij} P_{ij}\, c(x_0^i, x_1^j) + \epsilon P_{ij} \log P_{ij}
    + \rho\,\mathrm{KL}\big(P^T 1 \,\big|\, \tfrac1N 1\big), \qquad P 1 = \tfrac1N 1$$

    Each x0 is taken once, in its order, with an x1 drawn from its row of the plan: outliers are
    seldom drawn. Only the data's end is relaxed, since a model is sampled from all of the noise:
    the form relaxed at both ends would train it on a part. A large penalty leads to `entropic`.

    Args:
        key: one JAX key; it names the draws.
        x0: a batch of noise, as in `exact`.
        x1: a batch of data, of x0's structure, shapes and dtypes.
        labels: arrays with the same leading axis, which stay with their x1.
        penalty: rho, in the units of the cost, above 0. Default: the batch's mean cost.
        epsilon: as in `entropic`.
        cost: of two samples, as in `exact`.
        tolerance: as in `entropic`, of the sums over x0.
        max_steps: as in `entropic`.

    Returns:
        ``Pairs(x0, x1, labels)``, of which x1 and labels are drawn anew.

    Raises:
        TypeError: as `entropic`.
        ValueError: as `entropic`; or penalty is not above 0.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> x0, x1 = jnp.array([1.0, 2.0, 3.0]), jnp.array([2.0, 1.0, 1000.0])
        >>> options = dict(penalty=1.0, epsilon=0.1)
        >>> pairs = fj.couplings.unbalanced(jax.random.key(0), x0, x1, **options)
        >>> pairs.x0.tolist(), float(pairs.x1.max())
        ([1.0, 2.0, 3.0], 2.0)

    References:
        Chizat, Peyre, Schmitzer, Vialard, "Scaling algorithms for unbalanced transport problems",
        2016, arXiv 1607.05816, section 5; Eyring et al., "Unbalancedness in neural Monge maps
        improves unpaired domain translation", 2023, arXiv 2311.15100, Algorithm 1.
    """
    x0, x1, labels = checked(key, x0, x1, labels)
    matrix = costs(x0, x1, cost).T
    penalty = jnp.mean(matrix) if penalty is None else _positive(penalty, "penalty")
    logits = _log_plan(matrix, epsilon, penalty, tolerance, max_steps)
    return Pairs(x0, *rows((x1, labels), _one_of_each_column(key, logits)))


def _positive(value: Any, name: str) -> Any:
    """A number above 0, or NaN for one that cannot be seen and is not."""
    number = _check.number(value, name)
    _check.require(lambda number: number > 0, number, message=f"{name} must be above 0")
    return jnp.where(number > 0, number, jnp.nan) if isinstance(number, Tracer) else number


def _log_plan(cost: Array, epsilon: Any, penalty: Any, tolerance: Any, max_steps: Any) -> Array:
    """The logarithms of the plan that keeps the columns, and the rows by a penalty."""
    # The plan is the same, and a column of an outlier loses no digits.
    cost, mean = cost - jnp.min(cost, axis=0, keepdims=True), jnp.mean(cost)
    if epsilon is None:
        epsilon = jnp.where(mean > 0, mean / 20, 1)
    else:
        epsilon = jnp.asarray(_positive(epsilon, "epsilon"), cost.dtype)
    tolerance = _positive(tolerance, "tolerance")
    max_steps = _check.positive_int(max_steps, "max_steps")
    damping = 1 / (1 + epsilon / jnp.asarray(penalty, cost.dtype))
    plan = sinkhorn(cost, epsilon, damping, tolerance, max_steps)
    if not isinstance(plan.error, Tracer) and not plan.error <= tolerance:
        warnings.warn(
            f"the plan is off by {float(plan.error):.1e} after max_steps = {max_steps} steps: "
            f"epsilon = {float(epsilon):.3g} is small beside the mean cost "
            f"{float(mean):.3g}; fj.couplings.exact is its limit.",
            RuntimeWarning,
            stacklevel=3,
        )
    return log_plan(cost, epsilon, plan)


def _one_of_each_column(key: Array, logits: Array) -> Array:
    """For each column a row, with the probabilities that the logarithms are up to a factor."""
    sums = jnp.cumsum(jnp.exp(logits - jnp.max(logits, axis=0, keepdims=True)), axis=0)
    total, count = sums[-1], logits.shape[0]
    below = sums <= (total * jax.random.uniform(key, (count,), sums.dtype))[None, :]
    chosen = jnp.minimum(jnp.sum(below, axis=0, dtype=jnp.int32), count - 1)
    return jnp.where(jnp.isfinite(total), chosen, count)
