"""Adjoint matching: the explicit chain of vjps, the exact discrete optimum, and the tilted laws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flowjax as fj
from tests.solver.random_checks import STANDARD_ERRORS, key_of, keys_of

# --- the gradient is that of the explicit chain ---------------------------------------------------

TIMES, SCALE, LABEL = np.array([0.05, 0.3, 0.4, 0.9]), 1.7, 0.7


def network(xp, weights, t, x, label):
    """Two leaves of a state that act on each other, by a label."""
    mixed = xp.tanh(weights[0] * x["a"] + weights[1] * t + label) + weights[2] * x["b"].sum()
    return {"a": mixed, "b": xp.sin(weights[3] * x["b"]) + mixed[0] * x["b"]}


def reward(xp, x):
    return xp.sum(xp.cos(x["a"])) * xp.sum(x["b"] ** 2)


def as_tree(flat):
    return {"a": flat[:2], "b": flat[2:].reshape(1, 2)}


def as_row(tree):
    return np.concatenate([tree["a"].ravel(), tree["b"].ravel()])


def slopes(function, at):
    """The derivatives of a function of a row, by complex steps: exact to rounding."""
    steps = 1e-30j * np.eye(len(at))
    return np.stack([function(at + step).imag / 1e-30 for step in steps], -1)


def in_numpy(weights, fixed, schedule, predicts, x0, noise, g, used="the end"):
    """The loss and its gradient by a loop in NumPy, with a Jacobian for each step."""
    rates = jax.jvp(schedule, (TIMES,), (np.ones(len(TIMES)),))
    (a, s), (a_rate, s_rate) = jax.tree.map(lambda leaf: np.asarray(leaf, float), rates)
    h, n = np.diff(TIMES), len(TIMES) - 1

    def u(weights, k, x):
        out = as_row(network(np, weights, TIMES[k], as_tree(x), LABEL))
        # The data and the noise, from x = a data + s noise and what is predicted.
        if predicts == "velocity":
            return out
        if predicts == "data":
            data, noise = out, (x - a[k] * out) / s[k]
        else:
            noise = {"noise": out, "score": -s[k] * out}.get(predicts)
            if predicts == "v":
                noise = (a[k] * out + s[k] * x) / (a[k] ** 2 + s[k] ** 2)
            data = (x - s[k] * noise) / a[k]
        return a_rate[k] * data + s_rate[k] * noise

    determinant = a_rate * s - a * s_rate
    factor = np.array([g(t) for t in TIMES]) ** 2 * a / (2 * s * determinant)

    def drift(weights, k, x):
        # u + g^2 / 2 score, with score = (a u - a' x) / (s determinant).
        velocity = u(weights, k, x)
        return velocity + factor[k] * (velocity - a_rate[k] / a[k] * x)

    path = [x0]
    for k in range(n):
        path.append(path[k] + h[k] * drift(weights, k, path[k]) + g(TIMES[k]) * noise[k])
    adjoint = SCALE * slopes(lambda x: reward(np, as_tree(x)), path[n])
    adjoints = [adjoint]
    for k in reversed(range(n)):
        jacobian = slopes(lambda x, k=k: x + h[k] * drift(fixed, k, x), path[k])
        adjoints.insert(0, jacobian.T @ adjoints[0])

    def loss(weights):
        total = 0.0
        for k in range(n):
            c = 1 + factor[k]
            adjoint = adjoints[k + 1] if used == "the end" else adjoints[k]
            target = u(fixed, k, path[k]) + g(TIMES[k]) ** 2 / c * adjoint
            miss = u(weights, k, path[k]) - target
            total = total + h[k] / 2 * np.sum((c * miss / g(TIMES[k])) ** 2)
        return total

    return np.append(loss(weights), slopes(loss, weights))


@functools.cache
def both(schedule, predicts, g):
    """Ours, and a function of what to use in the loop."""
    rng = np.random.default_rng()
    weights, fixed = rng.normal(size=(2, 4))
    x0, key = rng.normal(size=4), jax.random.key(rng.integers(2**31))

    def ours(weights):
        def of(weights):
            return fj.velocity(
                lambda t, x, label: network(jnp, weights, t, x, label), schedule, predicts
            )

        return fj.rewards.adjoint_matching(
            *(of(weights), of(jnp.asarray(fixed)), lambda x: reward(jnp, x)),
            *(as_tree(jnp.asarray(x0)), TIMES, key, jnp.asarray(LABEL)),
            scale=SCALE,
            diffusion=g,
        )[0]

    value, slope = jax.jit(jax.value_and_grad(ours))(jnp.asarray(weights))
    dw = fj.brownian_increments(key, TIMES, as_tree(jnp.asarray(x0)))
    noise = [as_row({name: np.asarray(leaf[k]) for name, leaf in dw.items()}) for k in range(3)]
    g = g or fj.memoryless(schedule, TIMES[1])
    problem = (weights, fixed, schedule, predicts, x0, noise, lambda t: float(g(t)))
    return np.append(value, slope), functools.partial(in_numpy, *problem)


def other_noise(t):
    return 1.3 - t


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("schedule", "predicts", "g"),
    [
        (fj.CondOT(), "velocity", None),
        (fj.Trigonometric(), "data", other_noise),
        (fj.VariancePreserving(), "noise", None),
        (fj.SquareRoot(), "score", None),
        (fj.Polynomial(2), "v", other_noise),
    ],
    ids=["velocity", "data", "noise", "score", "v"],
)
@pytest.mark.thin(2)
def test_the_loss_and_its_gradient_are_those_of_the_explicit_chain_of_vjps(schedule, predicts, g):
    ours, explicit = both(schedule, predicts, g)
    want = explicit()
    np.testing.assert_allclose(ours, want, rtol=0, atol=1e-9 * np.max(np.abs(want)))


@pytest.mark.usefixtures("x64")
def test_the_adjoint_of_the_wrong_end_of_a_step_is_caught():
    ours, explicit = both(fj.CondOT(), "velocity", None)
    wrong = explicit(used="the start")
    assert np.max(np.abs(ours - wrong)) > 1e-3 * np.max(np.abs(wrong))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("step", [fj.euler_maruyama, fj.ancestral], ids=lambda step: step.__name__)
def test_the_adjoint_is_the_slope_of_the_reward_in_what_is_added_to_each_step(step):
    """By one gradient through the base's chain, moved by deltas: another way to the same lambda."""
    keys, n = keys_of("deltas", 2), 3
    ts = fj.uniform_grid(n)
    base = fj.Gaussian(jnp.array(2.0), 0.5).velocity(fj.CondOT())
    field = fj.with_noise(base, fj.memoryless(base.schedule, 1 / n))
    if step is fj.ancestral:
        field = base
    x0 = jax.random.normal(keys[0])
    noise, zero = fj.brownian_increments(keys[1], ts, x0), jnp.zeros(())

    def reward(x):
        return jnp.sin(3 * x)

    @jax.jit
    def by_deltas():
        def end(deltas):
            x, variances = x0, []
            for k in range(n):
                to = [
                    step(field, ts[k], ts[k + 1], x, None, dw) for dw in (noise[k], zero, zero + 1)
                ]
                x = to[0] + deltas[k]
                variances.append((to[2] - to[1]) ** 2 / n)
            return reward(x), jnp.stack(variances)

        # At the base itself each mean is s^2 lambda short of its target.
        (value, variances), slopes = jax.value_and_grad(end, has_aux=True)(jnp.zeros(n))
        return jnp.sum(variances * slopes**2) / 2, value

    matching = fj.rewards.adjoint_matching
    got = jax.jit(lambda: matching(base, base, reward, x0, ts, keys[1], step=step))()
    np.testing.assert_allclose(got, by_deltas(), rtol=1e-10)


