"""Uniform grids: each time is computed afresh, both ends are exact, and they are differentiable."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj


def check_grid(make, n, t0, t1, dtype):
    """Every time is t0 + i (t1 - t0)/n to within two units in the last place of the larger end."""
    ts = make(n, t0, t1)
    assert ts.shape == (n + 1,)
    assert ts.dtype == dtype
    exact = t0 + np.arange(n + 1) * (np.longdouble(t1) - np.longdouble(t0)) / n
    error = np.abs(np.asarray(ts).astype(np.longdouble) - exact)
    assert np.max(error) <= 2 * np.finfo(dtype).eps * max(abs(t0), abs(t1))
    assert float(ts[0]) == float(np.asarray(t0, dtype))
    assert float(ts[-1]) == float(np.asarray(t1, dtype))


@pytest.mark.parametrize("n", [1, 2, 7, 1000, 1_000_003])
@pytest.mark.parametrize(("t0", "t1"), [(0.0, 1.0), (-0.3, 2.7), (1.0, 0.0), (5.0, 5.5)])
def test_every_time_is_its_own_multiple_of_h_and_the_ends_are_exact(n, t0, t1, dtype):
    check_grid(fj.uniform_grid, n, t0, t1, dtype)


def test_accumulated_times_are_caught():
    def accumulated(n, t0, t1):
        h = np.full(n, (t1 - t0) / n, np.float32)
        return np.cumsum(np.concatenate([np.array([t0], np.float32), h]), dtype=np.float32)

    with pytest.raises(AssertionError):
        check_grid(accumulated, 1000, 0.0, 1.0, jnp.dtype("float32"))


def test_a_grid_of_a_million_float32_steps_still_increases():
    assert np.all(np.diff(fj.uniform_grid(1_000_000)) > 0)
    assert np.all(np.diff(fj.uniform_grid(1_000_000, 1.0, 0.0)) < 0)


def test_dyadic_grids_are_exact():
    np.testing.assert_array_equal(fj.uniform_grid(8, -1.0, 3.0), np.arange(9) / 2 - 1)
    np.testing.assert_array_equal(fj.uniform_grid(4, 0, 1), [0.0, 0.25, 0.5, 0.75, 1.0])


def test_the_dtype_is_that_of_the_ends_and_never_below_float32(x64):
    one = lambda dtype: jnp.ones((), dtype)  # noqa: E731
    zero = lambda dtype: jnp.zeros((), dtype)  # noqa: E731
    assert fj.uniform_grid(3).dtype == jnp.float64
    assert fj.uniform_grid(3, 0, 1).dtype == jnp.float64
    assert fj.uniform_grid(3, zero(jnp.float32), one(jnp.float32)).dtype == jnp.float32
    assert fj.uniform_grid(3, zero(jnp.bfloat16), one(jnp.bfloat16)).dtype == jnp.float32
    assert fj.uniform_grid(3, zero(jnp.float16), one(jnp.float32)).dtype == jnp.float32
    assert fj.uniform_grid(3, zero(jnp.float32), one(jnp.float64)).dtype == jnp.float64
    assert fj.uniform_grid(3, t1=one(jnp.float32)).dtype == jnp.float32
    assert fj.uniform_grid(3, t1=np.float32(1)).dtype == jnp.float32


@pytest.mark.parametrize("n", [1, 7, 1000])
def test_a_grid_of_traced_ends_is_the_grid_of_their_numbers(n, dtype):
    ends = jnp.asarray(-0.3, dtype), jnp.asarray(2.7, dtype)
    traced = jax.jit(lambda t0, t1: fj.uniform_grid(n, t0, t1))(*ends)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(traced, fj.uniform_grid(n, -0.3, 2.7), rtol=0, atol=6 * eps)
    assert traced.dtype == dtype
    assert (float(traced[0]), float(traced[-1])) == (float(ends[0]), float(ends[1]))


def test_the_derivative_in_each_end_is_the_weight_of_that_end(x64):
    by_t0, by_t1 = jax.jacobian(lambda t0, t1: fj.uniform_grid(10, t0, t1), argnums=(0, 1))(
        0.2, 3.0
    )
    np.testing.assert_allclose(by_t0, 1 - np.arange(11) / 10, rtol=0, atol=1e-16)
    np.testing.assert_allclose(by_t1, np.arange(11) / 10, rtol=0, atol=1e-16)


def test_vmap_over_the_ends_makes_one_grid_each(dtype):
    t1s = jnp.asarray([0.5, 1.0, -2.0], dtype)
    grids = jax.vmap(lambda t1: fj.uniform_grid(6, 0.0, t1))(t1s)
    for grid, t1 in zip(grids, t1s, strict=True):
        np.testing.assert_allclose(grid, np.arange(7) / 6 * float(t1), rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("t0", [0.3, np.float32(0.3), 10.0])
@pytest.mark.parametrize("span", [0.0, 1e-5, 1e-3, -1e-3])
def test_a_grid_of_traced_ends_is_monotone_and_ends_where_it_should(t0, span):
    t0 = jnp.asarray(t0, jnp.float32)
    t1 = t0 + jnp.float32(span)
    ts = np.asarray(jax.jit(fj.uniform_grid, static_argnums=0)(1000, t0, t1))
    assert (np.diff(ts) * np.sign(span) >= 0).all()
    assert ts[0] == t0
    assert ts[-1] == t1


def test_times_that_coincide_by_rounding_are_refused_where_they_are_known():
    """Seconds since 1970: float32 tells two of a hundred apart."""
    for t0, t1 in ((1.7e9, 1.7e9 + 100), (1.7e9 + 100, 1.7e9), (jnp.float32(1.7e9), 1.7e9 + 100)):
        way = "decrease" if t1 < t0 else "increase"
        with pytest.raises(ValueError, match=f"must {way}, but step 0 starts and ends at t = 1"):
            fj.uniform_grid(100, t0, t1)
    assert jax.jit(lambda t: fj.uniform_grid(100, t, t + 100))(1.7e9).shape == (101,)


def test_times_that_coincide_in_float32_are_told_apart_in_float64(x64):
    assert np.all(np.diff(fj.uniform_grid(100, 1.7e9, 1.7e9 + 100)) == 1)


@pytest.mark.parametrize("name", ["t0", "t1"])
@pytest.mark.parametrize(
    ("end", "error", "words"),
    [
        (np.nan, ValueError, "must be finite, got nan"),
        (-np.inf, ValueError, "must be finite, got -inf"),
        (jnp.float32(np.nan), ValueError, "must be finite, got nan"),
        (np.array([0.0, 1.0]), ValueError, r"must be one number, got an array of shape \(2,\)"),
        (1e300, ValueError, "the times must (in|de)crease"),
        ("0", TypeError, "must be a real number, got '0'"),
        (np.str_("0"), TypeError, "must be a real number, got np.str_"),
        (None, TypeError, "must be a real number, got None"),
        (True, TypeError, "must be a real number, got True"),
        (np.array(False), TypeError, "must be a real number"),
        (1j, TypeError, "must be a real number, got 1j"),
        ([1.0], TypeError, "must be a real number"),
    ],
)
def test_an_end_that_is_no_finite_number_is_refused_by_name(name, end, error, words, unchecked):
    with pytest.raises(error, match=words) as caught:
        fj.uniform_grid(2, **{name: end})
    assert str(caught.value).startswith((name, "the times"))


@pytest.mark.parametrize("n", ["10", None, 2.5, True, np.ones(1, int)])
def test_a_number_of_steps_that_is_no_int_is_refused(n, unchecked):
    with pytest.raises(TypeError, match="n must be a static positive int, got"):
        fj.uniform_grid(n)


@pytest.mark.parametrize("n", [0, -3])
def test_a_number_of_steps_below_one_is_refused(n):
    with pytest.raises(ValueError, match="n must be a static positive int, got"):
        fj.uniform_grid(n)
