"""Fine-tuning a velocity on a reward by a regression: adjoint matching."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from flowjax import _check
from flowjax._numerics import plus, quotient, weighted, wide, widest
from flowjax._types import Scalar, State
from flowjax.fields.velocity import Velocity, same_schedule
from flowjax.fields.with_noise import memoryless, with_noise
from flowjax.solver.compiled import is_array
from flowjax.solver.door import as_velocity, refuse_coupled
from flowjax.solver.outputs import checked
from flowjax.solver.sde import SDE
from flowjax.solver.sde_steps import euler_maruyama
from flowjax.solver.times import check_times
from flowjax.solver.views import solve, trajectory


def adjoint_matching(
    v: Velocity,
    base: Velocity,
    reward: Callable[[Any], Any],
    x0: Any,
    ts: Any,
    key: Array,
    args: Any = None,
    *,
    scale: ArrayLike = 1.0,
    diffusion: Callable[[Any], Any] | ArrayLike | None = None,
) -> tuple[Array, Array]:
    r"""The loss of one path by which a velocity learns to sample p(x) e^{r(x)} in place of p(x).

    $$\sum_{k<n} \frac{h_k}{2} \left\|\frac{b_k(X_k) - b^{\mathrm{base}}_k(X_k)}{g_k}
    - g_k\lambda_{k+1}\right\|^2, \qquad
    \lambda_n = \nabla r(X_n), \quad \lambda_k = \Big(\frac{\partial m_k}{\partial x}(X_k)\Big)^T
    \lambda_{k+1}$$

    X is a path of the SDE that `with_noise(v, g)` makes of the velocity that is trained, by
    Euler-Maruyama; b is its drift, and $m_k(x) = x + h_k b^{\mathrm{base}}_k(x)$ the base's step
    without noise. There is no gradient through X or $\lambda$, so that one step at a time is
    differentiated. With memoryless noise, $g^2 = 2\kappa$ and $b = 2u - (\dot\alpha/\alpha) x$, it
    is a regression of u on $u^{\mathrm{base}} + \kappa\lambda$.

    It is least where $E[r(X_1)] - KL(X \,\|\, X^{\mathrm{base}})$ is greatest, among paths of the
    same noise, exactly so for any number of steps if that drift is among the models. With
    memoryless noise, and up to the error of the steps, the law of X_1 is then p(x) e^{r(x)}, and
    the velocity is the one of that law: any sampler, with noise or without, may follow. With other
    noise X_1 remembers X_0, whose law is fixed, and what is reached is another law; see
    docs/rewards.md.

    Args:
        v: the velocity that is trained, such as ``base.with_model(model)`` of the model at hand.
        base: the velocity to start from and to remain near, which is kept fixed.
        reward: r, a function ``x1 -> scalar`` that has a gradient. What belongs to the sample, such
            as its label, it may close over.
        x0: where the path begins: one sample of standard normal noise, an array or a pytree.
        ts: (n + 1,) times, increasing; n is at least 2.
        key: one JAX key, which names the Brownian path.
        args: passed on to both models, such as a prompt or a label.
        scale: what the reward is multiplied with: the law aimed at is p(x) e^{scale r(x)}.
        diffusion: g, as in `with_noise`. Default: ``fj.memoryless(schedule, ts[1])``. A step whose
            g is zero adds nothing to the loss.

    Returns:
        ``(loss, reward)``: two scalars, of at least 32 bits the first; the second is r(X_1), which
        `fj.training` passes on as ``info.aux``. For a batch, `jax.vmap` and the mean.

    Raises:
        TypeError: v or base is not a `Velocity`, reward is not a function or does not return a real
            floating scalar, x0 is not floating, key is no key, or scale is no number.
        ValueError: v or base is of coupled pairs, they have different schedules, ts is not a grid
            of two steps or more, or one that a velocity or the noise does not have, or key is a
            batch of keys.

    Example:
        From N(0, 1) by the reward x to N(1, 1), the least of the N(mean, 1) by it:

        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> base, ts = fj.Gaussian(jnp.array(0.0), 1.0).velocity(fj.CondOT()), fj.uniform_grid(50)
        >>> keys = jax.random.split(jax.random.key(0), 64)
        >>> x0 = jax.random.normal(jax.random.key(1), (64,))
        >>> def loss(mean, x0, key):
        ...     v = fj.Gaussian(mean, 1.0).velocity(fj.CondOT())
        ...     return fj.rewards.adjoint_matching(v, base, lambda x1: x1, x0, ts, key)
        >>> def mean_loss(mean):
        ...     losses, rewards = jax.vmap(loss, (None, 0, 0))(mean, x0, keys)
        ...     return losses.mean()
        >>> print(*(f"{mean_loss(mean):.2f}" for mean in (0.0, 1.0, 2.0)))
        0.50 0.00 0.50

    References:
        Domingo-Enrich, Drozdzal, Karrer, Chen, "Adjoint matching: fine-tuning flow and diffusion
        generative models with memoryless stochastic optimal control", 2024, arXiv 2409.08861,
        equations 38 to 40 (their loss is twice this one's integral) and algorithm 1.
    """
    for name, one in (("v", v), ("base", base)):
        if as_velocity(one, f"adjoint_matching, for {name},").coupled:
            refuse_coupled(f"adjoint_matching, for {name},")
    if not same_schedule(v.schedule, base.schedule):
        raise ValueError(f"v must have the schedule of base, {base.schedule}, got {v.schedule}.")
    _check.function(reward, "reward", "x1 -> scalar", takes=1)
    _check.single_key(key)
    scale = _check.number(scale, "scale")
    x0, ts = _check.state(x0), _check.time_grid(ts)
    if ts.shape[0] < 3:
        raise ValueError(f"ts must have at least 2 steps, got {ts.shape[0] - 1}.")
    if diffusion is None:
        diffusion = memoryless(base.schedule, _second(ts))
    new, old = with_noise(v, diffusion), _fixed(with_noise(base, diffusion))
    check_times(ts, old, euler_maruyama, drawn=True)

    path = _fixed(trajectory(_fixed(new), x0, ts, args, key=key))
    starts, x1 = (jax.tree.map(lambda leaf, at=at: leaf[at], path) for at in (slice(-1), -1))
    value, slope = jax.value_and_grad(lambda x1: _check.returned_scalar(reward(x1), "reward"))(x1)
    start = weighted(wide(x0), (scale, slope)), jax.tree.map(jnp.zeros_like, wide(x0))
    backward = _along(_pulled_back, start, ts[::-1], _reversed(starts), (old, args, x0), trajectory)
    targets = _fixed(_reversed(jax.tree.map(lambda leaf: leaf[1:], backward[1])))
    zero = jnp.zeros((), widest(x0))
    return _along(_mismatch, zero, ts, (starts, targets), (new, args, x0), solve), _fixed(value)


def _pulled_back(_: SDE, t1: Scalar, t0: Scalar, state: State, args: Any, x: State) -> State:
    """The adjoint at the start of a step, and the drift over the step that its end asks for."""
    (adjoint, _), (base, args, like) = state, args
    b, pull = jax.vjp(lambda x: checked(base, like).drift(t0, x, args), x)
    g = base.diffusion(t0, x, args)
    return plus(adjoint, (t1 - t0, pull(adjoint)[0])), plus(b, (g**2, adjoint))


def _mismatch(_: SDE, t0: Scalar, t1: Scalar, loss: Array, args: Any, given: State) -> Array:
    """The loss and what one step adds to it."""
    (new, args, like), (x, target) = args, given
    b, g = checked(new, like).drift(t0, x, args), new.diffusion(t0, x, args)
    error = weighted(b, (1, b), (-1, target))
    squares = [
        jnp.sum(quotient(leaf, jnp.asarray(g, leaf.dtype)) ** 2).astype(loss.dtype)
        for leaf in jax.tree.leaves(error)
    ]
    return plus(loss, ((t1 - t0) / 2, sum(squares)))


def _along(step: Any, start: State, ts: Array, given: State, args: Any, run: Any) -> State:
    """`solve` or `trajectory` by a step that is given something in place of the noise."""
    shapes = jax.tree.map(lambda leaf: leaf.shape[1:], given)
    given = jax.tree.map(lambda leaf: leaf.astype(widest(start)), given)
    return run(SDE(_unused, _unused, shapes), start, ts, args, step=step, increments=given)


def _unused(t: Scalar, x: State, args: Any) -> State:
    raise NotImplementedError


def _fixed(tree: Any) -> Any:
    """The same without a gradient."""
    return jax.tree.map(
        lambda leaf: jax.lax.stop_gradient(leaf) if is_array(leaf) else leaf, tree
    )


def _reversed(tree: State) -> State:
    return jax.tree.map(lambda leaf: leaf[::-1], tree)


def _second(ts: Array) -> Any:
    """The second time of a grid, as a number where it has a value."""
    return ts[1] if isinstance(ts, Tracer) else np.asarray(ts)[1]
