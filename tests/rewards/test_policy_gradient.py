"""The policy gradient: formulas in NumPy, and its mean beside the pathwise gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from tests.solver.random_checks import STANDARD_ERRORS, assert_mean, key_of

pytestmark = pytest.mark.usefixtures("x64")

N, SIZE = 6, 3
GRID = np.linspace(0, 1, N + 1)
PUSH, PULL, NOISE = 0.4, 0.7, np.array([0.5, 0.8, 1.1])


def linear(theta):
    """dX = (theta_0 - theta_1 X) dt + NOISE dW, of three elements."""
    return fj.SDE(lambda t, x, args: theta[0] - theta[1] * x, lambda t, x, args: jnp.array(NOISE))


def log_probs_of(path, theta, noise=NOISE):
    """In NumPy: of each transition, a sum over elements."""
    h = np.diff(GRID)[:, None]
    off = path[1:] - path[:-1] - h * (theta[0] - theta[1] * path[:-1])
    variance = noise**2 * h
    return np.sum(-(off**2) / (2 * variance) - np.log(2 * np.pi * variance) / 2, axis=1)


def stored():
    """A path and its log-probabilities, in NumPy."""
    rng, path = np.random.default_rng(), [np.ones(SIZE)]
    for h in np.diff(GRID):
        dw = rng.normal(size=SIZE) * np.sqrt(h)
        path.append(path[-1] + h * (PUSH - PULL * path[-1]) + NOISE * dw)
    path = np.stack(path)
    return path, log_probs_of(path, (PUSH, PULL))


def loss(theta, path, before, advantage, base=(0.0, 0.0), kl=0.0, clip=0.2):
    how = {"clip": clip, "base": linear(base), "kl": kl}
    return fj.rewards.policy_gradient(linear(theta), path, before, advantage, GRID, **how)


value_and_slope = jax.jit(jax.value_and_grad(loss))
each_slope = jax.jit(jax.vmap(jax.grad(loss), (None, 0, 0, 0, None, None)))


# --- the formula ----------------------------------------------------------------------------------


def in_numpy(theta, path, before, advantage, base, beta, clip):
    ratios = np.exp(log_probs_of(path, theta) - before)
    shift = (theta[0] - base[0]) - (theta[1] - base[1]) * path[:-1]
    kl = np.sum(np.diff(GRID)[:, None] * shift**2 / (2 * NOISE**2))
    least = np.minimum(ratios * advantage, np.clip(ratios, 1 - clip, 1 + clip) * advantage)
    return -np.sum(least) + beta * kl, ratios


@pytest.mark.parametrize("advantage", [1.3, -0.8])
def test_the_loss_and_its_gradient_are_those_of_numpy_on_both_sides_of_the_clip(advantage):
    theta, clip = np.array([0.9, 0.2]), 0.05
    for _ in range(100):
        path, before = stored()
        problem = path, before, advantage, np.array([0.1, 0.5]), 0.3
        want, ratios = in_numpy(theta, *problem, clip)
        if np.min(ratios) < 1 - clip < 1 + clip < np.max(ratios):
            break
    got, slope = value_and_slope(theta, *problem, clip)
    assert float(got) == pytest.approx(want, rel=1e-10)
    steps = 1e-6 * np.eye(2)
    ends = [[in_numpy(theta + sign * e, *problem, clip)[0] for sign in (1, -1)] for e in steps]
    np.testing.assert_allclose(slope, -np.diff(ends)[:, 0] / 2e-6, rtol=1e-5)


def test_without_a_base_it_compiles_and_is_that_of_numpy():
    path, before = stored()

    @jax.jit
    def alone(theta):
        return fj.rewards.policy_gradient(linear(theta), path, before, 0.7, GRID)

    theta = (PUSH + 0.1, PULL)
    expected, _ = in_numpy(theta, path, before, 0.7, (0.0, 0.0), 0.0, 0.2)
    np.testing.assert_allclose(alone(jnp.array(theta)), expected, rtol=1e-10)


def test_two_leaves_by_a_sampler_that_draws_its_own_noise_are_their_elements_side_by_side():
    def model(t, x, label):
        return jax.tree.map(lambda leaf: label * leaf, x)

    v, ts, label = fj.velocity(model, fj.CondOT(), "data"), np.array([0.1, 0.4, 0.9]), 0.3
    base = v.with_model(lambda t, x, label: jax.tree.map(jnp.zeros_like, x))
    flat = jax.random.normal(key_of("leaves"), (3, 4))
    how = {"step": fj.ancestral, "base": base, "kl": 0.5, "clip": np.inf}
    losses = []
    for path in (flat, {"a": flat[:, :1], "b": flat[:, 1:].reshape(3, 3)}):
        before = fj.transition_log_probs(path, v, ts, 0.9 * label, step=fj.ancestral)
        losses.append(fj.rewards.policy_gradient(v, path, before, 1.0, ts, label, **how))
    assert float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-12)


# --- its mean -------------------------------------------------------------------------------------

TARGET = np.array([0.2, 1.0, -0.5])


def reward(x):
    return -jnp.sum((x - TARGET) ** 2)


def exact_gradient(theta, of_kl=0.0, base=(0.1, 0.5)):
    """Of E r(X_1) less the KL of the path, by the exact moments of the chain."""

    def objective(theta):
        mean, variance, kl = jnp.ones(SIZE), jnp.zeros(SIZE), 0.0
        for h in np.diff(GRID):
            shift, slope = theta[0] - base[0], theta[1] - base[1]
            second = (shift - slope * mean) ** 2 + slope**2 * variance
            kl += jnp.sum(h / 2 * second / NOISE**2)
            mean = mean + h * (theta[0] - theta[1] * mean)
            variance = (1 - h * theta[1]) ** 2 * variance + h * NOISE**2
        return -jnp.sum((mean - TARGET) ** 2 + variance) - of_kl * kl

    return np.asarray(jax.grad(objective)(jnp.array(theta)))


@functools.cache
def paths(count=8000):
    """Keys, paths and their transitions' log-probabilities."""
    keys = jax.random.split(key_of("paths"), count)

    @jax.jit
    @jax.vmap
    def one(key):
        sde = linear(jnp.array([PUSH, PULL]))
        states = fj.trajectory(sde, jnp.ones(SIZE), GRID, key=key)
        return states, fj.transition_log_probs(states, sde, GRID)

    return keys, *one(keys)


