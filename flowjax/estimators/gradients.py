"""Gradients of expectations, through the paths or through their density."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Sharding

from flowjax import _check
from flowjax._numerics import wide, widest
from flowjax._types import State
from flowjax.densities.along import Law, LogProb
from flowjax.densities.door import gaussian_step
from flowjax.estimators.moments import Averages, Estimate, beside, check_num
from flowjax.sampling.chunks import drawn
from flowjax.solver.adjoints import Checkpointed
from flowjax.solver.views import fold, solve


def pathwise_gradient(
    f: Callable[[Any], Any],
    key: Any,
    field_or_sde: Any,
    init: Callable[..., Any],
    ts: Any,
    num: int,
    *,
    args: Any,
    step: Any = None,
    adjoint: Any = Checkpointed(),
    batch_size: int | None = None,
    sharding: Sharding | None = None,
    progress: bool = False,
) -> Estimate:
    r"""The gradient of an expectation in args, through the paths, and its standard errors.

    $$\nabla_\theta\, E f(X_{t_n}) = E\, \nabla_\theta f(X_{t_n}(\theta, W))$$

    the mean over samples of the gradient through the solve: `jax.grad` of the mean of
    `expectation`, which this is to rounding, has no standard error. Exact for the solver on its
    grid where f is continuous and almost everywhere differentiable. Of a step function it is zero
    and wrong: take `log_density_gradient`. One gradient for each sample of a chunk is held.

    Args:
        f: ``f(x1) -> scalar``.
        key: as in `sample`; the samples are those of `sample`.
        field_or_sde: as in `sample`.
        init: as in `sample`; of ``init(key, args)`` the dependence on args is part of the gradient.
        ts: as in `sample`.
        num: how many samples, a static int of at least 2.
        args: what the gradient is in, all its real floating arrays, and what is passed on to the
            field. For the parameters of a network, pass the network.
        step: as in `sample`.
        adjoint: as in `sample`.
        batch_size: as in `sample`.
        sharding: as in `sample`.
        progress: as in `sample`.

    Returns:
        An `Estimate`, of which mean and standard_error are like args, with None for what is no
        real floating array.

    Raises:
        TypeError: f is not a function of x1, or does not return a real floating scalar; args holds
            no real floating array; and as `sample`.
        ValueError: num is below 2; and as `sample`.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> brownian = fj.SDE(lambda t, x, args: 0 * x + args, lambda t, x, args: 1.0)
        >>> start, ts, square = lambda key: jnp.array(0.0), fj.uniform_grid(4), lambda x: x**2
        >>> gradient = fj.estimators.pathwise_gradient(
        ...     square, jax.random.key(0), brownian, start, ts, 1000, args=2.0
        ... )
        >>> bool(abs(gradient.mean - 4) < 5 * gradient.standard_error)  # of E = args^2 + 1
        True

    References:
        Glasserman (2003), "Monte Carlo Methods in Financial Engineering", section 7.2.
    """
    _check.function(f, "f", "(x1) -> scalar", takes=1)
    options = (args, None, step, adjoint, batch_size, sharding, progress)
    return _estimate(_Pathwise(f), key, field_or_sde, init, ts, num, *options)


def log_density_gradient(
    f: Callable[[Any], Any],
    key: Any,
    sde: Any,
    init: Callable[..., Any],
    ts: Any,
    num: int,
    *,
    args: Any,
    step: Any = None,
    adjoint: Any = Checkpointed(),
    batch_size: int | None = None,
    sharding: Sharding | None = None,
    progress: bool = False,
) -> Estimate:
    r"""The gradient of an expectation in args, by the density of paths, with its standard errors.

    $$\nabla_\theta\, E f(X_{t_n}) = E\Big[\big(f(X_{t_n}) - b\big)
    \sum_k \nabla_\theta \log p_\theta(X_{t_{k+1}} \mid X_{t_k})\Big]$$

    known as the score function, likelihood ratio or REINFORCE estimator. f is not differentiated:
    it may have jumps, or come from a simulator. Its variance is larger than that of
    `pathwise_gradient` where both apply, and grows in the number of steps for parameters of the
    diffusion, without bound. The baseline b, one for each element of the gradient, is the one of
    least variance, fitted on the same samples, which costs a bias of order 1 / num, far below the
    standard error. No path is stored.

    Args:
        f: ``f(x1) -> scalar``.
        key: as in `pathwise_gradient`.
        sde: the SDE, or a `Velocity` with a step that draws noise, which must not vanish.
        init: as in `sample`. Where X_0 depends on args, by ``init(key, args)``, the density of the
            first step is differentiated through it.
        ts: as in `sample`, with no time twice.
        num: how many samples, a static int of at least 3.
        args: as in `pathwise_gradient`.
        step: one that is Gaussian given the state, as in `path_log_prob`. Default:
            `euler_maruyama`.
        adjoint: as in `sample`.
        batch_size: as in `sample`.
        sharding: as in `sample`.
        progress: as in `sample`.

    Returns:
        An `Estimate`, as of `pathwise_gradient`. It is NaN where a step has no noise.

    Raises:
        TypeError: f is not a function of x1, or does not return a real floating scalar; args holds
            no real floating array; and as `path_log_prob` for sde and step, and `sample`.
        ValueError: num is below 3; and as `path_log_prob` for the step, and `sample`.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> brownian = fj.SDE(lambda t, x, args: 0 * x + args, lambda t, x, args: 1.0)
        >>> start, ts = lambda key: jnp.array(0.0), fj.uniform_grid(4)
        >>> positive = lambda x: (x > 0).astype(float)
        >>> gradient = fj.estimators.log_density_gradient(
        ...     positive, jax.random.key(0), brownian, start, ts, 1000, args=0.0
        ... )
        >>> bool(abs(gradient.mean - 0.399) < 5 * gradient.standard_error)  # the density at zero
        True

    References:
        Glasserman (2003), "Monte Carlo Methods in Financial Engineering", section 7.3.
        Williams (1992), "Simple statistical gradient-following algorithms for connectionist
        reinforcement learning", Machine Learning 8; Greensmith, Bartlett, Baxter (2004), "Variance
        reduction techniques for gradient estimates in reinforcement learning", section 4.3.
    """
    _check.function(f, "f", "(x1) -> scalar", takes=1)
    step = gaussian_step(sde, step)
    options = (args, None, step, adjoint, batch_size, sharding, progress)
    return _estimate(_ByDensity(f), key, sde, init, ts, num, *options)


class _Pathwise(eqx.Module):
    """Of one sample: the gradient, which has no control."""

    f: Callable[[Any], Any]
    controls = 0

    def __call__(
        self, field_or_sde: Any, start: Callable[..., Any], ts: Any, args: Any, **how: Any
    ) -> tuple[State, State]:
        floating, rest = eqx.partition(args, eqx.is_inexact_array)

        def value(floating: Any) -> Any:
            own = eqx.combine(floating, rest)
            return _scalar(self.f, solve(field_or_sde, start(own), ts, own, **how))

        gradient = wide(jax.grad(value)(floating))
        return gradient, beside(gradient, ())


class _ByDensity(eqx.Module):
    """Of one sample: f times the score of its path, and the score, whose mean is zero."""

    f: Callable[[Any], Any]
    controls = 1

    def __call__(
        self, sde: Any, start: Callable[..., Any], ts: Any, args: Any, **how: Any
    ) -> tuple[State, State]:
        floating, rest = eqx.partition(args, eqx.is_inexact_array)
        x0 = start(args)

        def log_prob(floating: Any) -> tuple[Array, Any]:
            own = eqx.combine(floating, rest)
            law = Law(sde, how["step"], own, x0)
            along = _FromStart(LogProb(law), wide(start(own)))
            before = (jnp.zeros((), widest(x0)), jnp.array(False))
            x1, (value, _) = fold(sde, x0, ts, args, init=before, update=along, **how)
            return value, x1

        score, x1 = jax.grad(log_prob, has_aux=True)(floating)
        score = wide(score)
        value = _scalar(self.f, x1)
        times_value = jax.tree.map(lambda leaf: value.astype(leaf.dtype) * leaf, score)
        return times_value, jax.tree.map(lambda leaf: leaf[None], score)


class _FromStart(eqx.Module):
    """The log density of a path, whose states are given, but for the start of the first step."""

    log_prob: LogProb
    x0: State

    def __call__(self, value: Any, t0: Any, t1: Any, x0: State, x1: State, dw: Any) -> Any:
        total, begun = value
        x0 = jax.tree.map(lambda x, start: jnp.where(begun, x, start), x0, self.x0)
        return self.log_prob(total, t0, t1, x0, x1, dw), jnp.array(True)


def _scalar(f: Callable[[Any], Any], x1: Any) -> Array:
    return jnp.asarray(_check.returned_scalar(f(x1), "f"))


def _estimate(
    gradient: _Pathwise | _ByDensity,
    key: Any,
    field_or_sde: Any,
    init: Any,
    ts: Any,
    num: int,
    args: Any,
    *options: Any,
) -> Estimate:
    num = _check.positive_int(num, "num")
    check_num(num, controls=gradient.controls)
    kinds = [getattr(leaf, "dtype", type(leaf)) for leaf in jax.tree.leaves(args)]
    kinds = [kind for kind in kinds if jnp.issubdtype(kind, jnp.inexact)]
    if not kinds or any(jnp.issubdtype(kind, jnp.complexfloating) for kind in kinds):
        raise TypeError(
            f"args must hold a real floating array, in which the gradient is, got {args!r}."
        )
    what = (gradient, key, field_or_sde, init, ts, num, args, *options)
    mean, error = drawn(*what, reduction=Averages(None, num))
    return Estimate(mean, error, num)
