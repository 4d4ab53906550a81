"""Halves without replacement vary as means do by theory, and the interval holds the truth."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowjax.metrics import bootstrap, energy_distance, label_accuracy


def a_key():
    return jax.random.key(int(np.random.default_rng().integers(2**31)))


def test_the_value_is_the_metric_and_the_error_of_a_mean_is_the_formula():
    x = np.random.default_rng().normal(size=200)
    found = bootstrap(jnp.mean, a_key(), x, num=300)
    assert found.value == pytest.approx(x.mean(), abs=1e-6)
    # Of a mean of 100 of 200 numbers without replacement. The error of a standard deviation is of
    # the part 1 / sqrt(2 num); five of them fail by chance once in a million runs.
    want = x.std(ddof=1) * np.sqrt(1 / 100 - 1 / 200)
    assert found.standard_error == pytest.approx(want, rel=5 / np.sqrt(600))
    # With replacement it would be larger by sqrt(2).
    assert want * np.sqrt(2) != pytest.approx(found.standard_error, rel=5 / np.sqrt(600))


def test_the_interval_holds_the_truth_of_a_metric_that_is_too_large_of_few_samples():
    rng, trials, dimension, number = np.random.default_rng(), 40, 100, 50
    mean = np.full(dimension, 0.2)

    @jax.jit
    def squared(x):
        return jnp.sum(jnp.mean(x, axis=0) ** 2)  # of the laws 4, of samples by 100 / 50 more

    held = uncorrected = 0
    for _ in range(trials):
        x = mean + rng.normal(size=(number, dimension))
        found = bootstrap(squared, a_key(), x, num=30)
        held += found.low < 4 < found.high
        width = found.high - found.low
        uncorrected += found.value - width / 2 < 4 < found.value + width / 2
    # Held in 90 % or more; five standard errors of 40 trials fail once in a million runs.
    assert held / trials > 0.9 - 5 * np.sqrt(0.9 * 0.1 / trials)
    assert uncorrected / trials < 0.6, "the bias is seen if it is not taken off"


def test_no_sample_is_in_a_half_twice_and_what_belongs_together_stays_so():
    x = np.random.default_rng().permutation(31)
    sizes = []

    def metric(pair, other):
        first, second = pair
        sizes.append((len(first), len(other)))
        assert len(set(first.tolist())) == len(first)
        np.testing.assert_array_equal(2 * first, second)
        assert len(first) == 31 or not np.array_equal(first[:8], other[:8]), "halved on their own"
        return jnp.float32(0)

    bootstrap(metric, a_key(), (x, 2 * x), x[:16], num=3)
    assert sizes == [(31, 16)] + 3 * [(15, 8)]


def test_the_key_names_the_halves_and_a_higher_level_is_a_wider_interval():
    x, key = np.random.default_rng().normal(size=200), a_key()
    narrow, wide = (bootstrap(jnp.mean, key, x, num=20, level=p) for p in (0.5, 0.9))
    assert narrow == bootstrap(jnp.mean, key, x, num=20, level=0.5)
    assert wide.low < narrow.low < narrow.high < wide.high
    assert narrow != bootstrap(jnp.mean, jax.random.fold_in(key, 1), x, num=20, level=0.5)


@pytest.mark.nightly
def test_an_accuracy_has_the_error_of_a_share():
    rng = np.random.default_rng()
    asked = rng.integers(0, 10, 400)
    predicted = np.where(rng.random(400) < 0.9, asked, (asked + 1) % 10)
    found = bootstrap(lambda pair: label_accuracy(*pair), a_key(), (predicted, asked), num=100)
    share = np.mean(predicted == asked)
    assert found.value == pytest.approx(share, abs=1e-6)
    # Five errors of a standard deviation, as above.
    want = np.sqrt(share * (1 - share) / 400)
    assert found.standard_error == pytest.approx(want, rel=5 / np.sqrt(200))


GOOD = np.zeros((8, 2), np.float32)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ((1.0, jax.random.key(0), GOOD), {}, TypeError, "metric must be a function"),
        ((energy_distance, jax.random.key(0), GOOD), {}, TypeError, r"metric must be a function"),
        ((jnp.sin, jax.random.key(0), GOOD), {}, TypeError, "metric must return a real floating"),
        ((jnp.mean, 0, GOOD), {}, TypeError, "key must be one JAX key"),
        (
            (jnp.mean, jax.random.key(0), GOOD[:3]),
            {},
            ValueError,
            r"sets\[0\] must hold at least 4 samples, got 3",
        ),
        (
            (jnp.mean, jax.random.key(0), [1.0, 2.0]),
            {},
            TypeError,
            r"sets\[0\]\[0\] must be an array",
        ),
        (
            (jnp.mean, jax.random.key(0), np.float32(1)),
            {},
            TypeError,
            "must be an array of samples",
        ),
        ((jnp.mean, jax.random.key(0), ()), {}, ValueError, "at least one array"),
        ((jnp.mean, jax.random.key(0), GOOD), {"num": 0}, ValueError, "num must be"),
        ((jnp.mean, jax.random.key(0), GOOD), {"level": 1.0}, ValueError, "level must be between"),
        ((lambda: 0.0, jax.random.key(0)), {}, ValueError, "sets must be one or more"),
    ],
)
def test_bad_input_is_refused(arguments, options, error, words, unchecked):
    with pytest.raises(error, match=words):
        bootstrap(*arguments, **options)


def test_traced_samples_are_refused():
    with pytest.raises(TypeError, match="got a traced value"):
        jax.jit(partial(bootstrap, jnp.mean, jax.random.key(0)))(GOOD)
