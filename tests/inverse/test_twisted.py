"""Twisted SMC: against a NumPy loop, unbiased at any number of particles, exact with many."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

import flowjax as fj
from flowjax.inverse import twisted
from flowjax.particles import finished, moved
from tests.inverse import oracles
from tests.solver.random_checks import assert_near, keys_of

# One coordinate: the prior N(0.5, 1.3^2), and an observation of it.
MEAN, STD, Y, SIGMA = 0.5, 1.3, 3.0, 0.25
TS = np.linspace(0, 1, 9)


def prior():
    return fj.Gaussian(jnp.array([MEAN]), STD).velocity(fj.CondOT())


def start(key):
    return jax.random.normal(key, (1,))


def identity(x):
    return x


# The spread is not that of the data, so that the weights have something to make up for.
WRONG_SPREAD = 2.0


def weighted(key, particles, **options):
    observation = fj.inverse.Observation(jnp.array([Y]), identity, SIGMA)
    options = {"data_std": WRONG_SPREAD, "resampled": False} | options
    return fj.inverse.twisted_smc(key, prior(), observation, start, TS, particles, **options)


def without_the_last_weight(key, particles):
    observation = fj.inverse.Observation(jnp.array([Y]), identity, SIGMA)
    rule = twisted._Twist(observation, jnp.asarray(WRONG_SPREAD), 4)
    given = prior(), rule, start, TS, particles, None, twisted._twisted, 0.5
    cloud, last = moved(key, *given)
    return finished(cloud, last, False, "twisted_smc")


def truth():
    """Mean of the posterior, and the evidence, of the chain of n steps."""
    m, var = oracles.chain(MEAN, STD, TS)
    mean = m + var / (var + SIGMA**2) * (Y - m)
    return mean, stats.norm.pdf(Y, m, np.sqrt(var + SIGMA**2))


def averages(found):
    """The estimates of the evidence, and of the mean times it: for each key one."""
    evidence = np.exp(np.asarray(found.log_evidence))
    mean = np.sum(np.exp(found.log_weights) * found.samples[..., 0], axis=-1)
    return np.asarray(mean), np.asarray(evidence)


def is_unbiased(found, mean, evidence, what):
    """Two comparisons, each with a false-alarm rate of 5.7e-7."""
    means, evidences = averages(found)
    for values, expected in ((evidences, evidence), (means * evidences, mean * evidence)):
        assert_near(values.mean(), expected, values.std() / np.sqrt(len(values)), what)


def test_evidence_and_moments_are_unbiased_with_few_particles(x64):
    """Sequential Monte Carlo is unbiased for both, exactly, however few particles there are."""
    found = jax.vmap(lambda key: weighted(key, 4))(keys_of("unbiased", 8000))
    is_unbiased(found, *truth(), "4 particles")


def test_a_last_weight_that_is_left_out_is_caught(x64):
    found = jax.vmap(lambda key: without_the_last_weight(key, 4))(keys_of("unbiased", 8000))
    with pytest.raises(AssertionError, match="4 particles"):
        is_unbiased(found, *truth(), "4 particles")


def rate(draw, counts, repeats=200):
    """How fast the mean squared error of the posterior's mean falls: 1 for 1 / particles."""
    errors = []
    for particles in counts:
        found = jax.vmap(lambda key, particles=particles: draw(key, particles))(
            keys_of(f"rate {particles}", repeats)
        )
        errors.append(np.mean((averages(found)[0] - truth()[0]) ** 2))
    return np.polyfit(np.log(counts), -np.log(errors), 1)[0]


@pytest.mark.nightly
def test_the_error_falls_like_the_root_of_the_number_of_particles(x64):
    """And does not where the last weight is left out.

    The logarithm of each error has a standard deviation of sqrt(2 / 200), and the slope over a
    factor of 16 one of 0.051: five of them are a false-alarm rate of 5.7e-7.
    """
    bound = 5 * np.sqrt(2 * 2 / 200) / np.log(16)
    assert abs(rate(weighted, (64, 256, 1024)) - 1) < bound
    assert abs(rate(without_the_last_weight, (64, 1024)) - 1) > bound


