"""Pairs of a flow, against the map of that flow in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj

reflow = fj.couplings.reflow
KEY, TS = jax.random.key(0), fj.uniform_grid(40)


def init(key):
    return jax.random.normal(key, (2,))


def test_pairs_are_the_two_ends_of_the_flow():
    v = fj.Gaussian(jnp.array([3.0, -1.0]), jnp.array([0.5, 2.0])).velocity(fj.CondOT())
    pairs = reflow(KEY, v, init, TS, 50, step=fj.rk4)
    expected = np.array([3.0, -1.0]) + np.array([0.5, 2.0]) * np.asarray(pairs.x0)
    np.testing.assert_allclose(pairs.x1, expected, atol=1e-4)
    assert pairs.labels is None
    x0, x1 = fj.sample_pairs(KEY, v, init, TS, 50, step=fj.rk4)
    np.testing.assert_array_equal(pairs.x0, x0)
    np.testing.assert_array_equal(pairs.x1, x1)


def test_labels_are_the_args_of_each_sample():
    labels = jnp.arange(10) % 3
    moved = lambda t, x, label: jnp.full_like(x, label.astype(x.dtype))  # noqa: E731
    pairs = reflow(KEY, moved, init, TS, 10, labels=labels, batch_size=4)
    np.testing.assert_allclose(
        pairs.x1 - pairs.x0, np.repeat(labels[:, None], 2, axis=1), atol=1e-5
    )
    np.testing.assert_array_equal(pairs.labels, labels)


def field(t, x, args):
    return x


@pytest.mark.parametrize(
    ("flow", "options", "error", "words"),
    [
        (fj.ornstein_uhlenbeck(1.0, 1.0), {}, TypeError, "field must be a velocity, .* got an SDE"),
        (3, {}, TypeError, "field must be a velocity"),
        (field, {"step": fj.euler_maruyama}, TypeError, "step must draw no noise, got euler_maru"),
        (field, {"step": fj.ancestral}, TypeError, "step must draw no noise, got ancestral"),
        (field, {"labels": jnp.arange(4), "args": 1.0}, ValueError, "leave out args"),
        (field, {"labels": jnp.arange(3)}, ValueError, "must have num = 4 entries"),
        (field, {"progres": True}, TypeError, "progres"),
    ],
)
def test_what_is_no_flow_is_refused(unchecked, flow, options, error, words):
    with pytest.raises(error, match=words):
        reflow(KEY, flow, init, TS, 4, **options)
