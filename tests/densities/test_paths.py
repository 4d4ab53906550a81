"""Densities of paths against SciPy, NumPy and closed forms, and the bits of a rollout."""

import functools
import math

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

import flowjax as fj
from tests.solver.random_checks import key_of

TS = np.array([0.1, 0.2, 0.45, 0.5, 0.9])
MATRIX = np.array([[1.0, 0.2, -0.4], [0.3, 0.8, 0.5]])


def steps_of(path):
    """(t0, t1, x0, x1) of every step, in NumPy."""
    path = np.asarray(path)
    return zip(TS[:-1], TS[1:], path[:-1], path[1:], strict=True)


def path_like(shape, name="path"):
    return jax.random.normal(key_of(name), (len(TS), *shape), jnp.result_type(float))


# --- Euler-Maruyama -------------------------------------------------------------------------------


def drift(t, x, args):
    return jax.tree.map(lambda x: jnp.sin(t) - args * x, x)


def test_noise_of_each_element_is_normal_with_the_mean_of_the_step(x64):
    def diffusion(t, x, args):
        return {"a": 0.5 + 0.1 * jnp.cos(x["a"]), "b": 1 + t}

    path = {"a": path_like((2, 3)), "b": path_like((), "b")}
    sde = fj.SDE(drift, diffusion)
    expected = np.zeros(len(TS) - 1)
    for name, g in (("a", lambda t, x: 0.5 + 0.1 * np.cos(x)), ("b", lambda t, x: 1 + t)):
        for k, (t0, t1, x0, x1) in enumerate(steps_of(path[name])):
            h = t1 - t0
            mean = x0 + h * (np.sin(t0) - 0.7 * x0)
            expected[k] += norm.logpdf(x1, mean, g(t0, x0) * np.sqrt(h)).sum()
    got = fj.transition_log_probs(path, sde, TS, 0.7)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)
    whole = fj.path_log_prob(path, sde, TS, 0.7)
    assert float(whole) == pytest.approx(expected.sum(), abs=1e-12)


def as_blocks(t, x, args):
    return {"a": MATRIX[:, :1] * (1 + t), "b": MATRIX[:, 1:] * (1 + t)}


def as_operator(t, x, args):
    return lineax.MatrixLinearOperator((1 + t) * jnp.asarray(MATRIX))


@pytest.mark.parametrize(
    ("noise", "diffusion"),
    [
        ((3,), lambda t, x, args: (1 + t) * jnp.asarray(MATRIX)),
        ({"a": (1,), "b": (2,)}, as_blocks),
        ((3,), as_operator),
    ],
    ids=["a matrix", "a block for each leaf of the noise", "an operator"],
)
def test_noise_by_a_matrix_is_normal_with_its_covariance(noise, diffusion, x64):
    path, sde = path_like((2,)), fj.SDE(drift, diffusion, noise=noise)
    expected = [
        multivariate_normal.logpdf(
            x1,
            x0 + (t1 - t0) * (np.sin(t0) - 0.7 * x0),
            (t1 - t0) * (1 + t0) ** 2 * MATRIX @ MATRIX.T,
        )
        for t0, t1, x0, x1 in steps_of(path)
    ]
    got = fj.transition_log_probs(path, sde, TS, 0.7)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_the_density_of_nearly_singular_noise_is_as_exact_as_its_condition_allows(x64):
    """By A itself: the condition of A A^T is 1e16, and its Cholesky factor would be NaN."""
    narrow = np.array([[1.0, 1.0], [1.0, 1.0 + 4e-8]])
    sde = fj.SDE(lambda t, x, args: 0 * x, lambda t, x, args: jnp.asarray(narrow), noise=(2,))
    z = np.array([0.3, -0.8])
    path = np.array([np.zeros(2), narrow @ z])
    expected = norm.logpdf(z).sum() - np.log(4e-8)
    got = fj.path_log_prob(path, sde, np.array([0.0, 1.0]))
    assert float(got) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_the_density_of_paths_of_one_step_integrates_to_one(dimensions, x64):
    line = np.linspace(-15, 15, 201)
    if dimensions == 1:
        sde = fj.SDE(drift, lambda t, x, args: 0.4 + x**2)
        ends = line[:, None]
    else:
        sde = fj.SDE(drift, lambda t, x, args: jnp.asarray(MATRIX) * (1 + x[0]), noise=(3,))
        ends = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    start = np.full(dimensions, 0.6)

    def density(end):
        return jnp.exp(fj.path_log_prob(jnp.stack([start, end]), sde, TS[:2] * 10, 0.7))

    mass = np.sum(jax.jit(jax.vmap(density))(ends)) * (line[1] - line[0]) ** dimensions
    assert mass == pytest.approx(1, abs=1e-8)


