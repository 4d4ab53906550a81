"""Adjoint matching: the explicit chain of vjps, the exact discrete optimum, and the tilted laws."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import flowjax as fj
from tests.solver.random_checks import STANDARD_ERRORS, key_of, keys_of

# --- the gradient is that of the explicit chain ---------------------------------------------------

TIMES = np.array([0.02, 0.3, 0.35, 0.7, 0.95])


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

    return tuple(jax.jit(jax.value_and_grad(one))(weights) for one in (ours, by_hand))


def distance(got, want):
    got, want = ravel_pytree(got)[0], ravel_pytree(want)[0]
    return float(jnp.max(jnp.abs(got - want)) / jnp.max(jnp.abs(want)))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("schedule", "predicts"),
    [
        (fj.CondOT(), "velocity"),
        (fj.Trigonometric(), "data"),
        (fj.VariancePreserving(), "noise"),
        (fj.SquareRoot(), "score"),
        (fj.Polynomial(2), "v"),
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
@pytest.mark.parametrize("step", [fj.euler_maruyama, fj.ancestral], ids=lambda step: step.__name__)
def test_the_adjoint_is_the_slope_of_the_reward_in_what_is_added_to_each_step(step):
    """By one gradient through the base's chain, moved by deltas: another way to the same lambda."""
    keys, n = keys_of("deltas", 2), 6
    ts = fj.uniform_grid(n)
    base = fj.GaussianMixture(jnp.ones(2), jnp.array([-1.0, 2.0]), 0.5).velocity(fj.CondOT())
    field = fj.with_noise(base, fj.memoryless(base.schedule, 1 / n))
    if step is fj.ancestral:
        field = base
    x0, reward = jax.random.normal(keys[0]), lambda x: jnp.sin(3 * x)
    noise = fj.brownian_increments(keys[1], ts, x0)

    def end(deltas):
        x, spreads = x0, []
        for k in range(n):
            to = [step(field, ts[k], ts[k + 1], x, None, dw) for dw in (noise[k], 0.0, 1.0)]
            x = to[0] + deltas[k]
            spreads.append((to[2] - to[1]) ** 2 / n)
        return reward(x), jnp.stack(spreads)

    # At the base itself each mean is s^2 lambda short of its target.
    slopes, variances = jax.grad(end, has_aux=True)(jnp.zeros(n))
    matching = fj.rewards.adjoint_matching
    loss, value = matching(base, base, reward, x0, ts, keys[1], step=step)
    assert float(loss) == pytest.approx(float(jnp.sum(variances * slopes**2)) / 2, rel=1e-10)
    assert float(value) == pytest.approx(float(end(jnp.zeros(n))[0]), rel=1e-12)


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
        v, base = (fj.Gaussian(jnp.full(5, m), 0.8).velocity(fj.CondOT()) for m in (0.0, 1.0))
        ts = fj.uniform_grid(10)
        return fj.rewards.adjoint_matching(
            v, base, lambda x: jnp.sum(x.astype(jnp.float32)), x0, ts, keys[1]
        )

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


def gradients(loss, changes, name, count=8000):
    """Of many paths: those of each line, in standard errors of their mean; the worst of sixteen."""
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


def backpropagation(part_of_kl=1.0):
    """r(X_1) less the KL of the path, by Girsanov, through the whole solve."""

    def loss(changes, x0, key):
        v, base = in_each_step(changes)
        new, old = (fj.with_noise(one, fj.memoryless(v.schedule, 1 / N)) for one in (v, base))
        init, update = fj.densities.kl(new, old)
        x1, kl = fj.fold(new, x0, GRID, init=init, update=update, key=key)
        return part_of_kl * kl - quadratic(x1)

    return loss


def held(t):
    """Memoryless noise, held at its value after the first step."""
    t = max(t, 1 / N)
    return np.sqrt(2 * (1 - t) / t)


def less(t):
    return 1 - t


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("g", "noise"), [(None, held), (less, less)], ids=["memoryless", "less"])
def test_the_gradient_vanishes_at_the_exact_optimum_of_any_number_of_steps(g, noise):
    """Of eight steps. Sixteen numbers at five standard errors: one false alarm in 100,000 runs."""
    assert gradients(matching(g=g), riccati(noise), "optimum") < STANDARD_ERRORS


@pytest.mark.usefixtures("x64")
def test_so_does_that_of_full_backpropagation_with_the_kl_of_the_path():
    assert gradients(backpropagation(), riccati(held), "through") < STANDARD_ERRORS


@pytest.mark.usefixtures("x64")
def test_a_reward_off_by_a_tenth_and_a_lost_factor_of_two_are_seen_there():
    assert gradients(matching(scale=1.1), riccati(held), "planted") > STANDARD_ERRORS
    assert gradients(backpropagation(2.0), riccati(held), "planted") > STANDARD_ERRORS


