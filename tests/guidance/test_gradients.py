"""Guidance by a gradient, against posteriors in closed form and its formula by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from tests.guidance.oracles import PREDICTIONS, SCHEDULES, level, predicted

guide = fj.guidance.by_gradient
MEAN, COVARIANCE = np.array([0.5, -1.0]), np.array([[1.0, 0.4], [0.4, 0.6]])
OPERATOR, NOISE, Y = np.array([[1.0, -0.5]]), np.array([[0.3]]), np.array([1.7])
WEIGHTS, MEANS = np.array([0.3, 0.7]), np.array([[1.0, 0.0], [-1.5, 0.5]])
COVARIANCES = np.stack([COVARIANCE, np.diag([0.2, 0.9])])
X = np.array([0.4, -0.7])


def posterior(mean, covariance):
    """Mean, covariance and the log-density of Y, given that a Gaussian is seen through OPERATOR."""
    of_y = OPERATOR @ covariance @ OPERATOR.T + NOISE
    gain = covariance @ OPERATOR.T @ np.linalg.inv(of_y)
    residual = Y - OPERATOR @ mean
    density = -0.5 * (residual @ np.linalg.solve(of_y, residual) + np.log(np.linalg.det(of_y)))
    return mean + gain @ residual, covariance - gain @ OPERATOR @ covariance, density


def of_component(schedule, t, x, mean, covariance):
    """The law of the data given x, and the log-density of x."""
    alpha, sigma = schedule(t)
    of_x = alpha**2 * covariance + sigma**2 * jnp.eye(2)
    gain = alpha * covariance @ jnp.linalg.inv(of_x)
    residual = x - alpha * mean
    density = -0.5 * (residual @ jnp.linalg.solve(of_x, residual) + jnp.linalg.slogdet(of_x)[1])
    return mean + gain @ residual, covariance - alpha * gain @ covariance, density


def exact_log_likelihood(schedule, weights, means, covariances):
    """`log p(y | x_t)` of a mixture, with its constant."""

    def log_likelihood(t, x, y):
        joint, of_state = [], []
        for weight, mean, covariance in zip(weights, means, covariances, strict=True):
            center, spread, of_x = of_component(schedule, t, x, mean, covariance)
            of_y, residual = OPERATOR @ spread @ OPERATOR.T + NOISE, y - OPERATOR @ center
            seen = -0.5 * jnp.sum(residual**2 / of_y[0] + jnp.log(of_y[0]))
            joint.append(jnp.log(weight) + of_x + seen)
            of_state.append(jnp.log(weight) + of_x)
        return jax.nn.logsumexp(jnp.stack(joint)) - jax.nn.logsumexp(jnp.stack(of_state))

    return log_likelihood


def as_prediction(v, predicts):
    """The velocity by a model of another prediction."""

    def call(t, x, args):
        value = v(t, x, args)
        return fj.convert(value, t, x, v.schedule, source="velocity", target=predicts)

    return fj.velocity(call, v.schedule, predicts)


def gaussian_problem(schedule):
    prior = fj.Gaussian(MEAN, COVARIANCE).velocity(schedule)
    mean, covariance, _ = posterior(MEAN, COVARIANCE)
    likelihood = exact_log_likelihood(schedule, np.ones(1), MEAN[None], COVARIANCE[None])
    return prior, likelihood, fj.Gaussian(mean, covariance).velocity(schedule)


def mixture_problem(schedule):
    prior = fj.GaussianMixture(WEIGHTS, MEANS, covariances=COVARIANCES).velocity(schedule)
    parts = [posterior(*part) for part in zip(MEANS, COVARIANCES, strict=True)]
    means, covariances, seen = map(np.stack, zip(*parts, strict=True))
    weights = WEIGHTS * np.exp(seen)
    target = fj.GaussianMixture(weights / weights.sum(), means, covariances=covariances)
    likelihood = exact_log_likelihood(schedule, WEIGHTS, MEANS, COVARIANCES)
    return prior, likelihood, target.velocity(schedule)


@pytest.mark.parametrize("predicts", PREDICTIONS)
def test_the_exact_likelihood_makes_the_velocity_of_the_posterior(predicts, x64):
    for schedule in SCHEDULES:
        for problem in (gaussian_problem, mixture_problem):
            prior, likelihood, exact = problem(schedule)
            guided = guide(as_prediction(prior, predicts), likelihood)
            assert (guided.schedule, guided.predicts) == (schedule, predicts)
            got = jax.jit(jax.vmap(lambda t: guided(t, X, Y)))(np.array([0.1, 0.5, 0.9]))
            want = jax.jit(jax.vmap(lambda t: exact(t, X, None)))(np.array([0.1, 0.5, 0.9]))
            np.testing.assert_allclose(got, want, rtol=1e-8)


def test_sampling_the_guided_flow_is_sampling_the_posterior(x64):
    """Also with noise, by the score of the guided velocity."""
    prior, likelihood, exact = mixture_problem(fj.CondOT())
    guided, ts = guide(as_prediction(prior, "data"), likelihood), np.linspace(0.05, 1, 20)
    got = fj.solve(guided, X, ts, Y, step=fj.heun)
    np.testing.assert_allclose(got, fj.solve(exact, X, ts, step=fj.heun), rtol=1e-9)
    key = jax.random.key(0)
    ends = [
        fj.solve(fj.with_noise(v, lambda t: 1 - t), X, ts, Y, key=key) for v in (guided, exact)
    ]
    np.testing.assert_allclose(*ends, rtol=1e-9)
    # Half of the gradient, or a flipped sign, does not.
    for w in (0.5, -1.0):
        wrong = fj.solve(guide(prior, likelihood, w), X, ts, Y, step=fj.heun)
        assert np.max(np.abs(wrong - got)) > 0.1


@pytest.mark.parametrize("predicts", PREDICTIONS)
def test_a_likelihood_of_the_data_is_differentiated_through_the_model(predicts, x64):
    """For a Gaussian the expected data is a line in x, so that its Jacobian is known."""
    for schedule in SCHEDULES:
        prior, t, w = as_prediction(gaussian_problem(schedule)[0], predicts), 0.4, 1.5
        guided = guide(
            prior,
            lambda t, data, y: -jnp.sum((y - OPERATOR @ data) ** 2) / 0.6,
            lambda t: w,
            of="data",
        )
        a, s, a_rate, s_rate = level(schedule, t)
        gain = a * COVARIANCE @ np.linalg.inv(a**2 * COVARIANCE + s**2 * np.eye(2))
        data = MEAN + gain @ (X - a * MEAN)
        gradient = gain.T @ OPERATOR.T @ (Y - OPERATOR @ data) / 0.3
        want = predicted("velocity", (a, s, a_rate, s_rate), X, data + w * s**2 / a * gradient)
        np.testing.assert_allclose(guided(t, X, Y), want, rtol=1e-8)


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
    got = guided.model(0.5, x, jnp.array(3.0))
    assert got["a"].dtype == jnp.bfloat16
    np.testing.assert_allclose(got["a"].astype(jnp.float32), [1.0, 3.5], rtol=2**-7)
    np.testing.assert_allclose(got["b"], -1 + 0.5 * 3 * 2)
    slope = jax.grad(lambda w: guided.model(0.5, x, w)["b"])(3.0)
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
    assert np.all(np.isnan(jax.jit(guided)(0.0, x, None)))
    assert np.all(np.isfinite(jax.jit(guided)(1.0, x, None)))
    # And it is determined where alpha is not zero.
    guided = guide(fj.Gaussian(jnp.zeros(2), 0.5).velocity(fj.VarianceExploding(0.1, 5.0)), quadratic)
    assert np.all(np.isfinite(fj.solve(guided, x, ts)))


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
