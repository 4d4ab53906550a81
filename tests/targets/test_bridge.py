"""The Schroedinger bridge between Gaussians, against what defines it, in NumPy and SciPy.

Three things make a process the bridge: its drift is linear and its moments run from the one
Gaussian to the other; the precision of its two ends has the off-diagonal block -I / sigma^2 of
Brownian motion; and it is Markov with the bridges of Brownian motion between its ends.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.special

import flowjax as fj


def positive_matrix(generator, d, scale=1.0):
    factor = generator.normal(size=(d, d))
    return scale * (factor @ factor.T / d + 0.2 * np.eye(d))


def problems():
    """(start, end) and their means and covariances, of three kinds."""
    generator = np.random.default_rng(7)
    means = generator.normal(size=(2, 3))
    first, last = positive_matrix(generator, 3), positive_matrix(generator, 3, 2.0)
    stds = generator.uniform(0.3, 2.0, size=(2, 3))
    return {
        "full": (means, (first, last), (first, last)),
        "std": (means, stds, tuple(np.diag(row**2) for row in stds)),
        "std to full": (means, (stds[0], last), (np.diag(stds[0] ** 2), last)),
        "full to std": (means, (first, stds[1]), (first, np.diag(stds[1] ** 2))),
    }


PROBLEMS = problems()
every_problem = pytest.mark.parametrize("kind", PROBLEMS)
SIGMA = 0.8


def bridge(kind, sigma=SIGMA):
    means, scales, _ = PROBLEMS[kind]
    ends = (fj.Gaussian(mean, scale) for mean, scale in zip(means, scales, strict=True))
    return fj.gaussian_bridge(*ends, sigma)


@eqx.filter_jit
def drifts(drift, times, points):
    over_points = jax.vmap(lambda t, x: drift(t, x, None), (None, 0))
    return jax.vmap(over_points, (0, None))(times, points)


@eqx.filter_jit
def evaluate(field, t, x):
    return field(t, x, None)


def drift_at(sde, times):
    """The drift as `A(t) x + b(t)`: (times, d, d) and (times, d)."""
    points = np.concatenate([np.zeros((1, 3)), np.eye(3)])
    values = np.asarray(drifts(sde.drift, jnp.asarray(times), points))
    return np.swapaxes(values[:, 1:] - values[:, :1], 1, 2), values[:, 0]


@functools.cache
def moments_of(kind, sigma, steps=2000):
    """The moments at t = 1, of the equations m' = A m + b and S' = A S + S A' + sigma^2 I.

    Also the transition: Phi' = A Phi from the identity, so that Cov(X_0, X_1) = S_0 Phi'.
    """
    means, _, covariances = PROBLEMS[kind]
    slopes, constants = drift_at(bridge(kind, sigma), np.linspace(0, 1, 2 * steps + 1))
    state, h = (means[0], covariances[0], np.eye(3)), 1 / steps

    def rate(i, state):
        m, s, transition = state
        a, b = slopes[i], constants[i]
        return a @ m + b, a @ s + s @ a.T + sigma**2 * np.eye(3), a @ transition

    def moved(state, scale, rates):
        return tuple(x + scale * k for x, k in zip(state, rates, strict=True))

    for i in range(0, 2 * steps, 2):  # the classical Runge-Kutta method
        k1 = rate(i, state)
        k2 = rate(i + 1, moved(state, h / 2, k1))
        k3 = rate(i + 1, moved(state, h / 2, k2))
        k4 = rate(i + 2, moved(state, h, k3))
        ks = zip(k1, k2, k3, k4, strict=True)
        state = moved(state, h / 6, [a + 2 * b + 2 * c + d for a, b, c, d in ks])
    return state


@every_problem
def test_the_moments_run_from_the_one_gaussian_to_the_other(kind, x64):
    means, _, covariances = PROBLEMS[kind]
    mean, covariance, _ = moments_of(kind, SIGMA)
    np.testing.assert_allclose(mean, means[1], rtol=0, atol=1e-10)
    np.testing.assert_allclose(covariance, covariances[1], rtol=0, atol=1e-10)


@every_problem
def test_its_ends_are_coupled_like_those_of_brownian_motion(kind, x64):
    """The density of the ends is f(x_0) g(x_1) exp(-|x_1 - x_0|^2 / (2 sigma^2)).

    So the precision of the pair has the off-diagonal block -I / sigma^2. The covariance of the
    ends is that of the solved equation, not one that flowjax tells.
    """
    _, _, (first, last) = PROBLEMS[kind]
    _, _, transition = moments_of(kind, SIGMA)
    coupling = first @ transition.T
    precision = np.linalg.inv(np.block([[first, coupling], [coupling.T, last]]))
    np.testing.assert_allclose(precision[:3, 3:], -np.eye(3) / SIGMA**2, atol=1e-8)


@every_problem
def test_the_drift_leads_to_the_expected_end(kind, x64):
    """A mixture of Brownian bridges has the drift E[x_1 - x | x] / (1 - t)."""
    means, _, (first, last) = PROBLEMS[kind]
    identity = np.eye(3)
    # The coupling by the formula of the paper, theorem 3, with its inverse and two roots.
    root = np.real(scipy.linalg.sqrtm(first))
    inner = np.real(scipy.linalg.sqrtm(4 * root @ last @ root + SIGMA**4 * identity))
    coupling = (root @ inner @ np.linalg.inv(root) - SIGMA**2 * identity) / 2
    times = np.array([0.0, 0.1, 0.5, 0.9])
    slopes, constants = drift_at(bridge(kind), times)
    for t, slope, constant in zip(times, slopes, constants, strict=True):
        with_end = (1 - t) * coupling.T + t * last
        own = (1 - t) ** 2 * first + t**2 * last
        own = own + t * (1 - t) * (coupling + coupling.T + SIGMA**2 * identity)
        expected = (with_end @ np.linalg.inv(own) - identity) / (1 - t)
        np.testing.assert_allclose(slope, expected, rtol=1e-9, atol=1e-10)
        now = (1 - t) * means[0] + t * means[1]
        np.testing.assert_allclose(slope @ now + constant, means[1] - means[0], atol=1e-10)


def test_in_one_dimension_the_coupling_is_that_of_sinkhorns_algorithm(x64):
    """On a grid; the trapezoidal rule converges faster than any power of its spacing here."""
    stds, sigma = (0.7, 1.3), 0.9
    grid = np.linspace(-10, 10, 801)
    cell = grid[1] - grid[0]
    weights = [np.exp(-(grid**2) / (2 * s**2)) / np.sqrt(2 * np.pi) / s * cell for s in stds]
    kernel = np.exp(-((grid[:, None] - grid) ** 2) / (2 * sigma**2))
    right = np.ones_like(grid)
    for _ in range(200):
        left = weights[0] / (kernel @ right)
        right = weights[1] / (kernel.T @ left)
    plan = left[:, None] * kernel * right
    np.testing.assert_allclose(plan.sum(axis=1), weights[0], atol=1e-14)
    sde = fj.gaussian_bridge(*(fj.Gaussian(0.0, s) for s in stds), sigma)
    # At t = 0 the drift is E[x_1 - x | x_0 = x]: the slope of the plan's conditional mean, less 1.
    slope = (grid @ plan @ grid) / (grid**2 @ plan).sum() - 1
    np.testing.assert_allclose(sde.drift(0.0, 1.0, None), slope, rtol=1e-10)


@every_problem
def test_without_noise_it_is_the_optimal_transport(kind, x64):
    """Bures and Wasserstein: x_1 = m_1 + M (x_0 - m_0), and on the way a straight line."""
    means, _, (first, last) = PROBLEMS[kind]
    root = np.real(scipy.linalg.sqrtm(first))
    inverse = np.linalg.inv(root)
    transport = inverse @ np.real(scipy.linalg.sqrtm(root @ last @ root)) @ inverse
    start = means[0] + np.array([0.3, -1.0, 0.5])
    end = means[1] + transport @ (start - means[0])
    for sigma, tolerance in ((0.0, 1e-11), (1e-3, 1e-5)):
        sde = bridge(kind, sigma)
        for t in (0.0, 0.3, 0.7, 1.0):
            got = evaluate(sde.drift, np.float64(t), (1 - t) * start + t * end)
            np.testing.assert_allclose(got, end - start, atol=tolerance)


POINTS = fj.Gaussian(1.0, 0.0), fj.Gaussian(-0.5, 0.0)


def test_from_a_point_to_a_point_it_is_the_brownian_bridge(x64):
    sde = fj.gaussian_bridge(*POINTS, 0.7)
    for t in (0.0, 0.4, 0.9):
        x = 1.0 if t == 0 else 0.3
        got = evaluate(sde.drift, np.float64(t), np.float64(x))
        np.testing.assert_allclose(got, (-0.5 - x) / (1 - t), rtol=1e-13)


@pytest.mark.parametrize("start", [POINTS[0], fj.Gaussian(1.0, 0.5)])
def test_where_a_bridge_meets_in_a_point_it_has_no_drift(start):
    """(m_1 - x) / (1 - t) has no limit at t = 1: it is refused, and NaN behind a function."""
    sde, ts = fj.gaussian_bridge(start, POINTS[1], 0.7), fj.uniform_grid(4)
    key = jax.random.key(0)
    for step in (fj.stochastic_heun, fj.reversible_heun):
        with pytest.raises(ValueError, match="a bridge is not determined at t = 1, where it meets"):
            fj.solve(sde, 0.3, ts, step=step, key=key)
        hidden = fj.SDE(lambda t, x, args: sde.drift(t, x, args), sde.diffusion)
        assert np.isnan(fj.solve(hidden, 0.3, ts, step=step, key=key))
    # The step before leads to the point, but for its own noise.
    last = fj.solve(sde, 0.3, ts, increments=jnp.array([0.1, -0.2, 0.3, 0.0]))
    np.testing.assert_allclose(last, -0.5, rtol=1e-6)


def test_without_noise_nothing_leads_from_a_point_to_a_gaussian():
    """Where sigma is traced, and cannot be refused."""

    def drift(sigma):
        sde = fj.gaussian_bridge(POINTS[0], fj.Gaussian(-0.5, 1.0), sigma)
        return jnp.stack([sde.drift(t, 1.0, None) for t in (0.0, 0.5, 1.0)])

    assert np.all(np.isnan(jax.jit(drift)(0.0)[1:]))
    assert np.all(np.isfinite(jax.jit(drift)(0.1)))


@pytest.mark.parametrize("kind", ["full", "std"])
def test_samples_of_the_bridge_end_at_the_end(kind):
    """Euler-Maruyama, against the exact discrete moments of the linear drift.

    Five standard errors; 3 + 9 numbers: a false alarm in 7e-6.
    """
    means, _, covariances = PROBLEMS[kind]
    n, count = 20, 2**15
    sde, ts = bridge(kind), fj.uniform_grid(n)
    keys = jax.random.split(jax.random.key(11), count)
    start = fj.Gaussian(means[0], covariances[0])

    @jax.jit
    @jax.vmap
    def ends(key):
        start_key, path_key = jax.random.split(key)
        return fj.solve(sde, start.sample(start_key), ts, key=path_key)

    samples = np.asarray(ends(keys), np.float64)
    slopes, constants = drift_at(sde, ts[:-1])
    m, s = means[0], covariances[0]
    for a, b in zip(slopes.astype(float), constants.astype(float), strict=True):
        step = np.eye(3) + a / n
        m, s = step @ m + b / n, step @ s @ step.T + SIGMA**2 / n * np.eye(3)
    errors = (samples.mean(axis=0) - m) / np.sqrt(np.diag(s) / count)
    assert np.max(np.abs(errors)) < 5
    spread = np.sqrt((np.outer(np.diag(s), np.diag(s)) + s**2) / count)
    errors = ((samples - m).T @ (samples - m) / count - s) / spread
    assert np.max(np.abs(errors)) < 5
    # The planted bug: the other Gaussian's covariance.
    errors = ((samples - m).T @ (samples - m) / count - covariances[0]) / spread
    assert np.max(np.abs(errors)) > 5


def test_the_derivatives_are_finite_for_equal_eigenvalues(x64):
    """And exact: for multiples of the identity all is one number, as for standard deviations."""

    def of_matrices(first, last, sigma, t):
        identity = jnp.eye(2)
        ends = (fj.Gaussian(jnp.zeros(2), v * identity) for v in (first, last))
        return fj.gaussian_bridge(*ends, sigma).drift(t, jnp.array([1.0, 0.0]), None)[0]

    def by_hand(first, last, sigma, t):
        coupling = (np.sqrt(4 * first * last + sigma**4) - sigma**2) / 2
        width = (1 - t) ** 2 * first + t**2 * last + t * (1 - t) * (2 * coupling + sigma**2)
        return ((1 - t) * (coupling - first) + t * (last - coupling - sigma**2)) / width

    computed = jax.jit(jax.value_and_grad(of_matrices, argnums=(0, 1, 2, 3)))
    for t in (0.0, 0.4, 1.0):
        given = (0.5, 2.0, 0.7, t)
        value, slopes = computed(*given)
        np.testing.assert_allclose(value, by_hand(*given), rtol=1e-12)
        for i, slope in enumerate(slopes):
            moved = [complex(number) for number in given]
            moved[i] += 1e-30j
            np.testing.assert_allclose(slope, by_hand(*moved).imag / 1e-30, rtol=1e-10)


def test_an_image_of_standard_deviations_and_narrow_states():
    start = fj.Gaussian(jnp.zeros((2, 3)), jnp.array([0.5, 1.0, 2.0]))
    sde = fj.gaussian_bridge(start, fj.Gaussian(jnp.ones((2, 3)), 0.3), 0.5)
    x = jnp.arange(6.0).reshape(2, 3) / 4
    wide = sde.drift(0.3, x, None)
    for i, std in enumerate((0.5, 1.0, 2.0)):
        one = fj.gaussian_bridge(fj.Gaussian(0.0, std), fj.Gaussian(1.0, 0.3), 0.5)
        got = [one.drift(0.3, value, None) for value in x[:, i]]
        np.testing.assert_allclose(wide[:, i], got, rtol=1e-5)
    narrow = sde.drift(np.float32(0.3), x.astype(jnp.bfloat16), None)
    assert narrow.dtype == sde.diffusion(0.3, x.astype(jnp.bfloat16), None).dtype == jnp.bfloat16
    np.testing.assert_allclose(narrow.astype(np.float32), wide, rtol=2**-6, atol=2**-6)


LINE, ROUND = fj.Gaussian(np.zeros(2), np.array([1.0, 0.0])), fj.Gaussian(np.zeros(2), 1.0)
POINT, PLANE = fj.Gaussian(np.zeros(2), 0.0), fj.Gaussian(np.zeros(2), np.eye(2))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((None, PLANE, 1.0), TypeError, "start must be a fj.Gaussian.*None"),
        ((PLANE, fj.Gaussian, 1.0), TypeError, "end must be a fj.Gaussian"),
        ((PLANE, fj.Gaussian(0.0, 1.0), 1.0), ValueError, r"one shape, got \(2,\) and \(\)"),
        ((PLANE, PLANE, -1.0), ValueError, "sigma.*at least 0.*-1.0"),
        ((PLANE, PLANE, np.nan), ValueError, "sigma.*nan"),
        ((PLANE, PLANE, np.ones(2)), ValueError, r"sigma.*\(2,\)"),
        ((PLANE, PLANE, "one"), TypeError, "sigma.*'one'"),
        ((PLANE, PLANE, None), TypeError, "sigma.*None"),
        ((PLANE, PLANE, np.inf), ValueError, "sigma.*inf"),
        ((1.0, PLANE, PLANE), TypeError, "start must be a fj.Gaussian, got 1.0"),
        ((LINE, LINE, 0.0), ValueError, "sigma must be positive where start or end is a point"),
        ((ROUND, LINE, 0), ValueError, "sigma must be positive where start or end is a point"),
        ((LINE, ROUND, 0.0), ValueError, "sigma must be positive where start or end is a point"),
        ((PLANE, LINE, 0.0), ValueError, "sigma must be positive where start or end is a point"),
        ((POINT, PLANE, 1.0), ValueError, "start must not be a point"),
    ],
)
def test_bad_input_is_refused_by_name(arguments, error, words, unchecked):
    with pytest.raises(error, match=words):
        fj.gaussian_bridge(*arguments)


def test_a_batch_of_states_is_refused():
    with pytest.raises(ValueError, match=r"x must be one sample, of shape \(2,\).*\(5, 2\)"):
        fj.gaussian_bridge(PLANE, PLANE, 1.0).drift(0.5, jnp.ones((5, 2)), None)