def test_nothing_is_differentiated_but_the_velocity_that_is_trained():
    keys = keys_of("fixed", 2)

    def loss(mean, base_mean, x0):
        v, base = (fj.Gaussian(m, 0.8).velocity(fj.CondOT()) for m in (mean, base_mean))
        args = (jnp.sin, x0, fj.uniform_grid(5), keys[0])
        return fj.rewards.adjoint_matching(v, base, *args)[0]

    x = jax.random.normal(keys[1])
    of_v, of_base, of_start = jax.jit(jax.grad(loss, (0, 1, 2)))(jnp.array(0.5), jnp.array(0.0), x)
    assert float(of_v) != 0
    assert (float(of_base), float(of_start)) == (0, 0)


def test_a_step_without_noise_adds_nothing():
    """With g = 0 on the last of two steps, the loss is that of the first; it is finite."""
    ts, x0, key = np.array([0.2, 0.6, 1.0]), jnp.array(0.3), key_of("no noise")
    base = fj.velocity(lambda t, x, args: x, fj.CondOT())

    def loss(factor):
        v = base.with_model(lambda t, x, args: factor * x)
        how = {"diffusion": lambda t: jnp.where(t < 0.5, 1.0, 0.0)}
        return fj.rewards.adjoint_matching(v, base, lambda x: x, x0, ts, key, **how)[0]

    # At t = 0.2: g^2 a / (2 s Delta) = 1/8, so b_new - b_base = 9/8 x; lambda is 1 + 0.4 there.
    value, slope = jax.jit(jax.value_and_grad(loss))(2.0)
    assert float(value) == pytest.approx(0.4 / 2 * (9 / 8 * 0.3 - 1.4) ** 2, rel=1e-5)
    assert float(slope) == pytest.approx(0.4 * (9 / 8 * 0.3 - 1.4) * 9 / 8 * 0.3, rel=1e-5)


