"""Path densities as observers: what `fold` computes along a path without storing it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowjax._numerics import widest
from flowjax._types import State
from flowjax.densities import transitions
from flowjax.densities.door import gaussian_step
from flowjax.densities.transitions import Transition
from flowjax.observers import Observer
from flowjax.solver.outputs import checked


def log_prob(sde: Any, args: Any = None, *, step: Any = None) -> Observer:
    r"""The log density of the path that a fold goes along, given where it begins.

    $$\sum_{k=0}^{n-1} \log N\big(X_{t_{k+1}};\, m_k(X_{t_k}),\, h_k\,G_k G_k^\top(X_{t_k})\big)$$

    What `path_log_prob` gives for the stored path, with the same bits, and without storing it. Its
    field is called once more in each step, apart from the solve: the bits of a number that shares
    its arithmetic with what stands beside it are those of no other program.

    Args:
        sde: the SDE, or a `Velocity` with a step that draws noise: that of the fold, or another.
        args: passed on to it.
        step: a step that is Gaussian given the state, as in `path_log_prob`.

    Returns:
        An `Observer`, for states of float32 or float64.

    Raises:
        TypeError, ValueError: as `path_log_prob` for sde and step. Times are seen by a step alone:
            where it has no noise the value is NaN, or -inf.

    Example:
        >>> import jax
        >>> import flowjax as fj
        >>> sde, ts, key = fj.ornstein_uhlenbeck(1.0, 0.5), fj.uniform_grid(8), jax.random.key(0)
        >>> along = fj.densities.log_prob(sde)
        >>> x1, value = fj.fold(sde, 1.0, ts, key=key, **along._asdict())
        >>> path = fj.trajectory(sde, 1.0, ts, key=key)
        >>> print(f"{value:.4f} {fj.path_log_prob(path, sde, ts):.4f}")
        2.1400 2.1400

    References:
        Black, Janner, Du, Kostrikov, Levine, "Training diffusion models with reinforcement
        learning", 2023, arXiv 2305.13301, section 4.
    """
    return Observer(zero, LogProb(Law(sde, gaussian_step(sde, step), as_arrays(args))))


def log_ratio(sde_p: Any, sde_q: Any, args: Any = None, *, step: Any = None) -> Observer:
    r"""The log of dP / dQ for the path that a fold goes along, by Girsanov's theorem.

    $$\sum_{k=0}^{n-1} \Big[\delta_k \cdot \frac{dW_k}{\sqrt{h_k}} - \tfrac12 |\delta_k|^2\Big],
    \qquad \sqrt{h_k}\,G_k\,\delta_k = m^P_k(X_{t_k}) - m^Q_k(X_{t_k})$$

    with the dW that takes Q along the path; see `path_log_ratio`, which gives the same number for a
    stored path. The fold mostly solves Q, and its exponential then has the mean 1.

    Args:
        sde_p: the SDE of P, the law in the numerator.
        sde_q: that of Q, with the same noise.
        args: passed on to both.
        step: as in `log_prob`.

    Returns:
        An `Observer`.

    Raises:
        TypeError, ValueError: as `log_prob`, and if the noise of one alone is a matrix. Where the
            noise differs, or the means do where there is none, the value is NaN.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> still = fj.SDE(lambda t, x, args: 0 * x, lambda t, x, args: 1.0)
        >>> drifting = fj.SDE(lambda t, x, args: 0 * x + 1, lambda t, x, args: 1.0)
        >>> weight, ts = fj.densities.log_ratio(drifting, still), fj.uniform_grid(4)
        >>> x1, value = fj.fold(still, 0.0, ts, key=jax.random.key(0), **weight._asdict())
        >>> print(f"{value:.4f} {x1 - 0.5:.4f}")  # W_1 - 1/2
        -1.0436 -1.0436

    References:
        Oksendal (2003), "Stochastic Differential Equations", section 8.6.
    """
    return Observer(zero, LogRatio(*_laws(sde_p, sde_q, step, args)))


def kl(sde_q: Any, sde_p: Any, args: Any = None, *, step: Any = None) -> Observer:
    r"""The divergence KL(Q || P) of the laws of a path: the mean over paths of Q of the value.

    $$KL(Q \,\|\, P) = E_Q \sum_{k=0}^{n-1} \tfrac12 |\delta_k|^2, \qquad
    \sqrt{h_k}\,G_k\,\delta_k = m^P_k(X_{t_k}) - m^Q_k(X_{t_k})$$

    which for Euler-Maruyama is $\sum_k \tfrac{h_k}2 |(b_P - b_Q) / g|^2$. It is that of the
    discrete paths exactly, for steps of any length, and has less variance than `-log_ratio`.

    Args:
        sde_q: the SDE of Q, which the fold solves.
        sde_p: that of P, with the same noise.
        args: passed on to both.
        step: as in `log_prob`.

    Returns:
        An `Observer`.

    Raises:
        TypeError, ValueError: as `log_ratio`.

    Example:
        >>> import jax
        >>> import flowjax as fj
        >>> still = fj.SDE(lambda t, x, args: 0 * x, lambda t, x, args: 1.0)
        >>> drifting = fj.SDE(lambda t, x, args: 0 * x + 1, lambda t, x, args: 1.0)
        >>> divergence, ts = fj.densities.kl(still, drifting), fj.uniform_grid(4)
        >>> x1, value = fj.fold(still, 0.0, ts, key=jax.random.key(0), **divergence._asdict())
        >>> print(f"{value:.4f}")
        0.5000

    References:
        Oksendal (2003), "Stochastic Differential Equations", section 8.6.
    """
    p, q = _laws(sde_p, sde_q, step, args)
    return Observer(zero, KL(q, p))


def zero(x0: State) -> Array:
    """Zero in the dtype of a log density."""
    return jnp.zeros((), widest(x0))


def as_arrays(args: Any) -> Any:
    """The args with numbers as arrays, so that a new value of one compiles nothing."""
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf) if isinstance(leaf, (float, np.number)) else leaf, args
    )


class Law(eqx.Module):
    """The law of each step of an SDE.

    `like` has the dtypes that the field is shown; None for those of the state.
    """

    sde: Any
    step: Any
    args: Any
    like: Any = None

    def __call__(self, t0: Any, t1: Any, x: State) -> Transition:
        """That of the state at t1, given x at t0."""
        field = checked(self.sde, x if self.like is None else self.like)
        return transitions.transition(field, self.step, t0, t1, x, self.args)


def _laws(sde_p: Any, sde_q: Any, step: Any, args: Any) -> tuple[Law, Law]:
    step = gaussian_step(sde_p, gaussian_step(sde_q, step, "sde_q"), "sde_p")
    args = as_arrays(args)
    return Law(sde_p, step, args), Law(sde_q, step, args)


class LogProb(eqx.Module):
    """Adds up the log densities of the steps."""

    law: Law

    def of_step(self, t0: Any, t1: Any, x0: State, x1: State) -> Array:
        """That of one step, NaN if it has no length."""

        def log_prob(t0: Any, t1: Any, x0: State, x1: State) -> Array:
            return transitions.log_prob(self.law(t0, t1, x0), x1)

        def none(t0: Any, t1: Any, x0: State, x1: State) -> Array:
            return jnp.full((), jnp.nan, widest(x0))

        # What is in a branch is compiled by itself: it rounds alike in a solve, along a stored path
        # and where it is differentiated.
        return jax.lax.cond(t1 > t0, log_prob, none, t0, t1, x0, x1)

    def __call__(self, value: Array, t0: Any, t1: Any, x0: State, x1: State, dw: Any) -> Array:
        """The sum with that of another step."""
        return value + self.of_step(t0, t1, x0, x1)


class LogRatio(eqx.Module):
    """Adds up the log ratios of the steps."""

    p: Law
    q: Law

    def __call__(self, value: Array, t0: Any, t1: Any, x0: State, x1: State, dw: Any) -> Array:
        """The sum with that of another step."""
        return value + transitions.log_ratio(self.p(t0, t1, x0), self.q(t0, t1, x0), x1)


class KL(eqx.Module):
    """Adds up the divergences of the steps."""

    q: Law
    p: Law

    def __call__(self, value: Array, t0: Any, t1: Any, x0: State, x1: State, dw: Any) -> Array:
        """The sum with that of another step."""
        return value + transitions.kl(self.q(t0, t1, x0), self.p(t0, t1, x0), x0)
