"""Guidance by a gradient, against posteriors in closed form and its formula by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from tests.guidance.oracles import PREDICTIONS, SCHEDULES, level, predicted

guide = fj.guidance.by_gradient
OPERATOR, NOISE, Y = np.array([1.0, -0.5]), 0.3, np.float64(1.7)
WEIGHTS, MEANS = np.array([0.3, 0.7]), np.array([[1.0, 0.0], [-1.5, 0.5]])
VARIANCES = np.array([0.8, 0.3])
X = np.array([0.4, -0.7])


def given_the_state(schedule, t, x):
    """Of each component: log-weight, mean and variance of the data, given the state x at t."""
    alpha, sigma = schedule(t)
    width = alpha**2 * VARIANCES + sigma**2
    residual = x[None] - alpha * MEANS
    log_weights = np.log(WEIGHTS) - jnp.log(width) - jnp.sum(residual**2, -1) / (2 * width)
    data = MEANS + (alpha * VARIANCES / width)[:, None] * residual
    return log_weights - jax.nn.logsumexp(log_weights), data, sigma**2 * VARIANCES / width


def exact_log_likelihood(schedule):
    """`log p(y | x_t)` of y = OPERATOR x_1 + noise of variance NOISE, but for a constant."""

    def log_likelihood(t, x, y):
        log_weights, data, variances = given_the_state(schedule, t, x)
        of_y = variances * np.sum(OPERATOR**2) + NOISE
        residual = y - jnp.sum(data * OPERATOR[None], -1)
        return jax.nn.logsumexp(log_weights - residual**2 / (2 * of_y) - jnp.log(of_y) / 2)

    return log_likelihood


def prior(schedule, predicts):
    """The velocity of the mixture, by a model of any prediction."""

    def model(t, x, args):
        log_weights, data, _ = given_the_state(schedule, t, x)
        data = jnp.sum(jnp.exp(log_weights)[:, None] * data, 0)
        return predicted(predicts, (*schedule(t), *schedule.rates(t)), x, data)

    return fj.velocity(model, schedule, predicts)


def of_the_posterior(schedule, t, x):
    """The velocity of the data given Y: that of a mixture of full covariances, in NumPy."""
    of_y = VARIANCES * np.sum(OPERATOR**2) + NOISE
    gain, residual = np.outer(VARIANCES, OPERATOR) / of_y[:, None], Y - MEANS @ OPERATOR
    a, s, a_rate, s_rate = level(schedule, t)
    shares, data = [], []
    for k in range(2):
        mean = MEANS[k] + gain[k] * residual[k]
        covariance = VARIANCES[k] * (np.eye(2) - np.outer(gain[k], OPERATOR))
        of_x, displaced = a**2 * covariance + s**2 * np.eye(2), x - a * mean
        whitened = np.linalg.solve(of_x, displaced)
        weight = WEIGHTS[k] * np.exp(-(residual[k] ** 2) / (2 * of_y[k])) / np.sqrt(of_y[k])
        shares.append(weight * np.exp(-displaced @ whitened / 2) / np.sqrt(np.linalg.det(of_x)))
        data.append(mean + a * covariance @ whitened)
    mean = np.average(data, axis=0, weights=shares)
    return predicted("velocity", (a, s, a_rate, s_rate), x, mean)


@pytest.mark.parametrize("predicts", PREDICTIONS)
@pytest.mark.thin(2)
def test_the_exact_likelihood_makes_the_velocity_of_the_posterior(predicts, x64):
    for schedule in SCHEDULES:
        guided = guide(prior(schedule, predicts), exact_log_likelihood(schedule))
        assert (guided.schedule, guided.predicts) == (schedule, predicts)
        for t in (0.15, 0.8):
            want = of_the_posterior(schedule, t, X)
            np.testing.assert_allclose(guided(t, X, Y), want, rtol=1e-8)
    # Half of the gradient, or a flipped sign, does not.
    for w in (0.5, -1.0):
        wrong = guide(prior(schedule, predicts), exact_log_likelihood(schedule), w)
        assert np.max(np.abs(wrong(t, X, Y) - want)) > 1e-3


def test_sampling_the_guided_flow_is_sampling_the_posterior(x64):
    path, ts = fj.CondOT(), np.linspace(0.05, 0.95, 20)
    guided = guide(prior(path, "velocity"), exact_log_likelihood(path))
    x = X
    for t, h in zip(ts[:-1], np.diff(ts), strict=True):
        x = x + h * of_the_posterior(path, t, x)
    np.testing.assert_allclose(fj.solve(guided, X, ts, Y), x, rtol=1e-9)


@pytest.mark.parametrize("predicts", PREDICTIONS)
def test_a_likelihood_of_the_data_is_differentiated_through_the_model(predicts, x64):
    """Where the expected data is a line in x its Jacobian is known."""
    mean, slope = np.array([0.5, -1.0]), np.array([[0.7, 0.2], [-0.4, 0.9]])
    t, w, y = 0.4, 1.5, 1.7
    for schedule in SCHEDULES:

        def model(t, x, args, schedule=schedule):
            data = mean + jnp.dot(slope, x)
            return predicted(predicts, (*schedule(t), *schedule.rates(t)), x, data)

        guided = guide(
            fj.velocity(model, schedule, predicts),
            lambda t, data, y: -((y - jnp.dot(OPERATOR, data)) ** 2) / 0.6,
            lambda t: w,
            of="data",
        )
        levels, data = level(schedule, t), mean + slope @ X
        gradient = slope.T @ OPERATOR * (y - OPERATOR @ data) / 0.3
        want = predicted("velocity", levels, X, data + w * levels[1] ** 2 / levels[0] * gradient)
        np.testing.assert_allclose(guided(t, X, y), want, rtol=1e-9)


@pytest.mark.parametrize("of", ["state", "data"])
def test_the_model_is_called_once(of):
    traces = []

    def model(t, x, args):
        traces.append(None)
        return -x

    def counted(v):
        traces.clear()
        jax.make_jaxpr(lambda x: fj.solve(v, x, fj.uniform_grid(9)[1:]))(jnp.ones(2))
        return len(traces)

    v = fj.velocity(model, fj.CondOT())
    guided = guide(v, lambda t, x, args: jnp.sum(x**2), of=of)
    assert counted(guided) == counted(v) > 0


def test_states_of_leaves_in_halves_are_guided_and_have_derivatives():
    v = fj.velocity(lambda t, x, args: jax.tree.map(jnp.negative, x), fj.CondOT(), "data")
    x = {"a": jnp.array([0.5, -2.0], jnp.bfloat16), "b": jnp.array(1.0)}

    def reward(t, x, w):
        return w * (jnp.sum(x["a"].astype(jnp.float32)) + x["b"] ** 2)

    guided = guide(v, reward)
    # D + s^2 / a g, at t = 1/2.
    value = jax.jit(lambda w: guided.model(0.5, x, w))
    got = value(jnp.array(3.0))
    assert got["a"].dtype == jnp.bfloat16
    np.testing.assert_allclose(got["a"].astype(jnp.float32), [1.0, 3.5], rtol=2**-7)
    np.testing.assert_allclose(got["b"], -1 + 0.5 * 3 * 2)
    slope = jax.grad(lambda w: value(w)["b"])(3.0)
    np.testing.assert_allclose(slope, 0.5 * 2)


@pytest.mark.parametrize("of", ["state", "data"])
def test_a_gradient_is_refused_at_t_0_where_alpha_is_zero(of):
    x, ts = jnp.array([0.3, -1.0]), fj.uniform_grid(5)
    guided = guide(fj.Gaussian(jnp.zeros(2), 0.5).velocity(fj.CondOT()), quadratic, of=of)
    for step in (fj.euler, fj.ddim):
        with pytest.raises(ValueError, match="does not determine the velocity at t = 0, where alp"):
            fj.solve(guided, x, ts, step=step)
    with pytest.raises(ValueError, match="does not determine the velocity at t = 0"):
        guided(0.0, x, None)
    # Where the time is not known it is NaN.
    u = jax.jit(lambda t, x: guided(t, x, None))
    assert np.all(np.isnan(u(jnp.zeros(()), x)))
    assert np.all(np.isfinite(u(jnp.ones(()), x)))
    # And it is determined where alpha is not zero: u + sigma (-sigma') (-2 x), with alpha = 1.
    path = fj.VarianceExploding(0.1, 5.0)
    v = fj.Gaussian(jnp.zeros(2), 0.5).velocity(path)
    want = v(0.0, x, None) - 2 * path.half_variance_rate(0.0) * -x
    np.testing.assert_allclose(guide(v, quadratic, of="state")(0.0, x, None), want, rtol=1e-5)


def quadratic(t, x, args):
    return -jnp.sum(x**2)


PRIOR = fj.velocity(lambda t, x, args: -x, fj.CondOT())


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: guide(None, quadratic), TypeError, "by_gradient needs a fj.Velocity"),
        (lambda: guide(PRIOR, 3.0), TypeError, r"log_likelihood must be a function \(t, x, args\)"),
        (lambda: guide(PRIOR, lambda x: x), TypeError, "log_likelihood must be a function"),
        (lambda: guide(PRIOR, quadratic, "1"), TypeError, "scale must be a real number"),
        (lambda: guide(PRIOR, quadratic, np.inf), ValueError, "scale must be finite"),
        (lambda: guide(PRIOR, quadratic, of="x"), ValueError, 'of must be "state" or "data"'),
        (
            lambda: guide(fj.velocity(quadratic, fj.CondOT(), coupled=True), quadratic),
            ValueError,
            "by_gradient needs the score, which a velocity of coupled pairs does not determine",
        ),
        *(
            (
                lambda of=of, value=value: guide(PRIOR, lambda t, x, args: value(x), of=of)(
                    0.5, jnp.ones(2), None
                ),
                TypeError,
                "log_likelihood must return a real floating scalar, got",
            )
            for of in ("state", "data")
            for value in (lambda x: x, lambda x: jnp.sum(x)[None], lambda x: 1, lambda x: None)
        ),
    ],
)
def test_bad_input_is_refused_by_name(call, error, words, unchecked):
    with pytest.raises(error, match=words):
        call()
