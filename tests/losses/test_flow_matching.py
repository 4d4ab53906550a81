"""The flow matching loss against its exact expectation for Gaussian data.

Random checks allow five standard errors: a false alarm in 1.7 million for each number checked.
Each is shown to catch a planted bug.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import flowjax as fj
from flowjax.losses import flow_matching
from flowjax.schedules.interpolations import CondOT
from flowjax.targets.gaussian import Gaussian

MEAN, STD = np.array([1.5, -0.5, 2.0]), np.array([0.5, 1.0, 2.0])
SAMPLES = 40_000
FIVE_SIGMA = 2 * stats.norm.sf(5)


def losses_of(losses):
    """Of many samples, what ``losses(x1, key)`` gives by name: all of it from one program."""

    def one(key):
        data_key, loss_key = jax.random.split(key)
        noise = jax.random.normal(data_key, (3,))
        x1 = jnp.asarray(MEAN, jnp.float32) + jnp.asarray(STD, jnp.float32) * noise
        return losses(x1, loss_key)

    values = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), SAMPLES))
    return jax.tree.map(lambda leaf: np.asarray(leaf, float), values)


def linear_velocity(t, x, args):
    return 0.7 * x + 2 * t


def expected_loss_of_linear_velocity(a=0.7, b=2.0):
    """E (a x_t + b t - (x_1 - x_0))^2, integrated over t.

    The residual is (a t - 1) x_1 + (a (1 - t) + 1) x_0 + b t, of mean (a t - 1) mean + b t.
    """
    data = a**2 / 3 - a + 1  # integral of (a t - 1)^2
    noise = a**2 / 3 + a + 1  # integral of (a (1 - t) + 1)^2
    bias = MEAN**2 * data + 2 * MEAN * b * (a / 3 - 1 / 2) + b**2 / 3
    return np.mean(bias + STD**2 * data + noise)


def standard_errors_off(losses, expected):
    return abs(losses.mean() - expected) / (losses.std() / np.sqrt(losses.size))


# --- the value ------------------------------------------------------------------------------------


@functools.cache
def losses_of_models():
    exact = Gaussian(jnp.asarray(MEAN, jnp.float32), jnp.asarray(STD, jnp.float32))
    velocity = exact.velocity(CondOT())

    def worse(t, x, args):
        return velocity(t, x, args) + 0.5 * jnp.cos(3 * t)

    models = {"linear": linear_velocity, "exact": velocity, "worse": worse}
    return losses_of(
        lambda x1, key: {name: flow_matching(model, x1, key) for name, model in models.items()}
    )


def test_the_loss_of_a_linear_velocity_has_its_exact_mean():
    losses = losses_of_models()["linear"]
    assert standard_errors_off(losses, expected_loss_of_linear_velocity()) < 5


def test_the_loss_of_the_exact_velocity_is_the_spread_that_remains():
    """For Gaussian data it is the integral of c^2 / (c^2 t^2 + (1 - t)^2), which is pi c / 2."""
    assert standard_errors_off(losses_of_models()["exact"], np.pi / 2 * STD.mean()) < 5


def test_an_error_of_the_velocity_adds_its_square():
    """Conditional and marginal losses differ by a constant: no cross term survives."""
    added = losses_of_models()["worse"] - losses_of_models()["exact"]
    square = 0.25 * (0.5 + np.sin(6) / 12)  # 0.25 times the integral of cos(3 t)^2
    assert standard_errors_off(added, square) < 5


def planted(path=None, target=None, time=None):
    """The loss written again, with one thing wrong."""
    path = path or (lambda t, x0, x1: t * x1 + (1 - t) * x0)
    target = target or (lambda x0, x1: x1 - x0)
    time = time or (lambda t: t)

    def loss(model, x1, key):
        time_key, noise_key = jax.random.split(key)
        t = time(jax.random.uniform(time_key))
        x0 = jax.random.normal(noise_key, x1.shape)
        residual = model(t, path(t, x0, x1), None) - target(x0, x1)
        return jnp.mean(residual**2)

    return loss


BUGS = {
    "sign": {"target": lambda x0, x1: x0 - x1},
    "sum": {"target": lambda x0, x1: x1 + x0},
    "ends swapped": {"path": lambda t, x0, x1: t * x0 + (1 - t) * x1},
    "square root": {"path": lambda t, x0, x1: t * x1 + jnp.sqrt(1 - t) * x0},
    "half the times": {"time": lambda t: t / 2},
    "times not uniform": {"time": lambda t: jnp.sqrt(t)},
}


@functools.cache
def planted_losses():
    losses = {bug: planted(**parts) for bug, parts in ({"none": {}} | BUGS).items()}
    return losses_of(
        lambda x1, key: {bug: loss(linear_velocity, x1, key) for bug, loss in losses.items()}
    )


def test_the_loss_written_again_without_a_bug_passes():
    expected = expected_loss_of_linear_velocity()
    assert standard_errors_off(planted_losses()["none"], expected) < 5


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_moves_the_mean(bug):
    expected = expected_loss_of_linear_velocity()
    assert standard_errors_off(planted_losses()[bug], expected) > 5


# --- the randomness -------------------------------------------------------------------------------


def times_and_noises(loss):
    """The t and the x_0 of many keys, as the model sees them: with x_1 = 0, x_t = (1 - t) x_0."""

    def seen(key):
        calls = []

        def spy(t, x, args):
            calls.append((t, x["a"], x["b"]))
            return x

        loss(spy, {"a": jnp.zeros(2), "b": jnp.zeros(())}, key)
        return calls[0]

    t, a, b = jax.jit(jax.vmap(seen))(jax.random.split(jax.random.key(5), SAMPLES))
    x0 = np.concatenate([a, b[:, None]], axis=1).astype(float) / (1 - np.asarray(t, float))[:, None]
    return np.asarray(t, float), x0


def largest_dependence(t, x0):
    """The largest correlation, in standard errors, between t, the elements and their squares."""
    columns = np.column_stack([t, t**2, x0, x0**2])
    correlations = np.corrcoef(columns, rowvar=False)
    # A variable and its own square may correlate.
    pairs = [(0, 1), (2, 5), (3, 6), (4, 7)]
    np.fill_diagonal(correlations, 0)
    for i, j in pairs:
        correlations[i, j] = correlations[j, i] = 0
    return np.abs(correlations).max() * np.sqrt(len(t))


def test_time_is_uniform_and_noise_normal_and_all_are_independent():
    t, x0 = times_and_noises(flow_matching)
    assert stats.kstest(t, "uniform").pvalue > FIVE_SIGMA
    for column in x0.T:
        assert stats.kstest(column, "norm").pvalue > FIVE_SIGMA
    assert largest_dependence(t, x0) < 5


def test_one_key_for_time_and_noise_is_caught():
    def loss(model, x1, key):
        t = jax.random.uniform(key)
        model(t, jax.tree.map(lambda x: (1 - t) * jax.random.normal(key, x.shape), x1), None)

    assert largest_dependence(*times_and_noises(loss)) > 5


# --- pytrees, dtypes, schedules -------------------------------------------------------------------


def test_a_pytree_under_any_schedule_is_the_mean_over_all_its_elements(dtype):
    """Among its leaves one without elements, and None."""
    b = (jnp.asarray([[0.5], [3.0], [0.1]], dtype), None, jnp.zeros((0, 2), dtype))
    x1 = {"a": jnp.asarray([1.0, -2.0], dtype), "b": b}

    @jax.jit
    def loss_and_last_call(x1, key, factor):
        calls = []

        def model(t, x, args):
            calls.append((t, x))
            return jax.tree.map(lambda leaf: args * jnp.sin(leaf), x)

        return flow_matching(model, x1, key, factor, schedule=fj.Trigonometric()), calls[-1]

    loss, (t, xt) = loss_and_last_call(x1, jax.random.key(3), jnp.asarray(2.0, dtype))
    assert loss.dtype == dtype
    angle = np.pi / 2 * float(t)
    squares = []
    for x1_leaf, leaf in zip(jax.tree.leaves(x1), jax.tree.leaves(xt), strict=True):
        x1_leaf, leaf = np.asarray(x1_leaf, float), np.asarray(leaf, float)
        x0 = (leaf - np.sin(angle) * x1_leaf) / np.cos(angle)
        target = np.pi / 2 * (np.cos(angle) * x1_leaf - np.sin(angle) * x0)
        squares.append(((2 * np.sin(leaf) - target) ** 2).reshape(-1))
    want = np.concatenate(squares).mean()
    np.testing.assert_allclose(loss, want, rtol=1e-12 if dtype == jnp.float64 else 1e-5)


def test_half_precision_samples_have_their_loss_in_single_precision():
    x1 = jnp.asarray([1.0, -0.5, 0.25], jnp.bfloat16)
    seen = []

    def zero(t, x, args):
        seen.append((t, x))
        return jnp.zeros_like(x)

    loss = flow_matching(zero, x1, jax.random.key(0))
    assert loss.dtype == jnp.float32
    assert seen[-1][0].dtype == jnp.float32
    assert seen[-1][1].dtype == jnp.bfloat16
    # The target does not depend on the precision of x_1, whose values are exact in both.
    np.testing.assert_array_equal(
        loss, flow_matching(zero, x1.astype(jnp.float32), jax.random.key(0))
    )


def test_typed_and_old_keys_give_the_same_loss_under_jit_or_not():
    x1 = jnp.asarray([1.0, 2.0])

    def loss(key):
        return flow_matching(linear_velocity, x1, key)

    want = loss(jax.random.key(7))
    np.testing.assert_array_equal(loss(jax.random.PRNGKey(7)), want)
    np.testing.assert_allclose(jax.jit(loss)(jax.random.key(7)), want, rtol=1e-6)


def test_no_time_is_one_of_the_ends(dtype):
    """Times are the odd multiples of half the spacing of `jax.random.uniform`."""

    def time(key):
        calls = []
        flow_matching(lambda t, x, args: (calls.append(t), x)[1], jnp.ones((), dtype), key)
        return calls[0]

    t = np.asarray(jax.jit(jax.vmap(time))(jax.random.split(jax.random.key(6), 1000)))
    assert t.dtype == dtype
    multiples = np.asarray(t, np.longdouble) / (np.finfo(dtype).eps / 2)
    np.testing.assert_array_equal(multiples % 2, 1)


# --- velocities that have a schedule --------------------------------------------------------------

VP = fj.VariancePreserving()


def guess(t, x, args):
    return jnp.cos(x) * t


@pytest.mark.parametrize("predicts", ["velocity", "data", "noise", "v"])
def test_a_model_of_anything_is_trained_as_the_velocity_that_it_gives(predicts):
    x1, key = jnp.array([1.0, -2.0, 0.5]), jax.random.key(8)
    model = fj.velocity(guess, VP, predicts)
    want = flow_matching(lambda t, x, args: model(t, x, args), x1, key, schedule=VP)
    np.testing.assert_array_equal(flow_matching(model, x1, key), want)


def test_a_training_step_of_a_preconditioned_network_has_a_gradient(standard_promotion):
    def loss(network):
        model = fj.velocity(fj.precondition(network, VP, 1.0), VP, "data")
        return flow_matching(model, jnp.ones(2), jax.random.key(0))

    network = fj.models.MLP((2,), 8, 1, key=jax.random.key(1))
    gradient = jax.jit(jax.grad(loss))(network)
    assert np.any(gradient.output_layer.weight)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


class Score:
    gives = "score"

    def __call__(self, t, x, args):
        return -x


@pytest.mark.parametrize(
    ("model", "schedule", "error", "words"),
    [
        (fj.velocity(guess, VP), CondOT(), ValueError, "schedule must be left out.*Variance"),
        (fj.velocity(guess, VP), VP, ValueError, "schedule must be left out.*Variance"),
        (Score(), None, TypeError, "model must be a velocity.*got a field of the score"),
        (None, None, TypeError, "model must be a velocity.*got None"),
        (fj.models.MLP, None, TypeError, "model must be a velocity.*got"),
        (fj.ornstein_uhlenbeck(1.0, 1.0), None, TypeError, "model must be a velocity.*SDE"),
        (guess, CondOT, TypeError, "schedule must be a schedule such as fj.CondOT.*the class"),
        (guess, "condot", TypeError, "schedule must be a schedule.*got 'condot'"),
        (guess, lambda t: (t, 1 - t), TypeError, "schedule must be a schedule.*got <function"),
    ],
)
def test_what_does_not_fit_together_is_refused(unchecked, model, schedule, error, words):
    with pytest.raises(error, match=words):
        flow_matching(model, jnp.ones(2), jax.random.key(0), schedule=schedule)


@pytest.mark.parametrize(
    ("x1", "key", "model", "error", "words"),
    [
        (jnp.array([1, 2]), 0, None, TypeError, "x1"),
        ({"a": jnp.array([True])}, 0, None, TypeError, "x1\\['a'\\]"),
        (jnp.array([1j]), 0, None, TypeError, "x1"),
        ((), 0, None, ValueError, "x1"),
        (None, 0, None, ValueError, "x1 must hold at least one array"),
        (jnp.zeros((0, 3)), 0, None, ValueError, "x1 must hold at least one number"),
        ([1, 2], 0, None, TypeError, r"x1\[0\] must be a real floating array"),
        (linear_velocity, 0, None, TypeError, "x1 must be a real floating array, got function"),
        (jnp.ones(2), "none", None, TypeError, "key must be one JAX key.*got None"),
        (jnp.ones(2), "int", None, TypeError, "key"),
        (jnp.ones(2), "batch", None, ValueError, "batch of keys"),
        (jnp.ones(2), 0, lambda t, x, args: x[:1], ValueError, "the model's output"),
        (jnp.ones(2), 0, lambda t, x, args: jnp.sum(x), ValueError, "the model's output"),
        (jnp.ones(2), 0, lambda t, x, args: (x,), ValueError, "the model's output"),
    ],
)
def test_bad_input_is_refused(unchecked, x1, key, model, error, words):
    key = {"int": 3, "none": None, "batch": jax.random.split(jax.random.key(0), 4)}.get(
        key, jax.random.key(0)
    )
    with pytest.raises(error, match=words):
        flow_matching(model or (lambda t, x, args: x), x1, key)
