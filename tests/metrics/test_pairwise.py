"""The energy distance and the MMD are those of plain double loops and of closed forms."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy.spatial.distance import pdist
from scipy.special import erf

import flowjax as fj
from flowjax._numerics import wide
from flowjax.metrics import energy_distance, mmd, pairwise


def two_sets(dtype=np.float64):
    rng = np.random.default_rng()
    return rng.normal(size=(30, 3)).astype(dtype), (2 * rng.normal(size=(30, 3)) + 1).astype(dtype)


def mean_over_pairs(kernel, a, b, itself=True):
    pairs = [
        kernel(np.sqrt(np.sum((a[i] - b[j]) ** 2)))
        for i in range(len(a))
        for j in range(len(b))
        if itself or i != j
    ]
    return sum(pairs) / len(pairs)


def discrepancy(kernel, x, y, unbiased):
    within = [mean_over_pairs(kernel, z, z, not unbiased) for z in (x, y)]
    return sum(within) - 2 * mean_over_pairs(kernel, x, y)


@pytest.mark.parametrize("unbiased", [False, True])
def test_both_are_those_of_plain_double_loops(unbiased, x64):
    x, y = two_sets()
    found = energy_distance(x, y, unbiased=unbiased)
    want = -discrepancy(lambda r: r, x, y, unbiased)
    assert float(found) == pytest.approx(want, abs=1e-12)

    def kernel(r):
        return (np.exp(-(r**2) / (2 * 0.5**2)) + np.exp(-(r**2) / (2 * 3.0**2))) / 2

    found = mmd(x, y, bandwidths=[0.5, 3.0], unbiased=unbiased)
    assert float(found) == pytest.approx(discrepancy(kernel, x, y, unbiased), abs=1e-12)


def test_the_energy_distance_in_one_dimension_is_the_square_of_scipys(x64):
    rng = np.random.default_rng()
    x, y = rng.normal(size=30), rng.exponential(size=30)
    want = scipy.stats.energy_distance(x, y) ** 2
    # Along a line in space, for which the program is there.
    line = np.array([[2.0, -1.0, 2.0]]) / 3
    found = energy_distance(x[:, None] * line, y[:, None] * line)
    assert float(found) == pytest.approx(want, rel=1e-10)


def test_a_set_is_at_distance_zero_from_itself_and_from_itself_in_another_order(x64):
    x, _ = two_sets()
    for metric in (energy_distance, partial(mmd, bandwidths=[0.5, 3.0])):
        assert abs(float(metric(x, x[::-1]))) < 1e-14
        assert float(metric(x, x + 0.1)) > 1e-4


@pytest.fixture
def draws():
    """Few samples of each of two standard normal laws in the plane, 1000 times."""
    rng = np.random.default_rng()
    return [rng.normal(size=(1000, n, 2)).astype(np.float32) for n in (12, 10)]


def within_five_errors(values, want):
    """By chance this is false once in a million times."""
    values = np.asarray(values, float)
    return abs(values.mean() - want) < 5 * values.std(ddof=1) / np.sqrt(len(values))


def test_the_unbiased_energy_distance_is_that_of_two_gaussians_in_closed_form(draws):
    m = 0.7
    x, y = draws[0][..., 0], np.float32(m) + draws[1][..., 0]
    apart = 2 / np.sqrt(np.pi) * np.exp(-(m**2) / 4) + m * erf(m / 2)
    inside = 2 / np.sqrt(np.pi)
    found = jax.vmap(lambda x, y: energy_distance(x, y, unbiased=True))(x, y)
    assert within_five_errors(found, 2 * apart - 2 * inside)
    # The factor 2 of E|X - Y| is seen, and each sample beside itself.
    assert not within_five_errors(found, apart - 2 * inside)
    with_itself = jax.vmap(energy_distance)(x, y)
    assert not within_five_errors(with_itself, 2 * apart - 2 * inside)
    assert within_five_errors(with_itself, 2 * apart - inside * (11 / 12 + 9 / 10))


def test_the_unbiased_mmd_is_that_of_two_gaussians_in_closed_form(draws):
    m, s, h = np.array([1.0, -0.5]), 1.5, 0.8
    x, y = draws[0], (m + s * draws[1]).astype(np.float32)

    def mean_kernel(variance, distance=0.0, factor=2):
        # E exp(-|z|^2 / (2 h^2)) of z ~ N(distance, variance I) in the plane.
        total = h**2 + variance
        return h**2 / total * np.exp(-(distance**2) / (factor * total))

    def closed(factor=2):
        between = mean_kernel(1 + s**2, np.linalg.norm(m), factor)
        return mean_kernel(2) + mean_kernel(2 * s**2) - 2 * between

    found = jax.vmap(lambda x, y: mmd(x, y, bandwidths=h, unbiased=True))(x, y)
    assert within_five_errors(found, closed())
    assert not within_five_errors(found, closed(factor=1)), "exp(-r^2 / s^2) is another kernel"


def test_the_default_bandwidth_is_the_median_distance_of_all(x64):
    x, y = two_sets()
    median, found = np.median(pdist(np.concatenate([x, y]))), float(mmd(x, y))
    assert found == pytest.approx(float(mmd(x, y, bandwidths=median)), rel=1e-10)
    assert found != pytest.approx(float(mmd(x, y, bandwidths=median / 2)), rel=1e-2)


def test_the_leaves_of_a_pytree_are_one_long_vector(x64):
    x, y = two_sets()

    def tree(z):
        return {"a": z[:, 0], "b": z[:, 1:].reshape(-1, 2, 1)}

    assert float(energy_distance(tree(x), tree(y))) == float(energy_distance(x, y))


def test_half_precision_is_computed_in_single():
    x, y = (jnp.asarray(z, jnp.bfloat16) for z in two_sets())
    found, want = (energy_distance(*pair) for pair in ((x, y), (wide(x), wide(y))))
    assert found.dtype == jnp.float32
    assert found == want


@pytest.mark.parametrize(
    "metric",
    [
        energy_distance,
        pytest.param(partial(mmd, bandwidths=[0.5, 3.0]), marks=pytest.mark.nightly),
    ],
    ids=["energy", "mmd"],
)
def test_the_gradient_is_that_of_differences_and_finite_where_samples_coincide(x64, metric):
    x, y = two_sets()
    x[1], x[2] = x[0], y[0]
    direction = np.random.default_rng().normal(size=x.shape)
    direction[:3] = 0
    gradient, h = np.asarray(jax.grad(metric)(x, y)), 1e-5
    assert np.all(np.isfinite(gradient))
    ends = [float(metric(x + sign * h * direction, y)) for sign in (1, -1)]
    slope = np.sum(gradient * direction)
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6)


@pytest.mark.nightly
def test_ten_thousand_samples_beside_as_many_take_little_memory_with_a_gradient_too():
    samples = jax.ShapeDtypeStruct((10_000, 16), jnp.float32)
    gradient = jax.jit(jax.value_and_grad(energy_distance))
    memory = gradient.lower(samples, samples).compile().memory_analysis()
    # All distances of one pair of sets would be 400 MB.
    assert memory.temp_size_in_bytes < 150e6


GOOD = np.zeros((4, 2), np.float32)


@pytest.mark.parametrize("metric", [energy_distance, mmd])
@pytest.mark.parametrize(
    ("x", "y", "error", "words"),
    [
        (np.zeros((4, 2), np.uint8), GOOD, TypeError, "x must be a real floating array"),
        (GOOD, np.zeros((4, 3), np.float32), ValueError, r"y must hold samples of x's shape \(2,"),
        (GOOD, {"a": GOOD}, ValueError, "y must have x's structure"),
        (GOOD[:0], GOOD, ValueError, "x must hold at least one sample, got none"),
        (GOOD, np.float32(1), ValueError, "y must have a leading axis"),
        ({"a": GOOD, "b": GOOD[:3]}, GOOD, ValueError, "x must have one number of samples"),
        (GOOD, np.full((4, 2), np.nan, np.float32), ValueError, "y must be finite, got 8 numbers"),
        (GOOD[:, :0], GOOD[:, :0], ValueError, "x must hold at least one number"),
        ((), (), ValueError, "x must hold at least one array"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(metric, x, y, error, words):
    with pytest.raises(error, match=words):
        metric(x, y)


def test_one_sample_has_no_unbiased_distance():
    with pytest.raises(ValueError, match="y must hold at least 2 samples, got 1"):
        energy_distance(GOOD, GOOD[:1], unbiased=True)


@pytest.mark.parametrize(
    ("bandwidths", "error", "words"),
    [
        (0.0, ValueError, "positive numbers, got 0.0"),
        ([1.0, -2.0], ValueError, "positive numbers, got -2.0"),
        ([1.0, np.nan], ValueError, "positive numbers, got nan"),
        ([], ValueError, r"positive numbers, got shape \(0,\)"),
        ([[1.0]], ValueError, "positive numbers, got shape"),
        ("median", TypeError, "bandwidths must be a real number"),
    ],
)
def test_bandwidths_that_are_none_are_refused(bandwidths, error, words):
    with pytest.raises(error, match=words):
        mmd(GOOD, GOOD + 1, bandwidths=bandwidths)


def test_samples_that_are_all_one_have_no_median_distance(x64):
    with pytest.raises(ValueError, match="the median distance is 0"):
        mmd(np.ones((30, 3)), np.ones((30, 3)))


def test_the_names_of_the_design_are_those_of_the_module():
    assert fj.metrics.energy_distance is energy_distance
    assert fj.metrics.mmd is mmd


def test_chunks_and_many_numbers_a_sample_change_nothing(monkeypatch):
    x, y = (np.tile(z, 8) for z in two_sets(np.float32))
    y = y[:23]
    monkeypatch.setattr(pairwise, "_PAIRS", 100)  # a few rows at once, and fewer at the end
    pairwise._means.clear_cache()
    want = -discrepancy(lambda r: r, x.astype(float), y.astype(float), True)
    assert float(energy_distance(x, y, unbiased=True)) == pytest.approx(want, rel=1e-4)
    monkeypatch.undo()
    pairwise._means.clear_cache()