def reached(lines, g):
    """The mean and the variance of X_1 by the lines, exactly."""
    mean, variance, h = 0.0, 1.0, 1 / len(lines)
    for k, (slope, shift) in enumerate(lines):
        t = k * h
        spread = STD**2 * t**2 + (1 - t) ** 2
        rate, half = (STD**2 * t - (1 - t)) / spread, g(t) ** 2 / 2
        c = 1 + half * t / (1 - t)
        a = 1 + h * (rate - half / spread + c * slope)
        b = h * (MEAN - rate * t * MEAN + half * t * MEAN / spread + c * shift)
        mean, variance = a * mean + b, a**2 * variance + h * g(t) ** 2
    return mean, variance


# --- what it converges to -------------------------------------------------------------------------


def by_matching(v, base, reward, ts, x0, key):
    return fj.rewards.adjoint_matching(v, base, reward, x0, ts, key)


def through_all(v, base, reward, ts, x0, key):
    new, old = (fj.with_noise(one, fj.memoryless(v.schedule, ts[1])) for one in (v, base))
    init, update = fj.densities.kl(new, old)
    x1, kl = fj.fold(new, x0, ts, init=init, update=update, key=key)
    return kl - reward(x1)


def trained(family, start, reward, how, *, n=50, steps=300, batch=256):
    """The parameters that `fj.training.fit` comes to, by Adam with a rate that falls to zero."""
    ts, base = fj.uniform_grid(n), family(start).velocity(fj.CondOT())

    def loss(parameters, x0, key):
        return how(family(parameters).velocity(fj.CondOT()), base, reward, ts, x0, key)

    def starts(key, i):
        return jax.random.normal(key, (batch,))

    adam = optax.adam(optax.cosine_decay_schedule(0.05, steps))
    with jax.numpy_dtype_promotion("standard"):
        fit = fj.training.fit(start, loss, starts, key_of("fit"), optimizer=adam, steps=steps)
    return fit[0].model


def gaussian(parameters):
    return fj.Gaussian(parameters[0], jnp.exp(parameters[1]))


@pytest.mark.parametrize("how", [by_matching, through_all], ids=lambda how: how.__name__)
@pytest.mark.parametrize(("slope", "curvature"), [(1.0, 0.0), (0.5, 1.5)])
def test_a_gaussian_is_tilted_by_a_linear_and_a_quadratic_reward(slope, curvature, how):
    def reward(x):
        return slope * x - curvature / 2 * x**2

    start = jnp.array([MEAN, np.log(STD)], jnp.float32)
    mean, log_std = trained(gaussian, start, reward, how)
    precision = 1 / STD**2 + curvature
    print(mean, jnp.exp(2 * log_std), (MEAN / STD**2 + slope) / precision, 1 / precision)
    assert float(mean) == pytest.approx((MEAN / STD**2 + slope) / precision, rel=0.05)
    assert float(jnp.exp(2 * log_std)) == pytest.approx(1 / precision, rel=0.05)


def mixture(parameters):
    weights, means, log_stds = parameters
    return fj.GaussianMixture(jax.nn.softmax(weights), means, jnp.exp(log_stds))


def test_a_mixture_is_tilted_in_weights_means_and_deviations():
    """By x - x^2 / 2: each component is tilted, and weighed by its own mean of e^r."""
    weights, means, stds = np.array([0.7, 0.3]), np.array([-1.0, 1.5]), np.array([0.5, 0.7])
    precisions = 1 / stds**2 + 1
    new_means = (means / stds**2 + 1) / precisions
    factors = np.exp(precisions * new_means**2 / 2 - means**2 / stds**2 / 2)
    factors /= stds * np.sqrt(precisions)
    new_weights = weights * factors / np.sum(weights * factors)
    start = tuple(jnp.array(a, jnp.float32) for a in (np.log(weights), means, np.log(stds)))
    got = trained(mixture, start, lambda x: x - x**2 / 2, by_matching)
    print(
        jax.nn.softmax(got[0]), new_weights, got[1], new_means, jnp.exp(2 * got[2]), 1 / precisions
    )

    def moments(weights, means, variances):
        mean = np.sum(weights * means)
        return mean, np.sum(weights * (means**2 + variances)) - mean**2

    want = moments(new_weights, new_means, 1 / precisions)
    got = moments(*(np.asarray(a) for a in (jax.nn.softmax(got[0]), got[1], jnp.exp(2 * got[2]))))
    print(got, want)
    np.testing.assert_allclose(got, want, rtol=0.05)
