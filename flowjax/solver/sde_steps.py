"""Steps for SDEs: each is the formula of its paper, from t0 to t1, and nothing else.

An SDE step is ``(sde, t0, t1, x, args, dw) -> x``: it asks for the Brownian increment by giving
`dw` no default. Any function of that form is a method; nothing is registered.
"""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import PyTree

from flowjax._numerics import plus, weighted
from flowjax._types import Scalar, State
from flowjax.solver.sde import SDE, diffusion_of, fields_of, is_operator, product
from flowjax.solver.stepper import Stepper, facts

_DIAGONAL = (
    " needs diagonal noise: element i of the diffusion must depend on element i of the "
    "state alone, and multiply dW elementwise"
)


@facts(gaussian=True)
def euler_maruyama(sde: SDE, t0: Scalar, t1: Scalar, x: State, args: Any, dw: State) -> State:
    r"""The Euler-Maruyama method for an Ito SDE: strong order 1/2, 1 for additive noise.

    $$X_{t+h} = X_t + h\,f(t, X_t) + g(t, X_t)\,dW, \qquad dW \sim N(0, h I)$$

    Args:
        sde: drift f and diffusion g.
        t0: start of the step, a scalar.
        t1: end of the step, a scalar, not before t0.
        x: state at t0, a floating array or a pytree of them.
        args: passed on to both fields.
        dw: Brownian increment over the step, with the structure and shapes of the noise.

    Returns:
        State at t1, like x.

    Raises:
        TypeError: if `sde` is not an SDE.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> sde, x, dw = fj.ornstein_uhlenbeck(theta=1.0, sigma=0.5), jnp.array(1.0), jnp.array(0.2)
        >>> print(f"{fj.euler_maruyama(sde, 0.0, 0.5, x, None, dw):.2f}")  # 1 - 0.5 + 0.5 * 0.2
        0.60

    References:
        Holderrieth, Erives, "An introduction to flow matching and diffusion models" (MIT
        6.S184), 2025, arXiv 2506.02070, section 2.2.
        Maruyama (1955), "Continuous Markov processes and stochastic equations", Rendiconti del
        Circolo Matematico di Palermo 4.
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
        t0: start of the step, a scalar.
        t1: end of the step, a scalar, not before t0.
        x: state at t0, a floating array or a pytree of them.
        args: passed on to both fields.
        dw: Brownian increment over the step, like x.

    Returns:
        State at t1, like x.

    Raises:
        TypeError: if `sde` is not an SDE.
        ValueError: if its noise is seen not to be diagonal.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> sde = fj.SDE(lambda t, x, args: 0 * x, lambda t, x, args: x)
        >>> x, dw = jnp.array(1.0), jnp.array(0.5)
        >>> float(fj.milstein(sde, 0.0, 0.125, x, None, dw))  # 1 + dW + (dW^2 - h) / 2
        1.5625

    References:
        Milstein (1975), "Approximate integration of stochastic differential equations", Theory of
        Probability and its Applications 19.
        Kloeden, Platen (1992), "Numerical Solution of SDEs", equation 10.3.1.
    """
    sde = fields_of(sde, "milstein")
    if sde.noise is not None:
        raise ValueError(f"milstein{_DIAGONAL}, without noise=.")
    f, g = sde.drift(t0, x, args), diffusion_of(sde, t0, x, args)
    refuse_mixing(sde, t0, x, args, "milstein")
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

    with f_0, g_0 at (t, X) and f_1, g_1 at $(t + h, \bar X)$.

    Args:
        sde: drift f and diffusion g, read in Stratonovich's sense.
        t0: start of the step, a scalar.
        t1: end of the step, a scalar, not before t0.
        x: state at t0, a floating array or a pytree of them.
        args: passed on to both fields.
        dw: Brownian increment over the step, with the structure and shapes of the noise.

    Returns:
        State at t1, like x.

    Raises:
        TypeError: if `sde` is not an SDE.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> sde = fj.SDE(lambda t, x, args: 0 * x, lambda t, x, args: x)
        >>> x, dw = jnp.array(1.0), jnp.array(0.5)
        >>> float(fj.stochastic_heun(sde, 0.0, 0.125, x, None, dw))  # 1 + dW + dW^2 / 2
        1.625

    References:
        Rumelin (1982), "Numerical treatment of stochastic differential equations", SIAM Journal on
        Numerical Analysis 19.
        Kloeden, Platen (1992), "Numerical Solution of SDEs", section 15.1.
    """
    sde, h = fields_of(sde, "stochastic_heun"), t1 - t0
    f0, by_noise0 = sde.drift(t0, x, args), sde.contract(t0, x, args, dw)
    y = plus(x, (h, f0), (1, by_noise0))
    f1, by_noise1 = sde.drift(t1, y, args), sde.contract(t1, y, args, dw)
    return plus(x, (h / 2, f0), (h / 2, f1), (0.5, by_noise0), (0.5, by_noise1))


def _init_heun(sde: Any, t0: Scalar, x0: State, args: Any) -> PyTree:
    sde = fields_of(sde, "reversible_heun")
    return x0, sde.drift(t0, x0, args), _kept(diffusion_of(sde, t0, x0, args))


@functools.partial(Stepper, _init_heun, symmetric=True, calls_end=True)
def reversible_heun(
    sde: Any, t0: Scalar, t1: Scalar, x: State, args: Any, dw: State, memory: PyTree
) -> tuple[State, PyTree]:
    r"""Reversible Heun for a Stratonovich SDE: symmetric, strong order 1/2 (1 for additive noise).

    $$\hat X_{n+1} = 2 X_n - \hat X_n + h f_n + g_n \,dW, \qquad
    X_{n+1} = X_n + \tfrac h2 (f_n + f_{n+1}) + \tfrac12 (g_n + g_{n+1}) \,dW$$

    with f_n and g_n at $(t_n, \hat X_n)$ and $\hat X_0 = X_0$: one call of each field a step. Run
    backward it is itself, so that `Reversible` can solve it backward. It is a `Stepper`, with
    $\hat X$ and the two fields there as its memory.

    Stability: on $dX = -\theta X\,dt$ the pair has the eigenvalues $e^{-a}$ and $-e^a$ with
    $a = \mathrm{arsinh}(h\theta)$. The second, parasitic, grows by $e^{\theta (t_n - t_0)}$ over
    the whole solve, whatever the step: where the drift contracts by more than the digits that the
    solution is to keep, it takes them. On a rotation, where theta is imaginary, both stay on the
    unit circle up to $h |\theta| = 1$. Strongly contracting drifts want `stochastic_heun` and
    another adjoint.

    Args:
        sde: drift f and diffusion g, read in Stratonovich's sense.
        t0: start of the step, a scalar.
        t1: end of the step, a scalar; before t0 to go backward, with -dw.
        x: state at t0, a floating array or a pytree of them.
        args: passed on to both fields.
        dw: Brownian increment over the step, with the structure and shapes of the noise.
        memory: what the step before returned, or what `reversible_heun.init` gives.

    Returns:
        State at t1, like x, and the memory for the next step.

    Raises:
        TypeError: if `sde` is not an SDE.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> sde, ts = fj.SDE(lambda t, x, args: 0 * x, lambda t, x, args: x), fj.uniform_grid(1)
        >>> dw, step = jnp.array([0.5]), fj.reversible_heun
        >>> float(fj.solve(sde, 1.0, ts, increments=dw, step=step))  # as `stochastic_heun` begins
        1.625

    References:
        Kidger, Foster, Li, Lyons (2021), "Efficient and Accurate Gradients for Neural SDEs",
        arXiv 2105.13493, algorithm 1.
    """
    h, (y, f0, g0) = t1 - t0, memory
    by_noise0 = product(diffusion_of(sde, t0, y, args) if g0 is None else g0, dw, x)
    y = weighted(x, (2, x), (-1, y), (h, f0), (1, by_noise0))
    f1, g1 = sde.drift(t1, y, args), diffusion_of(sde, t1, y, args)
    x = plus(x, (h / 2, f0), (h / 2, f1), (0.5, by_noise0), (0.5, product(g1, dw, x)))
    return x, (y, f1, _kept(g1))


def _kept(g: Any) -> Any:
    """A diffusion to remember; of an operator, which may be no arrays, it is computed again."""
    return None if is_operator(g) else g


def refuse_mixing(sde: SDE, t: Scalar, x: State, args: Any, who: str) -> None:
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
                f"{who}{_DIAGONAL}. For noise that mixes them take euler_maruyama, or "
                f"stochastic_heun for a Stratonovich SDE."
            )
