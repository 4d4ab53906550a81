"""Targets of width zero, a point or a finite data set, up to t = 1 where all paths to one meet."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

import flowjax as fj

SCHEDULE = fj.CondOT()
POINT = np.array([1.0, -2.0])
WEIGHTS, DATA = np.array([0.3, 0.7]), np.array([-2.0, 2.0])
# What the field's value at t = 1 weighs in a step.
STEPS = {"euler": 0.0, "midpoint": 0.0, "heun": 1 / 2, "rk4": 1 / 6}
every_step = pytest.mark.parametrize("name", STEPS)


@every_step
@pytest.mark.thin(2)
def test_a_point_is_reached_but_for_the_mean_motion_at_the_end(name, x64):
    """The path is straight, with velocity mu - x0. At t = 1 the field says mu instead."""
    ts, weight = fj.uniform_grid(8), STEPS[name] / 8

    def end(x0, mean, std):
        field = fj.Gaussian(mean, std).velocity(SCHEDULE)
        return fj.solve(field, x0, ts, step=getattr(fj, name), adjoint=fj.Direct())

    got, slopes = jax.jit(jax.value_and_grad(end, argnums=(0, 1, 2)))(0.3, -2.0, 0.0)
    np.testing.assert_allclose(got, -2.0 + weight * 0.3, rtol=1e-14)
    np.testing.assert_allclose(slopes, (weight, 1, 0), atol=1e-13)


def velocity_of_data(t, x):
    """Towards the mean of the data that meet at x; at t = 1 it is the nearest of them."""
    apart = x[:, None] - t * DATA
    if t == 1:
        return DATA[np.argmin(np.abs(apart), axis=1)]
    shares = special.softmax(np.log(WEIGHTS) - apart**2 / (2 * (1 - t) ** 2), axis=1)
    return (shares @ DATA - x) / (1 - t)


NUMPY_STEPS = {
    "midpoint": lambda u, t, h, x: x + h * u(t + h / 2, x + h / 2 * u(t, x)),
    "heun": lambda u, t, h, x: x + h / 2 * ((k := u(t, x)) + u(t + h, x + h * k)),
}


@pytest.mark.parametrize("name", NUMPY_STEPS)
def test_the_flow_to_a_finite_data_set_is_the_exact_map(name, x64):
    """Each sample ends at the point of its quantile, beside it by the same as above."""
    field = fj.GaussianMixture(WEIGHTS, DATA, 0.0).velocity(SCHEDULE)
    # None is at the quantile 0.3, where the two sides part.
    x0, n = special.ndtri((np.arange(20) + 0.5) / 20), 64

    def end(x0):
        return fj.solve(field, x0, fj.uniform_grid(n), step=getattr(fj, name))

    got, slopes = jax.jit(jax.vmap(jax.value_and_grad(end)))(x0)
    expected = x0
    for i in range(n):
        expected = NUMPY_STEPS[name](velocity_of_data, i / n, 1 / n, expected)
    np.testing.assert_allclose(got, expected, rtol=1e-10)

    nearest = np.where(special.ndtr(x0) < 0.3, -2.0, 2.0)
    if name == "midpoint":  # The map is constant on both sides.
        np.testing.assert_allclose(got, nearest, rtol=1e-14)
        np.testing.assert_allclose(slopes, 0, atol=1e-12)
    else:  # It is left by the last step's motion, that of an x0 below 8.
        assert np.all(np.abs(got - nearest) < 8 / (2 * n))
        assert np.all(np.isfinite(slopes))


def test_at_the_end_the_nearest_point_is_expected(dtype):
    """At many scales of the data."""
    points = jnp.array([[0.0, 0.0], [3.0, 1.0], [3.0, -1.0]], dtype)
    x = jnp.array([[0.4, 0.1], [-50.0, 0.0], [1.7, 0.01]], dtype)
    expected = np.array([[0.0, 0.0], [0.0, 0.0], [3.0, 1.0]])

    @jax.jit
    def ends(scale):
        field = fj.GaussianMixture([1.0, 3.0, 1.0], scale * points, 0.0).velocity(SCHEDULE)
        return jax.vmap(lambda x: field(1.0, scale * x, None))(x)

    for scale in (1e-3, 1.0, 1e3):
        np.testing.assert_allclose(ends(scale), scale * expected, rtol=1e-6, atol=1e-6 * scale)


def test_a_point_beside_a_gaussian_is_expected_only_where_it_lies(x64):
    target = fj.GaussianMixture([1.0, 1.0], DATA, np.array([0.0, 0.5]))
    velocity, score = target.velocity(SCHEDULE), target.marginal_score(SCHEDULE)
    both = jax.jit(lambda t, x: (velocity(t, x, None), score(t, x, None)))
    for x in (-2.1, 0.0, 3.0):
        # The Gaussian's own: mu + (x - mu) and -(x - mu) / std^2.
        np.testing.assert_allclose(both(1.0, x), (x, -(x - 2) / 0.25), rtol=1e-12)
    np.testing.assert_allclose(both(1.0, -2.0), (-2.0, np.nan), rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("make", [fj.Gaussian, lambda m, s: fj.GaussianMixture([1.0], [m], s)])
def test_at_the_end_nothing_but_the_mean_moves_the_velocity_and_there_is_no_score(make, x64):
    def value(t, x, mean, std):
        return make(mean, std).velocity(SCHEDULE)(t, x, None)

    derive = jax.jit(jax.value_and_grad(value, argnums=(0, 1, 2, 3)))
    score = jax.jit(lambda *given: make(*given[2:]).marginal_score(SCHEDULE)(*given[:2], None))
    for x in (0.7, 0.3):
        got, slopes = derive(1.0, x, 0.7, 0.0)
        np.testing.assert_array_equal((got, *slopes), (0.7, 0, 0, 1, 0))
        assert np.isnan(score(1.0, x, 0.7, 0.0))
        assert np.isnan(jax.jit(lambda std, x=x: make(0.7, std).score(x))(0.0))


def test_a_point_along_some_axes_is_reached_along_these(x64):
    """A width of zero in one element: the other's flow is that of a Gaussian of its own."""
    target = fj.Gaussian(POINT, np.array([0.5, 0.0]))
    x0, ts = np.array([0.3, -1.2]), fj.uniform_grid(200)
    x1 = fj.solve(target.velocity(SCHEDULE), x0, ts, step=fj.midpoint)
    np.testing.assert_allclose(x1[0], 1.0 + 0.5 * 0.3, rtol=1e-4)
    np.testing.assert_allclose(x1[1], -2.0, rtol=1e-14)


@pytest.mark.parametrize("asked", ["log_prob", "score"])
def test_a_density_that_a_point_does_not_have_is_refused(asked, unchecked):
    for target, name in (
        (fj.Gaussian(POINT, np.array([0.5, 0.0])), "cov_or_std"),
        (fj.GaussianMixture(WEIGHTS, np.stack([POINT, POINT + 1]), np.array([1.0, 0.0])), "stds"),
    ):
        asks = getattr(target, asked)
        for call in (asks, jax.jit(lambda x, asks=asks: asks(x))):
            with pytest.raises(ValueError, match=f"{name} must not be 0 for {asked}: a point"):
                call(POINT)
        # The marginals of its path have one.
        assert np.isfinite(getattr(target.marginal(SCHEDULE, 0.5), asked)(POINT)).all()