# --- few-step samplers ----------------------------------------------------------------------------


def data_model(t, x, args):
    return jnp.tanh(x + t)


def law_in_numpy(name, schedule, t0, t1, x):
    """Mean and standard deviation, from alpha and sigma at both ends."""
    (a0, s0), (a1, s1) = ((float(schedule.alpha(t)), float(schedule.sigma(t))) for t in (t0, t1))
    data = np.tanh(x + t0)
    noise = (x - a0 * data) / s0
    decay = a0 * s1 / (s0 * a1)
    if name == "ancestral":
        return a1 * data + s1 * decay * noise, s1 * np.sqrt(1 - decay**2)
    if name == "stochastic_ddim":
        v = 0.7 * s1 * np.sqrt(1 - decay**2)
        return a1 * data + np.sqrt(s1**2 - v**2) * noise, v
    # g^2 / g_m^2 h, with g = 0.9 (1 + t) and the memoryless g_m^2 = 2 sigma^2 lambda'.
    eps = 1e-5
    slope = (log_ratio(schedule, t0 + eps) - log_ratio(schedule, t0 - eps)) / (2 * eps)
    tau = (0.9 * (1 + t0)) ** 2 / (2 * s0**2 * slope) * -np.log(decay)
    return a1 * data + s1 * np.exp(-tau) * noise, s1 * np.sqrt(1 - np.exp(-2 * tau))


def log_ratio(schedule, t):
    return np.log(float(schedule.alpha(t)) / float(schedule.sigma(t)))


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("ancestral", fj.CondOT()),
        ("ancestral", fj.EDM()),
        ("stochastic_ddim", fj.CondOT()),
        ("stochastic_ddim", fj.VariancePreserving()),
        ("exponential_euler", fj.VariancePreserving()),
        ("exponential_euler", fj.EDM()),
    ],
    ids=str,
)
@pytest.mark.thin(2)
def test_a_sampler_is_normal_with_its_papers_mean_and_variance(name, schedule, x64):
    sde = fj.velocity(data_model, schedule, predicts="data")
    step = fj.stochastic_ddim(0.7) if name == "stochastic_ddim" else getattr(fj, name)
    if name == "exponential_euler":
        sde = fj.with_noise(sde, lambda t: 0.9 * (1 + t))
    path = path_like((3,))
    expected = [
        norm.logpdf(x1, *law_in_numpy(name, schedule, t0, t1, x0)).sum()
        for t0, t1, x0, x1 in steps_of(path)
    ]
    got = fj.transition_log_probs(path, sde, TS, step=step)
    np.testing.assert_allclose(got, expected, rtol=1e-8)


# --- a step of one's own --------------------------------------------------------------------------


def drift_implicit(sde, t0, t1, x, args, dw):
    """Backward Euler for the linear drift -args x."""
    return fj.plus(0 * x, (1 / (1 + args * (t1 - t0)), x + sde.contract(t0, x, args, dw)))


drift_implicit.gaussian = True


