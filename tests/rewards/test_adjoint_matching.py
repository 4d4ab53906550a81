"""Adjoint matching: the explicit chain of vjps, the exact discrete optimum, and the tilted laws."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import flowjax as fj
from tests.solver.random_checks import STANDARD_ERRORS, key_of, keys_of

SCHEDULES = (fj.CondOT(), fj.Trigonometric(), fj.VariancePreserving(), fj.SquareRoot())


# --- the gradient is that of the explicit chain ---------------------------------------------------

TIMES = np.array([0.02, 0.1, 0.3, 0.35, 0.6, 0.8, 0.95])


def network(weights, t, x, args):
    """Two leaves of a state that act on each other, by a label."""
    a, b = x["a"], x["b"]
    mixed = jnp.tanh(weights["a"] @ a + weights["t"] * t + args) + weights["b"] * b.sum()
    return {"a": mixed, "b": jnp.sin(weights["b"] * b) + mixed[0] * b}


def weights_of(key):
    keys = jax.random.split(key, 3)
    draw = jax.random.normal
    return {"a": draw(keys[0], (3, 3)) / 3, "b": draw(keys[1]) / 3, "t": draw(keys[2], (3,))}


def reward(x):
    return jnp.sum(jnp.cos(x["a"])) * jnp.sum(x["b"] ** 2)


def of_weights(weights, schedule, predicts):
    return fj.velocity(lambda t, x, args: network(weights, t, x, args), schedule, predicts)


def explicit(weights, fixed, schedule, predicts, x0, key, label, scale, g, adjoint_of="the end"):
    """The same loss in a loop of Python: formulas of MATH, one vjp a step, all states kept."""
    rates = jax.jvp(schedule, (TIMES,), (np.ones(len(TIMES)),))
    (alphas, sigmas), (alpha_rates, sigma_rates) = rates
    flat, unflat = ravel_pytree(x0)

    def u(weights, t, x):
        out = network(weights, t, unflat(x), label)
        return ravel_pytree(
            fj.convert(out, t, unflat(x), schedule, source=predicts, target="velocity")
        )[0]

    def factor(k):
        determinant = alpha_rates[k] * sigmas[k] - alphas[k] * sigma_rates[k]
        return g(TIMES[k]) ** 2 * alphas[k] / (2 * sigmas[k] * determinant)

    def drift(weights, k, x):
        # u + g^2 / 2 score, with score = (alpha u - alpha' x) / (sigma determinant).
        velocity = u(weights, TIMES[k], x)
        return velocity + factor(k) * (velocity - alpha_rates[k] / alphas[k] * x)

    noise = fj.brownian_increments(key, TIMES, x0)
    h, path = np.diff(TIMES), [flat]
    for k in range(len(h)):
        dw = ravel_pytree(jax.tree.map(lambda leaf, k=k: leaf[k], noise))[0]
        path.append(path[k] + h[k] * drift(weights, k, path[k]) + g(TIMES[k]) * dw)
    path = jax.lax.stop_gradient(path)
    adjoint = scale * jax.grad(lambda x: reward(unflat(x)))(path[-1])
    loss = 0.0
    for k in reversed(range(len(h))):
        pull = jax.vjp(lambda x, k=k: x + h[k] * drift(fixed, k, x), path[k])[1]
        before = pull(adjoint)[0]
        used = adjoint if adjoint_of == "the end" else before
        c = 1 + factor(k)
        target = u(fixed, TIMES[k], path[k]) + g(TIMES[k]) ** 2 / c * used
        miss = u(weights, TIMES[k], path[k]) - jax.lax.stop_gradient(target)
        loss += h[k] / 2 * jnp.sum((c * miss / g(TIMES[k])) ** 2)
        adjoint = before
    return loss


def both(schedule, predicts, diffusion=None, **bug):
    keys = keys_of(f"chain {schedule} {predicts}", 5)
    weights, fixed = weights_of(keys[0]), weights_of(keys[1])
    x0 = {"a": jax.random.normal(keys[2], (3,)), "b": jax.random.normal(keys[3], (2, 2))}
    label, scale = jnp.array(0.7), 1.7
    g = fj.memoryless(schedule, TIMES[1]) if diffusion is None else diffusion

    def ours(weights):
        v, base = (of_weights(one, schedule, predicts) for one in (weights, fixed))
        return fj.rewards.adjoint_matching(
            v, base, reward, x0, TIMES, keys[4], label, scale=scale, diffusion=diffusion
        )[0]

    def by_hand(weights):
        return explicit(weights, fixed, schedule, predicts, x0, keys[4], label, scale, g, **bug)

    return tuple(jax.value_and_grad(one)(weights) for one in (ours, by_hand))


def distance(got, want):
    got, want = ravel_pytree(got)[0], ravel_pytree(want)[0]
    return float(jnp.max(jnp.abs(got - want)) / jnp.max(jnp.abs(want)))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("schedule", "predicts"),
    [
        *((schedule, "velocity") for schedule in SCHEDULES),
        *((fj.CondOT(), predicts) for predicts in ("data", "noise", "score", "v")),
    ],
)
def test_the_loss_and_its_gradient_are_those_of_the_explicit_chain_of_vjps(schedule, predicts):
    got, want = both(schedule, predicts)
    assert distance(got, want) < 1e-10


@pytest.mark.usefixtures("x64")
def test_so_they_are_with_any_other_noise():
    got, want = both(fj.CondOT(), "velocity", diffusion=lambda t: 0.3 + (1 - t))
    assert distance(got, want) < 1e-10


@pytest.mark.usefixtures("x64")
def test_the_adjoint_of_the_wrong_end_of_a_step_is_caught():
    got, wrong = both(fj.CondOT(), "velocity", adjoint_of="the start")
    assert distance(got, wrong) > 1e-2


@pytest.mark.usefixtures("x64")
def test_the_adjoint_is_the_slope_of_the_reward_in_what_is_added_to_each_step():
    """By one gradient through the base's chain, moved by deltas: another way to the same lambda."""
    keys, n = keys_of("deltas", 4), 6
    ts, base = fj.uniform_grid(n), fj.GaussianMixture(jnp.ones(2), jnp.array([-1.0, 2.0]), 0.5)
    v = base.velocity(fj.CondOT())
    g = fj.memoryless(v.schedule, 1 / n)
    sde, x0 = fj.with_noise(v, g), jax.random.normal(keys[0])
    reward, noise = lambda x: jnp.sin(3 * x), fj.brownian_increments(keys[1], ts, x0)

    def end(deltas):
        x = x0
        for k in range(n):
            x = fj.euler_maruyama(sde, ts[k], ts[k + 1], x, None, noise[k]) + deltas[k]
        return reward(x)

    # At the base itself, each step misses its target by g^2 lambda.
    slopes = jax.grad(end)(jnp.zeros(n))
    want = sum(float(g(ts[k]) ** 2 * slopes[k] ** 2) / (2 * n) for k in range(n))
    loss, value = fj.rewards.adjoint_matching(v, v, reward, x0, ts, keys[1])
    assert float(loss) == pytest.approx(want, rel=1e-12)
    assert float(value) == pytest.approx(float(end(jnp.zeros(n))), rel=1e-12)