def test_states_of_half_precision_are_matched_in_single():
    keys = keys_of("half", 2)
    v, base = (fj.Gaussian(jnp.full(5, m), 0.8).velocity(fj.CondOT()) for m in (0.0, 1.0))

    @jax.jit
    def loss(x0):
        def reward(x):
            return jnp.sum(x.astype(jnp.float32))

        return fj.rewards.adjoint_matching(v, base, reward, x0, fj.uniform_grid(10), keys[1])

    x0 = jax.random.normal(keys[0], (5,))
    half, single = loss(x0.astype(jnp.bfloat16)), loss(x0)
    assert half[0].dtype == jnp.float32
    # States of 8 bits, of size 1, beside a mean that is 0 or 1.
    np.testing.assert_allclose(half[0], single[0], rtol=0.02)


# --- the optimum of the discrete problem is where the gradients vanish ----------------------------

N, MEAN, STD = 8, 0.5, 0.8
SLOPE, CURVATURE = 0.6, 1.5


def quadratic(x, slope=SLOPE, curvature=CURVATURE):
    return slope * x - curvature / 2 * x**2


def held(t, start=1 / N):
    """Memoryless noise, held at its value after the first step."""
    t = max(t, start)
    return np.sqrt(2 * (1 - t) / t)


def less(t):
    return 1 - t


def base_step(t, g, h):
    """The base's step without noise, a x + b, and what a change of u is multiplied with in b_k."""
    variance = STD**2 * t**2 + (1 - t) ** 2
    rate, half = (STD**2 * t - (1 - t)) / variance, g(t) ** 2 / 2
    a = 1 + h * (rate - half / variance)
    return a, h * MEAN * (1 - rate * t + half * t / variance), 1 + half * t / (1 - t)


def riccati(g, n=N, curvature=CURVATURE, slope=SLOPE):
    """The line of u in each step by which E r(X_1) - KL is greatest, by dynamic programming."""
    h, lines = 1 / n, []
    for k in reversed(range(n)):
        a, b, c = base_step(k * h, g, h)
        noise = h * g(k * h) ** 2
        shrink = 1 / (1 + noise * curvature)
        # The mean moves by noise (slope - curvature (a x + b)) shrink.
        change = np.array([-curvature * a, slope - curvature * b])
        lines.insert(0, noise * shrink / (h * c) * change)
        curvature, slope = a**2 * curvature * shrink, a * (slope - curvature * b) * shrink
    return np.array(lines)


def reached(lines, g):
    """The mean and the variance of X_1 by the lines, exactly."""
    mean, variance, h = 0.0, 1.0, 1 / len(lines)
    for k, (slope, shift) in enumerate(lines):
        a, b, c = base_step(k * h, g, h)
        a, b = a + h * c * slope, b + h * c * shift
        mean, variance = a * mean + b, a**2 * variance + h * g(k * h) ** 2
    return mean, variance


def in_each_step(changes):
    """The base's velocity and a line of x of its own in each step."""
    base = fj.Gaussian(jnp.array(MEAN), STD).velocity(fj.CondOT())

    def model(t, x, args):
        k = jnp.round(t * N).astype(int)
        return base(t, x, args) + changes[k, 0] * x + changes[k, 1]

    return fj.velocity(model, base.schedule), base


def matching(changes, x0, key, scale, memoryless):
    v, base = in_each_step(changes)

    def g(t):
        return jnp.where(memoryless, fj.memoryless(v.schedule, 1 / N)(t), 1 - t)

    how = {"scale": scale, "diffusion": g}
    return fj.rewards.adjoint_matching(v, base, quadratic, x0, fj.uniform_grid(N), key, **how)[0]