def test_any_log_likelihood_and_any_state_will_do(x64):
    """A click on a button, of log-odds 3 x, on a state that is a dictionary; by quadrature."""
    v = fj.Gaussian(jnp.array(MEAN), STD).velocity(fj.CondOT())

    def model(t, x, args):
        return {"x": v(t, x["x"], args)}

    def draw(key):
        return {"x": jax.random.normal(key)}

    def log_likelihood(x):
        return jax.nn.log_sigmoid(3 * x["x"] - 2)

    pair = fj.velocity(model, fj.CondOT())
    m, var = oracles.chain(MEAN, STD, TS)

    def integral(power):
        def integrand(x):
            return x**power * special.expit(3 * x - 2) * stats.norm.pdf(x, m, np.sqrt(var))

        return integrate.quad(integrand, -10, 10, epsabs=1e-12)[0]

    def run(key):
        return fj.inverse.twisted_smc(key, pair, log_likelihood, draw, TS, 6, resampled=False)

    found = jax.vmap(run)(keys_of("button", 8000))
    found = found._replace(samples=found.samples["x"][..., None])
    is_unbiased(found, integral(1) / integral(0), integral(0), "button")


MIXTURE = (
    np.array([0.4, 0.6]),
    np.array([[-2.0, 0.0], [1.0, 2.0]]),
    np.array([[[0.5, 0.2], [0.2, 0.3]], [[0.3, 0.0], [0.0, 0.6]]]),
)
A, SEEN, NOISE = np.array([[1.0, 1.0]]), np.array([1.5]), np.array([[0.09]])


def by_hand(x, dw, du, ts, c, threshold):
    """Algorithm 1 with systematic resampling, particle by particle; how often it resampled too."""
    num, evidence, resampled = len(x), 0.0, 0
    logs, before = np.zeros(num), np.zeros(num)
    for t0, t1, noise, one in zip(ts[:-1], ts[1:], dw, du, strict=True):
        a0, s0, a1, s1, root_h = t0, 1 - t0, t1, 1 - t1, np.sqrt(t1 - t0)
        r2 = s0**2 * c**2 / (s0**2 + a0**2 * c**2)
        between = NOISE + r2 * A @ A.T
        data = np.array([oracles.mixture_at(MIXTURE, t0, one)[0] for one in x])
        residuals = SEEN - data @ A.T
        guess = -np.einsum("ki,ij,kj->k", residuals, np.linalg.inv(between), residuals) / 2
        slopes = np.array(
            [oracles.gradient("pigdm", MIXTURE, t0, one, A, SEEN, NOISE, c) for one in x]
        )
        logs = logs + guess - before
        shares = np.exp(logs - special.logsumexp(logs))
        if 1 / np.sum(shares**2) < threshold * num:
            evidence += special.logsumexp(logs) - np.log(num)
            heights = (np.arange(num) + special.ndtr(one / root_h)) / num
            parents = np.searchsorted(np.cumsum(shares), heights)
            x, data, guess, slopes = x[parents], data[parents], guess[parents], slopes[parents]
            logs, resampled = np.zeros(num), resampled + 1
        before = guess
        decay = a0 * s1 / (s0 * a1)
        std = s1 * np.sqrt(1 - decay**2)
        mean = a1 * data + s1 * decay * (x - a0 * data) / s0
        shift = std**2 * slopes
        x = mean + shift + std * noise / root_h
        if s1 > 0:
            logs = logs + np.sum((x - mean - shift) ** 2 - (x - mean) ** 2, axis=1) / (2 * std**2)
    likelihood = stats.norm.logpdf(SEEN, x @ A.T, np.sqrt(NOISE[0]))[:, 0]
    logs = logs + likelihood - before
    total = special.logsumexp(logs)
    return x, logs - total, evidence + total - np.log(num), resampled


def test_it_is_the_algorithm_on_the_same_noise(x64):
    num, ts, key, c = 7, np.linspace(0, 1, 7), jax.random.key(3), 1.4
    weights, means, covariances = map(jnp.asarray, MIXTURE)
    v = fj.GaussianMixture(weights, means, covariances=covariances).velocity(fj.CondOT())

    def draw(key):
        return jax.random.normal(key, (2,))

    init_key, path_key, last_key = jax.random.split(key, 3)
    x0 = jax.vmap(draw)(jax.random.split(init_key, num))
    dw, du = fj.brownian_increments(path_key, ts, (x0, jnp.zeros(())))
    x, logs, evidence, resampled = by_hand(*map(np.asarray, (x0, dw, du)), ts, c, 0.8)
    assert 0 < resampled < len(ts) - 1

    observation = fj.inverse.Observation(SEEN, lambda x: jnp.asarray(A) @ x, 0.3)
    given, options = (key, v, observation, draw, ts, num), {"data_std": c, "threshold": 0.8}
    found = fj.inverse.twisted_smc(*given, **options, resampled=False)
    np.testing.assert_allclose(found.samples, x, atol=1e-10)
    np.testing.assert_allclose(found.log_weights, logs, atol=1e-10)
    assert abs(float(found.log_evidence) - evidence) < 1e-10

    # And once more at the end, by a key of its own.
    again = fj.inverse.twisted_smc(*given, **options)
    uniform = 1 - float(jax.random.uniform(last_key, dtype=jnp.float64))
    heights = (np.arange(num) + uniform) / num
    np.testing.assert_allclose(
        again.samples, x[np.searchsorted(np.cumsum(np.exp(logs)), heights)], atol=1e-10
    )
    np.testing.assert_allclose(again.log_weights, -np.log(num))