def test_a_step_of_ones_own_that_says_it_is_gaussian_has_a_density(x64):
    path, sde = path_like((2,)), fj.SDE(drift, lambda t, x, args: 0.5 + 0 * x)
    expected = sum(
        norm.logpdf(x1, x0 / (1 + 0.7 * (t1 - t0)), 0.5 * np.sqrt(t1 - t0) / (1 + 0.7 * (t1 - t0)))
        for t0, t1, x0, x1 in steps_of(path)
    ).sum()
    for step in (drift_implicit, functools.partial(drift_implicit)):
        got = fj.path_log_prob(path, sde, TS, 0.7, step=step)
        assert float(got) == pytest.approx(expected, abs=1e-12)


# --- gradients ------------------------------------------------------------------------------------


def test_gradients_by_drift_and_noise_are_the_scores_of_normal_numbers(x64):
    path = path_like((3,))

    def value(theta, sigma):
        sde = fj.SDE(lambda t, x, args: theta + 0 * x, lambda t, x, args: sigma)
        return fj.path_log_prob(path, sde, TS)

    by_theta, by_sigma = jax.grad(value, (0, 1))(0.4, 0.6)
    h, dx = np.diff(TS)[:, None], np.diff(np.asarray(path), axis=0)
    off = dx - 0.4 * h
    assert float(by_theta) == pytest.approx((off / 0.6**2).sum(), rel=1e-10)
    assert float(by_sigma) == pytest.approx((off**2 / (0.6**3 * h) - 1 / 0.6).sum(), rel=1e-10)


@pytest.mark.parametrize("kind", ["matrix", "ancestral"])
def test_gradients_by_everything_are_central_differences(kind, x64):
    path = path_like((2,))

    def value(inputs):
        path, theta, ts = inputs
        if kind == "matrix":
            sde = fj.SDE(drift, lambda t, x, args: args * (1 + x[1] ** 2) * MATRIX, noise=(3,))
            return fj.path_log_prob(path, sde, ts, theta)
        v = fj.velocity(lambda t, x, args: jnp.tanh(args * x + t), fj.CondOT(), "data")
        return fj.path_log_prob(path, v, ts, theta, step=fj.ancestral)

    inputs, value = (path, jnp.asarray(0.7), jnp.asarray(TS)), jax.jit(value)
    way = tuple(path_like(leaf.shape, f"way{i}")[0] for i, leaf in enumerate(inputs))
    slopes = jax.tree.map(jnp.vdot, jax.jit(jax.grad(value))(inputs), way)
    for i, slope in enumerate(slopes):
        ends = [
            value(
                tuple(
                    x + sign * 1e-6 * (i == j) * w
                    for j, (x, w) in enumerate(zip(inputs, way, strict=True))
                )
            )
            for sign in (1, -1)
        ]
        assert float(slope) == pytest.approx(float(ends[0] - ends[1]) / 2e-6, rel=1e-6)


# --- bits and dtypes ------------------------------------------------------------------------------


def network(t, x, args):
    return args(t, x)


BITS = {
    "euler_maruyama": (
        fj.SDE(network, lambda t, x, args: 0.5 + 0.3 * jnp.sin(x)),
        fj.euler_maruyama,
    ),
    "ancestral": (fj.velocity(network, fj.CondOT()), fj.ancestral),
}


