"""Moments of chunks and the regression on controls, against NumPy in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowjax.estimators.moments import beside, estimated, merged, moments

RNG = np.random.default_rng(0)


def total_of(y, c, cuts):
    """The moments of values (n, *s) and controls (n, q), merged over chunks."""
    parts = []
    for y_part, c_part in zip(jnp.split(y, cuts), jnp.split(c, cuts), strict=True):
        values = y_part, jax.vmap(beside)(y_part, c_part)
        parts.append(moments(values, jnp.ones(len(y_part), bool)))
    return functools.reduce(merged, parts)


def estimate(total, known):
    return estimated(total, beside(total.mean, jnp.asarray(known)), 60)


def regression(y, c, known):
    """The intercept of the least squares of y on c - known, and its standard error."""
    rows = np.concatenate([np.ones((len(y), 1)), c - known], axis=1)
    beta, squares, *_ = np.linalg.lstsq(rows, y, rcond=None)
    variance = squares / (len(y) - rows.shape[1])
    return beta[0], np.sqrt(variance * np.linalg.inv(rows.T @ rows)[0, 0])


@pytest.mark.parametrize("q", [1, 3])
def test_the_estimate_is_the_intercept_of_a_regression(x64, q):
    c = RNG.normal(size=(60, q)) @ (np.eye(q) + 0.5)
    y = RNG.normal(size=(60, 3)) + c.sum(axis=1, keepdims=True) * np.array([1.0, -2.0, 0.0])
    known = np.full(q, 0.1)
    mean, error = regression(y, c, known)
    got = jax.jit(lambda y, c: estimate(total_of(y, c, [7, 41]), known))(y, c)
    np.testing.assert_allclose(got[0], mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(got[1], error, rtol=1e-12)


def test_a_large_mean_leaves_the_variance_alone():
    """The difference of two sums of squares would be rounding."""
    y = (1e4 + RNG.normal(size=5000)).astype(np.float32)
    c = np.zeros((5000, 0), np.float32)
    total = jax.jit(lambda y, c: total_of(y, c, [1000, 2500]))(y, c)
    np.testing.assert_allclose(total.yy / 5000, y.astype(float).var(), rtol=1e-4)
    assert abs(np.mean(y * y) - np.mean(y) ** 2 - y.astype(float).var()) > 0.1


def test_samples_that_are_not_taken_and_sums_of_nothing_change_nothing():
    y = RNG.normal(size=(20, 2)).astype(np.float32)
    y[13:] = np.nan

    @jax.jit
    def both(y):
        got = moments((y, jax.vmap(lambda y: beside(y, ()))(y)), jnp.arange(20) < 13)
        return got, merged(jax.tree.map(jnp.zeros_like, got), got)

    for total in both(y):
        assert int(total.number) == 13
        np.testing.assert_allclose(total.mean, y[:13].mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(total.yy, 13 * y[:13].var(axis=0), rtol=1e-5)


def test_a_control_that_does_not_vary_is_left_out_and_dependent_ones_are_not_determined():
    y = RNG.normal(size=30).astype(np.float32)

    @jax.jit
    def means(y):
        constant, same = jnp.ones((30, 1)), jnp.stack([y, y], axis=1)
        return [estimate(total_of(y, c, []), jnp.zeros(c.shape[1]))[0] for c in (constant, same)]

    without, undetermined = means(y)
    np.testing.assert_allclose(without, y.mean(), rtol=1e-5)
    assert np.isnan(undetermined)
