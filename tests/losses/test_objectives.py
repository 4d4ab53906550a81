"""Objectives: at the exact prediction of a Gaussian no weight, law or target has a gradient.

Random checks allow five standard errors on each number: a false alarm in 1.7 million for each.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import flowjax as fj
from flowjax import losses

MEAN, STD, SAMPLES = 1.5, 0.6, 20_000
GAUSSIAN = fj.Gaussian(jnp.full((2,), MEAN), STD)
SCHEDULES = [fj.CondOT(), fj.Trigonometric(), fj.VariancePreserving(), fj.SquareRoot(), fj.EDM()]
PREDICTIONS = ["velocity", "data", "noise", "score", "v"]
FIVE_SIGMA = 2 * stats.norm.sf(5)


def data(key):
    return GAUSSIAN.sample(key)


def worst_gradient(loss):
    """Of many samples: the mean of the gradient by two wrong terms, in its standard errors."""

    def one(key):
        data_key, key = jax.random.split(key)
        return jax.grad(lambda wrong: loss(wrong, data(data_key), key))(jnp.zeros(2))

    keys = jax.random.split(jax.random.key(0), SAMPLES)
    slopes = np.asarray(jax.jit(jax.vmap(one))(keys), float)
    assert slopes.std(axis=0).min() > 0
    return np.max(np.abs(slopes.mean(axis=0)) / (slopes.std(axis=0) / np.sqrt(SAMPLES)))


def plus_wrong(exact, wrong):
    """What is exact, plus a term that is linear in x."""

    def model(t, x, args):
        return exact(t, x, args) + wrong[0] * x + wrong[1]

    return model


def exact(schedule, predicts):
    velocity = GAUSSIAN.velocity(schedule)

    def prediction(t, x, args):
        u = velocity(t, x, args)
        return fj.convert(u, t, x, schedule, source="velocity", target=predicts)

    return prediction


# Not near the ends, where the loss of some of them has no variance, or no mean.
MIDDLE = functools.partial(lambda u: 0.05 + 0.9 * u)


@pytest.mark.parametrize("predicts", PREDICTIONS)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.thin(5)
def test_each_target_is_least_at_the_exact_prediction(schedule, predicts):
    how = {"schedule": schedule, "predicts": predicts, "time": MIDDLE}

    def loss(wrong, x1, key):
        return losses.flow_matching(plus_wrong(exact(schedule, predicts), wrong), x1, key, **how)

    assert worst_gradient(loss) < 5


WEIGHTS = {
    "snr": losses.snr(),
    "min_snr": losses.min_snr(),
    "edm": losses.edm_weight(STD),
    "sigmoid": losses.sigmoid_weight(),
    "own": lambda t, schedule, predicts: 1 + t**2,
}
LAWS = {
    "logit_normal": losses.logit_normal(0.0, 0.7),
    "edm": losses.edm_times(mean=-0.5, std=0.7),
    "own": lambda u: 0.05 + 0.9 * u**2,
}


@pytest.mark.parametrize("predicts", ["velocity", "data", "v"])
@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.thin(9)
def test_no_weight_and_no_law_moves_the_minimum(predicts, weight, law):
    how = {"predicts": predicts, "time": LAWS[law], "weight": WEIGHTS[weight]}

    def loss(wrong, x1, key):
        model = plus_wrong(exact(fj.CondOT(), predicts), wrong)
        return losses.flow_matching(model, x1, key, **how)

    assert worst_gradient(loss) < 5


@pytest.mark.parametrize("bug", ["sign", "swapped", "half"])
def test_a_wrong_target_is_caught(bug):
    def loss(wrong, x1, key):
        time_key, noise_key = jax.random.split(key)
        t, x0 = MIDDLE(jax.random.uniform(time_key)), jax.random.normal(noise_key, x1.shape)
        xt = t * x1 + (1 - t) * x0
        target = {"sign": x0 - x1, "swapped": x1 + x0, "half": (x1 - x0) / 2}[bug]
        given = plus_wrong(exact(fj.CondOT(), "velocity"), wrong)(t, xt, None)
        return jnp.mean((given - target) ** 2)

    assert worst_gradient(loss) > 5


@pytest.mark.parametrize("predicts", PREDICTIONS)
def test_a_velocity_is_compared_in_any_prediction(predicts, x64):
    """That of another one, converted, has the loss of the model that gives it."""
    schedule, key = fj.Trigonometric(), jax.random.key(2)
    guess = lambda t, x, args: jnp.cos(x) * t  # noqa: E731
    v = fj.velocity(guess, schedule, "noise")

    def as_predicted(t, x, args):
        return fj.convert(guess(t, x, args), t, x, schedule, source="noise", target=predicts)

    x1 = jnp.array([1.0, -2.0])
    got = losses.flow_matching(v, x1, key, predicts=predicts)
    want = losses.flow_matching(as_predicted, x1, key, schedule=schedule, predicts=predicts)
    np.testing.assert_allclose(got, want, rtol=1e-10)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("name", ["snr", "min_snr", "edm", "sigmoid"])
@pytest.mark.thin(4)
def test_a_weight_is_one_weight_whatever_is_predicted(schedule, name, x64):
    """The square of an error of the data is weighed alike, by whichever prediction it is made."""
    weight, x = WEIGHTS[name], jnp.array(0.7)
    for t in (0.05, 0.4, 0.9):
        on_data = weight(jnp.array(t), schedule, "data")
        for predicts in PREDICTIONS:
            slope = jax.grad(
                lambda value, t=t, p=predicts: fj.convert(
                    value, t, x, schedule, source=p, target="data"
                )
            )(jnp.array(0.3))
            got = weight(jnp.array(t), schedule, predicts)
            np.testing.assert_allclose(got, on_data * slope**2, rtol=1e-9, err_msg=predicts)


def test_the_weights_are_those_of_their_papers(x64):
    t, schedule = np.linspace(0.1, 0.9, 9), fj.CondOT()
    snr = (t / (1 - t)) ** 2
    sigma = (1 - t) / t
    expected = {
        ("snr", "noise"): np.ones(9),
        ("min_snr", "data"): np.minimum(snr, 5),
        ("min_snr", "noise"): np.minimum(snr, 5) / snr,
        # EDM's, of the data that is divided by alpha.
        ("edm", "data"): (sigma**2 + STD**2) / (sigma * STD) ** 2,
        ("edm", "velocity"): t**2 + ((1 - t) / STD) ** 2,
        ("sigmoid", "noise"): 1 / (1 + np.exp(1 + np.log(snr))),
    }
    for (name, predicts), values in expected.items():
        got = [WEIGHTS[name](jnp.array(one), schedule, predicts) for one in t]
        np.testing.assert_allclose(got, values, rtol=1e-10, err_msg=name)


def test_at_a_half_the_slope_of_least_squares_is_that_of_the_marginal():
    """Of CondOT from N(0, 1) to N(0, s^2): (s^2 - 1) / 2 over (s^2 + 1) / 4."""

    def products(key):
        keys, seen = jax.random.split(key), []
        x1 = STD * jax.random.normal(keys[0], ())

        def line(slope):
            model = lambda t, x, args: seen.append(x) or slope * x  # noqa: E731
            return losses.flow_matching(model, x1, keys[1], t=0.5)

        # The loss is (slope x - y)^2: of its derivatives at 0, -2 x y and 2 x^2.
        return jax.grad(line)(0.0), jax.grad(jax.grad(line))(0.0)

    keys = jax.random.split(jax.random.key(4), SAMPLES)
    first, second = (np.asarray(part, float) for part in jax.jit(jax.vmap(products))(keys))
    slope = 2 * (STD**2 - 1) / (STD**2 + 1)
    residual = first + slope * second
    assert abs(residual.mean()) < 5 * residual.std() / np.sqrt(SAMPLES)


# --- the laws of time -----------------------------------------------------------------------------


def test_times_have_their_laws():
    u = jax.random.uniform(jax.random.key(1), (SAMPLES,))
    normal = {"logit_normal": (0.0, 0.7), "edm": (0.5, 0.7)}
    for name, (mean, std) in normal.items():
        t = np.asarray(jax.vmap(LAWS[name])(u), float)
        assert stats.kstest(stats.logistic.ppf(t), "norm", (mean, std)).pvalue > FIVE_SIGMA, name
    t = np.asarray(jax.vmap(losses.edm_times(fj.EDM()))(u), float)
    schedule = fj.EDM()
    levels = -np.asarray(jax.vmap(schedule.log_snr)(jnp.asarray(t)), float) / 2
    inside = (t > 0) & (t < 1)
    assert inside.mean() > 0.99
    assert stats.kstest(levels, "norm", (-1.2, 1.2)).statistic < 0.02


@pytest.mark.parametrize("law", ["uniform", "logit_normal"])
def test_stratified_times_are_one_of_each_part_and_vary_less(law):
    law = {"uniform": losses.uniform} | LAWS
    num, law = 64, law["uniform"]
    keys = jax.random.split(jax.random.key(3), 2000)
    t = np.asarray(jax.vmap(lambda key: losses.stratified(key, num, law))(keys), float)
    assert np.all(np.sort(np.floor(t * num), axis=1) == np.arange(num))
    # In an order of their own: each of them has the law.
    assert stats.kstest(t[:, 0], "uniform").pvalue > FIVE_SIGMA
    means = np.exp(3 * t).mean(axis=1)
    independent = np.exp(3 * np.random.default_rng(0).uniform(size=t.shape)).mean(axis=1)
    assert independent.std() > 40 * means.std()


# --- starts, states between, labels ---------------------------------------------------------------


def test_the_start_may_be_given_or_drawn():
    x1, key = jnp.array([1.0, 2.0]), jax.random.key(0)
    model = lambda t, x, args: 0 * x  # noqa: E731
    given = losses.flow_matching(model, x1, key, x0=jnp.array([3.0, 0.0]), t=0.3)
    np.testing.assert_allclose(given, ((1 - 3) ** 2 + 2**2) / 2, rtol=1e-6)
    by_function = losses.flow_matching(model, x1, key, x0=lambda key: jnp.array([3.0, 0.0]), t=0.3)
    np.testing.assert_array_equal(by_function, given)


def test_the_state_between_is_that_of_the_schedule(x64):
    x0, x1 = {"a": jnp.array([1.0, 2.0])}, {"a": jnp.array([-1.0, 0.5])}
    got = losses.interpolate(x0, x1, 0.3, fj.Trigonometric())
    alpha, sigma = np.sin(np.pi * 0.3 / 2), np.cos(np.pi * 0.3 / 2)
    np.testing.assert_allclose(got["a"], alpha * x1["a"] + sigma * x0["a"], rtol=1e-12)


def test_labels_are_dropped_at_their_rate():
    keys = jax.random.split(jax.random.key(6), SAMPLES)
    label, null = {"a": jnp.array([1, 2]), "b": 3}, {"a": jnp.array([0, 0]), "b": 10}
    got = jax.vmap(lambda key: losses.drop_label(key, label, null, 0.2))(keys)
    dropped = np.asarray(got["b"]) == 10
    np.testing.assert_array_equal(np.asarray(got["a"])[:, 1] == 0, dropped)
    assert abs(dropped.mean() - 0.2) < 5 * np.sqrt(0.2 * 0.8 / SAMPLES)


def zero(t, x, args):
    return 0 * x


class OfData:
    gives = "data"

    def __call__(self, t, x, args):
        return x


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ({"predicts": "x"}, ValueError, "predicts must be one of velocity, data, noise, score, v"),
        ({"model": OfData()}, TypeError, "model must be a velocity.*got a field of the data"),
        ({"model": OfData(), "predicts": "noise"}, ValueError, "predicts must be 'data', which"),
        ({"x0": jnp.zeros(3)}, ValueError, r"x0 must have shape \(2,\)"),
        ({"x0": jnp.zeros(2), "predicts": "score"}, ValueError, "'score' where x0 is given"),
        ({"t": 1.5}, ValueError, "t must lie within"),
        ({"t": jnp.zeros(2)}, ValueError, "t must be a scalar"),
        ({"time": lambda u: 2 * u}, ValueError, "time must give times within"),
        ({"time": lambda u: jnp.stack([u, u])}, ValueError, "time must give one t for one u"),
        ({"time": 0.5}, TypeError, "time must be a function u -> t"),
        ({"weight": 0.5}, TypeError, "weight must be a function .t, schedule, predicts."),
        ({"weight": lambda t, s, p: jnp.ones(2)}, TypeError, "weight must return a real floating"),
        ({"weight": lambda t: t}, TypeError, "weight must be a function"),
    ],
)
def test_what_does_not_fit_is_refused(unchecked, how, error, words):
    with pytest.raises(error, match=words):
        losses.flow_matching(**({"model": zero, "x1": jnp.ones(2), "key": jax.random.key(0)} | how))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: losses.logit_normal(0.0, 0.0), ValueError, "std must be positive"),
        (lambda: losses.logit_normal("a"), TypeError, "mean must be a real number"),
        (lambda: losses.edm_times("condot"), TypeError, "schedule must be a schedule"),
        (lambda: losses.min_snr(-1.0), ValueError, "most must be positive"),
        (lambda: losses.edm_weight(0.0), ValueError, "sigma_data must be positive"),
        (lambda: losses.stratified(jax.random.key(0), 0), ValueError, "num must be"),
        (lambda: losses.drop_label(jax.random.key(0), 1, 2, 1.5), ValueError, "rate must lie"),
        (
            lambda: losses.drop_label(jax.random.key(0), 1, jnp.zeros(2)),
            ValueError,
            "null must have the label's shape",
        ),
        (
            lambda: losses.interpolate(jnp.zeros(2), jnp.zeros(3), 0.5, fj.CondOT()),
            ValueError,
            r"x0 must have shape \(3,\)",
        ),
    ],
)
def test_bad_options_are_refused(unchecked, call, error, words):
    with pytest.raises(error, match=words):
        call()
