"""Corrected guidance: the exact moments of its discrete scheme, and the law that it is for."""

import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import flowjax as fj
from flowjax.guidance import corrected
from tests.solver.random_checks import assert_near, keys_of

WITH, WITHOUT = 0.5, 1.0


def model(t, x, std):
    return fj.Gaussian(jnp.zeros(()), std).velocity(fj.CondOT())(t, x, None)


def velocity():
    return fj.velocity(model, fj.CondOT())


def by_recursion(w, n, factor=1.0):
    """Standard deviation and log of the constant of the weighted scheme, for Gaussians at zero.

    A weight exp(k x^2) on N(0, V) leaves N(0, V / q) and the constant 1 / sqrt(q), q = 1 - 2 k V.
    """
    variance, log_constant = 1.0, 0.0
    ts = np.linspace(0, 1, n + 1)
    for a0, a1 in itertools.pairwise(ts):
        s0, s1 = 1 - a0, 1 - a1
        data, noise = (
            np.array([g(c) / (a0**2 * c**2 + s0**2) for c in (WITH, WITHOUT)])
            for g in (lambda c, a0=a0: a0 * c**2, lambda c, s0=s0: s0)
        )
        apart, guided = data[0] - data[1], [w * one[0] + (1 - w) * one[1] for one in (data, noise)]
        if s1 > 0:
            gain = ((a1 / s1) ** 2 - (a0 / s0) ** 2) / 2 * apart**2
        else:
            gain = -(a1 - a0) / s0**2 * apart * (noise[0] - noise[1])
        k = factor * w * (w - 1) * gain
        log_constant -= np.log(1 - 2 * k * variance) / 2
        variance = variance / (1 - 2 * k * variance)
        decay = a0 * s1 / (s0 * a1)
        slope = a1 * guided[0] + s1 * decay * guided[1]
        variance = slope**2 * variance + s1**2 * (1 - decay**2)
    return np.sqrt(variance), log_constant


def sharpened(w):
    """Standard deviation of the law sought, and the log of the integral of p1^w p0^(1-w)."""
    variance = 1 / (w / WITH**2 + (1 - w) / WITHOUT**2)
    return np.sqrt(variance), np.log(np.sqrt(variance) / (WITH**w * WITHOUT ** (1 - w)))


def test_the_weights_lead_to_the_sharpened_law_as_steps_become_short():
    """And without weights, or with half or twice of them, it is another law that they come to."""
    for w in (1.5, 2.0, 3.0):
        errors = [np.subtract(by_recursion(w, n), sharpened(w)) for n in (1000, 2000)]
        np.testing.assert_allclose(errors[0], 2 * errors[1], rtol=0.1)
        assert np.abs(errors[1]).max() < 0.01
    for factor in (0.0, 0.5, 2.0):
        assert abs(by_recursion(2.0, 4000, factor)[0] - sharpened(2.0)[0]) > 0.02


def estimates(w, n, repeats, **options):
    def run(key):
        given = velocity(), w, WITHOUT, jax.random.normal, fj.uniform_grid(n), 8
        return corrected(key, *given, args=WITH, resampled=False, **options)

    found = jax.vmap(run)(keys_of(f"corrected {n}", repeats))
    constants = np.exp(np.asarray(found.log_evidence))
    squares = np.sum(np.exp(found.log_weights) * found.samples**2, axis=-1)
    return constants, constants * np.asarray(squares)


def test_constant_and_variance_of_the_scheme_are_unbiased_with_few_particles(x64):
    """Two comparisons, each with a false-alarm rate of 5.7e-7; both see a factor of one half."""
    constants, squares = estimates(2.0, 12, 6000)
    for factor, seen in ((1.0, False), (0.5, True)):
        std, log_constant = by_recursion(2.0, 12, factor)
        expected = np.exp(log_constant), std**2 * np.exp(log_constant)
        for values, value in zip((constants, squares), expected, strict=True):
            error = values.std() / np.sqrt(len(values))
            if seen:
                assert abs(values.mean() - value) > 10 * error
            else:
                assert_near(values.mean(), value, error, "8 particles")


