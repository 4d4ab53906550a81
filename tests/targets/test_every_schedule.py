"""Targets of any covariance under every schedule, against the formulas in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from tests.samplers.schedules import OneOf
from tests.schedules.schedule_oracles import SCHEDULES, complex_step, gaussian

every_schedule = pytest.mark.parametrize("name", SCHEDULES)
TIMES = np.array([0.0, 0.02, 0.3, 0.8, 0.99, 1.0])
ALL = tuple(schedule for schedule, _ in SCHEDULES.values())


def covariance(generator, d):
    factor = generator.normal(size=(d, d))
    return factor @ factor.T / d + 0.1 * np.eye(d)


def points(formulas, means, generator):
    """One x for each time, about two standard deviations from a mean of the marginal."""
    xs = []
    for t in TIMES:
        p = formulas(t)
        mean = means[generator.integers(len(means))]
        xs.append(p.a * mean + np.sqrt(p.a**2 + p.s2) * generator.normal(size=mean.size))
    return np.stack(xs)


@functools.partial(jax.jit, static_argnums=0)
def compiled(make, parameters, index, xs):
    """One program for all schedules: the number of one is an argument."""
    target, schedule = make(*parameters), OneOf(index, ALL)

    def fields(t, x):
        velocity, score = target.velocity(schedule), target.marginal_score(schedule)
        both = lambda t: (velocity(t, x, None), score(t, x, None))  # noqa: E731
        return jax.jvp(both, (t,), (jnp.ones_like(t),))

    def log_prob(t, x):
        return target.marginal(schedule, t).log_prob(x)

    def one(point):
        pair = target.velocity(schedule).data_and_noise(*point, None)
        return *fields(*point), jax.grad(log_prob, 1)(*point), pair

    # A scan over the times, so that the switch between schedules stays one.
    return jax.lax.map(one, (jnp.asarray(TIMES), xs))


def evaluated(make, parameters, name, xs):
    """Velocity and score at each (t, x), their derivatives in t, the gradient of log p_t(x), and
    the expected data and noise.
    """
    results = compiled(make, parameters, list(SCHEDULES).index(name), xs)
    values, slopes, gradients, pairs = jax.tree.map(np.asarray, results)
    return (
        *(np.stack(each, axis=1) for each in (values, slopes)),
        gradients,
        np.stack(pairs, axis=1),
    )


def assert_close(got, expected, tolerance):
    expected = np.asarray(expected)
    size = max(1.0, np.max(np.abs(expected)))
    np.testing.assert_allclose(got / size, expected / size, rtol=0, atol=tolerance)


@every_schedule
def test_a_gaussian_of_full_covariance_in_five_dimensions(name, x64):
    """Values to 1e-12 and derivatives in time, at both ends too."""
    _, formulas = SCHEDULES[name]
    generator = np.random.default_rng()
    mean, matrix = generator.normal(size=5), covariance(generator, 5)
    xs = points(formulas, [mean], generator)
    values, slopes, _, pairs = evaluated(fj.Gaussian, (mean, matrix), name, xs)
    for i, (t, x) in enumerate(zip(TIMES, xs, strict=True)):
        exact = gaussian(formulas(t), mean, matrix, x)
        assert_close(pairs[i], (exact["data"], -formulas(t).s * exact["score"]), 1e-12)
        for j, which in enumerate(("velocity", "score")):

            def value(t, x=x, which=which):
                return gaussian(formulas(t), mean, matrix, x)[which]

            assert_close(values[i, j], value(t), 1e-12)
            assert_close(slopes[i, j], complex_step(value, t), 1e-10)


def mixture(point, weights, means, matrices, x):
    """Responsibility-weighted sums of the components' velocities, scores and data."""
    identity = np.eye(x.size)
    logs, components = [], []
    for weight, mean, matrix in zip(weights, means, matrices, strict=True):
        own = point.a**2 * matrix + point.s2 * identity
        r = x - point.a * mean
        # By hand, since the logarithm of a determinant must take complex numbers too.
        log_density = -r @ np.linalg.solve(own, r) / 2 - np.log(np.linalg.det(own)) / 2
        logs.append(np.log(weight) + log_density)
        components.append(gaussian(point, mean, matrix, x))
    shares = np.exp(np.array(logs) - np.max(np.real(logs)))
    shares = shares / shares.sum()
    return {name: shares @ np.array([c[name] for c in components]) for name in components[0]}


