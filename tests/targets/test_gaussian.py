"""The Gaussian target against SciPy, automatic differentiation and independent NumPy formulas."""

import secrets

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import flowjax as fj
from flowjax.schedules.interpolations import CondOT
from flowjax.schedules.schedule import Schedule
from flowjax.targets.gaussian import Gaussian

COVARIANCE = np.array([[2.0, 0.6, -0.3], [0.6, 0.5, 0.1], [-0.3, 0.1, 1.0]])
# (mean, cov_or_std, the covariance of the flattened sample)
TARGETS = {
    "number": (0.7, 0.4, [[0.16]]),
    "isotropic": (np.array([1.0, -0.5, 2.0]), 0.5, 0.25 * np.eye(3)),
    "diagonal": (np.array([1.0, -0.5]), np.array([0.3, 2.0]), np.diag([0.09, 4.0])),
    "image": (
        np.arange(6.0).reshape(2, 3),
        np.array([0.5, 1.0, 2.0]),
        np.diag([0.25, 1.0, 4.0, 0.25, 1.0, 4.0]),
    ),
    "full": (np.array([1.0, -0.5, 2.0]), COVARIANCE, COVARIANCE),
    "one by one": (np.array([0.7]), np.array([[0.16]]), [[0.16]]),
}
every_target = pytest.mark.parametrize("kind", TARGETS)


class Trigonometric(Schedule):
    """A schedule whose rates are neither 1 nor -1, so that no factor can hide."""

    def alpha(self, t):
        return jnp.sin(np.pi / 2 * t)

    def sigma(self, t):
        return jnp.cos(np.pi / 2 * t)


every_schedule = pytest.mark.parametrize("schedule", [CondOT(), Trigonometric()], ids=repr)
TIMES = (0.0, 0.3, 0.8, 1.0)


@eqx.filter_jit
def evaluate(function, *arguments):
    """Compiled once for all targets of the same shapes."""
    return function(*arguments)


@eqx.filter_jit
def draw(target, key, count=20_000):
    return jax.vmap(target.sample)(jax.random.split(key, count))


