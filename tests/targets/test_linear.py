"""The linear field against its closed form, and the closed form against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from flowjax.targets.linear import linear_field, linear_flow


def tolerance(dtype):
    return 1e-13 if dtype == jnp.float64 else 1e-6


def test_the_field_is_minus_theta_x(dtype):
    x = jnp.asarray([[1.0, -2.0, 0.5], [3.0, 0.0, -1.0]], dtype)
    for theta in (0.5, 2, jnp.asarray(-1.5, dtype), jnp.asarray([1.0, 2.0, 4.0], dtype), x):
        got = linear_field(0.3, x, theta)
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, -np.asarray(theta, dtype) * np.asarray(x))


def test_the_flow_is_the_exponential(dtype):
    x0 = np.array([1.0, -2.0, 0.5])
    theta = np.array([0.5, -1.0, 3.0])
    for t in (0.0, 0.7, 2.0, -1.0):
        got = linear_flow(t, jnp.asarray(x0, dtype), jnp.asarray(theta, dtype))
        assert got.dtype == dtype
        np.testing.assert_allclose(got, x0 * np.exp(-theta * t), rtol=tolerance(dtype))


def test_the_flow_solves_the_field(x64):
    x0, theta = jnp.array([1.0, -2.0]), jnp.array([0.5, -1.0])
    for time in (0.0, 0.4, 1.0):
        t = jnp.array(time)
        x, rate = jax.jvp(lambda t: linear_flow(t, x0, theta), (t,), (jnp.ones_like(t),))
        np.testing.assert_allclose(rate, linear_field(t, x, theta), rtol=1e-14)


def test_flowing_twice_is_flowing_for_the_sum_of_the_times(x64):
    x0, theta = jnp.array([1.0, -2.0]), 0.8
    twice = linear_flow(0.5, linear_flow(0.25, x0, theta), theta)
    np.testing.assert_allclose(twice, linear_flow(0.75, x0, theta), rtol=1e-15)


def test_the_gradient_of_the_flow_is_exact_in_every_argument(x64):
    t, x0, theta = 0.7, 1.5, 0.8
    got = jax.grad(linear_flow, argnums=(0, 1, 2))(t, x0, theta)
    decay = np.exp(-theta * t)
    np.testing.assert_allclose(got, [-theta * x0 * decay, decay, -t * x0 * decay], rtol=1e-14)


def test_one_theta_serves_a_pytree_and_a_prefix_serves_its_parts(dtype):
    x = {"a": jnp.asarray([1.0, 2.0], dtype), "b": (jnp.asarray(3.0, dtype),)}
    one = linear_field(0.0, x, 2.0)
    np.testing.assert_array_equal(one["a"], [-2, -4])
    np.testing.assert_array_equal(one["b"][0], -6)
    prefix = linear_field(0.0, x, {"a": jnp.asarray([1.0, 3.0], dtype), "b": 2.0})
    np.testing.assert_array_equal(prefix["a"], [-1, -6])
    np.testing.assert_array_equal(prefix["b"][0], -6)
    flow = linear_flow(1.0, x, {"a": 0.0, "b": np.log(2.0)})
    assert jax.tree.structure(flow) == jax.tree.structure(x)
    np.testing.assert_array_equal(flow["a"], x["a"])
    np.testing.assert_allclose(flow["b"][0], 1.5, rtol=tolerance(dtype))


@pytest.mark.parametrize("state", [jnp.bfloat16, jnp.float16])
def test_a_state_of_16_bits_is_computed_in_float32_and_keeps_its_dtype(state):
    x, theta = jnp.asarray([1.5, -3.0], state), jnp.float32(1 / 3)
    got = linear_field(0.0, x, theta)
    assert got.dtype == state
    np.testing.assert_array_equal(got, (-theta * x.astype(jnp.float32)).astype(state))
    flow = linear_flow(jnp.float32(0.5), x, theta)
    exact = x.astype(jnp.float32) * jnp.exp(-theta / 2)
    assert flow.dtype == state
    np.testing.assert_array_equal(flow, exact.astype(state))


def test_a_float32_state_keeps_its_dtype_beside_64_bit_parameters(x64):
    x = jnp.ones(2, jnp.float32)
    assert linear_field(jnp.float64(0), x, jnp.float64(2)).dtype == jnp.float32
    assert linear_flow(jnp.float64(1), x, np.array([1.0, 2.0])).dtype == jnp.float32


def test_jit_and_vmap_change_nothing(x64):
    xs, thetas = jnp.arange(6.0).reshape(3, 2) + 1, jnp.array([0.5, 1.0, 2.0])
    got = jax.jit(jax.vmap(lambda x, theta: linear_flow(0.5, x, theta)))(xs, thetas)
    np.testing.assert_allclose(got, xs * np.exp(-0.5 * np.asarray(thetas)[:, None]), rtol=1e-15)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: linear_field(0.0, jnp.ones(2), jnp.ones(3)), ValueError, r"theta.*\(2,\).*\(3,\)"),
        (lambda: linear_field(0.0, 1.0, jnp.ones(3)), ValueError, r"theta.*\(\).*\(3,\)"),
        (lambda: linear_field(0.0, jnp.ones(2), None), ValueError, "args must be theta.*None"),
        (
            lambda: fj.solve(linear_field, jnp.ones(2), fj.uniform_grid(2)),
            ValueError,
            "args must be theta, the rate of the linear field, got None",
        ),
        (lambda: linear_field(0.0, [1.0, "x"], 1.0), TypeError, r"x\[1\] must be.*str"),
        (lambda: linear_flow(jnp.ones(2), 1.0, 0.5), ValueError, r"t must be a scalar.*\(2,\)"),
        (lambda: linear_flow("1", jnp.ones(2), 0.5), TypeError, "t must be.*'1'"),
        (lambda: linear_flow(1.0, jnp.ones(2), None), ValueError, "theta must be.*None"),
        (lambda: linear_field(0.0, jnp.ones(2), {"a": 1.0}), ValueError, "theta.*'a'"),
        (lambda: linear_field(0.0, jnp.ones(2), "fast"), TypeError, "theta.*'fast'"),
        (lambda: linear_field(0.0, jnp.ones(2), 1j), TypeError, "theta.*complex"),
        (lambda: linear_field(0.0, {"a": jnp.ones(2, int)}, 1.0), TypeError, r"x\['a'\].*int"),
        (lambda: linear_flow(0.0, 2, 1.0), TypeError, "x0.*int"),
        (lambda: linear_flow(jnp.ones(3), jnp.ones(3), 1.0), ValueError, r"t .*\(3,\).*vmap"),
    ],
)
def test_bad_input_is_refused_by_name(call, error, words, unchecked):
    with pytest.raises(error, match=words):
        call()
