"""Observers against the same numbers by NumPy, of the stored path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

import flowjax as fj

pytestmark = pytest.mark.usefixtures("x64")

TS = np.concatenate([[0.0], np.cumsum(np.random.default_rng(1).uniform(0.01, 0.1, 30))])
X0 = {"a": np.array([0.5, -1.0]), "b": np.array(2.0)}
H = np.diff(TS)


def field(t, x, args):
    return jax.tree.map(lambda leaf: jnp.sin(3 * leaf) - t, x)


def path():
    return jax.tree.map(np.asarray, fj.trajectory(field, X0, jnp.asarray(TS)))


def observed(observer, x0=X0, field=field):
    return fj.fold(field, x0, jnp.asarray(TS), **observer._asdict())[1]


def trapezoid(values):
    """Over time, by SciPy."""
    return integrate.trapezoid(values, TS, axis=0)


def test_the_mean_and_the_variance_are_numpys():
    moments, (time, mean) = observed(fj.observers.variance()), observed(fj.observers.mean())
    np.testing.assert_allclose([time, moments.time], TS[-1], rtol=1e-14)
    for name, leaf in path().items():
        expected = trapezoid(leaf) / TS[-1]
        np.testing.assert_allclose(mean[name], expected, rtol=1e-12)
        np.testing.assert_allclose(moments.mean[name], expected, rtol=1e-12)
        spread = trapezoid((leaf - expected) ** 2) / TS[-1]
        np.testing.assert_allclose(moments.variance[name], spread, rtol=1e-11)


def test_the_variance_loses_no_digits_far_from_zero():
    far = observed(fj.observers.variance(), x0=jnp.array(1e8), field=lambda t, x, args: 0 * x + 1)
    np.testing.assert_allclose(far.variance, TS[-1] ** 2 / 12, rtol=1e-2 + 1 / len(TS) ** 2)


def test_the_histogram_is_numpys_weighted_by_time():
    edges = np.array([-1.5, -0.5, 0.0, 0.25, 2.5])
    counts = fj.observers.histogram(edges, of=lambda x: x["b"])
    expected, _ = np.histogram(path()["b"][:-1], edges, weights=H)
    np.testing.assert_allclose(observed(counts), expected, rtol=1e-12, atol=1e-15)
    back = fj.trajectory(field, X0, jnp.asarray(TS[::-1]))["b"]
    expected, _ = np.histogram(back[:-1], edges, weights=H[::-1])
    got = fj.fold(field, X0, jnp.asarray(TS[::-1]), **counts._asdict())[1]
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-15)


def test_energy_and_straightness_are_their_formulas():
    changes = np.concatenate([np.diff(leaf, axis=0).reshape(30, -1) for leaf in path().values()], 1)
    energy = np.sum(changes**2 / H[:, None])
    line = np.sum(changes.sum(axis=0) ** 2) / TS[-1]
    np.testing.assert_allclose(observed(fj.observers.energy()), energy, rtol=1e-12)
    got = observed(fj.observers.straightness())
    np.testing.assert_allclose(got.energy, energy, rtol=1e-12)
    np.testing.assert_allclose(got.straightness, energy - line, rtol=1e-11)


def test_the_flow_of_a_point_is_straight():
    """Its velocity is constant along each path, whatever it starts from."""
    point = fj.Gaussian(jnp.array([3.0, -1.0]), 0.0).velocity(fj.CondOT())
    ts, straight = fj.uniform_grid(20), fj.observers.straightness()
    _, value = fj.fold(point, jnp.array([0.5, 2.0]), ts, **straight._asdict())
    assert abs(value.straightness) < 1e-12 * value.energy


def test_a_running_cost_is_its_sum():
    cost = fj.observers.cost(lambda t, x: t * jnp.sum(x["a"] ** 2) + x["b"])
    values = TS[:-1] * np.sum(path()["a"][:-1] ** 2, axis=1) + path()["b"][:-1]
    np.testing.assert_allclose(observed(cost), np.sum(H * values), rtol=1e-12)


def test_observers_run_backward_in_time_under_vmap_and_are_differentiable():
    ts = jnp.asarray(TS[::-1])
    moments = fj.observers.variance()

    def spread(b):
        x0 = {"a": jnp.asarray(X0["a"]), "b": b}
        return fj.fold(field, x0, ts, **moments._asdict())[1].variance["b"]

    starts = jnp.array([2.0, -0.3])
    values, slopes = jax.vmap(jax.value_and_grad(spread))(starts)
    by_differences = (jax.vmap(spread)(starts + 1e-6) - jax.vmap(spread)(starts - 1e-6)) / 2e-6
    np.testing.assert_allclose(slopes, by_differences, rtol=1e-6, atol=1e-9)
    back = np.asarray(fj.trajectory(field, X0, ts)["b"])[::-1]
    expected = trapezoid((back - trapezoid(back) / TS[-1]) ** 2) / TS[-1]
    np.testing.assert_allclose(values[0], expected, rtol=1e-11)


def test_several_observers_are_each_of_them():
    one, other = fj.observers.variance(), fj.observers.cost(lambda t, x: x["b"])
    got = observed(fj.observers.several(spread=one, cost=other))
    for name, observer in (("spread", one), ("cost", other)):
        jax.tree.map(np.testing.assert_array_equal, got[name], observed(observer))


def test_an_observer_made_anew_compiles_nothing():
    traces = []

    def counted(t, x, args):
        traces.append(None)
        return -x

    def of(x):
        return 2 * x

    def running(t, x):
        return t * x

    for _ in range(2):
        for make in (
            fj.observers.mean,
            fj.observers.variance,
            lambda: fj.observers.histogram(np.array([0.0, 1.0]), of),
            lambda: fj.observers.histogram([0.0, 2.0]),
            fj.observers.energy,
            fj.observers.straightness,
            lambda: fj.observers.cost(running),
            lambda: fj.observers.several(a=fj.observers.mean(), b=fj.observers.cost(running)),
        ):
            fj.fold(counted, 0.1, fj.uniform_grid(3), **make()._asdict())
    assert len(traces) == 8


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: fj.observers.histogram([1.0]), ValueError, "edges must be at least 2"),
        (lambda: fj.observers.histogram([1.0, 0.0]), ValueError, "edges must be at least 2"),
        (lambda: fj.observers.histogram([0.0, 1.0], 3), TypeError, "of must be a function x"),
        (lambda: fj.observers.cost(lambda t: 0.0), TypeError, "running must be a function"),
        (lambda: fj.observers.several(a=3), TypeError, "a must be an Observer, got 3"),
        (lambda: observed(fj.observers.histogram([0.0, 1.0])), TypeError, "of must return a real"),
        (lambda: observed(fj.observers.cost(lambda t, x: x)), TypeError, "running must return"),
    ],
)
def test_bad_observers_are_refused(unchecked, make, error, words):
    with pytest.raises(error, match=words):
        make()
