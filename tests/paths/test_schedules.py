"""Schedules, against their formulas and against their own derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowjax.paths import CondOT


def test_cond_ot_joins_noise_to_data_by_a_straight_line(dtype):
    times = np.linspace(0, 1, 9)
    alpha, sigma = CondOT()(jnp.asarray(times, dtype))
    np.testing.assert_array_equal(alpha, times.astype(dtype))
    np.testing.assert_array_equal(sigma, (1 - times).astype(dtype))


def test_the_rates_are_the_time_derivatives(dtype):
    for time in (0.0, 0.3, 1.0):
        t = jnp.asarray(time, dtype)
        assert jax.jvp(CondOT(), (t,), (jnp.ones_like(t),))[1] == CondOT().rates(t) == (1, -1)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_a_schedule_keeps_the_shape_and_dtype_of_time(shape, dtype):
    t = jnp.full(shape, 0.25, dtype)
    for value in (*CondOT()(t), *CondOT().rates(t)):
        assert (value.shape, value.dtype) == (shape, dtype)


def test_an_integer_time_becomes_the_default_float(dtype):
    for value in (*CondOT()(0), *CondOT().rates(1)):
        assert value.dtype == dtype


def test_a_schedule_is_a_record_without_state():
    assert CondOT() == CondOT()
    assert hash(CondOT()) == hash(CondOT())
    assert jax.tree.leaves(CondOT()) == []