@pytest.mark.parametrize("name", BITS)
@pytest.mark.thin(1)
def test_a_rollout_and_its_training_have_the_same_bits(name):
    """The rollout stores the path that it scores: another program may round the path otherwise."""
    (sde, step), ts = BITS[name], TS.astype(np.float32)
    model = fj.models.MLP((3,), width=17, depth=2, key=key_of("network"))
    along = fj.densities.log_prob(sde, model, step=step)

    def stored(value, t0, t1, x0, x1, dw):
        k, path, log_prob = value
        path = jax.lax.dynamic_update_index_in_dim(path, x1, k + 1, 0)
        return k + 1, path, along.update(log_prob, t0, t1, x0, x1, dw)

    def rollout(x0, key):
        start = (0, jnp.zeros((len(ts), 3)).at[0].set(x0), along.init(x0))
        return fj.fold(sde, x0, ts, model, step=step, key=key, init=start, update=stored)[1][1:]

    def again(model, path):
        return fj.path_log_prob(path, sde, ts, model, step=step)

    def loss(model, paths):
        values = jax.vmap(again, (None, 0))(model, paths)
        return values.mean(), values

    x0 = jax.random.normal(key_of("x0"), (33, 3))
    keys = jax.random.split(key_of("noise"), 33)
    paths, values = jax.jit(jax.vmap(rollout))(x0, keys)
    recomputed = jax.jit(jax.vmap(again, (None, 0)))(model, paths)
    (_, trained), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(model, paths)
    np.testing.assert_array_equal(recomputed, values)
    np.testing.assert_array_equal(trained, values)
    assert any(np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_the_density_of_a_rollout_is_that_of_its_noise():
    """That of its dW, to the rounding of a difference of states."""
    sde, ts = fj.SDE(lambda t, x, args: jnp.sin(x), lambda t, x, args: 0.7), TS.astype(np.float32)
    key, along = key_of("noise"), fj.densities.log_prob(sde)
    _, value = fj.fold(sde, jnp.ones(3), ts, key=key, **along._asdict())
    dw = fj.brownian_increments(key, ts, jnp.zeros(3))
    expected = norm.logpdf(dw, 0, np.sqrt(np.diff(ts))[:, None]).sum() - 12 * np.log(0.7)
    assert float(value) == pytest.approx(expected, abs=1e-3)


def test_the_field_sees_a_path_of_half_precision_in_its_own_dtype():
    seen = []

    def field(t, x, args):
        seen.append(x.dtype)
        return -x

    path = path_like((3,)).astype(jnp.bfloat16)
    sde = fj.SDE(field, lambda t, x, args: 1.0)
    value = fj.path_log_prob(path, sde, TS.astype(np.float32))
    assert set(seen) == {jnp.dtype(jnp.bfloat16)}
    assert value.dtype == jnp.float32
    steps = zip(np.diff(TS), *(np.asarray(path, float)[i : i + 4] for i in (0, 1)), strict=True)
    expected = sum(norm.logpdf(x1, x0 - h * x0, np.sqrt(h)).sum() for h, x0, x1 in steps)
    assert float(value) == pytest.approx(expected, rel=1e-4)


# --- no density -----------------------------------------------------------------------------------


@pytest.mark.parametrize("moved", [True, False])
def test_where_a_traced_step_has_no_noise_there_is_no_density(moved):
    """-inf for a path that cannot be, else NaN; and the gradient is not a number either."""
    path = jnp.array([[1.0, 1.0], [2.0, 1.5 if moved else 1.0]])

    def value(g):
        sde = fj.SDE(lambda t, x, args: 0 * x, lambda t, x, args: jnp.stack([1.0 + 0 * g, g]))
        return fj.path_log_prob(path, sde, np.array([0.0, 1.0], np.float32))

    value, slope = jax.jit(jax.value_and_grad(value))(0.0)
    assert float(value) == -math.inf if moved else np.isnan(value)
    assert np.isnan(slope)


def test_where_traced_noise_leaves_out_a_direction_there_is_no_density():
    path = path_like((2,))[:2]

    def value(g):
        sde = fj.SDE(drift, lambda t, x, args: g * jnp.ones((2, 3)), noise=(3,))
        return fj.path_log_prob(path, sde, TS[:2].astype(np.float32), 0.7)

    assert np.isnan(jax.jit(value)(1.0))


def test_a_traced_time_that_repeats_has_no_density():
    sde, path = fj.ornstein_uhlenbeck(1.0, 1.0), jnp.zeros((3, 2))
    values = jax.jit(lambda ts: fj.transition_log_probs(path, sde, ts))(jnp.array([0.0, 0.5, 0.5]))
    np.testing.assert_array_equal(np.isnan(values), [False, True])
