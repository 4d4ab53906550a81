"""Steps for SDEs: each is the formula of its paper, from t0 to t1, and nothing else.

An SDE step is ``(sde, t0, t1, x, args, dw) -> x``: it asks for the Brownian increment by giving
`dw` no default. Any function of that form is a method; nothing is registered.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from flowjax._numerics import plus
from flowjax._types import Scalar, State
from flowjax.solver.sde import SDE, diffusion_of, fields_of
from flowjax.solver.stepper import facts

_DIAGONAL = (
    "milstein needs diagonal noise: element i of the diffusion must depend on element i of the "
    "state alone, and multiply dW elementwise"
)


@facts(gaussian=True)
def euler_maruyama(sde: SDE, t0: Scalar, t1: Scalar, x: State, args: Any, dw: State) -> State:
    r"""The Euler-Maruyama method for an Ito SDE: strong order 1/2, 1 for additive noise.

    $$X_{t+h} = X_t + h\,f(t, X_t) + g(t, X_t)\,dW, \qquad dW \sim N(0, h I)$$

    Args:
        sde: drift f and diffusion g.
        t0: start of the step.
        t1: end of the step, not before t0.
        x: state at t0.
        args: passed on to both fields.
        dw: Brownian increment over the step, with the structure and shapes of the noise.

    Returns:
        State at t1.

    Raises:
        TypeError: if `sde` is not an SDE.

    Example:
        >>> import jax, flowjax as fj
        >>> sde, ts = fj.ornstein_uhlenbeck(theta=1.0, sigma=0.5), fj.uniform_grid(100)
        >>> x = fj.solve(sde, 1.0, ts, key=jax.random.key(0), step=fj.euler_maruyama)

    References:
        MIT 6.S184, "Flow Matching and Diffusion Models", lecture notes, Algorithm 3.
        Maruyama (1955), "Continuous Markov processes and stochastic equations".
    """
    sde = fields_of(sde, "euler_maruyama")
    return plus(x, (t1 - t0, sde.drift(t0, x, args)), (1, sde.contract(t0, x, args, dw)))


def milstein(sde: SDE, t0: Scalar, t1: Scalar, x: State, args: Any, dw: State) -> State:
    r"""Milstein's method for an Ito SDE with diagonal noise: strong order 1.

    $$X_{t+h} = X + h f + g \odot dW + \tfrac12\, g\, \partial_x g \odot (dW^2 - h)$$

    with f and g at (t, X). The noise must be diagonal: element i of g depends on element i of x
    alone, or it is refused. The derivative is taken forward through the diffusion.

    Args:
        sde: drift f and diffusion g.
        t0: start of the step.
        t1: end of the step, not before t0.
        x: state at t0.
        args: passed on to both fields.
        dw: Brownian increment over the step.

    Returns:
        State at t1.

    Raises:
        TypeError: if `sde` is not an SDE.
        ValueError: if its noise is seen not to be diagonal.

    Example:
        >>> import jax, flowjax as fj
        >>> sde = fj.SDE(lambda t, x, args: 0.1 * x, lambda t, x, args: 0.2 * x)
        >>> ts = fj.uniform_grid(100)
        >>> x = fj.solve(sde, 1.0, ts, key=jax.random.key(0), step=fj.milstein)

    References:
        Milstein (1975), "Approximate integration of stochastic differential equations".
        Kloeden, Platen (1992), "Numerical Solution of SDEs", equation 10.3.1.
    """
    sde = fields_of(sde, "milstein")
    if sde.noise is not None:
        raise ValueError(f"{_DIAGONAL}, without noise=.")
    f, g = sde.drift(t0, x, args), diffusion_of(sde, t0, x, args)
    _refuse_mixing(sde, t0, x, args)
    _, g_dg = jax.jvp(lambda x: diffusion_of(sde, t0, x, args), (x,), (g,))
    # Where g is 0 so is its product with a derivative, also one that is infinite there.
    g_dg = jax.tree.map(lambda g, g_dg: jnp.where((g == 0) & ~jnp.isfinite(g_dg), 0, g_dg), g, g_dg)
    square = jax.tree.map(lambda dw: (dw * dw - jnp.asarray(t1 - t0, dw.dtype)) / 2, dw)
    return plus(x, (t1 - t0, f), (g, dw), (g_dg, square))


@facts(calls_end=True)
def stochastic_heun(sde: SDE, t0: Scalar, t1: Scalar, x: State, args: Any, dw: State) -> State:
    r"""Heun's method for a Stratonovich SDE: strong order 1 for noise that commutes.

    $$\bar X = X + h f_0 + g_0\,dW, \qquad
    X_{t+h} = X + \tfrac h2 (f_0 + f_1) + \tfrac12 (g_0 + g_1)\,dW$$

    with f_0, g_0 at (t, X) and f_1, g_1 at (t + h, \bar X).

    Args:
        sde: drift f and diffusion g, read in Stratonovich's sense.
        t0: start of the step.
        t1: end of the step, not before t0.
        x: state at t0.
        args: passed on to both fields.
        dw: Brownian increment over the step.

    Returns:
        State at t1.

    Raises:
        TypeError: if `sde` is not an SDE.

    Example:
        >>> import jax, flowjax as fj
        >>> sde = fj.SDE(lambda t, x, args: 0.1 * x, lambda t, x, args: 0.2 * x)
        >>> ts = fj.uniform_grid(100)
        >>> x = fj.solve(sde, 1.0, ts, key=jax.random.key(0), step=fj.stochastic_heun)

    References:
        Rumelin (1982), "Numerical treatment of stochastic differential equations".
        Kloeden, Platen (1992), "Numerical Solution of SDEs", section 15.1.
    """
    sde, h = fields_of(sde, "stochastic_heun"), t1 - t0
    f0, by_noise0 = sde.drift(t0, x, args), sde.contract(t0, x, args, dw)
    y = plus(x, (h, f0), (1, by_noise0))
    f1, by_noise1 = sde.drift(t1, y, args), sde.contract(t1, y, args, dw)
    return plus(x, (h / 2, f0), (h / 2, f1), (0.5, by_noise0), (0.5, by_noise1))


def _refuse_mixing(sde: SDE, t: Scalar, x: State, args: Any) -> None:
    """Refuses a diffusion of which an element depends on another element of the state.

    That is seen when it is traced, from its derivative J at random numbers in place of those that
    are traced: J is diagonal if J v = v J 1 for a random v.
    """
    if sum(leaf.size for leaf in jax.tree.leaves(x)) < 2:
        return
    random = np.random.default_rng(0)

    def known(leaf: Any) -> Any:
        if not isinstance(leaf, Tracer) or not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return jnp.asarray(random.uniform(0.5, 1.5, leaf.shape), leaf.dtype)

    def products(x: State, t: Scalar, args: Any) -> tuple[State, State, State]:
        def g(x: State) -> State:
            return diffusion_of(sde, t, x, args)

        ones = jax.tree.map(jnp.ones_like, x)
        v = jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape), leaf.dtype), x)
        return v, jax.jvp(g, (x,), (v,))[1], jax.jvp(g, (x,), (ones,))[1]

    try:
        closed = eqx.filter_closure_convert(products, x, t, args)
        with jax.ensure_compile_time_eval():
            closed, inputs = jax.tree.map(known, (closed, (x, t, args)))
            leaves = [map(np.asarray, jax.tree.leaves(tree)) for tree in closed(*inputs)]
    # What cannot be computed here and now, such as a sum over a named axis, is not looked at.
    except Exception:
        return
    for v, of_v, of_ones in zip(*leaves, strict=True):
        largest = np.max(np.abs(of_v) + np.abs(v * of_ones), initial=0.0)
        if np.any(np.abs(of_v - v * of_ones) > 1e-2 * largest):
            raise ValueError(
                f"{_DIAGONAL}. For noise that mixes them take euler_maruyama, or stochastic_heun "
                f"for a Stratonovich SDE."
            )
