"""Densities of paths: of the states that the steps of an SDE go through, given the first."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from flowjax._numerics import widest
from flowjax._types import State
from flowjax.densities.along import Law, LogProb, LogRatio, as_arrays, zero
from flowjax.densities.door import (
    gaussian_step,
    path_and_times,
    refuse_no_noise,
    refuse_other_noise,
)
from flowjax.solver.views import fold, trajectory


def path_log_prob(path: Any, sde: Any, ts: Any, args: Any = None, *, step: Any = None) -> Array:
    r"""The log density of a path, given its first state.

    $$\log p(x_1, \dots, x_n \mid x_0) = \sum_{k=0}^{n-1} \log N\big(x_{k+1};\, m_k(x_k),\,
    h_k\,G_k G_k^\top(x_k)\big)$$

    for a step $x_{k+1} = m_k(x_k) + G_k(x_k)\,dW_k$, which is linear in its noise: for
    Euler-Maruyama, $m = x + h f$ and $G = g$. It is the density of the discrete path exactly, for
    steps of any length, a sum over all steps and all elements.

    The steps are gone through one after the other, by the loop that solves. In units of the calls
    of a field, it costs what the solve did, and a gradient stores no more than the path itself;
    `transition_log_probs` says how to take them all at once. For the same bits of the path the
    bits of the number are the same in every program of one batch shape: in the rollout, in
    training, with its gradient beside it, and of the fold by `fj.densities.log_prob`.

    Args:
        path: the states that `trajectory` returns: like the state, each leaf (n + 1, *leaf.shape).
            For a batch, `jax.vmap`. States of half precision are rounded, and their rounding is
            taken for noise: keep float32.
        sde: the SDE whose density it is; or a `Velocity`, with a step that draws noise. The SDE
            that drew the path may be another.
        ts: (n + 1,) times, increasing: those of the path.
        args: passed on to its fields.
        step: a step that is Gaussian given the state: `euler_maruyama` (the default),
            `exponential_euler`, `ancestral`, `stochastic_ddim`, or one of your own that is linear
            in dw and says ``my_step.gaussian = True``.

    Returns:
        The log density, a scalar of the path's dtype but at least float32. Where a step has no
        noise, or noise that leaves out a direction, there is none: that is refused where it is
        known, and NaN where it is traced (-inf if an element without noise moved).

    Raises:
        TypeError: sde is a plain field, or step draws no noise.
        ValueError: step is not Gaussian given the state (`milstein`, `stochastic_heun`), or
            remembers (`dpmpp_2m_sde`); path does not fit ts; ts does not increase; the noise of a
            step is zero or leaves out a direction; or what `solve` refuses, such as a velocity of
            coupled pairs.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> brownian_motion = fj.SDE(lambda t, x, args: 0 * x, lambda t, x, args: 1.0)
        >>> path, ts = jnp.array([0.0, 1.0, 1.0]), jnp.array([0.0, 1.0, 2.0])
        >>> value = fj.path_log_prob(path, brownian_motion, ts)
        >>> print(f"{value:.4f}")  # -1 / 2 - log(2 pi)
        -2.3379

    References:
        Black, Janner, Du, Kostrikov, Levine, "Training diffusion models with reinforcement
        learning", 2023, arXiv 2305.13301, section 4.
    """
    step = gaussian_step(sde, step)
    path, ts = path_and_times(path, ts, [sde], step)
    refuse_no_noise(path, sde, ts, args, step)
    return along_path(path, ts, LogProb(_law(path, sde, step, args)))


def transition_log_probs(
    path: Any, sde: Any, ts: Any, args: Any = None, *, step: Any = None
) -> Array:
    r"""The log density of each state of a path given the one before.

    $$\log p(x_{k+1} \mid x_k), \qquad k = 0, \dots, n - 1$$

    the terms of `path_log_prob`, whose bits they have. The ratio of two policies in reinforcement
    learning, clipped step by step, is made of them.

    They are computed one after the other, since all at once take n times the memory in a gradient.
    Where it pays, as with a small network and few samples, a step is a path of its own:

    ```
    pairs = jnp.stack([path[:-1], path[1:]], axis=1)  # (n, 2, ...)
    spans = jnp.stack([ts[:-1], ts[1:]], axis=1)
    jax.vmap(lambda pair, span: fj.path_log_prob(pair, sde, span))(pairs, spans)
    ```

    Args:
        path: as in `path_log_prob`.
        sde: as in `path_log_prob`.
        ts: as in `path_log_prob`.
        args: as in `path_log_prob`.
        step: as in `path_log_prob`.

    Returns:
        (n,) log densities, of the dtype of that of the path.

    Raises:
        TypeError, ValueError: as `path_log_prob`.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> brownian_motion = fj.SDE(lambda t, x, args: 0 * x, lambda t, x, args: 1.0)
        >>> path, ts = jnp.array([0.0, 1.0, 1.0]), jnp.array([0.0, 1.0, 2.0])
        >>> fj.transition_log_probs(path, brownian_motion, ts)  # -1.4189 = -(1 + log(2 pi)) / 2
        Array([-1.4189..., -0.9189...], dtype=float32)

    References:
        Black, Janner, Du, Kostrikov, Levine, "Training diffusion models with reinforcement
        learning", 2023, arXiv 2305.13301, section 4.
    """
    step = gaussian_step(sde, step)
    path, ts = path_and_times(path, ts, [sde], step)
    refuse_no_noise(path, sde, ts, args, step)
    scored = _Scored(LogProb(_law(path, sde, step, args)))
    first, rest = _split(path)
    start, given = (first, zero(first)), (rest, jnp.zeros(ts.shape[0] - 1, widest(first)))
    return trajectory(_still, start, ts, step=scored, increments=given)[1][1:]


def path_log_ratio(
    path: Any, sde_p: Any, sde_q: Any, ts: Any, args: Any = None, *, step: Any = None
) -> Array:
    r"""The log of dP / dQ at a path, for two SDEs of one noise, by Girsanov's theorem.

    $$\log\frac{dP}{dQ} = \sum_{k=0}^{n-1} \Big[\frac{b_P - b_Q}{g} \cdot dW_k
    - \frac{h_k}2 \Big|\frac{b_P - b_Q}{g}\Big|^2\Big], \qquad
    g\,dW_k = x_{k+1} - x_k - h_k\,b_Q$$

    with the drifts and g at $(t_k, x_k)$: what weighs a path of Q so that it counts as one of P. It
    is that of the discrete paths exactly, for steps of any length, and the difference of two
    `path_log_prob` to rounding. For other steps than Euler-Maruyama, h (b_P - b_Q) is the
    difference of their means. Of a matrix g, which may leave out directions in which the drifts
    agree, the quotient is the least solution.

    Paths that the SDE makes anew need not be stored: `fj.densities.log_ratio` for a fold.

    Args:
        path: as in `path_log_prob`, of any law.
        sde_p: the SDE of P, the law in the numerator.
        sde_q: that of Q.
        ts: as in `path_log_prob`.
        args: passed on to both.
        step: as in `path_log_prob`, the same for both.

    Returns:
        The log ratio, a scalar of the path's dtype but at least float32. It is NaN where it does
        not exist, because the noise differs, or the means do and there is no noise.

    Raises:
        TypeError, ValueError: as `path_log_prob`, but for the noise; and if that of the two is
            known to differ: the weights of such paths vanish as the steps get shorter.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> still = fj.SDE(lambda t, x, args: 0 * x, lambda t, x, args: 1.0)
        >>> drifting = fj.SDE(lambda t, x, args: 0 * x + 1, lambda t, x, args: 1.0)
        >>> path, ts = jnp.array([0.0, 0.4, 2.0]), jnp.array([0.0, 0.5, 1.0])
        >>> float(fj.path_log_ratio(path, drifting, still, ts))  # W_1 - 1/2
        1.5

    References:
        Oksendal (2003), "Stochastic Differential Equations", section 8.6.
    """
    step = gaussian_step(sde_p, gaussian_step(sde_q, step, "sde_q"), "sde_p")
    path, ts = path_and_times(path, ts, [sde_p, sde_q], step)
    refuse_other_noise(path, [sde_p, sde_q], ts, args, step)
    laws = [_law(path, sde, step, args) for sde in (sde_p, sde_q)]
    return along_path(path, ts, LogRatio(*laws))


def _law(path: State, sde: Any, step: Any, args: Any) -> Law:
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), path)
    return Law(sde, step, as_arrays(args), like)


def _split(path: State) -> tuple[State, State]:
    """The first state, and the rest."""
    return jax.tree.map(lambda leaf: leaf[0], path), jax.tree.map(lambda leaf: leaf[1:], path)


# The loop goes through a stored path as it did when it solved it: the states are handed to the
# steps as their increments.


def along_path(path: State, ts: Array, update: Any) -> Array:
    """What a fold of the path would have come to, had it solved it."""
    first, rest = _split(path)
    return fold(_still, first, ts, step=_given, increments=rest, init=zero, update=update)[1]


def _still(t: Any, x: State, args: Any) -> State:
    return jax.tree.map(jnp.zeros_like, x)


def _given(field: Any, t0: Any, t1: Any, x: State, args: Any, dw: State) -> State:
    return dw


class _Scored(eqx.Module):
    """The state that is given, and its log density."""

    log_prob: LogProb

    def __call__(self, field: Any, t0: Any, t1: Any, x: State, args: Any, dw: State) -> State:
        return dw[0], self.log_prob.of_step(t0, t1, x[0], dw[0])