@pytest.mark.nightly
def test_of_mixtures_it_has_the_law_that_guidance_alone_has_not():
    """One dimension: the conditional law has one mode of the two; the truth is by quadrature."""
    means, ts, w = jnp.array([-1.5, 1.5]), fj.uniform_grid(200), 2.5

    def model(t, x, weights):
        return fj.GaussianMixture(weights, means, 0.6).velocity(fj.CondOT())(t, x, None)

    v, none, given = fj.velocity(model, fj.CondOT()), jnp.array([0.5, 0.5]), jnp.array([0.8, 0.2])
    grid = np.linspace(-6, 6, 4001)

    def density(weights):
        each = stats.norm.pdf(grid[:, None], np.asarray(means), 0.6)
        return each @ np.asarray(weights)

    law = density(given) ** w * density(none) ** (1 - w)
    cdf = integrate.cumulative_trapezoid(law, grid, initial=0)
    cdf /= cdf[-1]

    def distance(x):
        """The 1-Wasserstein distance to it."""
        x = np.sort(np.asarray(x))
        quantiles = np.interp((np.arange(len(x)) + 0.5) / len(x), cdf, grid)
        return np.mean(np.abs(x - quantiles))

    options = {"init": jax.random.normal, "ts": ts, "args": given}
    found = corrected(jax.random.key(0), v, w, none, particles=8000, **options)
    guided = fj.guidance.classifier_free(v, w, none)
    alone = fj.sample(jax.random.key(1), guided, num=8000, step=fj.ancestral, **options)
    assert distance(found.samples) < 0.2 * distance(alone)


def test_at_scale_one_it_is_the_conditional_sampler_on_the_same_noise():
    key, ts = jax.random.key(5), fj.uniform_grid(10)
    found = corrected(
        key, velocity(), 1.0, WITHOUT, jax.random.normal, ts, 6, args=WITH, resampled=False
    )
    init_key, path_key, _ = jax.random.split(key, 3)
    x0 = jax.vmap(jax.random.normal)(jax.random.split(init_key, 6))
    dw, _ = fj.brownian_increments(path_key, ts, (x0, jnp.zeros(())))

    def alone(x, dw):
        return fj.solve(velocity(), x, ts, WITH, step=fj.ancestral, increments=dw)

    expected = jax.vmap(alone, (0, 1))(x0, dw)
    np.testing.assert_allclose(found.samples, expected, rtol=2e-5)
    assert float(found.log_evidence) == 0
    np.testing.assert_allclose(found.log_weights, -np.log(6), rtol=1e-6)


def call(**change):
    given = {
        "key": jax.random.key(0),
        "v": velocity(),
        "scale": 2.0,
        "null": 1.0,
        "init": jax.random.normal,
        "ts": fj.uniform_grid(2),
        "particles": 2,
        "args": 0.5,
    }
    return corrected(**given | change)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"null": None}, TypeError, "null must be the args that stand for no condition"),
        ({"null": jnp.ones(2)}, ValueError, r"args must have the shape \(2,\) of null"),
        ({"args": {"y": 1.0}}, ValueError, "args must have null's structure"),
        ({"args": None}, ValueError, "args must have null's structure"),
        ({"scale": lambda t: t}, TypeError, "scale must be a real number"),
        ({"scale": jnp.inf}, ValueError, "scale must be finite"),
        ({"particles": 1}, ValueError, "particles must be at least 2"),
        ({"v": model}, TypeError, "corrected needs a fj.Velocity"),
        (
            {"v": fj.velocity(model, fj.CondOT(), coupled=True)},
            ValueError,
            "corrected needs the sc",
        ),
        ({"threshold": -1.0}, ValueError, "threshold must be from 0 to 1"),
    ],
)
def test_bad_input_is_refused(unchecked, change, error, words):
    with pytest.raises(error, match=words):
        call(**change)


def test_weights_that_are_no_numbers_give_a_warning_and_nan():
    with pytest.warns(RuntimeWarning, match="corrected: the weights"):
        found = call(args=jnp.nan)
    assert all(np.isnan(leaf).all() for leaf in found)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(call().samples).all()