def test_nothing_is_differentiated_but_the_velocity_that_is_trained():
    keys = keys_of("fixed", 2)

    def loss(mean, base_mean, x0):
        v, base = (fj.Gaussian(m, 0.8).velocity(fj.CondOT()) for m in (mean, base_mean))
        args = (jnp.sin, x0, fj.uniform_grid(5), keys[0])
        return fj.rewards.adjoint_matching(v, base, *args)[0]

    x = jax.random.normal(keys[1])
    of_v, of_base, of_start = jax.grad(loss, (0, 1, 2))(jnp.array(0.5), jnp.array(0.0), x)
    assert float(of_v) != 0
    assert (float(of_base), float(of_start)) == (0, 0)


def test_a_step_without_noise_adds_nothing():
    """With g = 0 on the last of two steps, the loss is that of the first; it is finite."""
    ts, x0, key = np.array([0.2, 0.6, 1.0]), jnp.array(0.3), key_of("no noise")
    v = fj.velocity(lambda t, x, args: 2 * x, fj.CondOT())
    base = fj.velocity(lambda t, x, args: x, fj.CondOT())
    how = {"diffusion": lambda t: jnp.where(t < 0.5, 1.0, 0.0)}

    def loss(v):
        return fj.rewards.adjoint_matching(v, base, lambda x: x, x0, ts, key, **how)[0]

    # At t = 0.2: g^2 a / (2 s Delta) = 1/8, so b_new - b_base = 9/8 x; lambda is 1 + 0.4 there.
    assert float(loss(v)) == pytest.approx(0.4 / 2 * (9 / 8 * 0.3 - 1.4) ** 2, rel=1e-5)
    slope = jax.grad(lambda a: loss(v.with_model(lambda t, x, args: a * x)))(2.0)
    assert float(slope) == pytest.approx(0.4 * (9 / 8 * 0.3 - 1.4) * 9 / 8 * 0.3, rel=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_states_of_half_precision_are_matched_in_single(dtype):
    keys = keys_of("half", 2)

    def both(dtype):
        x0 = jax.random.normal(keys[0], (5,)).astype(dtype)
        v, base = (
            fj.Gaussian(jnp.full(5, m), 0.8).velocity(fj.CondOT()) for m in (0.0, 1.0)
        )
        r = lambda x: jnp.sum(x.astype(jnp.float32))
        return fj.rewards.adjoint_matching(v, base, r, x0, fj.uniform_grid(10), keys[1])

    half, single = both(dtype), both(jnp.float32)
    assert half[0].dtype == jnp.float32
    np.testing.assert_allclose(half[0], single[0], rtol=0.05)


# --- the optimum of the discrete problem is where the gradients vanish ----------------------------

N, MEAN, STD = 8, 0.5, 0.8
GRID = np.linspace(0, 1, N + 1)


def quadratic(x):
    return 0.6 * x - 0.75 * x**2


def in_each_step(changes):
    """The base's velocity and a line of x of its own in each step."""
    base = fj.Gaussian(jnp.array(MEAN), STD).velocity(fj.CondOT())

    def model(t, x, args):
        k = jnp.round(t * N).astype(int)
        return base(t, x, args) + changes[k, 0] * x + changes[k, 1]

    return fj.velocity(model, base.schedule), base


def riccati(g):
    """The line in each step by which E r(X_1) - KL is greatest, by dynamic programming in NumPy."""
    curvature, slope, h, lines = 1.5, 0.6, 1 / N, []
    for t in reversed(GRID[:-1]):
        variance = STD**2 * t**2 + (1 - t) ** 2
        rate = (STD**2 * t - (1 - t)) / variance  # u = MEAN + rate (x - t MEAN)
        half = g(t) ** 2 / 2
        a = 1 + h * (rate - half / variance)
        b = h * (MEAN - rate * t * MEAN + half * t * MEAN / variance)
        noise = h * g(t) ** 2
        shrink = 1 / (1 + noise * curvature)
        # delta = noise (slope - curvature (a x + b)) shrink, in the mean of the step.
        c = 1 + half * t / (1 - t) if t < 1 else 1.0
        line = np.array([-curvature * a, slope - curvature * b]) * noise * shrink / (h * c)
        lines.append(line)
        curvature, slope = a**2 * curvature * shrink, a * (slope - curvature * b) * shrink
    return np.array(lines[::-1])


def gradients(loss, changes, name):
    """Of many paths: those of each line, in standard errors of their mean."""
    count = 20_000
    keys = jax.random.split(key_of(name), count)
    x0 = jax.random.normal(key_of(f"{name} start"), (count,))
    each = jax.jit(jax.vmap(jax.grad(loss), (None, 0, 0)))(jnp.asarray(changes), x0, keys)
    each = np.asarray(each).reshape(count, -1)
    return np.max(np.abs(each.mean(0)) / (each.std(0) / np.sqrt(count) + 1e-12))


def matching(scale=1.0, g=None):
    def loss(changes, x0, key):
        v, base = in_each_step(changes)
        how = {"scale": scale, "diffusion": g}
        return fj.rewards.adjoint_matching(v, base, quadratic, x0, GRID, key, **how)[0]

    return loss


def backpropagation(changes, x0, key):
    """r(X_1) less the KL of the path, by Girsanov, through the whole solve."""
    v, base = in_each_step(changes)
    g = fj.memoryless(v.schedule, 1 / N)
    new, old = fj.with_noise(v, g), fj.with_noise(base, g)

    def kl(value, t0, t1, x0, x1, dw):
        control = (new.drift(t0, x0, None) - old.drift(t0, x0, None)) / g(t0)
        return value + (t1 - t0) / 2 * control**2

    x1, total = fj.fold(new, x0, GRID, init=jnp.zeros(()), update=kl, key=key)
    return total - quadratic(x1)


held = lambda t: np.sqrt(2 * (1 - max(t, 1 / N)) / max(t, 1 / N))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("g", [None, lambda t: 1 - t], ids=["memoryless", "less noise"])
def test_the_gradient_vanishes_at_the_exact_optimum_of_any_number_of_steps(g):
    """Eight steps: sixteen numbers at five standard errors, a false alarm in 100,000 runs."""
    best = riccati(g or held)
    assert gradients(matching(g=g), best, "optimum") < STANDARD_ERRORS


@pytest.mark.usefixtures("x64")
def test_so_does_that_of_full_backpropagation_with_the_kl_of_the_path():
    assert gradients(backpropagation, riccati(held), "through") < STANDARD_ERRORS


@pytest.mark.usefixtures("x64")
def test_a_reward_or_a_kl_off_by_a_tenth_is_seen_there():
    assert gradients(matching(scale=1.1), riccati(held), "planted") > STANDARD_ERRORS
    wrong = lambda *a: 1.1 * backpropagation(*a) + 0.1 * quadratic(0.0)
    assert gradients(wrong, riccati(held), "planted") < STANDARD_ERRORS


# --- what it converges to -------------------------------------------------------------------------


def trained(family, start, reward, *, steps, n=50, diffusion=None):
    """The parameters that `fj.training.fit` comes to, by Adam with a rate that falls to zero."""
    ts, base = fj.uniform_grid(n), family(start).velocity(fj.CondOT())

    def loss(parameters, x0, key):
        v = family(parameters).velocity(fj.CondOT())
        return fj.rewards.adjoint_matching(
            v, base, reward, x0, ts, key, diffusion=diffusion
        )

    def batch(key, i):
        return jax.random.normal(key, (256,))

    rate = optax.cosine_decay_schedule(0.05, steps)
    key = key_of("trained")
    with jax.numpy_dtype_promotion("standard"):
        state, _ = fj.training.fit(
            start, loss, batch, key, optimizer=optax.adam(rate), steps=steps
        )
    return state.model


def gaussian(parameters):
    return fj.Gaussian(parameters[0], jnp.exp(parameters[1]))


@pytest.mark.parametrize(("slope", "curvature"), [(1.0, 0.0), (0.5, 1.5)])
def test_a_gaussian_is_tilted_by_a_linear_and_a_quadratic_reward(slope, curvature):
    start = jnp.array([MEAN, np.log(STD)], jnp.float32)
    reward = lambda x: slope * x - curvature / 2 * x**2
    mean, log_std = trained(gaussian, start, reward, steps=250)
    precision = 1 / STD**2 + curvature
    want = (MEAN / STD**2 + slope) / precision
    assert abs(float(mean) - want) < 0.05 * abs(want - MEAN)
    assert float(jnp.exp(2 * log_std)) == pytest.approx(1 / precision, rel=0.05)