def assert_close(got, expected, tolerance):
    """Equal to within a part of the largest expected number."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert got.shape == expected.shape
    size = max(1.0, np.max(np.abs(expected)))
    np.testing.assert_allclose(got / size, expected / size, rtol=0, atol=tolerance)


def make(kind):
    mean, scale, covariance = TARGETS[kind]
    return Gaussian(mean, scale), np.atleast_1d(mean).reshape(-1), np.asarray(covariance)


def some_points(mean, covariance, count=4):
    """Points at 0, 1, 10 and 100 standard deviations, in directions drawn afresh."""
    directions = np.random.default_rng().normal(size=(count, mean.size))
    distances = np.array([0.0, 1.0, 10.0, 100.0])[:count, None]
    return mean + distances * directions * np.sqrt(np.diag(covariance))


def fresh_key():
    seed = secrets.randbits(31)
    print(f"seed {seed}")
    return jax.random.key(seed)


@every_target
def test_the_log_density_is_scipys(kind, x64):
    target, mean, covariance = make(kind)
    for x in some_points(mean, covariance):
        expected = scipy.stats.multivariate_normal(mean, covariance).logpdf(x)
        got = evaluate(target.log_prob, x.reshape(target.shape))
        assert_close(got, expected, 1e-12)


@every_target
def test_the_log_density_in_float32_is_the_same_to_rounding(kind):
    target, mean, covariance = make(kind)
    for x in some_points(mean, covariance, count=3).astype(np.float32):
        got = evaluate(target.log_prob, x.reshape(target.shape))
        expected = scipy.stats.multivariate_normal(mean, covariance).logpdf(x.astype(float))
        assert got.dtype == jnp.float32
        assert_close(got, expected, 1e-5)


@eqx.filter_jit
def score_and_gradient(target, x):
    return target.score(x), jax.grad(lambda x: target.log_prob(x))(x)


@every_target
def test_the_score_is_the_gradient_of_the_log_density(kind, x64):
    target, mean, covariance = make(kind)
    for x in some_points(mean, covariance):
        score, gradient = score_and_gradient(target, x.reshape(target.shape))
        assert_close(score, gradient, 1e-12)


@every_target
@every_schedule
@pytest.mark.thin(3)
def test_the_marginal_has_the_moments_of_the_path(kind, schedule, x64):
    target, mean, covariance = make(kind)
    for t in TIMES:
        alpha, sigma = (float(value) for value in schedule(t))
        marginal = evaluate(target.marginal, schedule, jnp.array(t))
        expected = alpha**2 * covariance + sigma**2 * np.eye(mean.size)
        np.testing.assert_allclose(np.ravel(marginal.mean), alpha * mean, rtol=1e-15)
        got = marginal.covariance
        if got is None:
            got = np.diag(np.ravel(np.broadcast_to(marginal.std, marginal.shape)) ** 2)
        np.testing.assert_allclose(got, expected, rtol=1e-14, atol=1e-15)


@every_target
@every_schedule
def test_the_velocity_is_the_mean_motion_of_the_samples_that_meet_at_x(kind, schedule, x64):
    target, mean, covariance = make(kind)
    field = target.velocity(schedule)
    identity = np.eye(mean.size)
    for t in TIMES:
        alpha, sigma = (float(value) for value in schedule(t))
        alpha_rate, sigma_rate = (float(value) for value in schedule.rates(t))
        # (x_1, x_0) given x_t = x, by the conditional mean of a joint Gaussian.
        joint = np.block([[covariance, 0 * identity], [0 * identity, identity]])
        meeting = np.hstack([alpha * identity, sigma * identity])
        motion = np.hstack([alpha_rate * identity, sigma_rate * identity])
        start = np.concatenate([mean, 0 * mean])
        gain = joint @ meeting.T @ np.linalg.inv(meeting @ joint @ meeting.T)
        for x in some_points(mean, covariance, count=3):
            expected = motion @ (start + gain @ (x - meeting @ start))
            got = evaluate(field, jnp.array(t), x.reshape(target.shape), None)
            assert got.shape == target.shape
            assert_close(np.ravel(got), expected, 1e-12)


@pytest.mark.parametrize("kind", ["isotropic", "image", "full"])
@every_schedule
@pytest.mark.thin(2)
def test_velocity_and_marginal_satisfy_the_continuity_equation(kind, schedule, x64):
    target, mean, covariance = make(kind)
    velocity, score = target.velocity(schedule), target.marginal_score(schedule)

    def log_prob(t, x):
        return target.marginal(schedule, t).log_prob(x)

    @jax.jit
    def terms(t, x):
        change, slope = jax.grad(log_prob, argnums=(0, 1))(t, x)
        jacobian = jax.jacfwd(lambda x: velocity(t, x, None))(x)
        divergence = jnp.trace(jacobian.reshape(mean.size, mean.size))
        transport = jnp.sum(velocity(t, x, None) * slope)
        return change, divergence, transport, slope - score(t, x, None)

    for t in TIMES:
        for x in some_points(mean, covariance, count=2):
            change, divergence, transport, mismatch = terms(t, x.reshape(target.shape))
            assert_close(change + divergence, -transport, 1e-11)
            np.testing.assert_allclose(mismatch, 0, atol=1e-11)


def test_in_one_dimension_the_flow_is_the_exact_map_of_quantiles(x64):
    mean, std = 0.7, 0.4
    for schedule in (CondOT(), Trigonometric()):
        field = Gaussian(mean, std).velocity(schedule)

        @jax.jit
        def rate_and_velocity(t, x0, schedule=schedule, field=field):
            def flow(t):
                # The map from N(0, 1) to the marginal at t that keeps the order of points.
                alpha, sigma = schedule(t)
                return alpha * mean + jnp.sqrt(alpha**2 * std**2 + sigma**2) * x0

            x, rate = jax.jvp(flow, (t,), (jnp.ones_like(t),))
            return rate, field(t, x, None)

        for t in TIMES:
            for x0 in (-3.0, 0.0, 0.5, 100.0):
                assert_close(*rate_and_velocity(t, x0), 1e-14)


def test_the_flow_solved_in_small_steps_ends_at_the_exact_map(x64):
    mean, scale, _ = TARGETS["full"]
    target, x0 = Gaussian(mean, scale), np.array([0.3, -1.0, 2.0])
    x1 = fj.solve(target.velocity(fj.CondOT()), x0, fj.uniform_grid(500), step=fj.rk4)
    # The flow of centred Gaussians with commuting covariances is C_1^(1/2).
    values, vectors = np.linalg.eigh(scale)
    expected = mean + vectors @ (np.sqrt(values) * (vectors.T @ x0))
    assert_close(x1, expected, 1e-7)


def complex_step(function, values, index):
    """The derivative of an analytic NumPy function, without a difference of nearby numbers."""
    moved = [complex(value) for value in values]
    moved[index] += 1e-30j
    return function(*moved).imag / 1e-30


def test_gradients_of_velocity_and_score_are_finite_and_exact_at_both_ends(x64):
    def velocity(t, x, mean, std):
        ratio = (t * std**2 - (1 - t)) / (t**2 * std**2 + (1 - t) ** 2)
        return mean + ratio * (x - t * mean)

    def score(t, x, mean, std):
        return -(x - t * mean) / (t**2 * std**2 + (1 - t) ** 2)

    def field(build, scale):
        def value(t, x, mean, std):
            target = Gaussian(jnp.reshape(mean, (1,)), scale(std))
            return getattr(target, build)(CondOT())(t, jnp.reshape(x, (1,)), None)[0]

        return jax.jit(jax.value_and_grad(value, argnums=(0, 1, 2, 3)))

    for name, formula in (("velocity", velocity), ("marginal_score", score)):
        for scale in (lambda std: std, lambda std: jnp.reshape(std**2, (1, 1))):
            computed = field(name, scale)
            for t in (0.0, 0.5, 1.0):
                arguments = (t, 1.3, 0.7, 0.2)
                value, slopes = computed(*arguments)
                np.testing.assert_allclose(value, formula(*arguments), rtol=1e-12)
                expected = [complex_step(formula, arguments, i) for i in range(4)]
                np.testing.assert_allclose(slopes, expected, rtol=1e-11, atol=1e-11)


def test_the_gradient_of_the_log_density_reaches_a_spherical_covariance(x64):
    # Through an eigendecomposition this would be NaN: all eigenvalues are equal.
    x, mean, covariance = np.array([0.5, -2.0]), np.zeros(2), np.eye(2)
    log_prob = lambda covariance: Gaussian(mean, covariance).log_prob(x)  # noqa: E731
    slope = jax.jit(jax.grad(log_prob))(covariance)
    # d log p / dC = (C^-1 r r' C^-1 - C^-1) / 2
    np.testing.assert_allclose(slope, (np.outer(x, x) - np.eye(2)) / 2, atol=1e-14)


def worst_moment_error(samples, mean, covariance):
    """The largest error of a sample mean or covariance entry, in standard errors."""
    samples = np.asarray(samples, np.float64).reshape(len(samples), -1)
    variances = np.diag(covariance)
    mean_error = (samples.mean(axis=0) - mean) / np.sqrt(variances / len(samples))
    deviations = samples - mean
    spread = np.sqrt((np.outer(variances, variances) + covariance**2) / len(samples))
    covariance_error = (deviations.T @ deviations / len(samples) - covariance) / spread
    return max(np.max(np.abs(mean_error)), np.max(np.abs(covariance_error)))


@pytest.mark.parametrize("kind", ["number", "diagonal", "image", "full"])
def test_samples_have_the_mean_and_covariance(kind):
    # Five standard errors: a false alarm in 6e-7 per moment, at most 27 distinct moments a target.
    target, mean, covariance = make(kind)
    samples = draw(target, fresh_key())
    assert samples.shape == (20_000, *target.shape)
    assert samples.dtype == jnp.float32
    assert worst_moment_error(samples, mean, covariance) < 5


@pytest.mark.parametrize("kind", ["isotropic", "diagonal"])
def test_the_moment_check_catches_a_standard_deviation_used_as_a_variance(kind):
    target, mean, covariance = make(kind)
    planted = Gaussian(target.mean, jnp.sqrt(target.std))
    samples = draw(planted, fresh_key())
    assert worst_moment_error(samples, mean, covariance) > 5


def test_the_moment_check_catches_a_covariance_without_its_correlations():
    _, mean, covariance = make("full")
    planted = Gaussian(mean, np.sqrt(np.diag(covariance)))
    samples = draw(planted, fresh_key())
    assert worst_moment_error(samples, mean, covariance) > 5


@pytest.mark.parametrize("kind", ["image", "full"])
def test_old_and_typed_keys_give_the_same_sample(kind):
    target, _, _ = make(kind)
    typed, old = (evaluate(target.sample, key(5)) for key in (jax.random.key, jax.random.PRNGKey))
    np.testing.assert_array_equal(typed, old)


def test_a_sample_is_differentiable_in_the_parameters(x64):
    def sample(mean, std):
        return Gaussian(mean, std).sample(jax.random.key(0))

    value, slopes = jax.jit(jax.value_and_grad(sample, argnums=(0, 1)))(0.5, 2.0)
    np.testing.assert_allclose(slopes, [1.0, (value - 0.5) / 2], rtol=1e-14)


@pytest.mark.parametrize("kind", ["image", "full"])
def test_results_have_the_dtype_of_the_state(kind, dtype):
    target, mean, _ = make(kind)
    assert target.mean.dtype == evaluate(target.sample, jax.random.key(0)).dtype == dtype
    marginal = evaluate(target.marginal, CondOT(), np.float32(0.5))
    assert {leaf.dtype for leaf in jax.tree.leaves(marginal)} == {dtype}
    x = jnp.asarray(mean + 0.5, jnp.float32).reshape(target.shape)
    narrow = x.astype(jnp.bfloat16)
    t = jnp.asarray(0.3, dtype)

    @jax.jit
    def everything(x):
        velocity, score = target.velocity(CondOT()), target.marginal_score(CondOT())
        return target.log_prob(x), target.score(x), velocity(t, x, None), score(t, x, None)

    assert [value.dtype for value in everything(x)] == [jnp.float32] * 4
    log_prob, *fields = everything(narrow)
    expected_log_prob, *expected = everything(narrow.astype(jnp.float32))
    assert log_prob == expected_log_prob
    for got, value in zip(fields, expected, strict=True):
        assert got.dtype == jnp.bfloat16
        # The two programs may round differently before the last rounding.
        assert_close(got, value, 2**-8)


def test_parameters_of_16_bits_are_kept_and_computed_with_in_float32():
    @eqx.filter_jit
    def numbers(target, key, x):
        fields = target.velocity(CondOT()), target.marginal_score(CondOT())
        values = [field(0.3, x, None) for field in fields]
        return target.sample(key), target.marginal(CondOT(), 0.3), values

    mean, std = np.array([1.0, 2.0], jnp.bfloat16), np.array(0.5, jnp.bfloat16)
    for scale in (std, np.array([[2.0, 0.5], [0.5, 1.0]], jnp.bfloat16)):
        wide = Gaussian(mean.astype(np.float32), scale.astype(np.float32))
        both = Gaussian(mean, scale), wide
        of_narrow, of_wide = (numbers(it, jax.random.key(0), np.ones(2, np.float32)) for it in both)
        assert of_narrow[0].dtype == jnp.bfloat16
        rounded = jax.tree.map(lambda leaf: np.asarray(leaf, jnp.bfloat16), of_wide)
        jax.tree.map(np.testing.assert_array_equal, of_narrow[:2], rounded[:2])
        np.testing.assert_array_equal(of_narrow[2], of_wide[2])


def test_a_batch_of_gaussians_is_a_vmap_over_their_leaves(x64):
    means, stds = np.array([[0.0, 1.0], [2.0, -1.0]]), np.array([0.5, 2.0])
    xs = np.array([[0.3, 0.4], [1.0, 0.0]])
    targets = jax.vmap(Gaussian)(means, stds)
    got = jax.jit(jax.vmap(lambda target, x: target.velocity(CondOT())(0.4, x, None)))(targets, xs)
    alone = jax.jit(lambda mean, std, x: Gaussian(mean, std).velocity(CondOT())(0.4, x, None))
    expected = [alone(*each) for each in zip(means, stds, xs, strict=True)]
    np.testing.assert_allclose(got, expected, rtol=1e-14)


@pytest.mark.parametrize("kind", ["isotropic", "full"])
def test_fields_of_other_parameters_compile_nothing_again(kind):
    traces = []

    @eqx.filter_jit
    def value(field, t, x):
        traces.append(None)
        return field(t, x, None)

    mean, scale, _ = TARGETS[kind]
    t, x = np.float32(0.3), np.ones(3, np.float32)
    first = value(Gaussian(mean, scale).velocity(CondOT()), t, x)
    second = value(Gaussian(mean + 1, 4 * scale).velocity(CondOT()), t, x)
    assert len(traces) == 1
    assert np.all(np.asarray(first) != np.asarray(second))


def test_a_point_is_a_gaussian_without_width(x64):
    # u = (mu - x) / (1 - t): straight to the point.
    point = Gaussian(np.array([2.0, -1.0]), 0.0)
    x = np.array([0.5, 0.5])
    np.testing.assert_array_equal(evaluate(point.sample, jax.random.key(0)), [2.0, -1.0])
    mean = np.asarray(point.mean)
    for t in (0.0, 0.5, 0.9):
        velocity = evaluate(point.velocity(CondOT()), np.float64(t), x, None)
        np.testing.assert_allclose(velocity, (mean - x) / (1 - t), rtol=1e-13)
        score = evaluate(point.marginal_score(CondOT()), np.float64(t), x, None)
        np.testing.assert_allclose(score, (t * mean - x) / (1 - t) ** 2)


def test_checks_of_values_do_not_break_tracing():
    def log_prob(std):
        return Gaussian(0.0, std).log_prob(1.0)

    assert jnp.isnan(jax.jit(log_prob)(-1.0))
    np.testing.assert_allclose(jax.jit(jax.grad(log_prob))(2.0), -0.5 + 1 / 8, rtol=1e-6)
    covariances = np.stack([COVARIANCE, 2 * COVARIANCE])
    got = jax.vmap(lambda covariance: Gaussian(np.zeros(3), covariance).log_prob(np.ones(3)))
    expected = [
        scipy.stats.multivariate_normal(cov=covariance).logpdf(np.ones(3))
        for covariance in covariances
    ]
    np.testing.assert_allclose(got(covariances), expected, rtol=1e-5)


def test_a_covariance_with_the_asymmetry_of_rounding_is_accepted():
    factor = np.random.default_rng().normal(size=(5, 5)).astype(np.float32)
    covariance = factor @ factor.T + np.eye(5, dtype=np.float32)
    covariance[0, 1] *= 1 + 1e-6
    assert Gaussian(np.zeros(5), covariance).covariance is not None


PLANE = np.zeros(2)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: Gaussian("centre", 1.0), TypeError, "mean.*'centre'"),
        (lambda: Gaussian(1j, 1.0), TypeError, "mean.*complex"),
        (lambda: Gaussian(0.0, None), TypeError, "cov_or_std.*None"),
        (lambda: Gaussian(0.0, True), TypeError, "cov_or_std.*bool"),
        (lambda: Gaussian(0.0, -1.0), ValueError, "cov_or_std.*negative.*-1.0"),
        (lambda: Gaussian(PLANE, [1.0, np.nan]), ValueError, "cov_or_std must be finite.*nan"),
        (lambda: Gaussian([0.0, np.nan], 1.0), ValueError, r"mean must be finite, got \[ 0. nan\]"),
        (lambda: Gaussian(PLANE, np.inf), ValueError, "cov_or_std must be finite, got inf"),
        (lambda: Gaussian(0.0, np.ones(2)), ValueError, r"cov_or_std.*\(\).*\(2,\)"),
        (lambda: Gaussian(PLANE, np.ones(3)), ValueError, r"cov_or_std.*\(2,\).*\(3,\)"),
        (lambda: Gaussian(PLANE, np.ones((2, 3))), ValueError, r"cov_or_std.*\(2,\).*\(2, 3\)"),
        (lambda: Gaussian(PLANE, np.ones((1, 2))), ValueError, r"cov_or_std.*\(2,\).*\(1, 2\)"),
        (lambda: Gaussian(0.0, np.ones((1, 1))), ValueError, r"cov_or_std.*\(\).*\(1, 1\)"),
        (
            lambda: Gaussian(np.zeros((2, 2)), np.ones((4, 4))),
            ValueError,
            r"cov_or_std.*\(2, 2\).*\(4, 4\)",
        ),
        (lambda: Gaussian(PLANE, [[1.0, 0.5], [0.4, 1.0]]), ValueError, "cov_or_std.*symmetric"),
        (lambda: Gaussian(PLANE, [[1.0, 2.0], [2.0, 1.0]]), ValueError, "cov_or_std.*positive"),
        (lambda: Gaussian(PLANE, np.full((2, 2), np.nan)), ValueError, "cov_or_std.*finite.*nan"),
        (lambda: Gaussian(PLANE, 1.0).log_prob(np.ones((5, 2))), ValueError, r"x .*\(5, 2\).*vmap"),
        (lambda: Gaussian(PLANE, 1.0).score(1.0), ValueError, r"x .*\(2,\).*\(\)"),
        (lambda: Gaussian(PLANE, 1.0).score(np.ones(2, int)), TypeError, "x .*int"),
        (lambda: Gaussian(PLANE, 1.0).log_prob([0.0, 0.0]), TypeError, "x .*list"),
        (lambda: Gaussian(PLANE, 1.0).velocity(CondOT), TypeError, "schedule.*CondOT"),
        (lambda: Gaussian(PLANE, 1.0).marginal_score(None), TypeError, "schedule.*None"),
        (lambda: Gaussian(PLANE, 1.0).marginal(lambda t: (t, 1 - t), 0.5), TypeError, "schedule"),
        (lambda: Gaussian(PLANE, 1.0).marginal(0.5, CondOT()), TypeError, "schedule.*0.5"),
        (lambda: Gaussian(PLANE, 1.0).marginal(CondOT(), "0.5"), TypeError, "t must be.*'0.5'"),
        (lambda: Gaussian(PLANE, 1.0).velocity(), TypeError, "schedule"),
        (lambda: Gaussian(PLANE, 1.0).marginal(CondOT(), np.ones(3)), ValueError, r"t .*\(3,\)"),
        (lambda: Gaussian(PLANE, 1.0).sample(0), TypeError, "key"),
        (
            lambda: Gaussian(PLANE, 1.0).sample(jax.random.split(jax.random.key(0), 3)),
            ValueError,
            r"key.*\(3,\).*vmap",
        ),
    ],
)
def test_bad_input_is_refused_by_name(call, error, words, unchecked):
    with pytest.raises(error, match=words):
        call()
