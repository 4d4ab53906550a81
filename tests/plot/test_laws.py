"""Histograms are densities, beside the exact one."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from flowjax import plot
from flowjax.targets.gaussian import Gaussian

SAMPLES = np.random.default_rng(0).normal(size=5000)
TIMES = np.linspace(0, 1, 5)


def heights_of(ax):
    return np.array([bar.get_height() for bar in ax.patches])


def test_a_histogram_is_a_density_beside_the_exact_one():
    law = Gaussian(0.0, 1.0)
    (ax,) = plot.histogram(SAMPLES, lambda x: jnp.exp(law.log_prob(x)), bins=20).axes
    counts, edges = np.histogram(SAMPLES, 20)
    np.testing.assert_allclose(heights_of(ax), counts / 5000 / np.diff(edges))
    np.testing.assert_allclose([bar.get_x() for bar in ax.patches], edges[:-1])
    x, y = ax.lines[0].get_data()
    np.testing.assert_allclose(y, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), rtol=1e-4)


def test_samples_outside_count_though_they_are_not_drawn():
    (ax,) = plot.histogram(SAMPLES, bins=10, low=-1, high=2, top=0.7).axes
    inside = np.mean((SAMPLES >= -1) & (SAMPLES <= 2))
    assert inside < 0.9
    np.testing.assert_allclose(heights_of(ax).sum() * 0.3, inside)
    assert ax.get_ylim() == (0, 0.7)


def test_equal_samples_have_a_histogram():
    (ax,) = plot.histogram(np.full(7, 3.0), bins=5).axes
    np.testing.assert_allclose(heights_of(ax), [0, 0, 5, 0, 0])


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: plot.histogram(np.zeros((2, 2))), r"samples must be .* shape \(N,\), got shape"),
        (lambda: plot.histogram(np.zeros(0)), "samples must be finite and of shape"),
        (lambda: plot.histogram([0.0, np.nan]), "samples must be finite and of shape"),
        (lambda: plot.histogram(TIMES, 1.0), "density must be a function x -> p.x., got 1.0"),
        (lambda: plot.histogram(TIMES, Gaussian), "density must be a function .*got <class"),
        (lambda: plot.histogram(TIMES, lambda x: jnp.ones(3)), "return a scalar, got shape .3,"),
        (lambda: plot.histogram(TIMES, lambda x: x - 0.5), r"or NaN, got -0.5 at x = 0.0"),
        (lambda: plot.histogram(TIMES, lambda x: x / 0), r"or NaN, got nan at x = 0.0"),
        (
            lambda: plot.histogram(TIMES, norm.pdf),
            "density must be a function for JAX, .*jax.scipy",
        ),
        (
            lambda: plot.histogram(TIMES, lambda x: math.exp(x)),
            "density must be a function for JAX",
        ),
        (lambda: plot.histogram(TIMES, lambda x: x if x > 0 else -x), "for JAX"),
        (lambda: plot.histogram(TIMES, low=2.0, high=1.0), "low and high must be .*greater, got"),
        (lambda: plot.histogram(TIMES, top=0.0), "0 and top must be finite, the second the great"),
        (lambda: plot.histogram(TIMES, bins=0), "bins must be a static positive int"),
    ],
)
def test_what_has_no_histogram_is_refused(unchecked, draw, words):
    with pytest.raises((TypeError, ValueError), match=words):
        draw()
