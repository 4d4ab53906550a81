r"""Steps of order 1: the data and the noise that the field expects are held over the step.

With the data D held, $e = (x - \alpha D) / \sigma$ stands still under the flow and is an
Ornstein-Uhlenbeck process under an SDE with the flow's marginals. All of the steps are

$$x_1 = \alpha_1 D + \sigma_1\big(e^{-\tau} E + \sqrt{1 - e^{-2\tau}}\,\xi\big)$$

with tau = 0 (`ddim`), tau = h (`ancestral`), between them (`stochastic_ddim`), or the SDE's own tau
(`exponential_euler`).
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp

from flowjax._check import require, static_number
from flowjax._numerics import quotient, root, weighted
from flowjax._types import Scalar, State
from flowjax.fields.predictions import score_denominator
from flowjax.fields.velocity import Velocity
from flowjax.samplers._scheduled import ancestral_end, interval, noise_weight
from flowjax.solver.sde import SDE
from flowjax.solver.stepper import facts


@facts(reads="velocity", one_way=True)
def ddim(field: Velocity, t0: Scalar, t1: Scalar, x: State, args: Any, dw: None = None) -> State:
    r"""DDIM, the exponential integrator of order 1 of a flow: one field call a step.

    $$x_1 = \alpha_1 D + \sigma_1 E$$

    where D and E are the data and the noise that the field expects at (t_0, x). It is exact where
    they do not change along the path, whatever the schedule; one step from t = 0 to t = 1 gives
    the expected data. (A model of the velocity says nothing of D at t = 0 if alpha stands still
    there, as under `Polynomial(2)`.) It runs backward too, from data to noise.

    Args:
        field: a `Velocity`.
        t0: start of the step, a scalar in [0, 1].
        t1: end of the step, a scalar in [0, 1].
        x: state at t0, a floating array or a pytree of them.
        args: passed on to the model.
        dw: unused.

    Returns:
        State at t1, like x.

    Raises:
        TypeError: in `solve`, if the field is not a `Velocity`.
        ValueError: in `solve`, if times leave [0, 1] or go forth and back.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> velocity = fj.Gaussian(jnp.array([3.0, -1.0]), 0.5).velocity(fj.CondOT())
        >>> x0, ts = jnp.array([1.0, 0.0]), fj.uniform_grid(1)
        >>> fj.solve(velocity, x0, ts, step=fj.ddim).tolist()
        [3.0, -1.0]

    References:
        Song, Meng, Ermon, "Denoising diffusion implicit models", 2020, arXiv 2010.02502,
        equation 12 with sigma_t = 0.
    """
    i = interval(field.schedule, t0, t1, x)
    data, noise = field.data_and_noise(t0, x, args)
    return weighted(x, (i.a1, data), (i.s1, noise))


@facts(reads="velocity", one_way=True, gaussian=True)
def ancestral(field: Velocity, t0: Scalar, t1: Scalar, x: State, args: Any, dw: State) -> State:
    r"""Ancestral sampling, as DDPM does it: draws from the posterior of the next state.

    $$x_1 \sim q(x_{t_1} \mid x_{t_0}, D): \qquad x_1 = \alpha_1 D
    + \sigma_1\big(e^{-h} E + \sqrt{1 - e^{-2h}}\,\xi\big), \qquad
    e^{-h} = \frac{\alpha_0 \sigma_1}{\sigma_0 \alpha_1}$$

    with $\xi = dW / \sqrt{t_1 - t_0}$. In DDPM's terms, with $\bar\alpha = \alpha^2$, the standard
    deviation is the square root of its $\tilde\beta$. It is the exponential integrator of the SDE
    whose noise is memoryless. A step to sigma = 0 adds no noise, and one from alpha = 0 keeps none
    of the old.

    Args:
        field: a `Velocity`.
        t0: start of the step, a scalar in [0, 1].
        t1: end of the step, a scalar in [0, 1], not before t0.
        x: state at t0, a floating array or a pytree of them.
        args: passed on to the model.
        dw: Brownian increment over the step, like x.

    Returns:
        State at t1, like x.

    Raises:
        TypeError: in `solve`, if the field is not a `Velocity`.
        ValueError: in `solve`, if times leave [0, 1] or decrease, or the velocity is
            of coupled pairs, which have no score.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> v = fj.Gaussian(jnp.zeros(2), 0.5).velocity(fj.CondOT())
        >>> init = lambda key: jax.random.normal(key, (2,))
        >>> ts = fj.uniform_grid(50)
        >>> xs = fj.sample(jax.random.key(0), v, init, ts, 1000, step=fj.ancestral)
        >>> print(f"{xs.std():.1f}")
        0.5

    References:
        Ho, Jain, Abbeel, "Denoising diffusion probabilistic models", 2020, arXiv 2006.11239,
        equations 6 and 7 and Algorithm 2, with the variance of equation 7.
    """
    i = interval(field.schedule, t0, t1, x)
    data, noise = field.data_and_noise(t0, x, args)
    return ancestral_end(i, t0, t1, x, data, noise, dw)


def stochastic_ddim(eta: float) -> "_StochasticDDIM":
    r"""DDIM with noise: eta = 0 is `ddim` and eta = 1 is `ancestral`.

    $$x_1 = \alpha_1 D + \sqrt{\sigma_1^2 - v^2}\,E + v\,\xi, \qquad
    v = \eta\,\sigma_1 \sqrt{1 - e^{-2h}}$$

    with h as in `ancestral` and $\xi = dW / \sqrt{t_1 - t_0}$: a share eta squared of the variance
    that `ancestral` draws afresh. A step to sigma = 0 adds no noise.

    Args:
        eta: from 0 to 1, a static number.

    Returns:
        The step, for `solve` with a `Velocity` and a key.

    Raises:
        TypeError: eta is not a static number; in `solve`, the field is not a `Velocity`.
        ValueError: eta is not from 0 to 1; in `solve`, times leave [0, 1] or decrease, or the
            velocity is of coupled pairs, which have no score.

    Example:
        >>> import jax, jax.numpy as jnp, flowjax as fj
        >>> v = fj.Gaussian(jnp.zeros(2), 0.5).velocity(fj.CondOT())
        >>> init = lambda key: jax.random.normal(key, (2,))
        >>> ts, step = fj.uniform_grid(50), fj.stochastic_ddim(eta=0.5)
        >>> xs = fj.sample(jax.random.key(0), v, init, ts, 1000, step=step)
        >>> print(f"{xs.std():.1f}")
        0.5

    References:
        Song, Meng, Ermon, "Denoising diffusion implicit models", 2020, arXiv 2010.02502,
        equations 12 and 16.
    """
    eta = static_number(eta, "eta")
    require(lambda eta: 0 <= eta <= 1, eta, message="eta must be from 0 to 1")
    return _StochasticDDIM(eta)


class _StochasticDDIM(eqx.Module):
    """The step of `stochastic_ddim`."""

    __name__ = "stochastic_ddim"
    reads = "velocity"
    one_way = True
    gaussian = True
    eta: float

    def __call__(
        self, field: Velocity, t0: Scalar, t1: Scalar, x: State, args: Any, dw: State
    ) -> State:
        i = interval(field.schedule, t0, t1, x)
        data, noise = field.data_and_noise(t0, x, args)
        kept = root(1 - self.eta**2 + (self.eta * i.decay) ** 2)
        fresh = self.eta * noise_weight((1 - i.decay) * (1 + i.decay), t0, t1)
        return weighted(x, (i.a1, data), (i.s1 * kept, noise), (i.s1 * fresh, dw))


@facts(reads="with_noise", gaussian=True)
def exponential_euler(sde: SDE, t0: Scalar, t1: Scalar, x: State, args: Any, dw: State) -> State:
    r"""The exponential integrator of order 1 of an SDE with a flow's marginals.

    The SDE is $dX = [u + \tfrac{g^2}{2}\,\mathrm{score}]\,dt + g\,dW$, as `with_noise` makes it.
    With the data D held over the step, its noise part is an Ornstein-Uhlenbeck process in the time
    tau, and solved exactly, with $\xi = dW / \sqrt{t_1 - t_0}$:

    $$x_1 = \alpha_1 D + \sigma_1\big(e^{-\tau} E + \sqrt{1 - e^{-2\tau}}\,\xi\big), \qquad
    \tau = \int_{t_0}^{t_1} \frac{g^2}{2\sigma^2}\,dt$$

    Unlike Euler-Maruyama it is stable for any g, and ends at the data where sigma = 0. Of the
    integral, the ratio of $g^2$ to the memoryless $g_m^2 = 2(\sigma^2\dot\alpha/\alpha -
    \sigma\dot\sigma)$ is held at its value at t_0:

    $$\tau = \frac{g^2}{g_m^2}\,h, \qquad \frac{g_m^2}{2\sigma^2} = \dot\lambda, \quad
    \lambda = \log\frac\alpha\sigma, \quad h = \lambda_1 - \lambda_0$$

    which is exact for the memoryless g, where tau = h and the step is that of `ancestral`; and for
    g = 0, where it is that of `ddim`. From alpha = 0, where h is infinite, it is
    $\tau = g^2 (t_1 - t_0) / 2\sigma^2$ at t_0.

    Args:
        sde: an SDE made by `with_noise`. Its diffusion is one scalar.
        t0: start of the step, a scalar in [0, 1].
        t1: end of the step, a scalar, not before t0.
        x: state at t0, a floating array or a pytree of them.
        args: passed on to the model.
        dw: Brownian increment over the step, like x.

    Returns:
        State at t1, like x.

    Raises:
        TypeError: in `solve`, if the SDE is not made by `with_noise`.
        ValueError: in `solve`, if times leave [0, 1] or decrease.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> sde = fj.with_noise(
        ...     fj.Gaussian(jnp.zeros(2), 0.5).velocity(fj.CondOT()), lambda t: 1 - t
        ... )
        >>> init = lambda key: jax.random.normal(key, (2,))
        >>> ts, step = fj.uniform_grid(100), fj.exponential_euler
        >>> xs = fj.sample(jax.random.key(0), sde, init, ts, 1000, step=step)
        >>> print(f"{xs.std():.1f}")
        0.5

    References:
        Lu, Zhou, Bao, Chen, Li, Zhu, "DPM-Solver++: fast solver for guided sampling of diffusion
        probabilistic models", 2022, arXiv 2211.01095: SDE-DPM-Solver++(1), for the memoryless g.
        Domingo-Enrich, Drozdzal, Karrer, Chen, "Adjoint matching: fine-tuning flow and diffusion
        generative models with memoryless stochastic optimal control", 2024, arXiv 2409.08861,
        section 4, for the memoryless SDE.
    """
    drift: Any = sde.drift
    v: Velocity = drift.velocity
    i = interval(v.schedule, t0, t1, x)
    data, noise = v.data_and_noise(t0, x, args)
    half_g2 = jnp.asarray(sde.diffusion(t0, x, args), i.a0.dtype) ** 2 / 2
    by_memoryless = i.a0 * quotient(half_g2, score_denominator(i.start)) * i.h
    plain = quotient(half_g2 * jnp.asarray(t1 - t0, half_g2.dtype), i.start.variance)
    tau = jnp.where(i.a0 > 0, by_memoryless, plain)
    fresh = noise_weight(-jnp.expm1(-2 * tau), t0, t1)
    return weighted(x, (i.a1, data), (i.s1 * jnp.exp(-tau), noise), (i.s1 * fresh, dw))
