"""Couplings drawn from smoothed plans, against closed forms, NumPy and POT.

Random checks are at five standard errors on each number: a false alarm in 1.7 million.
"""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

import flowjax as fj
from flowjax.couplings.drawn import _log_plan
from flowjax.couplings.pairs import costs
from tests.solver.random_checks import assert_near, keys_of

entropic, unbalanced = fj.couplings.entropic, fj.couplings.unbalanced
KEY = jax.random.key(0)


def plan(cost, epsilon, penalty=np.inf, tolerance=1e-12):
    return np.exp(_log_plan(jnp.asarray(cost), epsilon, penalty, tolerance, 100_000))


def plan_by_numpy(cost, epsilon, penalty=np.inf, steps=1000):
    """The plain iteration on logarithms."""
    damping, weight = (1 / (1 + epsilon / penalty)), -np.log(len(cost))
    logits, g = -cost / epsilon, np.zeros(len(cost))
    for _ in range(steps):
        f = damping * (weight - logsumexp(logits + g, axis=1))
        g = weight - logsumexp(logits + f[:, None], axis=0)
    return np.exp(logits + f[:, None] + g)


def a_cost(count=60, seed=0):
    numbers = np.random.default_rng(seed)
    x0 = numbers.normal(size=(count, 2))
    x1 = 2 * numbers.choice([-1, 1], size=(count, 1)) + numbers.normal(size=(count, 2)) / 2
    return ((x0[:, None] - x1[None]) ** 2).sum(axis=-1)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("epsilon", [0.3, 1.0, 50.0])
def test_between_two_points_the_plan_is_a_logistic_function(epsilon):
    kept = 1 / (1 + np.exp(-1.5 / epsilon))
    expected = np.array([[kept, 1 - kept], [1 - kept, kept]]) / 2
    cost = np.array([[0.0, 1.5], [1.5, 0.0]]) + np.array([[2.0], [7.0]]) + np.array([[1.0, -3.0]])
    np.testing.assert_allclose(plan(cost, epsilon), expected, rtol=1e-10)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("penalty", [np.inf, 5.0, 0.3])
@pytest.mark.parametrize("epsilon", [0.1, 1.0])
def test_the_plan_is_numpys(epsilon, penalty):
    cost = a_cost()
    got, expected = plan(cost, epsilon, penalty), plan_by_numpy(cost, epsilon, penalty)
    np.testing.assert_allclose(60 * got, 60 * expected, atol=1e-6)
    np.testing.assert_allclose(got.sum(axis=0), 1 / 60, rtol=1e-10)
    kept = np.abs(60 * got.sum(axis=1) - 1)
    assert np.all(kept < 1e-6) if penalty == np.inf else kept.max() > 0.01


@pytest.mark.usefixtures("x64")
def test_the_plan_is_pots():
    ot = pytest.importorskip("ot")
    cost, weights = a_cost(), np.full(60, 1 / 60)
    expected = ot.sinkhorn(weights, weights, cost, 0.5, numItermax=20_000, stopThr=1e-13)
    np.testing.assert_allclose(60 * plan(cost, 0.5), 60 * expected, atol=1e-6)
    expected = ot.unbalanced.sinkhorn_unbalanced(
        weights, weights, cost, 0.5, (1.5, float("inf")), numItermax=20_000, stopThr=1e-13
    )
    np.testing.assert_allclose(60 * plan(cost, 0.5, 1.5), 60 * expected, atol=1e-6)


@pytest.mark.usefixtures("x64")
def test_a_relaxed_end_pays_its_penalty():
    """At the least, each row's sum is 1/N times exp(-f epsilon / rho): the dual condition."""
    cost, epsilon, rho = a_cost(), 0.5, 1.5
    got = plan(cost, epsilon, rho)
    f = np.log(got) + cost / epsilon
    f = f - f[0]  # f + g, less that of the first row: up to a constant, f
    sums = np.log(got.sum(axis=1))
    np.testing.assert_allclose(sums - sums[0], -f[:, 0] * epsilon / rho, atol=1e-8)


@pytest.mark.parametrize("epsilon", [1e-2, 1.0, 1e6])
def test_in_float32_nothing_is_lost_to_an_outlier_or_a_small_epsilon(epsilon):
    cost = a_cost().astype(np.float32)
    cost[:, 7] += 1e4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for penalty in (np.inf, 1.0):
            for matrix in (cost, cost.T):
                got = np.exp(_log_plan(jnp.asarray(matrix), epsilon, penalty, 1e-4, 3000))
                np.testing.assert_allclose(got.sum(axis=0), 1 / 60, rtol=0.1)


def draws(coupling, which, **options):
    """Which x0 or x1 went with the other: shares of (x0_i, x1_j) over 20,000 keys."""
    x0, x1 = jnp.array([0.0, 1.0, 2.0, 4.0]), jnp.array([0.5, 3.0, 3.5, 6.0])

    def one(key):
        pairs = coupling(key, x0, x1, jnp.arange(4), **options)
        return pairs.x0[:, None] == x0[None, :], pairs.labels

    keys = keys_of(which, 20_000)
    first, last = jax.jit(jax.vmap(one))(keys)
    first, last = np.asarray(first, float), np.asarray(last)[..., None] == np.arange(4)
    cost = costs(x0, x1, None)
    return np.einsum("kni,knj->ij", first, last) / len(keys) / 4, cost, len(keys)


def assert_shares(shares, expected, count):
    """By `count` keys of four draws, independent of each other and each of its own column."""
    assert_near(shares, expected, np.sqrt(expected / count / 4) + 1e-12, "share of a pair")


