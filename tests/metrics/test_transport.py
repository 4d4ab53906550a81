"""Wasserstein distances are those of SciPy, of POT, of all permutations, and closed forms."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from flowjax.metrics import marginal_wasserstein, sliced_wasserstein, wasserstein


def a_key():
    return jax.random.key(int(np.random.default_rng().integers(2**31)))


@pytest.mark.parametrize("order", [1, 2])
def test_the_distance_is_the_least_over_all_permutations(order, dtype):
    x, y = np.random.default_rng().normal(size=(2, 6, 2)).astype(dtype)
    costs = [
        np.mean(np.sqrt(np.sum((x - y[list(permutation)]) ** 2, axis=1)) ** order)
        for permutation in itertools.permutations(range(6))
    ]
    found = wasserstein(x, y, order=order)
    assert found.dtype == dtype
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    assert float(found) == pytest.approx(min(costs) ** (1 / order), rel=tolerance)
    in_order = np.mean(np.sqrt(np.sum((x - y) ** 2, axis=1)) ** order) ** (1 / order)
    assert float(found) <= in_order


@pytest.mark.parametrize("order", [1, 2])
def test_the_distance_is_that_of_pot(order, x64):
    ot = pytest.importorskip("ot")
    x, y = np.random.default_rng().normal(size=(2, 60, 3))
    cost = ot.dist(x, y, metric="sqeuclidean" if order == 2 else "euclidean")
    want = ot.emd2(np.full(60, 1 / 60), np.full(60, 1 / 60), cost) ** (1 / order)
    assert float(wasserstein(x, y, order=order)) == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("shape", [(30, 1), (30, 2)])
def test_a_set_that_is_moved_is_as_far_as_it_moved(order, shape, x64):
    x = np.random.default_rng().normal(size=shape)
    shift = np.array([3.0, 4.0])[: shape[1]]
    want = np.linalg.norm(shift)
    assert float(wasserstein(x, x[::-1] + shift, order=order)) == pytest.approx(want, rel=1e-12)
    assert float(wasserstein(x, x[::-1], order=order)) == 0


def test_two_gaussians_are_apart_by_the_closed_form(x64):
    # y = T(x) for T the optimal map of N(0, I) to N(m, C), so that the assignment is known.
    x = np.random.default_rng().normal(size=(200, 2))
    root, m = np.array([[1.5, 0.4], [0.4, 0.6]]), np.array([1.0, 2.0])
    y = x @ root + m
    want = np.sqrt(np.mean(np.sum((x @ (root - np.eye(2)) + m) ** 2, axis=1)))
    assert float(wasserstein(x, y[::-1])) == pytest.approx(want, rel=1e-12)
    # Of the laws: Bures's distance |m|^2 + |C^1/2 - I|^2, from which it is off by the draw alone:
    # fails by chance once in a million runs.
    terms = np.sum((x @ (root - np.eye(2)) + m) ** 2, axis=1)
    bures = np.sum(m**2) + np.sum((root - np.eye(2)) ** 2)
    assert abs(want**2 - bures) < 5 * terms.std() / np.sqrt(200)


@pytest.mark.parametrize("sizes", [(30, 45), (7, 1)])
def test_in_one_dimension_it_is_scipys_for_any_two_numbers_of_samples(sizes, x64):
    rng = np.random.default_rng()
    x, y = rng.normal(size=sizes[0]), rng.exponential(size=sizes[1])
    want = scipy.stats.wasserstein_distance(x, y)
    assert float(wasserstein(x, y, order=1)) == pytest.approx(want, rel=1e-10)
    # Of the second order: both sets repeated until they are of one number.
    x_often, y_often = (np.sort(np.repeat(a, b)) for a, b in ((x, len(y)), (y, len(x))))
    want = np.sqrt(np.mean((x_often - y_often) ** 2))
    assert float(wasserstein(x, y)) == pytest.approx(want, rel=1e-10)


@pytest.mark.parametrize("order", [pytest.param(1, marks=pytest.mark.nightly), 2])
def test_it_may_be_called_inside_jit_and_vmap_and_differentiated(order, x64):
    x, y = map(jnp.asarray, np.random.default_rng().normal(size=(2, 3, 8, 2)))

    def metric(x, y):
        return wasserstein(x, y, order=order)

    each = [float(metric(*pair)) for pair in zip(x, y, strict=True)]
    np.testing.assert_allclose(jax.jit(jax.vmap(metric))(x, y), each, rtol=1e-12)
    direction = jnp.asarray(np.random.default_rng().normal(size=(8, 2)))
    slope, h = jnp.sum(jax.grad(metric)(x[0], y[0]) * direction), 1e-6
    ends = [float(metric(x[0] + sign * h * direction, y[0])) for sign in (1, -1)]
    assert float(slope) == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-5)


@pytest.mark.parametrize("order", [1, 2])
def test_along_lines_of_one_dimension_it_is_the_distance_itself(order, x64):
    rng = np.random.default_rng()
    x, y = rng.normal(size=(20, 1)), rng.normal(size=(15, 1)) + 1
    found = sliced_wasserstein(a_key(), x, y, projections=3, order=order)
    assert float(found) == pytest.approx(float(wasserstein(x, y, order=order)), rel=1e-12)


def sliced_truth(x, m, s):
    """The mean over all lines of W_2^2 between x and s x + m: sorting keeps their order."""
    mean, second, d = x.mean(axis=0), np.sum(np.mean(x**2, axis=0)), x.shape[1]
    return (m @ m + 2 * (s - 1) * m @ mean + (s - 1) ** 2 * second) / d


def test_the_square_of_the_sliced_distance_is_without_bias_that_over_all_lines():
    x = np.random.default_rng().normal(size=(50, 4)).astype(np.float32)
    m, s = np.array([4.0, 0, -3, 2], np.float32), 1.7
    y = (s * x + m)[::-1]
    keys = jax.random.split(a_key(), 100)
    sliced = jax.vmap(lambda key: sliced_wasserstein(key, x, y, projections=8))
    found = np.array(sliced(keys))
    np.testing.assert_array_equal(found, sliced(keys))
    assert len(set(found.tolist())) > 90, "each key has lines of its own"

    def fits(squares):
        # By chance this is false once in a million times.
        five_errors = 5 * squares.std(ddof=1) / np.sqrt(len(squares))
        return abs(squares.mean() - sliced_truth(x.astype(float), m, s)) < five_errors

    assert fits(found**2)
    assert not fits(4 * found**2), "lines that are not of length one"
    assert not fits(found), "the root left out"


def test_the_marginal_distance_is_the_mean_of_scipys_of_each_coordinate(x64):
    rng = np.random.default_rng()
    x, y = rng.normal(size=(30, 4)), rng.exponential(size=(20, 4))
    each = [scipy.stats.wasserstein_distance(*pair) for pair in zip(x.T, y.T, strict=True)]
    assert float(marginal_wasserstein(x, y)) == pytest.approx(np.mean(each), rel=1e-10)
    # Of the second order a root is taken for each coordinate, before the mean.
    found = marginal_wasserstein(x, x + np.array([[1.0, 2.0, 3.0, 4.0]]), order=2)
    assert float(found) == pytest.approx(2.5, rel=1e-10)


GOOD = np.zeros((4, 2), np.float32)


def test_sets_of_two_numbers_of_samples_are_refused():
    with pytest.raises(ValueError, match=r"x and y must have one number of samples.*got 4 and 3"):
        wasserstein(GOOD, GOOD[:3])


@pytest.mark.parametrize("order", [0, 3, 1.0, True, None])
def test_an_order_that_is_neither_one_nor_two_is_refused(order, unchecked):
    for metric in (wasserstein, marginal_wasserstein):
        with pytest.raises(ValueError, match="order must be 1 or 2"):
            metric(GOOD, GOOD, order=order)


def test_bad_sets_keys_and_numbers_of_lines_are_refused(unchecked):
    for metric in (wasserstein, marginal_wasserstein):
        with pytest.raises(ValueError, match="x must be finite"):
            metric(GOOD * np.nan, GOOD)
    with pytest.raises(ValueError, match="y must hold at least one sample"):
        sliced_wasserstein(jax.random.key(0), GOOD, GOOD[:0])
    with pytest.raises(TypeError, match="key must be one JAX key"):
        sliced_wasserstein(0, GOOD, GOOD)
    with pytest.raises(ValueError, match="projections must be a static positive int"):
        sliced_wasserstein(jax.random.key(0), GOOD, GOOD, projections=0)
