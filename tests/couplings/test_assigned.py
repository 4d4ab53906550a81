"""Couplings that are permutations, against sorting, all permutations and SciPy itself.

Random checks are at five standard errors: a false alarm in 1.7 million.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import linear_sum_assignment

import flowjax as fj
from flowjax.couplings.assigned import _weight
from tests.solver.random_checks import STANDARD_ERRORS, key_of, keys_of

exact, conditional = fj.couplings.exact, fj.couplings.conditional
KEY = jax.random.key(0)


def squares(a, b):
    """All squared distances, by NumPy in float64."""
    a, b = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (a, b))
    return ((a[:, None] - b[None]) ** 2).sum(axis=-1)


def least(cost):
    """The least total cost, by SciPy from nothing."""
    return cost[linear_sum_assignment(cost)].sum()


def paid(pairs):
    return squares(pairs.x0, pairs.x1).trace()


def test_in_one_dimension_the_exact_coupling_is_the_sorted_pairing(dtype):
    numbers = np.random.default_rng(0)
    x0 = jnp.asarray(numbers.normal(size=256), dtype)
    x1 = jnp.asarray(numbers.exponential(size=256), dtype)
    pairs = exact(KEY, x0, x1)
    np.testing.assert_array_equal(pairs.x1, x1)
    np.testing.assert_array_equal(np.sort(pairs.x0), np.sort(x0))
    if dtype == np.float64:
        np.testing.assert_array_equal(pairs.x0[np.argsort(x1)], np.sort(x0))
    # In float32 the costs of two neighbours, exchanged, are often one number.
    np.testing.assert_allclose(paid(pairs), np.sum((np.sort(x0) - np.sort(x1)) ** 2), rtol=1e-6)


def test_no_permutation_costs_less_for_pytrees_and_costs_of_ones_own():
    numbers = np.random.default_rng(1)
    x0, x1 = (
        {"a": jnp.asarray(numbers.normal(size=(6, 2)), jnp.float32), "b": jnp.arange(6.0) * scale}
        for scale in (1.0, -0.5)
    )
    labels = {"class": np.arange(6)}

    def manhattan(a, b):
        return jnp.sum(jnp.abs(a["a"] - b["a"])) + jnp.abs(a["b"] - b["b"])

    def columns(x):
        return np.column_stack([x["a"], x["b"]]).astype(np.float64)

    differences = columns(x0)[:, None] - columns(x1)[None]
    for own, cost in ((None, differences**2), (manhattan, np.abs(differences))):
        pairs = exact(KEY, x0, x1, labels, cost=own)
        rows = [columns(x0).tolist().index(row) for row in columns(pairs.x0).tolist()]
        totals = [cost[i, np.arange(6)].sum() for i in itertools.permutations(range(6))]
        assert sorted(rows) == list(range(6))
        np.testing.assert_allclose(cost[rows, np.arange(6)].sum(), min(totals), rtol=1e-6)
        np.testing.assert_array_equal(pairs.labels["class"], np.arange(6))


@pytest.mark.parametrize("shape", [(3,), (4, 10)])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_the_total_cost_is_scipys_wherever_the_origin_is(shape, offset):
    numbers = np.random.default_rng(2)
    x0, x1 = (
        jnp.asarray(offset + scale * numbers.normal(size=(50, *shape)), jnp.float32)
        for scale in (1, 3)
    )
    pairs = exact(KEY, x0, x1)
    np.testing.assert_allclose(paid(pairs), least(squares(x0, x1)), rtol=1e-6)
    assert len(np.unique(np.asarray(pairs.x0).reshape(50, -1), axis=0)) == 50


@pytest.mark.parametrize(
    "x1",
    [
        np.ones(8),
        np.r_[np.zeros(7), 1e9],
        np.arange(8) * 1e-20,
        np.repeat([0.0, 1e4], 4),
        np.eye(8),
    ],
    ids=["one point", "an outlier", "tiny", "two points", "ties"],
)
def test_it_is_exact_where_all_costs_are_equal_or_far_apart(x1):
    x1 = jnp.asarray(x1, jnp.float32)
    x0 = jnp.asarray(np.random.default_rng(3).permutation(x1) + 0.5, jnp.float32)
    cost = squares(x0, x1)
    np.testing.assert_allclose(paid(exact(KEY, x0, x1)), least(cost), rtol=1e-6)


def test_one_pair_is_itself():
    assert exact(KEY, jnp.array([1.0]), jnp.array([5.0])).x0.tolist() == [1.0]


def test_it_is_the_same_under_jit_and_vmap_and_lets_derivatives_through_to_x0():
    x0 = jax.random.normal(key_of("x0"), (2, 50, 2))
    x1 = jax.random.normal(key_of("x1"), (2, 50, 2)) + 2
    labels = jnp.tile(jnp.arange(50) % 3, (2, 1))
    keys = jax.random.split(KEY, 2)
    for coupling in (exact, conditional):
        together = jax.jit(jax.vmap(coupling))(keys, x0, x1, labels)
        for i in range(2):
            alone = coupling(keys[i], x0[i], x1[i], labels[i])
            again = coupling(keys[i], x0[i], x1[i], labels[i])
            for a, b, c in zip(alone, again, together, strict=True):
                np.testing.assert_array_equal(a, b)
                np.testing.assert_array_equal(a, c[i])
    weights = jnp.arange(50.0)[:, None]
    slope = jax.grad(lambda x0: (weights * exact(KEY, x0, x1[0]).x0).sum())(x0[0])
    np.testing.assert_array_equal(np.sort(slope[:, 0]), np.arange(50.0))


def test_inside_jit_costs_that_are_not_finite_make_x0_nan():
    x = jnp.arange(4.0)
    for coupling in (exact, conditional):
        run = jax.jit(lambda x1, coupling=coupling: coupling(KEY, x, x1, jnp.arange(4) % 2))
        assert np.all(np.isnan(run(x.at[2].set(jnp.nan)).x0))
        assert np.all(np.isfinite(run(x).x0))
    endless = jax.jit(lambda x1: exact(KEY, x, x1, cost=lambda a, b: 1 / jnp.abs(a - b)))
    assert np.all(np.isnan(endless(x).x0))
    by_label = jax.jit(lambda y: conditional(KEY, x, x, y))
    assert np.all(np.isnan(by_label(x.at[0].set(jnp.nan)).x0))


def test_of_classes_each_is_solved_apart():
    numbers = np.random.default_rng(5)
    labels = jnp.asarray(numbers.integers(-2, 3, 50))
    x0, x1 = (jnp.asarray(numbers.normal(size=(50, 2)), jnp.float32) for _ in range(2))
    pairs = conditional(KEY, x0, x1, labels)
    order = jax.random.permutation(KEY, 50)
    for label in range(-2, 3):
        own = np.asarray(labels) == label
        np.testing.assert_allclose(
            squares(pairs.x0[own], x1[own]).trace(),
            least(squares(x0[order][own], x1[own])),
            rtol=1e-6,
        )


def two_sides(key, coupling, count=256):
    """On how many of a batch's X_0 lie on the other side than their data, N(2 y, .25), y = -1, 1.

    X_0 comes in an order, which no coupling may take over.
    """
    keys = jax.random.split(key, 3)
    y = 2 * jax.random.bernoulli(keys[0], shape=(count,)).astype(jnp.int32) - 1
    x1 = 2 * y + jax.random.normal(keys[1], (count,)) / 2
    x0 = jnp.sort(jax.random.normal(keys[2], (count,)))[jnp.argsort(jnp.argsort(y))]
    pairs = coupling(key, x0, x1, y)
    return jnp.mean(pairs.x0 * y < 0)


def assert_share(shares, expected, variance):
    error = np.sqrt(variance / len(shares))
    assert abs(np.mean(shares) - expected) < STANDARD_ERRORS * error, (np.mean(shares), expected)


@pytest.mark.usefixtures("standard_promotion")
def test_minibatch_transport_biases_a_conditional_model_and_c2ot_does_not():
    """Sampling puts half of the noise on the other side; plain transport |A - B| / n of it.

    A and B are how many data and how much noise are on one side, both binomial.
    """
    count = 256
    chances = stats.binom(2 * count, 0.5).pmf(np.arange(2 * count + 1))
    apart = np.abs(np.arange(2 * count + 1) - count) / count
    plain, half = (
        (chances @ apart, chances @ apart**2 - (chances @ apart) ** 2),
        (0.5, 0.25 / count),
    )
    assert 0.03 < plain[0] < 0.04

    def shares(coupling):
        return [float(two_sides(key, coupling, count)) for key in keys_of("two sides", 16)]

    by_float = lambda key, x0, x1, y: conditional(key, x0, x1, y.astype(x1.dtype))  # noqa: E731
    # Planted: X_0 in the order in which it came.
    kept = lambda key, x0, x1, y: fj.couplings.Pairs(x0, x1, y)  # noqa: E731
    biased = [shares(exact), shares(kept)]
    assert_share(biased[0], *plain)
    assert_share(shares(conditional), *half)
    assert_share(shares(by_float), *half)
    for planted in biased:
        with pytest.raises(AssertionError):
            assert_share(planted, *half)


def test_the_weight_of_labels_leaves_the_share_that_is_asked_for():
    numbers = np.random.default_rng(6)
    cost, apart = numbers.exponential(size=(2, 40, 40))
    np.fill_diagonal(apart, 0)

    def share(w):
        return np.mean(cost + w * apart <= np.diagonal(cost)[:, None])

    for wanted in (0.05, 0.2, 0.4):
        weight = float(
            _weight(jnp.asarray(cost, jnp.float32), jnp.asarray(apart, jnp.float32), wanted)
        )
        assert share(1.0001 * weight) <= wanted < share(0.9999 * weight)
    assert float(_weight(jnp.asarray(cost), jnp.asarray(apart), 0.9)) == pytest.approx(0, abs=1e-9)
    assert np.isinf(_weight(jnp.asarray(cost), jnp.zeros((40, 40)), 0.2))


def test_of_labels_that_are_numbers_less_noise_depends_on_them():
    keys = jax.random.split(KEY, 3)
    y = jax.random.uniform(keys[0], (256,), minval=-1.0)
    x1 = 2 * y + jax.random.normal(keys[1], (256,)) / 10
    x0 = jax.random.normal(keys[2], (256,))
    plain = exact(KEY, x0, x1, y)
    pairs = {share: conditional(KEY, x0, x1, y, share=share) for share in (0.2, 0.05, 0.01)}
    bound = [abs(np.corrcoef(p.x0, p.labels)[0, 1]) for p in (plain, *pairs.values())]
    assert bound[0] > 0.95
    assert bound == sorted(bound, reverse=True)
    assert bound[-1] < 0.5
    circle = lambda a, b: 1 - jnp.cos(a - b)  # noqa: E731
    other = conditional(KEY, x0, x1, y, label_cost=circle)
    assert paid(plain) < paid(other) < paid(fj.couplings.independent(KEY, x0, x1))


def test_independent_pairs_are_x0_in_an_order_that_the_key_names():
    x0, x1, labels = jnp.arange(100.0), jnp.arange(100.0) + 7, {"y": jnp.arange(100)}
    pairs = fj.couplings.independent(KEY, x0, x1, labels)
    assert sorted(pairs.x0.tolist()) == x0.tolist()
    np.testing.assert_array_equal(pairs.x1, x1)
    np.testing.assert_array_equal(pairs.labels["y"], labels["y"])
    np.testing.assert_array_equal(pairs.x0, fj.couplings.independent(KEY, x0, x1).x0)
    assert np.any(fj.couplings.independent(jax.random.key(1), x0, x1).x0 != pairs.x0)


X = jnp.arange(6.0).reshape(3, 2)
Y = jnp.arange(3)


@pytest.mark.parametrize("name", ["independent", "exact", "entropic", "unbalanced", "conditional"])
@pytest.mark.parametrize(
    ("batch", "error", "words"),
    [
        ((0, X, X, Y), TypeError, "key must be one JAX key"),
        ((jax.random.split(KEY, 2), X, X, Y), ValueError, "got a batch of keys"),
        (
            (KEY, X[:2], X, Y),
            ValueError,
            r"x0 must have shape \(3, 2\) .*like x1, got shape \(2, 2",
        ),
        ((KEY, {"a": X}, X, Y), ValueError, "x0 must have x1's structure"),
        ((KEY, X.astype(jnp.float16), X, Y), ValueError, "x0 must have .* float32 like x1"),
        (
            (KEY, X, X.astype(jnp.uint8), Y),
            TypeError,
            "x1 must be a real floating array, got dtype",
        ),
        ((KEY, X[0, 0], X[0, 0], Y), ValueError, "x1 must have a leading axis of at least one"),
        ((KEY, X[:0], X[:0], Y[:0]), ValueError, "x1 must have a leading axis of at least one"),
        (
            (KEY, {"a": X, "b": X[:2]}, {"a": X, "b": X[:2]}, Y),
            ValueError,
            r"x1\['b'\] must have 3 entries along its leading axis",
        ),
        ((KEY, X, X, Y[:2]), ValueError, r"labels must have 3 entries .* got shape \(2,\)"),
        ((KEY, X, X, {"y": Y[0]}), ValueError, r"labels\['y'\] must have 3 entries"),
        ((KEY, X, X, np.array(list("abc"))), TypeError, "labels must be an array of real numbers"),
        ((KEY, X, X, "abc"), TypeError, "labels must be an array of real numbers, got str"),
    ],
)
def test_a_batch_that_does_not_match_is_refused(unchecked, name, batch, error, words):
    with pytest.raises(error, match=words):
        getattr(fj.couplings, name)(*batch)


@pytest.mark.parametrize("name", ["exact", "entropic", "unbalanced", "conditional"])
def test_what_is_not_finite_is_refused_by_name(unchecked, name):
    coupling, nan = getattr(fj.couplings, name), X.at[1, 1].set(jnp.nan)
    with pytest.raises(ValueError, match=r"x0 must be finite, got nan at \[1, 1\]"):
        coupling(KEY, nan, X, Y)
    with pytest.raises(ValueError, match=r"x1\['a'\] must be finite, got nan at \[1, 1\]"):
        coupling(KEY, {"a": X}, {"a": nan}, Y)
    with pytest.raises(ValueError, match="cost must be finite, got inf of samples 0 and 0"):
        coupling(KEY, X, X, Y, cost=lambda a, b: 1 / jnp.sum(jnp.abs(a - b)))
    with pytest.raises(TypeError, match="cost must return a real floating scalar"):
        coupling(KEY, X, X, Y, cost=lambda a, b: a - b)
    with pytest.raises(TypeError, match="cost must be a function"):
        coupling(KEY, X, X, Y, cost=2.0)


@pytest.mark.parametrize(
    ("labels", "options", "error", "words"),
    [
        (None, {}, TypeError, "labels must be given"),
        (
            X.astype(int),
            {},
            ValueError,
            r"labels that are integers are classes and must have shape",
        ),
        ({"a": Y, "b": X}, {}, ValueError, "labels that are integers are classes"),
        (X.at[0, 0].set(jnp.inf), {}, ValueError, "label_cost must be finite, got"),
        (Y, {"share": 0.0}, ValueError, "share must be between 0 and 1, got 0.0"),
        (Y, {"share": "much"}, TypeError, "share must be a static number"),
        (X, {"label_cost": 1}, TypeError, "label_cost must be a function"),
        (X, {"label_cost": lambda a, b: a}, TypeError, "label_cost must return a real floating"),
        (
            X,
            {"label_cost": lambda a, b: -jnp.sum(a)},
            ValueError,
            "label_cost must not be negative",
        ),
    ],
)
def test_bad_conditions_are_refused(unchecked, labels, options, error, words):
    with pytest.raises(error, match=words):
        conditional(KEY, X, X, labels, **options)


def test_classes_may_have_a_cost_of_their_own_and_a_name():
    """With a large cost between classes each is solved apart, as without one."""
    key, n = jax.random.key(5), 24
    x0, x1 = (jax.random.normal(k, (n, 2)) for k in jax.random.split(key))
    labels = jnp.arange(n) % 3
    far = lambda a, b: jnp.where(a == b, 0.0, 1.0)  # noqa: E731
    apart = conditional(key, x0, x1, labels)
    np.testing.assert_array_equal(conditional(key, x0, x1, {"y": labels}).x0, apart.x0)
    costly = conditional(key, x0, x1, labels, label_cost=far, share=0.01)
    np.testing.assert_array_equal(costly.x0, apart.x0)


@pytest.mark.parametrize(
    ("label_cost", "words"),
    [
        (lambda a, b: a - b, "label_cost must not be negative"),
        (lambda a, b: (a - b) ** 2 + 1, "label_cost must be zero for equal labels, got 1"),
    ],
)
def test_a_cost_of_labels_that_is_none_is_refused(label_cost, words):
    x = jax.random.normal(jax.random.key(6), (5, 2))
    with pytest.raises(ValueError, match=words):
        conditional(jax.random.key(7), x, -x, jnp.arange(5.0), label_cost=label_cost)


def test_a_cost_of_labels_may_be_rounded():
    key = jax.random.key(9)
    x, y = jax.random.normal(key, (64, 2)), jax.random.normal(jax.random.key(10), (64, 64))
    cosine = lambda a, b: 1 - a @ b / jnp.linalg.norm(a) / jnp.linalg.norm(b)  # noqa: E731
    for how in ({}, {"label_cost": cosine}):
        pairs = conditional(key, x, -x, y, **how)
        np.testing.assert_array_equal(np.sort(pairs.x0, axis=0), np.sort(x, axis=0))


def test_the_weight_is_found_where_labels_are_all_but_equal(x64):
    """Against a search over all weights at which a pair changes sides, in NumPy."""
    rng = np.random.default_rng(8)
    n, share = 30, 0.2
    y = np.repeat(np.arange(1.0, 6.0), 6)
    y = y + np.tile(np.arange(6), 5) * np.spacing(y)
    cost, apart = rng.random((n, n)), (y[:, None] - y[None, :]) ** 2
    own = np.diagonal(cost)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        bends = np.sort(((own - cost) / apart)[apart > 0])
    shares = lambda w: np.mean(cost + w * apart <= own)  # noqa: E731
    want = next(w for w in bends[bends > 0] if shares(w * (1 + 1e-9)) <= share)
    np.testing.assert_allclose(_weight(cost, apart, share), want, rtol=1e-6)
