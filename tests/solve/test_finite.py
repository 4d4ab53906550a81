"""Where a NaN began, and nothing where none did."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj

TS = fj.uniform_grid(8)


def field(t, x, args):
    """The square root of a negative number from t = 0.5 on, in one leaf."""
    return {"whole": x["whole"], "broken": x["broken"] + jnp.sqrt(0.5 - t - 1e-6)}


def test_it_names_the_first_entry_its_time_and_the_leaf():
    x0 = {"whole": jnp.ones(2), "broken": jnp.zeros(3)}
    path = fj.trajectory(field, x0, TS)
    # The field is called at t = 0.5 in the fifth step, which ends at entry 5.
    with pytest.raises(
        FloatingPointError, match=r"x\['broken'\] is nan from entry 5 .*, at t = 0\.625"
    ):
        fj.check_finite(path, TS)


def test_it_says_when_several_steps_lie_between_and_when_the_start_was_broken():
    x0 = {"whole": jnp.ones(2), "broken": jnp.zeros(3)}
    path = fj.trajectory(field, x0, TS, every=2)
    with pytest.raises(
        FloatingPointError, match=r"entry 3 .*t = 0\.75: it is finite .*t = 0\.5, .*every=1"
    ):
        fj.check_finite(path, TS[::2])
    with pytest.raises(FloatingPointError, match=r"x is nan from entry 0 .*the solve began with"):
        fj.check_finite(jnp.full(9, jnp.nan), TS)


def test_of_two_leaves_the_one_that_broke_first_is_named():
    path = {"a": jnp.array([0.0, 1.0, jnp.inf]), "b": jnp.array([0.0, jnp.nan, 1.0])}
    with pytest.raises(FloatingPointError, match=r"x\['b'\] is nan from entry 1"):
        fj.check_finite(path, fj.uniform_grid(2))


def test_a_finite_path_is_given_back():
    path = fj.trajectory(fj.linear_field, jnp.ones(3, jnp.bfloat16), TS, 1.0, every=2)
    assert fj.check_finite(path, TS[::2]) is path


def test_what_it_cannot_look_at_is_refused():
    with pytest.raises(TypeError, match="outside jit"):
        jax.jit(fj.check_finite)(jnp.zeros(9), TS)
    with pytest.raises(ValueError, match="leading axis of ts"):
        fj.check_finite(jnp.zeros(5), TS)


@pytest.mark.parametrize("t0", [0.3, np.float32(0.3), 10.0])
@pytest.mark.parametrize("span", [0.0, 1e-5, 1e-3, -1e-3])
def test_a_grid_of_traced_ends_is_monotone_and_ends_where_it_should(t0, span):
    t0 = jnp.asarray(t0, jnp.float32)
    t1 = t0 + jnp.float32(span)
    ts = np.asarray(jax.jit(fj.uniform_grid, static_argnums=0)(1000, t0, t1))
    assert (np.diff(ts) * np.sign(span) >= 0).all()
    assert ts[0] == t0
    assert ts[-1] == t1


def test_a_decreasing_grid_of_plain_numbers_is_refused_under_jit_too():
    sde = fj.ornstein_uhlenbeck(1.0, 1.0)
    with pytest.raises(ValueError, match="ts must not decrease"):
        jax.jit(lambda key: fj.solve(sde, 1.0, fj.uniform_grid(4, 1.0, 0.0), key=key))(
            jax.random.key(0)
        )


def test_a_field_is_given_the_time_in_the_precision_of_the_state(x64):
    x1 = fj.solve(lambda t, x, args: x * (1 - t), jnp.ones(2, jnp.float32), fj.uniform_grid(4))
    # The product of 1 + (1 - t)/4 over t = 0, 1/4, 1/2, 3/4.
    assert x1.dtype == jnp.float32
    np.testing.assert_allclose(x1, 1.25 * 1.1875 * 1.125 * 1.0625, rtol=1e-6)


def test_numpy_integers_serve_as_segments_and_counts():
    adjoint = fj.Checkpointed(np.int64(2))
    x1 = fj.solve(fj.linear_field, 1.0, fj.uniform_grid(4), 1.0, adjoint=adjoint)
    np.testing.assert_allclose(x1, 0.75**4, rtol=1e-6)


def test_what_cannot_be_hashed_is_refused_by_name():
    with pytest.raises(TypeError, match="in args must be hashable"):
        fj.solve(fj.linear_field, 1.0, TS, {"set": {1, 2}})


def test_a_reversible_solve_without_a_digit_left_is_refused():
    ts = fj.uniform_grid(20_000)
    with pytest.raises(ValueError, match="coupling must be closer to 1"):
        fj.solve(fj.linear_field, 1.0, ts, 1.0, adjoint=fj.Reversible())


def test_the_parasitic_mode_of_a_reversible_solve_dies_out_as_its_docstring_says(x64):
    """Decay by theta = 10 over n = 1000 steps: stable for n (1 - lambda) = 15, not for 1."""
    ts = fj.uniform_grid(1000)

    def error(coupling):
        adjoint = fj.Reversible(coupling)
        x1 = fj.solve(fj.linear_field, 1.0, ts, 10.0, step=fj.midpoint, adjoint=adjoint)
        return abs(float(x1) - np.exp(-10.0))

    solution = np.exp(-10.0)
    assert error(1 - 15e-3) < solution / 2
    assert error(1 - 1e-3) > solution


def test_a_reversible_solve_in_16_bits_is_refused():
    x0 = jnp.ones(2, jnp.bfloat16)
    with pytest.raises(TypeError, match=r"state of 32 bits or more.*got dtypes \['bfloat16'\]"):
        fj.solve(fj.linear_field, x0, TS, 1.0, adjoint=fj.Reversible())
