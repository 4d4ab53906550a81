"""What the tests of random numbers share: comparisons within five standard errors.

A comparison of one number raises a false alarm with probability 5.7e-7 (two-sided, by the central
limit theorem); of m numbers at once, with at most m times that. The keys are fixed, so a run of
the tests that passed passes again; change `SEED` to see them pass on other numbers.
"""

import jax
import numpy as np
from scipy import special, stats

SEED = 0

STANDARD_ERRORS = 5.0
FALSE_ALARM = 2 * special.ndtr(-STANDARD_ERRORS)


def key_words(name, count, words=2):
    """`count` keys for the test of this name, as rows of words; made without compiling anything."""
    return np.random.default_rng([SEED, *name.encode()]).integers(
        0, 2**32, (count, words), np.uint32
    )


def keys_of(name, count):
    return jax.random.wrap_key_data(key_words(name, count))


def key_of(name):
    return jax.random.wrap_key_data(key_words(name, 1)[0])


def assert_near(estimate, expected, standard_error, what):
    """Every number is within five standard errors of its expectation."""
    estimate, expected, standard_error = np.broadcast_arrays(estimate, expected, standard_error)
    deviation = np.abs((estimate - expected) / standard_error)
    if not np.all(deviation < STANDARD_ERRORS):
        worst = np.unravel_index(np.argmax(deviation), deviation.shape)
        raise AssertionError(
            f"{what}: entry {worst} is {estimate[worst]:.6g}, expected {expected[worst]:.6g}, "
            f"which is {deviation[worst]:.1f} standard errors away"
        )


def assert_mean(samples, expected, what):
    """The mean over the first axis, within five of the samples' own standard errors."""
    samples = np.asarray(samples, np.float64)
    standard_error = samples.std(axis=0, ddof=1) / np.sqrt(samples.shape[0])
    assert_near(samples.mean(axis=0), expected, standard_error, what)


def assert_uncorrelated(a, b, what):
    """Two arrays of independent standard normals: no correlation of values, sizes or both.

    Three numbers are compared.
    """
    a, b = (np.asarray(values, np.float64).ravel() for values in (a, b))
    for name, left, right in (
        ("values", a, b),
        ("squares", (a * a - 1) / np.sqrt(2), (b * b - 1) / np.sqrt(2)),
        ("value and square", a, (b * b - 1) / np.sqrt(2)),
    ):
        assert_near(np.mean(left * right), 0, 1 / np.sqrt(left.size), f"{what} ({name})")


def assert_standard_normal(samples, what):
    """The Kolmogorov-Smirnov statistic of N(0, 1), at the false-alarm rate of five sigma."""
    samples = np.asarray(samples, np.float64).ravel()
    probability = np.sort(special.ndtr(samples))
    rank = np.arange(samples.size)
    distance = max(
        np.max((rank + 1) / samples.size - probability), np.max(probability - rank / samples.size)
    )
    chance = stats.kstwobign.sf(distance * np.sqrt(samples.size))
    if not chance > FALSE_ALARM:
        raise AssertionError(
            f"{what}: not N(0, 1): a distance of {distance:.3g}, chance {chance:.2g}"
        )