def mixture_of(weights, means, matrices):
    return fj.GaussianMixture(weights, means, covariances=matrices)


@every_schedule
def test_a_mixture_of_full_covariances(name, x64):
    _, formulas = SCHEDULES[name]
    generator = np.random.default_rng()
    weights, means = np.array([1.0, 2.0, 0.5]), 1.5 * generator.normal(size=(3, 2))
    matrices = np.stack([covariance(generator, 2) for _ in range(3)])
    xs = points(formulas, means, generator)
    of_mixture = evaluated(mixture_of, (weights, means, matrices), name, xs)
    values, slopes, gradients, pairs = of_mixture
    for i, (t, x) in enumerate(zip(TIMES, xs, strict=True)):
        exact = mixture(formulas(t), weights, means, matrices, x)
        assert_close(pairs[i], (exact["data"], -formulas(t).s * exact["score"]), 1e-11)
        for j, which in enumerate(("velocity", "score")):

            def value(t, x=x, which=which):
                return mixture(formulas(t), weights, means, matrices, x)[which]

            assert_close(values[i, j], value(t), 1e-11)
            assert_close(slopes[i, j], complex_step(value, t), 1e-9)
    # The score is the gradient of the marginal's log density.
    for got, expected in zip(values[:, 1], gradients, strict=True):
        assert_close(got, expected, 1e-12)


@functools.cache
def slopes_in_all_arguments():
    """At both ends, for every schedule, in one program."""
    mean, matrix = jnp.array([0.5, -1.0]), jnp.array([[1.0, 0.2], [0.2, 0.5]])

    def value(schedules, index, t, x, mean, matrix, std):
        schedule = OneOf(index, schedules)
        targets = (
            fj.Gaussian(mean, matrix),
            fj.Gaussian(mean, std),
            fj.GaussianMixture(jnp.ones(1), mean[None], covariances=matrix[None]),
        )
        return sum(
            jnp.sum(
                target.velocity(schedule)(t, x, None) * target.marginal_score(schedule)(t, x, None)
            )
            for target in targets
        )

    @jax.jit
    def slopes(schedules, cases):
        def one(case):
            return jax.grad(value, argnums=(0, 2, 3, 4, 5, 6))(
                *(schedules, *case, jnp.array([0.3, 0.4]), mean, matrix, jnp.array(0.7))
            )

        return jax.lax.map(one, cases)

    cases = np.repeat(np.arange(len(ALL)), 2), np.tile([0.0, 1.0], len(ALL))
    return jax.tree.map(np.asarray, slopes(jax.tree.map(jnp.asarray, ALL), cases))


@every_schedule
@pytest.mark.thin(2)
def test_gradients_in_all_arguments_are_finite_at_both_ends(name, x64):
    """Backward, where a root at an end would make NaN of what it multiplies."""
    index = list(SCHEDULES).index(name)
    for leaf in jax.tree.leaves(slopes_in_all_arguments()):
        assert np.all(np.isfinite(leaf[2 * index : 2 * index + 2]))


def test_the_marginal_at_the_noise_end_of_an_unscaled_path_is_the_data_under_its_noise(x64):
    """EDM and the variance-exploding path start from data plus noise, not from noise alone."""
    target = fj.Gaussian(np.array([1.0, 2.0]), np.array([[1.0, 0.2], [0.2, 0.5]]))
    for schedule, sigma in ((fj.EDM(80.0), 80.0), (fj.VarianceExploding(0.02, 30.0), 30.0)):
        start = target.marginal(schedule, 0.0)
        np.testing.assert_allclose(start.mean, [1.0, 2.0])
        np.testing.assert_allclose(start.covariance, target.covariance + sigma**2 * np.eye(2))
