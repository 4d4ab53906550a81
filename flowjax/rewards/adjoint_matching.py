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
from flowjax._numerics import quotient, weighted, wide, widest
from flowjax._types import Scalar, State
from flowjax.densities.along import Law
from flowjax.densities.door import gaussian_step
from flowjax.densities.gaussians import Diagonal
from flowjax.densities.transitions import Transition
from flowjax.fields.velocity import Velocity, same_schedule
from flowjax.fields.with_noise import memoryless, with_noise
from flowjax.rewards.stored import along, as_state, fixed
from flowjax.solver.door import as_velocity, refuse_coupled
from flowjax.solver.sde import SDE
from flowjax.solver.stepper import fact, name_of
from flowjax.solver.times import check_times
from flowjax.solver.views import trajectory


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
    step: Any = None,
) -> tuple[Array, Array]:
    r"""The loss of one path by which a velocity learns to sample $p(x)\,e^{r(x)}$, not p(x).

    $$\sum_{k<n} \frac12 \left\|\frac{m_k(X_k) - m^{\mathrm{base}}_k(X_k)}{s_k}
    - s_k\lambda_{k+1}\right\|^2, \qquad
    \lambda_n = \nabla r(X_n), \quad
    \lambda_k = \Big(\frac{\partial m^{\mathrm{base}}_k}{\partial x}(X_k)\Big)^\top \lambda_{k+1}$$

    X is a path of the velocity that is trained; m_k is its step without noise, and s_k the standard
    deviation of the noise of the step. There is no gradient through X or $\lambda$, so that one
    step at a time is differentiated. By Euler-Maruyama and memoryless noise, $g^2 = 2\kappa$ and
    $m = x + h\,(2u - (\dot\alpha/\alpha)\,x)$, it is a regression of u on
    $u^{\mathrm{base}} + \kappa\lambda$.

    It is least where $E[r(X_1)] - KL(X \,\|\, X^{\mathrm{base}})$ is greatest, among paths of the
    same noise, exactly so for any number of steps if those means are among the models'. With
    memoryless noise, and up to the error of the steps, the law of X_1 is then $p(x)\,e^{r(x)}$, and
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
        scale: s, what the reward is multiplied with: the law aimed at is $p(x)\,e^{s\,r(x)}$.
        diffusion: g, as in `with_noise`. Default: ``fj.memoryless(schedule, ts[1])``.
        step: a step whose noise is Gaussian and acts element by element: `euler_maruyama`, the
            default, or `exponential_euler`; or one that draws its own noise from a velocity,
            without diffusion: `ancestral`, which is memoryless, or `stochastic_ddim`. A step that
            draws no noise, such as the last of `ancestral`, adds nothing to the loss.

    Returns:
        ``(loss, reward)``, two scalars, of at least 32 bits the first; the second is r(X_1), which
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
    if same_schedule(v.schedule, base.schedule) is False:
        raise ValueError(f"v must have the schedule of base, {base.schedule}, got {v.schedule}.")
    _check.function(reward, "reward", "x1 -> scalar", takes=1)
    _check.single_key(key)
    scale = _check.number(scale, "scale")
    x0, ts = _check.state(x0), _check.time_grid(ts)
    if ts.shape[0] < 3:
        raise ValueError(f"ts must have at least 2 steps, got {ts.shape[0] - 1}.")
    new, old = (_noisy(one, diffusion, step, ts) for one in (v, base))
    step = gaussian_step(new, step, "v")
    check_times(ts, old, step, drawn=True)
    new, old = Law(new, step, args, x0), fixed(Law(old, step, args, x0))

    path = fixed(trajectory(fixed(new.sde), x0, ts, args, step=step, key=key))
    starts, x1 = (jax.tree.map(lambda leaf, at=at: leaf[at], path) for at in (slice(-1), -1))
    value, slope = jax.value_and_grad(lambda x1: _check.returned_scalar(reward(x1), "reward"))(x1)
    end = weighted(wide(x0), (scale, slope)), jax.tree.map(jnp.zeros_like, wide(x0))
    states = along(_pulled_back, end, ts[::-1], _reversed(starts), old, trajectory)
    targets = fixed(_reversed(jax.tree.map(lambda leaf: leaf[1:], states[1])))
    zero = jnp.zeros((), widest(x0))
    return along(_mismatch, zero, ts, (starts, targets), new), fixed(value)


def _noisy(v: Velocity, diffusion: Any, step: Any, ts: Array) -> Any:
    """What the step takes: a velocity, or the SDE of it."""
    if fact(step, "reads") != "velocity":
        return with_noise(
            v, memoryless(v.schedule, _second(ts)) if diffusion is None else diffusion
        )
    if diffusion is not None:
        raise ValueError(f"diffusion must be left out: step {name_of(step)} draws its own noise.")
    return v


def _pulled_back(_: SDE, t1: Scalar, t0: Scalar, state: State, base: Law, x: State) -> State:
    """The adjoint at the start of a step, and the mean of the step that its end asks for."""
    adjoint = state[0]

    def mean(x: State) -> tuple[State, State]:
        return _mean_and_deviation(base(t0, t1, x))

    m, pull, s = jax.vjp(mean, as_state(x, base.like), has_aux=True)
    target = jax.tree.map(lambda m, s, adjoint: m + s**2 * adjoint, m, s, adjoint)
    return pull(adjoint)[0], target


def _mismatch(_: SDE, t0: Scalar, t1: Scalar, loss: Array, new: Law, given: State) -> Array:
    """The loss and what one step adds to it."""
    x, target = given
    m, s = _mean_and_deviation(new(t0, t1, as_state(x, new.like)))
    off = jax.tree.map(
        lambda m, target, s: quotient(m - target.astype(m.dtype), s),
        *(m, target, s),
    )
    return loss + sum(jnp.sum(leaf**2).astype(loss.dtype) / 2 for leaf in jax.tree.leaves(off))


def _mean_and_deviation(law: Transition) -> tuple[State, State]:
    # Element by element, as the noise of a velocity is.
    assert isinstance(law.noise, Diagonal)
    return law.mean, law.noise.deviations


def _reversed(tree: State) -> State:
    return jax.tree.map(lambda leaf: leaf[::-1], tree)


def _second(ts: Array) -> Any:
    """The second time of a grid, as a number where it has a value."""
    return ts[1] if isinstance(ts, Tracer) else np.asarray(ts)[1]