def backpropagation(changes, x0, key, part_of_kl):
    """The KL of the path, by Girsanov, less r(X_1), through the whole solve."""
    v, base = in_each_step(changes)
    new, old = (fj.with_noise(one, fj.memoryless(v.schedule, 1 / N)) for one in (v, base))
    init, update = fj.densities.kl(new, old)
    x1, kl = fj.fold(new, x0, fj.uniform_grid(N), init=init, update=update, key=key)
    return part_of_kl * kl - quadratic(x1)


@functools.cache
def slopes_of(loss, numbers):
    each = jax.vmap(jax.grad(loss), (None, 0, 0, *[None] * numbers))
    return jax.jit(lambda *a: jnp.stack([f(each(*a), 0) for f in (jnp.mean, jnp.std)]))


def worst(loss, lines, *numbers, count=8000):
    """The largest of the sixteen mean gradients of many paths, in its standard errors."""
    keys, x0 = jax.random.split(key_of("paths"), count), jax.random.normal(key_of("x0"), (count,))
    mean, deviation = slopes_of(loss, len(numbers))(jnp.asarray(lines), x0, keys, *numbers)
    return float(jnp.max(jnp.abs(mean) / (deviation / np.sqrt(count) + 1e-12)))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("g", [held, less], ids=lambda g: g.__name__)
def test_the_gradient_vanishes_at_the_exact_optimum_of_any_number_of_steps(g):
    """Of eight steps. Sixteen numbers at five standard errors: one false alarm in 100,000 runs."""
    assert worst(matching, riccati(g), 1.0, g is held) < STANDARD_ERRORS


@pytest.mark.usefixtures("x64")
def test_so_does_that_of_full_backpropagation_with_the_kl_of_the_path():
    assert worst(backpropagation, riccati(held), 1.0) < STANDARD_ERRORS


@pytest.mark.usefixtures("x64")
def test_a_reward_off_by_a_tenth_and_a_lost_factor_of_two_are_seen_there():
    assert worst(matching, riccati(held), 1.1, True) > STANDARD_ERRORS
    assert worst(backpropagation, riccati(held), 0.5) > STANDARD_ERRORS


def test_with_memoryless_noise_that_optimum_is_the_tilted_law_and_with_less_noise_another():
    n, precision = 400, 1 / STD**2 + CURVATURE
    memoryless = functools.partial(held, start=1 / n)
    mean, variance = reached(riccati(memoryless, n), memoryless)
    assert mean == pytest.approx((MEAN / STD**2 + SLOPE) / precision, rel=0.01)
    assert variance == pytest.approx(1 / precision, rel=0.01)
    # A linear reward shifts the mean by the variance of X_1 given X_0, which is a part of all.
    ts = (np.arange(n) + 0.5) / n
    remembered = np.exp(-np.mean((1 - ts) ** 2 / (STD**2 * ts**2 + (1 - ts) ** 2)))
    mean, _ = reached(riccati(less, n, curvature=0.0), less)
    assert (mean - MEAN) / (STD**2 * SLOPE) == pytest.approx(1 - remembered, rel=0.01)
    assert 0.4 < 1 - remembered < 0.45


# --- what it converges to -------------------------------------------------------------------------


def by_matching(v, base, reward, ts, x0, key):
    return fj.rewards.adjoint_matching(v, base, reward, x0, ts, key)[0]


def through_all(v, base, reward, ts, x0, key):
    new, old = (fj.with_noise(one, fj.memoryless(v.schedule, ts[1])) for one in (v, base))
    init, update = fj.densities.kl(new, old)
    x1, kl = fj.fold(new, x0, ts, init=init, update=update, key=key)
    return kl - reward(x1)


def trained(family, start, rewards, how, *, n=50, steps=300, batch=256):
    """What `fj.training.fit` comes to, for each reward at once, by a rate that falls to zero."""
    ts, base = fj.uniform_grid(n), family(start).velocity(fj.CondOT())

    def loss(parameters, x0, key):
        def one(parameters, numbers):
            v = family(parameters).velocity(fj.CondOT())
            return how(v, base, lambda x: quadratic(x, *numbers), ts, x0, key)

        return jnp.sum(jax.vmap(one)(parameters, rewards))

    def starts(key, i):
        return jax.random.normal(key, (batch,))

    first = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(rewards)), start)
    adam = optax.adam(optax.cosine_decay_schedule(0.05, steps))
    with jax.numpy_dtype_promotion("standard"):
        fit = fj.training.fit(first, loss, starts, key_of("fit"), optimizer=adam, steps=steps)
    return jax.tree.map(np.asarray, fit[0].model)