def primitives(jaxpr):
    for equation in jaxpr.eqns:
        yield str(equation.primitive), equation
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from primitives(inner)


def test_a_step_is_one_batched_call_of_the_model_and_one_product():
    """Sine marks a call of the model, and cosine its derivative: counted in the whole program."""
    v = fj.velocity(lambda t, x, args: jnp.sin(x), fj.CondOT(), "data")
    observation = fj.inverse.Observation(jnp.array([Y]), identity, SIGMA)

    def run(key):
        return fj.inverse.twisted_smc(key, v, observation, start, jnp.asarray(TS), 16)

    found = list(primitives(jax.make_jaxpr(run)(jax.random.key(0)).jaxpr))
    for name in ("sin", "cos"):
        shapes = [equation.outvars[0].aval.shape for each, equation in found if each == name]
        assert shapes == [(16, 1)]


class Never(eqx.Module):
    """A log-likelihood of what no particle comes to."""

    value: jax.Array

    def __call__(self, x):
        return jnp.where(x[0] > 100, 0.0, self.value)


@pytest.mark.parametrize("value", [-jnp.inf, jnp.nan])
def test_weights_that_vanish_give_a_warning_and_nan(value):
    given = prior(), Never(jnp.array(value)), start, fj.uniform_grid(3), 4
    with pytest.warns(RuntimeWarning, match="twisted_smc: the weights of all particles have van"):
        found = fj.inverse.twisted_smc(jax.random.key(0), *given)
    assert all(np.isnan(leaf).all() for leaf in found)


def test_under_jit_they_are_nan_without_a_warning():
    given = prior(), Never(jnp.array(-jnp.inf)), start, fj.uniform_grid(3), 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = jax.jit(lambda key: fj.inverse.twisted_smc(key, *given))(jax.random.key(0))
    assert all(np.isnan(leaf).all() for leaf in found)


def call(**change):
    given = {
        "key": jax.random.key(0),
        "v": prior(),
        "log_likelihood": lambda x: x[0],
        "init": start,
        "ts": fj.uniform_grid(2),
        "particles": 2,
    }
    return fj.inverse.twisted_smc(**given | change)


def coupled():
    return fj.velocity(lambda t, x, args: x, fj.CondOT(), coupled=True)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"particles": 1}, ValueError, "particles must be at least 2, got 1"),
        ({"particles": 2.0}, TypeError, "particles must be a static positive int"),
        ({"v": lambda t, x, args: x}, TypeError, "twisted_smc needs a fj.Velocity"),
        ({"v": coupled()}, ValueError, "twisted_smc needs the score"),
        ({"log_likelihood": 1.0}, TypeError, "log_likelihood must be a function of the data"),
        (
            {"log_likelihood": lambda x: x},
            TypeError,
            "log_likelihood must return a real floating s",
        ),
        (
            {"log_likelihood": lambda x: 1},
            TypeError,
            "log_likelihood must return a real floating s",
        ),
        ({"init": None}, TypeError, "init must be a function key -> x0 of one particle"),
        ({"init": lambda key: 1 + 0j}, TypeError, "what init draws must be a real floating array"),
        ({"ts": jnp.array([1.0, 0.0])}, ValueError, "ts must not decrease"),
        ({"ts": jnp.array([0.0, 2.0])}, ValueError, r"ts must lie within \[0, 1\]"),
        ({"key": 0}, TypeError, "key must be one JAX key"),
        ({"threshold": 2.0}, ValueError, "threshold must be from 0 to 1, got 2"),
        ({"data_std": -1.0}, ValueError, "data_std must be above 0"),
        ({"iterations": 0}, ValueError, "iterations must be a static positive int"),
        ({"resampled": 1}, TypeError, "resampled must be True or False, got 1"),
    ],
)
def test_bad_input_is_refused(unchecked, change, error, words):
    with pytest.raises(error, match=words):
        call(**change)


def test_a_start_where_the_data_are_not_determined_is_refused():
    noise = fj.velocity(lambda t, x, args: x, fj.CondOT(), "noise")
    with pytest.raises(ValueError, match="a model of the noise does not determine the data"):
        call(v=noise)


def test_an_observation_of_another_shape_is_refused():
    observation = fj.inverse.Observation(jnp.zeros(2), identity, 1.0)
    with pytest.raises(ValueError, match=r"the operator's output must have shape \(2,\)"):
        call(log_likelihood=observation)
