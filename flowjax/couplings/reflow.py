"""Pairs that a trained flow makes: where it starts, and where it leads."""

from collections.abc import Callable
from typing import Any

from jax import Array

from flowjax.couplings.pairs import Pairs
from flowjax.sampling.views import sample_pairs
from flowjax.solver.door import as_plain_field
from flowjax.solver.stepper import name_of, needs_noise


def reflow(
    key: Array,
    field: Any,
    init: Callable[..., Any],
    ts: Any,
    num: int,
    *,
    labels: Any = None,
    **options: Any,
) -> Pairs:
    r"""The pairs of a trained flow, whose paths do not cross: what rectified flow trains on next.

    $$\big(x_0,\; \Phi(x_0)\big), \qquad x_0 \sim p_\mathrm{init}$$

    A flow trained on them leads to the same law by straighter paths, so that fewer steps do. Of a
    model trained on coupled pairs, data and velocity are known but no score:
    ``fj.velocity(..., coupled=True)``.

    Args:
        key: one JAX key. Pair i is a function of (key, i), as in `fj.sample`.
        field: the velocity of the flow, ``(t, x, args) -> dx``.
        init: draws one start, ``init(key) -> x0``, as in `fj.sample`.
        ts: (n + 1,) times, as in `fj.solve`.
        num: how many pairs, a static positive int.
        labels: arrays with a leading axis of num: sample i is solved with entry i as its args.
        **options: of `fj.sample_pairs`: args, args_axes, step, batch_size, sharding, progress.

    Returns:
        ``Pairs(x0, x1, labels)``, X at ts[0] and at ts[-1], each leaf of shape (num, *leaf.shape).

    Raises:
        TypeError: field is an SDE or no field, step draws noise; or as `fj.sample_pairs`.
        ValueError: labels and args are both given, labels are not num; or as `fj.sample_pairs`.

    Example:
        >>> import jax
        >>> import flowjax as fj
        >>> v = fj.Gaussian(jax.numpy.array([3.0]), 0.5).velocity(fj.CondOT())
        >>> init, ts = v.schedule.prior((1,)).sample, fj.uniform_grid(20)
        >>> pairs = fj.couplings.reflow(jax.random.key(0), v, init, ts, 100, step=fj.midpoint)
        >>> bool(abs(pairs.x1 - (3 + pairs.x0 / 2)).max() < 0.01)
        True

    References:
        Liu, Gong, Liu, "Flow straight and fast: learning to generate and transfer data with
        rectified flow", 2022, arXiv 2209.03003, Algorithm 1.
    """
    as_plain_field(field, "field")
    step = options.get("step")
    if step is not None and needs_noise(step, False):
        raise TypeError(
            f"step must draw no noise, got {name_of(step)}: reflow wants the flow's own pairs."
        )
    if labels is not None:
        given = sorted({"args", "args_axes"} & set(options))
        if given:
            raise ValueError(f"labels are the args of each sample: leave out {', '.join(given)}.")
        options = {**options, "args": labels, "args_axes": 0}
    return Pairs(*sample_pairs(key, field, init, ts, num, **options), labels)