def gaussian(parameters):
    return fj.Gaussian(parameters[0], jnp.exp(parameters[1]))


@pytest.mark.parametrize("how", [by_matching, through_all], ids=lambda how: how.__name__)
@pytest.mark.nightly
def test_a_gaussian_is_tilted_by_a_linear_and_a_quadratic_reward(how):
    rewards = jnp.array([[1.0, 0.0], [0.5, 1.5]])
    start = jnp.array([MEAN, np.log(STD)], jnp.float32)
    means, log_stds = trained(gaussian, start, rewards, how).T
    precisions = 1 / STD**2 + rewards[:, 1]
    np.testing.assert_allclose(means, (MEAN / STD**2 + rewards[:, 0]) / precisions, rtol=0.05)
    np.testing.assert_allclose(np.exp(2 * log_stds), 1 / precisions, rtol=0.05)


def mixture(parameters):
    weights, means, log_stds = parameters
    return fj.GaussianMixture(jax.nn.softmax(weights), means, jnp.exp(log_stds))


@pytest.mark.nightly
def test_a_mixture_is_tilted_in_weights_means_and_deviations():
    """By x - x^2 / 2: each component is tilted, and weighed by its own mean of e^r."""
    weights, means, stds = np.array([0.7, 0.3]), np.array([-1.0, 1.5]), np.array([0.5, 0.7])
    precisions = 1 / stds**2 + 1
    new_means = (means / stds**2 + 1) / precisions
    factors = np.exp(precisions * new_means**2 / 2 - means**2 / stds**2 / 2)
    new_weights = weights * factors / (stds * np.sqrt(precisions))
    new_weights /= new_weights.sum()
    start = tuple(jnp.array(a, jnp.float32) for a in (np.log(weights), means, np.log(stds)))
    logits, got_means, log_stds = trained(mixture, start, jnp.array([[1.0, 1.0]]), by_matching)

    def moments(weights, means, variances):
        mean = np.sum(weights * means)
        return mean, np.sum(weights * (means**2 + variances)) - mean**2

    got = moments(np.asarray(jax.nn.softmax(logits[0])), got_means[0], np.exp(2 * log_stds[0]))
    np.testing.assert_allclose(got, moments(new_weights, new_means, 1 / precisions), rtol=0.05)


# --- bad input ------------------------------------------------------------------------------------


def bad(**changes):
    v = fj.Gaussian(jnp.array(0.0), 1.0).velocity(fj.CondOT())
    how = {"v": v, "base": v, "reward": lambda x: x, "x0": jnp.array(0.0)}
    how |= {"ts": fj.uniform_grid(4), "key": jax.random.key(0), **changes}
    return fj.rewards.adjoint_matching(**how)


def still(t, x, args):
    return 0 * x


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"reward": lambda x: x[None]}, TypeError, "reward must return a real floating scalar"),
        ({"reward": 1.0}, TypeError, "reward must be a function"),
        ({"v": still}, TypeError, "adjoint_matching, for v, needs a fj.Velocity"),
        ({"base": still}, TypeError, "adjoint_matching, for base, needs a fj.Velocity"),
        (
            {"v": fj.velocity(still, fj.VariancePreserving())},
            ValueError,
            "v must have the schedule of base, CondOT",
        ),
        (
            {"v": fj.velocity(still, fj.CondOT(), coupled=True)},
            ValueError,
            "for v, needs the score, which a velocity of coupled pairs",
        ),
        (
            {"base": fj.velocity(still, fj.CondOT(), "noise")},
            ValueError,
            "does not determine the velocity",
        ),
        ({"scale": "large"}, TypeError, "scale must be a real number"),
        ({"ts": fj.uniform_grid(1)}, ValueError, "ts must have at least 2 steps"),
        ({"key": jax.random.split(jax.random.key(0))}, ValueError, "key must be one JAX key"),
        ({"step": fj.stochastic_heun}, ValueError, "is not Gaussian"),
        ({"step": fj.ddim}, TypeError, "draws no noise"),
        ({"step": fj.ancestral, "diffusion": 1.0}, ValueError, "diffusion must be left out"),
    ],
)
def test_bad_input_is_refused_by_name(changes, error, match):
    with pytest.raises(error, match=match):
        bad(**changes)
