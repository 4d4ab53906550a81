"""Where a NaN began, and nothing where none did."""

import jax
import jax.numpy as jnp
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


def test_a_leaf_without_elements_is_finite():
    path = {"empty": jnp.zeros((9, 0)), "broken": jnp.full(9, jnp.nan), "none": None}
    with pytest.raises(FloatingPointError, match=r"x\['broken'\] is nan from entry 0"):
        fj.check_finite(path, TS)
    nothing = jnp.zeros((0, 3))
    assert fj.check_finite(nothing, TS[:0]) is nothing


@pytest.mark.parametrize(
    ("path", "ts", "error", "words"),
    [
        (1.0, TS, ValueError, "x must be a path, as from trajectory.*got shape \\(\\)"),
        (jnp.zeros(5), TS, ValueError, "leading axis of ts, \\(9,\\), got shape \\(5,\\)"),
        ({"a": jnp.zeros(9), "b": jnp.zeros(())}, TS, ValueError, "x\\['b'\\] must be a path"),
        (jnp.zeros(9), None, TypeError, "ts must be a grid of times.*got None"),
        (jnp.zeros(9), 8, TypeError, "ts must be a grid of times.*got 8"),
        (jnp.zeros(9), "ts", TypeError, "ts must be a grid of times.*got 'ts'"),
        (None, TS, ValueError, "x must hold at least one array"),
        ("path", TS, TypeError, "x must be a real floating array, got str"),
        (fj.trajectory, TS, TypeError, "x must be a real floating array, got function"),
        (jnp.arange(9), TS, TypeError, "x must be a real floating array, got dtype int32"),
    ],
)
def test_what_is_no_path_is_refused(unchecked, path, ts, error, words):
    with pytest.raises(error, match=words):
        fj.check_finite(path, ts)


def test_traced_values_are_refused():
    with pytest.raises(TypeError, match="outside jit"):
        jax.jit(fj.check_finite)(jnp.zeros(9), TS)
