"""Fine-tuning on a reward that need have no gradient: the policy gradient of stored paths."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from flowjax import _check
from flowjax._numerics import clip as clipped
from flowjax._numerics import quotient, widest
from flowjax.densities.along import KL, Law
from flowjax.densities.door import gaussian_step, path_and_times, refuse_other_noise
from flowjax.densities.paths import along_path, transition_log_probs
from flowjax.rewards.stored import fixed

# The logarithm of a ratio that counts as the largest.
_LARGEST = 60.0


def policy_gradient(
    sde: Any,
    path: Any,
    log_probs: Any,
    advantage: Any,
    ts: Any,
    args: Any = None,
    *,
    clip: ArrayLike = 0.2,
    base: Any = None,
    kl: ArrayLike = 0.0,
    step: Any = None,
) -> Array:
    r"""The loss of one stored path, whose steps are made more or less likely by its advantage.

    $$-\sum_{k<n} \min\big(\rho_k A,\; \mathrm{clip}(\rho_k, 1 - \epsilon, 1 + \epsilon)\,A\big)
    + \beta \sum_{k<n} KL_k, \qquad \rho_k = \frac{p(X_{k+1} \mid X_k)}{p_{old}(X_{k+1} \mid X_k)}$$

    $$KL_k = \mathrm{KL}\big(p(\cdot \mid X_k) \,\|\, p_{base}(\cdot \mid X_k)\big)
    = \frac{|m_k - m^{base}_k|^2}{2 s_k^2}$$

    with the mean m and the standard deviation s of each step. All are sums over steps and elements,
    as the logarithm of a density is. The path and the advantage are constants: the reward is not
    differentiated. On paths of the model itself, whose ratios are 1, and without kl, the mean of
    its gradient is minus that of E[A], if A is the reward, less anything that does not depend on
    the path; see `group_advantages`.

    The gradient of KL_k is that at the states of the path. How KL changes with the law of those
    states is not in it: for all of it, as in E[r] - beta KL, whose optimum on paths of memoryless
    noise is $p(x)\,e^{r / \beta}$, take the advantage of
    ``r - beta * path_log_ratio(path, sde, base, ts)`` and leave kl at 0.

    A ratio is told from two log densities, each rounded: their size is that of the state, so for an
    image of 200,000 numbers in float32 it is off by some percent. Let clip be well above that.

    Args:
        sde: what is trained: an SDE, such as `fj.with_noise` makes, or, with a step that draws its
            own noise from one, a velocity.
        path: the states at ts, as of `fj.trajectory`: leaves of shape (n + 1, *leaf.shape).
        log_probs: (n,) those of each step under the model that made the path, as
            `fj.transition_log_probs` gives.
        advantage: A, a scalar.
        ts: (n + 1,) times, increasing. A last step without noise, which has no density, is left
            out: hand over ``ts[:-1]`` and all but the last state.
        args: passed on to the model, such as a prompt or a label.
        clip: epsilon, above 0. Infinity for none.
        base: what to remain near, of the same noise, which is kept fixed.
        kl: beta, what the divergence from the base is multiplied with, from 0 on.
        step: a step whose noise is Gaussian, as the path was made by. Default: `euler_maruyama`.

    Returns:
        The loss, a scalar of at least 32 bits. For a batch, `jax.vmap` and the mean. It is NaN
        where the noise of the base is another one.

    Raises:
        TypeError: sde or base is none, path or log_probs is not floating, or a number is none.
        ValueError: path, log_probs, advantage and ts do not fit each other, clip is not above 0, kl
            is below 0 or given without a base, or the step is not Gaussian.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> ts, keys = fj.uniform_grid(10), jax.random.split(jax.random.key(0), 1000)
        >>> def process(drift):
        ...     return fj.SDE(lambda t, x, args: drift, lambda t, x, args: jnp.array(1.0))
        >>> zero = jnp.array(0.0)
        >>> draw = lambda key: fj.trajectory(process(zero), zero, ts, key=key)
        >>> paths = jax.jit(jax.vmap(draw))(keys)
        >>> log_prob = lambda path: fj.transition_log_probs(path, process(zero), ts)
        >>> log_probs = jax.jit(jax.vmap(log_prob))(paths)
        >>> def loss(drift, *stored):
        ...     return fj.rewards.policy_gradient(process(drift), *stored, ts)
        >>> rewards = jnp.where(paths[:, -1] > 0, 1.0, 0.0)  # no gradient; P has slope 0.4
        >>> advantages = fj.rewards.group_advantages(rewards, scaled=False)
        >>> each = jax.jit(jax.vmap(jax.grad(loss), (None, 0, 0, 0)))
        >>> print(f"{-each(zero, paths, log_probs, advantages).mean():.1f}")
        0.4

    References:
        Black, Janner, Du, Kostrikov, Levine, "Training diffusion models with reinforcement
        learning", 2023, arXiv 2305.13301, section 4.3 (DDPO); Liu et al., "Flow-GRPO: training flow
        matching models via online RL", 2025, arXiv 2505.05470, equations 4 and 10; Schulman et al.,
        "Proximal policy optimization algorithms", 2017, arXiv 1707.06347, equation 7.
    """
    clip, kl = _check.number(clip, "clip"), _check.number(kl, "kl")
    _check.require(lambda clip: clip > 0, clip, message="clip must be above 0")
    _check.require(lambda kl: kl >= 0, kl, message="kl must be at least 0")
    step = gaussian_step(sde, step)
    if base is not None:
        step = gaussian_step(base, step, "base")
    elif isinstance(kl, Tracer) or np.asarray(kl) > 0:
        raise ValueError(
            f"base must be given, what kl = {kl} is the weight of the divergence from."
        )
    path, ts = path_and_times(path, ts, [sde] if base is None else [sde, base], step)
    if base is not None:
        refuse_other_noise(path, [sde, base], ts, args, step)
    n, dtype = ts.shape[0] - 1, widest(path)
    log_probs, advantage = (
        _check.real(log_probs, "log_probs"),
        _check.number(advantage, "advantage"),
    )
    if log_probs.shape != (n,):
        raise ValueError(
            f"log_probs must have one number for each of the {n} steps of ts, got shape "
            f"{log_probs.shape}."
        )
    path, log_probs, advantage = fixed(
        (path, log_probs.astype(dtype), jnp.asarray(advantage, dtype))
    )
    # Beyond any clip, a ratio that is infinite would make of a gradient of zero one that is NaN.
    difference = transition_log_probs(path, sde, ts, args, step=step) - log_probs
    ratios = jnp.exp(jnp.minimum(difference, _LARGEST))
    within = clipped(ratios, (1 - jnp.asarray(clip, dtype)), (1 + jnp.asarray(clip, dtype)))
    loss = -jnp.sum(jnp.minimum(ratios * advantage, within * advantage))
    if base is None:
        return loss
    x0 = jax.tree.map(lambda leaf: leaf[0], path)
    total = along_path(path, ts, KL(Law(sde, step, args, x0), fixed(Law(base, step, args, x0))))
    return loss + jnp.asarray(kl, dtype) * total


def group_advantages(rewards: Any, *, scaled: bool = True) -> Array:
    r"""How much better each of a group is than the others: those of one prompt, on the last axis.

    $$A_i = \frac{r_i - \bar r}{s}, \qquad \bar r = \frac1G \sum_j r_j, \quad
    s^2 = \frac1G \sum_j (r_j - \bar r)^2$$

    or, not scaled, $A_i = r_i - \frac{1}{G - 1} \sum_{j \ne i} r_j$. That is without bias: the mean
    gradient of `policy_gradient` is the one of the mean reward. What is scaled has a size that does
    not depend on the reward's, and follows another objective, in which prompts whose rewards differ
    little count as much as others.

    Args:
        rewards: (..., G) the rewards of G samples, at least two.
        scaled: whether to divide by the standard deviation; where that is 0, so are the advantages.

    Returns:
        The advantages, like rewards.

    Raises:
        TypeError: rewards are not real numbers.
        ValueError: there are fewer than two in a group.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> rewards = jnp.array([[1.0, 3.0], [5.0, 5.0]])  # of two prompts
        >>> fj.rewards.group_advantages(rewards).tolist()
        [[-1.0, 1.0], [0.0, 0.0]]
        >>> fj.rewards.group_advantages(rewards, scaled=False).tolist()
        [[-2.0, 2.0], [0.0, 0.0]]

    References:
        Shao et al., "DeepSeekMath: pushing the limits of mathematical reasoning in open language
        models", 2024, arXiv 2402.03300, section 4.1; Liu et al., "Flow-GRPO: training flow matching
        models via online RL", 2025, arXiv 2505.05470, equation 3; Kool, van Hoof, Welling, "Buy 4
        REINFORCE samples, get a baseline for free!", 2019 (not scaled).
    """
    rewards = _check.real(rewards, "rewards")
    if rewards.ndim == 0 or rewards.shape[-1] < 2:
        raise ValueError(
            f"rewards must have the group, of two or more, on the last axis, got shape "
            f"{rewards.shape}."
        )
    # Of equal rewards the differences are zero, where those to a mean that is rounded are not.
    above = rewards - rewards[..., :1]
    above = above - jnp.mean(above, axis=-1, keepdims=True)
    if not scaled:
        size = rewards.shape[-1]
        return above * (size / (size - 1))
    return quotient(above, jnp.std(rewards, axis=-1, keepdims=True))
