"""The mixture against SciPy, quadrature, automatic differentiation and its own components."""

import secrets

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import flowjax as fj
from flowjax.schedules.interpolations import CondOT
from flowjax.schedules.schedule import Schedule
from flowjax.targets.gaussian import Gaussian
from flowjax.targets.mixture import GaussianMixture

# (weights, means, stds)
TARGETS = {
    "numbers": (np.array([1.0, 3.0, 0.5]), np.array([-2.0, 0.5, 3.0]), np.array([0.5, 0.3, 1.0])),
    "isotropic": (
        np.array([0.2, 0.8]),
        np.array([[-1.0, 0.5], [1.5, 0.0]]),
        np.array([0.4, 0.7]),
    ),
    "diagonal": (
        np.array([2.0, 3.0]),
        np.array([[-1.0, 0.5], [1.5, 0.0]]),
        np.array([[0.4, 1.2], [0.7, 0.3]]),
    ),
    "images": (
        np.array([1.0, 1.0, 2.0]),
        np.arange(12.0).reshape(3, 2, 2) / 4,
        np.array([0.5, 1.0, 0.8]),
    ),
    "one width": (np.array([1.0, 2.0]), np.array([[0.0, 1.0], [2.0, -1.0]]), 0.6),
    # At least 14 standard deviations apart.
    "islands": (
        np.array([1.0, 3.0, 2.0]),
        np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]]),
        np.array([[0.5, 0.7], [0.3, 0.3], [0.2, 0.6]]),
    ),
}
every_target = pytest.mark.parametrize("kind", ["numbers", "diagonal", "images", "one width"])


class Trigonometric(Schedule):
    """A schedule whose rates are neither 1 nor -1, so that no factor can hide."""

    def alpha(self, t):
        return jnp.sin(np.pi / 2 * t)

    def sigma(self, t):
        return jnp.cos(np.pi / 2 * t)


every_schedule = pytest.mark.parametrize("schedule", [CondOT(), Trigonometric()], ids=repr)


@eqx.filter_jit
def evaluate(function, *arguments):
    """Compiled once for all targets of the same shapes."""
    return function(*arguments)


@eqx.filter_jit
def draw(target, key, count=20_000):
    return jax.vmap(target.sample)(jax.random.split(key, count))


def flat(kind):
    """Normalised weights, and means and standard deviations of shape (k, elements)."""
    weights, means, stds = TARGETS[kind]
    means = means.reshape(len(weights), -1)
    stds = np.broadcast_to(stds, means.shape[::-1]).T if np.ndim(stds) < 2 else stds
    return weights / weights.sum(), means, stds


def some_points(kind):
    """The middle, points near the components, and one a hundred standard deviations away."""
    _, means, stds = flat(kind)
    noise = np.random.default_rng().normal(size=means.shape)
    far = np.max(means, axis=0) + 100 * np.max(stds, axis=0)
    return np.concatenate([means.mean(axis=0)[None], means + stds * noise, far[None]])


def log_density(weights, means, stds, x):
    """By SciPy, in float64; x has shape (..., elements)."""
    log_components = scipy.stats.norm(means, stds).logpdf(x[..., None, :]).sum(axis=-1)
    return scipy.special.logsumexp(log_components, b=weights, axis=-1)