def each_gradient(states, before, advantages, base=(0.0, 0.0), kl=0.0):
    theta, base = jnp.array([PUSH, PULL]), jnp.array(base)
    return -np.asarray(each_slope(theta, states, before, advantages, base, kl))


@pytest.mark.nightly
def test_the_policy_gradient_has_the_mean_of_the_pathwise_gradient():
    """Two numbers, twice, at five standard errors: one false alarm in 400,000 runs."""
    keys, states, before = paths()
    rewards = jax.vmap(reward)(states[:, -1])
    advantages = fj.rewards.group_advantages(rewards.reshape(-1, 8), scaled=False).reshape(-1)
    by_policy = each_gradient(states, before, advantages)

    def through(theta, key):
        return reward(fj.solve(linear(theta), jnp.ones(SIZE), GRID, key=key))

    pathwise = jax.jit(jax.vmap(jax.grad(through), (None, 0)))(jnp.array([PUSH, PULL]), keys)
    assert_mean(by_policy, exact_gradient((PUSH, PULL)), "policy gradient")
    assert_mean(pathwise, exact_gradient((PUSH, PULL)), "pathwise gradient")
    assert_mean(by_policy - np.asarray(pathwise), 0, "the two on the same paths")


def test_in_another_program_under_the_model_that_made_the_path_every_ratio_is_one_to_the_bit():
    _, states, before = paths()
    many = jax.jit(jax.vmap(loss, (None, 0, 0, None)))
    assert np.all(np.asarray(many(jnp.array([PUSH, PULL]), states, before, 1.0)) == -N)


