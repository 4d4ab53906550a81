"""Toy data against the moments, supports and distribution functions of their laws.

Random checks are at five standard errors on each number, or at the chance of that: a false alarm in
1.7 million. Each is shown to see a law that is a little another.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import flowjax as fj
from tests.solver.random_checks import FALSE_ALARM, assert_mean, key_of

NUM = 20_000
NAMES = ["checkerboard", "eight_gaussians", "moons", "s_curve", "spirals"]


def drawn(name, num=NUM):
    return np.asarray(getattr(fj.data, name)(key_of(name), num), np.float64)


def assert_follows(samples, cdf):
    chance = stats.kstest(samples, cdf).pvalue
    assert chance > FALSE_ALARM, chance


def check_eight_gaussians(x):
    radius = np.sum(x**2, axis=1)
    assert_mean(radius, 25 + 2 * np.sqrt(0.1), "mean square")
    eighth = np.floor(np.arctan2(x[:, 1], x[:, 0]) / (np.pi / 4) + 0.5) % 8
    assert_mean(eighth[:, None] == np.arange(8), 1 / 8, "share of a mode")
    near = x - 5 * np.stack([np.cos(eighth * np.pi / 4), np.sin(eighth * np.pi / 4)], axis=1)
    assert np.mean(np.linalg.norm(near, axis=1) < 3 * 0.1**0.25) > 0.98


def check_moons(x):
    m = (x + 1) / 3
    assert_mean(x, [0.8, 0.05], "mean")
    # What both coordinates share falls out of their difference, cos(a) - sin(a) or 1/2 less that.
    angles = np.linspace(0, np.pi, 100_001)
    upper = np.cos(angles) - np.sin(angles)
    values = np.sort(np.concatenate([upper, 0.5 - upper]))
    assert_follows(m[:, 0] - m[:, 1], lambda d: np.searchsorted(values, d) / len(values))
    # cos(a) + sin(a) or 3/2 less that, and twice the noise.
    both = np.cos(angles) + np.sin(angles)
    second = np.mean(np.concatenate([both, 1.5 - both]) ** 2)
    assert_mean((m[:, 0] + m[:, 1]) ** 2, second + 0.4 * 0.75 + 0.16 / 3, "square of the sum")


def check_checkerboard(x):
    column, row = np.floor(x / 2).T
    assert np.all((column + row) % 2 == 0)
    assert np.all((x >= -4) & (x < 4))
    square = 4 * (column + 2) + row + 2
    dark = np.unique(square)
    assert len(dark) == 8
    assert_mean(square[:, None] == dark, 1 / 8, "share of a square")
    for coordinate in (x % 2).T:
        assert_follows(coordinate, stats.uniform(0, 2).cdf)


def check_s_curve(x):
    assert_mean(x, 0, "mean")
    assert_mean(x**2, [0.51, 1.5 + 4 / (3 * np.pi) + 0.01], "mean squares")
    assert_mean(x[:, 0] * x[:, 1], -1 / (3 * np.pi), "mean product")


def check_spirals(x):
    square = np.sum(x**2, axis=1)
    assert_mean(x, 0, "mean")
    assert_mean(square, np.pi**2 / 2 + 0.02, "mean square")
    fourth = np.pi**4 / 3 + 0.08 * np.pi**2 / 2 + 8e-4
    assert_mean(square**2, fourth, "mean fourth power")
    product, _ = integrate.quad(lambda r: r**3 * np.sin(6 * r) / np.pi**2, 0, np.pi)
    assert_mean(x[:, 0] * x[:, 1], product, "mean product")


@pytest.mark.parametrize("name", NAMES)
def test_points_follow_the_law_that_is_told(name):
    x = getattr(fj.data, name)(key_of(name), NUM)
    assert (x.shape, x.dtype) == ((NUM, 2), jnp.float32)
    globals()[f"check_{name}"](drawn(name))


@pytest.mark.parametrize("name", NAMES)
def test_points_are_independent_and_named_by_the_key(name):
    x = drawn(name)
    np.testing.assert_array_equal(x, drawn(name))
    other = np.asarray(getattr(fj.data, name)(jax.random.key(1), NUM))
    assert not np.any(np.all(x == other, axis=1))
    centred = x - x.mean(axis=0)
    assert_mean(centred[1:] * centred[:-1], 0, "covariance of neighbours")


@pytest.mark.parametrize(
    ("name", "another"),
    [
        ("eight_gaussians", lambda x, z: x + 0.4 * z),
        ("moons", lambda x, z: x + 0.15 * z),
        ("checkerboard", lambda x, z: x + 1e-3 * z),
        ("s_curve", lambda x, z: x + 0.3 * z),
        ("spirals", lambda x, z: x[:, ::-1] * 1.02),
    ],
)
def test_another_law_is_seen(name, another):
    noise = np.random.default_rng(0).normal(size=(NUM, 2))
    with pytest.raises(AssertionError):
        globals()[f"check_{name}"](another(drawn(name), noise))


@pytest.mark.parametrize("name", NAMES)
def test_bad_input_is_refused(unchecked, name):
    draw = getattr(fj.data, name)
    with pytest.raises(TypeError, match="key must be one JAX key"):
        draw(0, 10)
    with pytest.raises(ValueError, match="got a batch of keys"):
        draw(jax.random.split(jax.random.key(0)), 10)
    with pytest.raises(TypeError, match="num must be a static positive int"):
        draw(jax.random.key(0), 10.0)
    with pytest.raises(ValueError, match="num must be a static positive int, got 0"):
        draw(jax.random.key(0), 0)