def test_pairs_are_drawn_by_the_plan():
    shares, cost, count = draws(entropic, "entropic", epsilon=2.0)
    expected = plan(cost, 2.0, tolerance=1e-6)
    assert_shares(shares, expected, count)
    with pytest.raises(AssertionError):  # planted: rows for columns
        assert_shares(shares, expected.T, count)
    shares, cost, count = draws(unbalanced, "unbalanced", epsilon=2.0, penalty=3.0)
    expected = plan(cost.T, 2.0, 3.0, tolerance=1e-6).T
    assert_shares(shares, expected, count)
    with pytest.raises(AssertionError):  # planted: the other end relaxed
        assert_shares(shares, plan(cost, 2.0, 3.0, tolerance=1e-6), count)


def test_entropic_pairs_have_each_x1_once_and_unbalanced_each_x0():
    x0 = jax.random.normal(jax.random.key(1), (60, 3))
    x1 = {"a": x0 + 1, "b": x0[:, 0]}
    x0 = {"a": x0, "b": x0[:, 1]}
    labels = jnp.arange(60)
    pairs = entropic(KEY, x0, x1, labels)
    np.testing.assert_array_equal(pairs.labels, labels)
    np.testing.assert_array_equal(pairs.x1["a"], x1["a"])
    drawn = {tuple(row) for row in np.asarray(pairs.x0["a"]).tolist()}
    assert 0.4 < len(drawn) / 60 < 0.85
    pairs = unbalanced(KEY, x0, x1, labels)
    np.testing.assert_array_equal(pairs.x0["b"], x0["b"])
    np.testing.assert_array_equal(pairs.x1["a"], x1["a"][pairs.labels])


def test_a_small_epsilon_leads_to_exact_pairs_and_a_large_one_to_independent_ones():
    x0 = jnp.asarray(np.random.default_rng(4).permutation(60), jnp.float32)
    x1 = jnp.arange(60.0) + 0.2
    near = entropic(KEY, x0, x1, epsilon=0.15, max_steps=20_000)
    np.testing.assert_array_equal(near.x0, fj.couplings.exact(KEY, x0, x1).x0)
    np.testing.assert_allclose(plan(costs(x0, x1, None), 1e9, tolerance=1e-5), 1 / 3600, rtol=1e-4)


def test_outliers_are_seldom_drawn_and_with_a_large_penalty_as_often_as_others():
    x0 = jax.random.normal(jax.random.key(2), (256,))
    x1 = x0.at[:40].add(30.0)
    assert np.sum(unbalanced(KEY, x0, x1).x1 > 20) < 5
    options = {"penalty": 1e7, "epsilon": 10.0, "tolerance": 1e-4}
    assert 25 < np.sum(unbalanced(KEY, x0, x1, **options).x1 > 20) < 55


def test_pairs_are_the_same_under_jit_and_vmap_and_by_a_traced_epsilon():
    x0 = jax.random.normal(jax.random.key(3), (2, 60, 2))
    x1 = x0[::-1] + 1
    keys = jax.random.split(KEY, 2)
    for coupling in (entropic, unbalanced):

        def run(key, x0, x1, epsilon, coupling=coupling):
            return coupling(key, x0, x1, epsilon=epsilon)

        together = jax.jit(jax.vmap(run, (0, 0, 0, None)))(keys, x0, x1, 0.5)
        for i in range(2):
            alone = coupling(keys[i], x0[i], x1[i], epsilon=0.5)
            np.testing.assert_array_equal(alone.x0, together.x0[i])
            np.testing.assert_array_equal(alone.x1, together.x1[i])
        other = coupling(keys[1], x0[0], x1[0], epsilon=0.5)
        assert np.any(other.x0 != together.x0[0]) or np.any(other.x1 != together.x1[0])


def test_inside_jit_what_is_not_finite_makes_nan():
    x = jnp.arange(5.0)
    bad = x.at[2].set(jnp.inf)
    assert np.all(np.isnan(jax.jit(entropic)(KEY, x, bad).x0))
    assert np.all(np.isnan(jax.jit(unbalanced)(KEY, x, bad).x1))
    negative = jax.jit(lambda epsilon: entropic(KEY, x, x, epsilon=epsilon))(-1.0)
    assert np.all(np.isnan(negative.x0))


def test_a_plan_that_is_not_reached_is_warned_of():
    x = jax.random.normal(KEY, (60, 2))
    with pytest.warns(RuntimeWarning, match=r"the plan is off by .* after max_steps = 10 steps"):
        entropic(KEY, x, x[::-1] + 5, epsilon=0.01, max_steps=10, tolerance=1e-6)


@pytest.mark.parametrize("name", ["entropic", "unbalanced"])
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"epsilon": 0.0}, ValueError, "epsilon must be above 0, got 0.0"),
        ({"epsilon": "small"}, TypeError, "epsilon must be a real number"),
        ({"epsilon": jnp.ones(2)}, ValueError, "epsilon must be one number"),
        ({"epsilon": float("nan")}, ValueError, "epsilon must be above 0, got nan"),
        ({"tolerance": -1.0}, ValueError, "tolerance must be above 0"),
        ({"max_steps": 0}, ValueError, "max_steps must be a static positive int"),
        ({"max_steps": 1.5}, TypeError, "max_steps must be a static positive int"),
    ],
)
def test_bad_options_are_refused(unchecked, name, options, error, words):
    x = jnp.arange(3.0)
    with pytest.raises(error, match=words):
        getattr(fj.couplings, name)(KEY, x, x, **options)


def test_a_bad_penalty_is_refused(unchecked):
    with pytest.raises(ValueError, match="penalty must be above 0, got -1"):
        unbalanced(KEY, jnp.arange(3.0), jnp.arange(3.0), penalty=-1.0)
