"""Noise that leaves out a direction: where paths have a ratio, and where they have none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj


def kicked(speed, force=0.0):
    """Position and speed, of which the speed alone has noise."""
    return fj.SDE(
        lambda t, x, args: jnp.stack([speed * x[1], jnp.full_like(x[1], force)]),
        lambda t, x, args: jnp.array([0.0, 1.0], x.dtype),
    )


@pytest.mark.parametrize("n", [10, 1000])
def test_drifts_that_differ_where_there_is_no_noise_have_no_ratio_at_any_step(n):
    ts, q = fj.uniform_grid(n), kicked(1.0)
    path = fj.trajectory(q, jnp.array([5.0, 1.0]), ts, key=jax.random.key(0))
    assert fj.path_log_ratio(path, kicked(1.0), q, ts) == 0
    assert np.isnan(fj.path_log_ratio(path, kicked(1.5), q, ts))
    along = fj.densities.kl(q, kicked(1.5))
    assert np.isnan(fj.fold(q, path[0], ts, key=jax.random.key(0), **along._asdict())[1])


def test_a_path_that_neither_law_can_make_has_no_ratio():
    ts, p, q = fj.uniform_grid(100), kicked(1.0, force=0.3), kicked(1.0)
    path = fj.trajectory(q, jnp.array([5.0, 1.0]), ts, key=jax.random.key(0))
    moved = path[-1, 1] - path[0, 1]
    # Girsanov's formula with the force alone.
    np.testing.assert_allclose(
        fj.path_log_ratio(path, p, q, ts), 0.3 * moved - 0.3**2 / 2, rtol=1e-4
    )
    assert np.isnan(fj.path_log_ratio(path.at[10:, 0].add(100.0), p, q, ts))