def test_with_the_kl_of_the_path_in_the_advantage_it_is_that_of_the_reward_less_the_kl():
    away, beta = (0.1, 1.7), 1.5
    _, states, before = paths()

    def kl(path):
        shift = (PUSH - away[0]) - (PULL - away[1]) * path[:-1]
        return jnp.sum(np.diff(GRID)[:, None] / (2 * NOISE**2) * shift**2)

    rewards = jax.vmap(reward)(states[:, -1])
    less_kl = rewards - beta * jax.vmap(kl)(states)
    for advantages, fits in ((less_kl, True), (rewards, False)):
        advantages = advantages - advantages.mean()
        each = each_gradient(states, before, advantages, away, beta)
        errors = (each.mean(0) - exact_gradient((PUSH, PULL), beta, away)) / each.std(0)
        assert (np.max(np.abs(errors)) * np.sqrt(len(each)) < STANDARD_ERRORS) == fits


@pytest.mark.parametrize("bug", ["mean over elements", "lost factor of two"])
def test_a_wrong_log_density_is_caught(bug):
    _, states, _ = paths()
    rewards = jax.vmap(reward)(states[:, -1])
    factor = 1 / SIZE if bug == "mean over elements" else 0.5

    def wrong(theta, path, advantage):
        h = np.diff(GRID)[:, None]
        off = path[1:] - path[:-1] - h * (theta[0] - theta[1] * path[:-1])
        return factor * advantage * jnp.sum(-(off**2) / (2 * NOISE**2 * h))

    each = jax.vmap(jax.grad(wrong), (None, 0, 0))(
        jnp.array([PUSH, PULL]), states, rewards - rewards.mean()
    )
    with pytest.raises(AssertionError, match="standard errors away"):
        assert_mean(each, exact_gradient((PUSH, PULL)), bug)


# --- advantages -----------------------------------------------------------------------------------


def test_advantages_are_those_of_numpy_group_by_group():
    rewards = np.random.default_rng(0).normal(size=(4, 5)) * 7
    rewards[2] = 3.0
    got = fj.rewards.group_advantages(rewards)
    deviations = rewards.std(1, keepdims=True)
    deviations[2] = 1.0
    np.testing.assert_allclose(got, (rewards - rewards.mean(1, keepdims=True)) / deviations)
    others = (rewards.sum(1, keepdims=True) - rewards) / 4
    got = fj.rewards.group_advantages(rewards, scaled=False)
    np.testing.assert_allclose(got, rewards - others, atol=1e-12)


# --- bad input ------------------------------------------------------------------------------------


def bad(**changes):
    how = {"sde": linear((PUSH, PULL)), "path": np.zeros((N + 1, SIZE)), "log_probs": np.zeros(N)}
    how["advantage"] = 1.0
    return fj.rewards.policy_gradient(**{**how, "ts": GRID, **changes})


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"clip": 0.0}, ValueError, "clip must be above 0"),
        ({"clip": "small"}, TypeError, "clip must be a real number"),
        ({"kl": -1.0, "base": linear((0, 0))}, ValueError, "kl must be at least 0"),
        ({"kl": 1.0}, ValueError, "base must be given"),
        ({"log_probs": np.zeros(N + 1)}, ValueError, "log_probs must have one number for each"),
        ({"path": np.zeros((N, SIZE))}, ValueError, "path must have the states at the 7 times"),
        ({"advantage": np.zeros(N)}, ValueError, "advantage must be one number"),
        ({"sde": lambda t, x, args: x}, TypeError, "sde must be an SDE"),
        ({"base": lambda t, x, args: x}, TypeError, "base must be an SDE"),
        ({"step": fj.milstein}, ValueError, "is not Gaussian"),
    ],
)
def test_bad_input_is_refused_by_name(changes, error, match):
    with pytest.raises(error, match=match):
        bad(**changes)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("rewards", [np.array(1.0), np.ones((3, 1))])
def test_a_group_of_one_is_refused(rewards):
    with pytest.raises(ValueError, match="rewards must have the group"):
        fj.rewards.group_advantages(rewards)