def assert_close(got, expected, tolerance):
    """Equal to within a part of the largest expected number."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert got.shape == expected.shape
    size = max(1.0, np.max(np.abs(expected)))
    np.testing.assert_allclose(got / size, expected / size, rtol=0, atol=tolerance)


def fresh_key():
    seed = secrets.randbits(31)
    print(f"seed {seed}")
    return jax.random.key(seed)


@every_target
def test_the_log_density_is_scipys(kind, dtype):
    target = GaussianMixture(*TARGETS[kind])
    for x in some_points(kind).astype(dtype):
        got = evaluate(target.log_prob, x.reshape(target.shape))
        assert (got.shape, got.dtype) == ((), dtype)
        expected = log_density(*flat(kind), x.astype(np.float64))
        assert_close(got, expected, 1e-12 if dtype == jnp.float64 else 1e-5)


@every_target
def test_the_score_is_the_gradient_of_the_log_density(kind, x64):
    target = GaussianMixture(*TARGETS[kind])
    both = jax.jit(lambda x: (target.score(x), jax.grad(target.log_prob)(x)))
    for x in some_points(kind):
        score, expected = both(x.reshape(target.shape))
        assert_close(score, expected, 1e-12)


@pytest.mark.parametrize("kind", ["numbers", "diagonal"])
@every_schedule
def test_far_from_every_component_all_is_finite_and_as_the_nearest_tail_has_it(
    kind, schedule, dtype
):
    # At a hundred standard deviations every density is zero in floating point, and the ratio of
    # two of them is too, so the widest component alone is left.
    target = GaussianMixture(*TARGETS[kind])
    weights, means, stds = flat(kind)
    x = some_points(kind)[-1].astype(dtype)
    for t in (0.0, 0.5, 1.0):
        alpha, sigma = (float(value) for value in schedule(t))
        alpha_rate, sigma_rate = (float(value) for value in schedule.rates(t))
        variances = alpha**2 * stds**2 + sigma**2
        logits = np.log(weights) - np.sum(
            (x - alpha * means) ** 2 / (2 * variances) + np.log(variances) / 2, axis=-1
        )
        shares = scipy.special.softmax(logits)[:, None]
        scores = -(x - alpha * means) / variances
        velocities = (
            alpha_rate * means - (alpha * alpha_rate * stds**2 + sigma * sigma_rate) * scores
        )
        tolerance = 1e-12 if dtype == jnp.float64 else 1e-5
        for name, expected in (("marginal_score", scores), ("velocity", velocities)):
            field = getattr(target, name)(schedule)
            got = evaluate(field, jnp.asarray(t, dtype), x.reshape(target.shape), None)
            # The responsibilities carry the rounding of logits of up to 1e4.
            assert_close(np.ravel(got), (shares * expected).sum(axis=0), 100 * tolerance)


def quadrature(kind, x, alpha, sigma, alpha_rate, sigma_rate):
    """p_t(x) and E[alpha' x_1 + sigma' x_0 | x_t = x], by the trapezoidal rule over x_1.

    The integrand is smooth and vanishes at the ends of the grid, where the rule converges
    faster than any power of the spacing.
    """
    weights, means, stds = flat(kind)
    axes = [
        np.linspace(np.min(means[:, i] - 12 * stds[:, i]), np.max(means[:, i] + 12 * stds[:, i]), n)
        for i, n in zip(range(len(x)), [6001] if len(x) == 1 else [201, 201], strict=True)
    ]
    x1 = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    cell = np.prod([axis[1] - axis[0] for axis in axes])
    x0 = (x - alpha * x1) / sigma
    prior = sum(
        w * np.prod(scipy.stats.norm(m, s).pdf(x1), axis=-1)
        for w, m, s in zip(weights, means, stds, strict=True)
    )
    joint = prior * np.prod(scipy.stats.norm.pdf(x0) / sigma, axis=-1) * cell
    motion = alpha_rate * x1 + sigma_rate * x0
    density = joint.sum()
    return density, (joint[..., None] * motion).reshape(-1, len(x)).sum(axis=0) / density


@pytest.mark.parametrize("kind", ["numbers", "isotropic", "diagonal"])
@every_schedule
def test_velocity_and_density_are_the_integrals_over_the_data(kind, schedule, x64):
    target = GaussianMixture(*TARGETS[kind])
    velocity = target.velocity(schedule)
    for t in (0.1, 0.5, 0.8):
        alpha, sigma = (float(value) for value in schedule(t))
        alpha_rate, sigma_rate = (float(value) for value in schedule.rates(t))
        for x in some_points(kind)[:3] * alpha:
            density, motion = quadrature(kind, x, alpha, sigma, alpha_rate, sigma_rate)
            x = x.reshape(target.shape)
            marginal = evaluate(target.marginal, schedule, jnp.array(t))
            got = np.exp(evaluate(marginal.log_prob, x))
            np.testing.assert_allclose(got, density, rtol=1e-10)
            got = evaluate(velocity, jnp.array(t), x, None)
            assert_close(np.ravel(got), motion, 1e-10)


def test_the_flow_solved_in_small_steps_ends_at_the_quantile_of_its_start(x64):
    # In one dimension x_1 = F_1^-1(Phi(x_0)).
    weights, means, stds = TARGETS["numbers"]
    field = GaussianMixture(weights, means, stds).velocity(fj.CondOT())
    x0 = np.array([-2.0, -0.5, 0.1, 1.7])
    ts = fj.uniform_grid(1000)
    x1 = jax.vmap(lambda x: fj.solve(field, x, ts, step=fj.rk4))(x0)
    quantiles = scipy.stats.norm(means, stds).cdf(x1[:, None]) @ weights / weights.sum()
    np.testing.assert_allclose(quantiles, scipy.stats.norm.cdf(x0), rtol=1e-7)


@every_schedule
def test_in_one_dimension_the_flow_keeps_the_quantiles(schedule, x64):
    # With F_t the distribution function, F_t(flow) constant in time means dF_t/dt = -u p.
    weights, means, stds = TARGETS["numbers"]
    target = GaussianMixture(weights, means, stds)
    weights = weights / weights.sum()

    def distribution(t, x):
        alpha, sigma = schedule(t)
        deviations = jnp.sqrt(alpha**2 * stds**2 + sigma**2)
        return jnp.sum(weights * jax.scipy.stats.norm.cdf(x, alpha * means, deviations))

    @jax.jit
    def rates(t, x):
        change, density = jax.grad(distribution, argnums=(0, 1))(t, x)
        return change, -target.velocity(schedule)(t, x, None) * density

    for t in (0.0, 0.4, 1.0):
        for x in (-2.5, 0.0, 1.3, 4.0):
            change, expected = rates(t, x)
            np.testing.assert_allclose(change, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("kind", ["numbers", "diagonal", "images"])
@every_schedule
@pytest.mark.thin(2)
def test_velocity_score_and_marginal_satisfy_the_continuity_equation(kind, schedule, x64):
    target = GaussianMixture(*TARGETS[kind])
    size = int(np.prod(target.shape))

    @jax.jit
    def terms(t, x):
        def log_prob(t, x):
            return target.marginal(schedule, t).log_prob(x)

        velocity = target.velocity(schedule)
        change = jax.grad(log_prob)(t, x)
        jacobian = jax.jacfwd(lambda x: velocity(t, x, None))(x).reshape(size, size)
        score = target.marginal_score(schedule)(t, x, None)
        transport = jnp.sum(velocity(t, x, None) * score)
        return change, jnp.trace(jacobian), transport, score - jax.grad(log_prob, argnums=1)(t, x)

    for t in (0.0, 0.3, 0.8, 1.0):
        for x in some_points(kind)[:3]:
            change, divergence, transport, mismatch = terms(t, x.reshape(target.shape))
            assert_close(change + divergence, -transport, 1e-11)
            np.testing.assert_allclose(mismatch, 0, atol=1e-10)


@every_target
@every_schedule
def test_the_marginal_moves_each_component_and_keeps_the_weights(kind, schedule, x64):
    target = GaussianMixture(*TARGETS[kind])
    for t in (0.0, 0.3, 1.0):
        alpha, sigma = (float(value) for value in schedule(t))
        marginal = evaluate(target.marginal, schedule, jnp.array(t))
        assert isinstance(marginal, GaussianMixture)
        np.testing.assert_array_equal(marginal.weights, target.weights)
        np.testing.assert_allclose(marginal.means, alpha * target.means, rtol=1e-15)
        np.testing.assert_allclose(
            marginal.stds**2, alpha**2 * target.stds**2 + sigma**2, rtol=1e-14
        )


@eqx.filter_jit
def everything(target, t, x):
    """The log density, the score, and both fields at t."""
    velocity, score = target.velocity(CondOT()), target.marginal_score(CondOT())
    return target.log_prob(x), target.score(x), velocity(t, x, None), score(t, x, None)


def test_one_component_is_the_gaussian(x64):
    mean, std, x = np.array([1.0, -0.5]), np.array([0.3, 2.0]), np.array([0.2, 0.9])
    mixture, gaussian = GaussianMixture([2.0], mean[None], std[None]), Gaussian(mean, std)
    for t in (0.0, 0.6, 1.0):
        numbers = (everything(target, jnp.array(t), x) for target in (mixture, gaussian))
        for got, expected in zip(*numbers, strict=True):
            assert_close(got, expected, 1e-14)


def test_only_the_ratios_of_the_weights_matter_and_a_weight_of_zero_is_no_component(x64):
    means, stds, x = np.array([-1.0, 2.0, 0.0]), np.array([0.5, 1.0, 0.1]), np.array(0.1)
    plain = GaussianMixture(np.array([0.25, 0.75]), means[:2], stds[:2])
    scaled = GaussianMixture(np.array([2.0, 6.0, 0.0]), means, stds)
    of_plain, of_scaled = (everything(target, jnp.array(0.4), x) for target in (plain, scaled))
    for got, expected in zip(of_scaled, of_plain, strict=True):
        assert_close(got, expected, 1e-14)
    # Component 2 alone would put 38 % there; the others put less than 5 %.
    assert np.mean(np.abs(draw(scaled, jax.random.key(0))) < 0.05) < 0.05
    slope = evaluate(jax.grad(lambda target: target.log_prob(x)), scaled)
    # d log p / d w_k = (p_k / p - 1) / sum(w)
    ratios = np.exp(scipy.stats.norm(means[:2], stds[:2]).logpdf(x) - float(of_plain[0]))
    assert_close(slope.weights, np.append((ratios - 1) / 8, -1 / 8), 1e-14)
    assert np.all(np.isfinite(slope.means))
    assert np.all(np.isfinite(slope.stds))


def complex_step(function, values, index):
    """The derivative of an analytic NumPy function, without a difference of nearby numbers."""
    moved = [np.asarray(value, complex) for value in values]
    moved[index] = moved[index] + 1e-30j
    return function(*moved).imag / 1e-30


def test_gradients_of_velocity_and_score_are_finite_and_exact_at_both_ends(x64):
    weights, means, stds = np.array([1.0, 3.0]), np.array([-0.5, 0.8]), np.array([0.3, 0.6])

    def average(t, x, shift, width, values):
        variances = t**2 * (width * stds) ** 2 + (1 - t) ** 2
        displacement = x - t * (means + shift)
        shares = weights * np.exp(-(displacement**2) / (2 * variances)) / np.sqrt(variances)
        return np.sum(shares * values(displacement, variances)) / np.sum(shares)

    def velocity(t, x, shift, width):
        return average(
            t,
            x,
            shift,
            width,
            lambda r, v: means + shift + (t * (width * stds) ** 2 - 1 + t) / v * r,
        )

    def score(t, x, shift, width):
        return average(t, x, shift, width, lambda r, v: -r / v)

    for name, formula in (("velocity", velocity), ("marginal_score", score)):

        def value(t, x, shift, width, name=name):
            target = GaussianMixture(weights, means + shift, width * stds)
            return getattr(target, name)(CondOT())(t, x, None)

        computed = jax.jit(jax.value_and_grad(value, argnums=(0, 1, 2, 3)))
        for t in (0.0, 0.5, 1.0):
            arguments = (t, 0.4, 0.1, 1.2)
            got, slopes = computed(*arguments)
            assert_close(got, formula(*arguments), 1e-12)
            expected = [complex_step(formula, arguments, i) for i in range(4)]
            assert_close(slopes, expected, 1e-12)


def worst_sampling_error(samples, kind):
    """The largest error of a share, mean or variance of a component, in standard errors.

    Each sample is given to its nearest component, so the components must lie far apart.
    """
    weights, means, stds = flat(kind)
    samples = np.asarray(samples, np.float64).reshape(len(samples), -1)
    nearest = np.argmin(((samples[:, None] - means) ** 2).sum(axis=-1), axis=1)
    errors = []
    for k, (weight, mean, std) in enumerate(zip(weights, means, stds, strict=True)):
        own = samples[nearest == k]
        share_error = np.sqrt(weight * (1 - weight) / len(samples))
        errors.append((len(own) / len(samples) - weight) / share_error)
        errors.extend((own.mean(axis=0) - mean) / (std / np.sqrt(len(own))))
        errors.extend((own.var(axis=0) / std**2 - 1) / np.sqrt(2 / len(own)))
    return np.max(np.abs(errors))


def island_samples(target):
    return draw(target, fresh_key())


def test_samples_have_the_frequencies_means_and_variances_of_the_components():
    # Five standard errors: a false alarm in 6e-7 for each of 15 numbers, 9e-6 in all.
    samples = island_samples(GaussianMixture(*TARGETS["islands"]))
    assert samples.shape == (20_000, 2)
    assert samples.dtype == jnp.float32
    assert worst_sampling_error(samples, "islands") < 5


@pytest.mark.parametrize(
    "plant",
    [
        lambda weights, means, stds: (np.ones(3), means, stds),
        lambda weights, means, stds: (weights**2, means, stds),
        lambda weights, means, stds: (weights, means, stds**2),
        lambda weights, means, stds: (weights, means, stds[[1, 2, 0]]),
        lambda weights, means, stds: (weights[[1, 2, 0]], means, stds),
    ],
    ids=["equal weights", "squared weights", "variances", "others' widths", "others' weights"],
)
def test_the_sampling_check_catches_planted_bugs(plant):
    samples = island_samples(GaussianMixture(*plant(*TARGETS["islands"])))
    assert worst_sampling_error(samples, "islands") > 5


def test_the_component_and_the_noise_of_a_sample_are_independent():
    # Five standard errors, for 3 x 2 correlations: a false alarm in 4e-6.
    weights, means, _ = flat("islands")
    samples = np.asarray(island_samples(GaussianMixture(weights, means, 0.5)), np.float64)
    noise = samples - np.round(samples / 10) * 10
    for mean in means:
        member = np.all(np.round(samples / 10) * 10 == mean, axis=1)
        for column in noise.T:
            correlation = np.corrcoef(member, column)[0, 1]
            assert abs(correlation) < 5 / np.sqrt(len(samples))


@pytest.mark.parametrize("kind", ["numbers", "images"])
def test_old_and_typed_keys_give_the_same_sample(kind):
    target = GaussianMixture(*TARGETS[kind])
    typed, old = (evaluate(target.sample, make(5)) for make in (jax.random.key, jax.random.PRNGKey))
    assert typed.shape == target.shape
    np.testing.assert_array_equal(typed, old)


def test_results_have_the_dtype_of_the_state(dtype):
    target = GaussianMixture(*TARGETS["diagonal"])
    assert target.means.dtype == evaluate(target.sample, jax.random.key(0)).dtype == dtype
    marginal = evaluate(target.marginal, CondOT(), np.float32(0.5))
    assert {leaf.dtype for leaf in jax.tree.leaves(marginal)} == {dtype}
    x = jnp.asarray([0.3, 0.5], jnp.float32)
    narrow = x.astype(jnp.bfloat16)
    t = jnp.asarray(0.3, dtype)

    assert [value.dtype for value in everything(target, t, x)] == [jnp.float32] * 4
    log_prob, *fields = everything(target, t, narrow)
    expected_log_prob, *expected = everything(target, t, narrow.astype(jnp.float32))
    assert log_prob == expected_log_prob
    for got, value in zip(fields, expected, strict=True):
        assert got.dtype == jnp.bfloat16
        # The two programs may round differently before the last rounding.
        assert_close(got, value, 2**-8)


def test_fields_of_other_parameters_compile_nothing_again():
    traces = []

    @eqx.filter_jit
    def value(field, t, x):
        traces.append(None)
        return field(t, x, None)

    weights, means, stds = TARGETS["isotropic"]
    t, x = jnp.array(0.3), jnp.ones(2)
    first = value(GaussianMixture(weights, means, stds).velocity(CondOT()), t, x)
    second = value(GaussianMixture(weights, means + 1, 2 * stds).velocity(CondOT()), t, x)
    assert len(traces) == 1
    assert jnp.all(first != second)


def test_a_mixture_made_under_jit_vmap_and_grad_is_the_same(x64):
    weights, means, stds = TARGETS["isotropic"]
    x = np.array([0.3, -0.2])

    def log_prob(shift):
        return GaussianMixture(weights, means + shift, stds).log_prob(x)

    shifts = np.array([0.0, 0.5, -1.0])
    got, slopes = jax.jit(jax.vmap(jax.value_and_grad(log_prob)))(shifts)
    for shift, value, slope in zip(shifts, got, slopes, strict=True):
        assert_close(value, log_density(weights, means + shift, stds[:, None], x), 1e-13)
        shifted = GaussianMixture(weights, means + shift, stds)
        assert_close(slope, -np.sum(evaluate(shifted.score, x)), 1e-13)


def test_checks_of_values_do_not_break_tracing():
    def log_prob(weight, std):
        weights = jnp.stack([weight, 1 - weight])
        return GaussianMixture(weights, jnp.array([0.0, 1.0]), std * jnp.ones(2)).log_prob(1.0)

    assert jnp.isnan(jax.jit(log_prob)(0.5, -1.0))


PAIR = np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])


@pytest.mark.parametrize(
    ("weights", "means", "stds", "error", "words"),
    [
        (1.0, PAIR, 1.0, ValueError, r"weights.*\(k,\).*\(\)"),
        (np.ones(0), np.ones((0, 3)), 1.0, ValueError, r"weights.*\(0,\)"),
        ([1.0, -0.5], PAIR, 1.0, ValueError, r"weights.*non-negative.*-0\.5"),
        ([0.0, 0.0], PAIR, 1.0, ValueError, "weights.*all zero"),
        ([1.0, np.nan], PAIR, 1.0, ValueError, "weights must be finite.*nan"),
        ([1.0, np.inf], PAIR, 1.0, ValueError, "weights must be finite.*inf"),
        ([1.0, 1.0], PAIR * np.nan, 1.0, ValueError, "means must be finite.*nan"),
        ([1.0, 1.0], PAIR, [1.0, np.nan], ValueError, "stds must be finite.*nan"),
        ([1.0, 1.0], PAIR, "wide", TypeError, "stds.*'wide'"),
        ("even", PAIR, 1.0, TypeError, "weights.*'even'"),
        ([1.0, 1.0, 1.0], PAIR, 1.0, ValueError, r"means.*k = 3.*\(2, 3\)"),
        ([1.0, 1.0], 0.0, 1.0, ValueError, r"means.*k = 2.*\(\)"),
        ([1.0, 1.0], PAIR, np.ones(3), ValueError, r"stds.*\(2,\).*\(2, 3\).*\(3,\)"),
        ([1.0, 1.0], PAIR, np.ones((2, 1)), ValueError, r"stds.*\(2, 1\)"),
        ([1.0, 1.0], PAIR, [1.0, -2.0], ValueError, r"stds.*negative.*-2\.0"),
        ([1.0, 1.0], "far", 1.0, TypeError, "means.*'far'"),
        (None, PAIR, 1.0, TypeError, "weights.*None"),
        ([1.0, 1.0], PAIR * 1j, 1.0, TypeError, "means.*complex"),
    ],
)
def test_bad_parameters_are_refused_by_name(weights, means, stds, error, words, unchecked):
    with pytest.raises(error, match=words):
        GaussianMixture(weights, means, stds)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda target: target.log_prob(np.ones((5, 3))),
            ValueError,
            r"x .*\(3,\).*\(5, 3\).*vmap",
        ),
        (lambda target: target.score(np.ones(3, int)), TypeError, "x .*int"),
        (lambda target: target.velocity(CondOT), TypeError, "schedule.*CondOT"),
        (lambda target: target.marginal(None, 0.5), TypeError, "schedule.*None"),
        (lambda target: target.marginal(CondOT(), np.ones(2)), ValueError, r"t .*\(2,\)"),
        (lambda target: target.sample(3), TypeError, "key.*3"),
    ],
)
def test_bad_calls_are_refused_by_name(call, error, words, unchecked):
    with pytest.raises(error, match=words):
        call(GaussianMixture([1.0, 1.0], PAIR, 1.0))


# --- full covariances -----------------------------------------------------------------------------


COVARIANCES = np.array([[[1.0, 0.8], [0.8, 1.0]], [[0.3, -0.1], [-0.1, 0.5]]])
CENTRES = np.array([[-3.0, 0.0], [3.0, 1.0]])


def test_the_log_density_with_covariances_is_scipys(x64):
    target = GaussianMixture([1.0, 3.0], CENTRES, covariances=COVARIANCES)
    numbers = jax.jit(lambda x: (target.log_prob(x), target.score(x), jax.grad(target.log_prob)(x)))
    for x in (np.array([0.0, 0.3]), np.array([-3.0, 1.0]), np.array([50.0, -80.0])):
        logs = [
            scipy.stats.multivariate_normal(mean, matrix).logpdf(x)
            for mean, matrix in zip(CENTRES, COVARIANCES, strict=True)
        ]
        expected = scipy.special.logsumexp(logs, b=[0.25, 0.75])
        log_prob, score, gradient = numbers(x)
        assert_close(log_prob, expected, 1e-12)
        assert_close(score, gradient, 1e-12)


def test_diagonal_covariances_are_standard_deviations(x64):
    weights, means, stds = TARGETS["diagonal"]
    of_stds = GaussianMixture(weights, means, stds)
    of_matrices = GaussianMixture(
        weights, means, covariances=np.stack([np.diag(row**2) for row in stds])
    )
    x = np.array([0.3, -0.2])
    numbers = (everything(target, jnp.array(0.4), x) for target in (of_matrices, of_stds))
    for got, expected in zip(*numbers, strict=True):
        assert_close(got, expected, 1e-13)


@pytest.mark.parametrize("plant", [False, True])
def test_samples_with_covariances_have_the_moments_of_their_component(plant):
    """Five standard errors; 2 x (2 + 3) numbers: a false alarm in 6e-6. The planted bug: the other
    component's covariance.
    """
    matrices = COVARIANCES[::-1] if plant else COVARIANCES
    samples = draw(GaussianMixture([1.0, 3.0], 3 * CENTRES, covariances=matrices), fresh_key())
    samples = np.asarray(samples, np.float64)
    errors = []
    for k, own in enumerate((samples[samples[:, 0] < 0], samples[samples[:, 0] > 0])):
        deviations, variances = own - 3 * CENTRES[k], np.diag(COVARIANCES[k])
        errors.extend(deviations.mean(axis=0) / np.sqrt(variances / len(own)))
        spread = np.sqrt((np.outer(variances, variances) + COVARIANCES[k] ** 2) / len(own))
        errors.extend(np.ravel((deviations.T @ deviations / len(own) - COVARIANCES[k]) / spread))
    assert (np.max(np.abs(errors)) > 5) == plant


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "words"),
    [
        (([1.0, 1.0], CENTRES), {}, TypeError, "stds or by covariances, got neither"),
        (
            ([1.0, 1.0], CENTRES, 1.0),
            {"covariances": COVARIANCES},
            TypeError,
            "stds or by covariances, got both",
        ),
        (
            ([1.0, 1.0], CENTRES),
            {"covariances": COVARIANCES[0]},
            ValueError,
            r"covariances must have shape \(k, d, d\).*\(2, 2\) and \(2, 2\)",
        ),
        (
            ([1.0, 1.0], CENTRES[:, 0]),
            {"covariances": COVARIANCES},
            ValueError,
            r"covariances must have shape.*\(2, 2, 2\) and \(2,\)",
        ),
        (
            ([1.0, 1.0], CENTRES),
            {"covariances": np.stack([COVARIANCES[0], -np.eye(2)])},
            ValueError,
            r"covariances\[1\] must be symmetric and positive definite",
        ),
    ],
)
def test_bad_covariances_are_refused_by_name(arguments, keywords, error, words, unchecked):
    with pytest.raises(error, match=words):
        GaussianMixture(*arguments, **keywords)
