"""The density of the Euler sampler against samplers pushed forward in NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from tests.densities.problems import (
    GRID,
    LINE,
    A,
    B,
    Coupled,
    H,
    X,
    density_of,
    euler_map,
    linear,
    log_densities,
    normal_log_prob,
    numpy_velocity,
)


def test_it_is_the_density_of_the_product_of_euler_maps(x64):
    got = density_of("euler", linear, GRID)(X, A)
    matrix = euler_map()
    expected = normal_log_prob(np.linalg.solve(matrix, X)) - np.linalg.slogdet(matrix)[1]
    assert abs(float(got) - expected) < 1e-10


def test_second_derivatives_are_exact_too(x64):
    inverse = np.linalg.inv(euler_map())
    hessian = jax.jit(jax.hessian(density_of("euler", linear, GRID)))(X, A)
    np.testing.assert_allclose(hessian, -inverse.T @ inverse, rtol=0, atol=1e-10)


# --- a mixture: the density of its sampler, pushed forward ----------------------------------------


def test_with_five_steps_it_is_a_density_and_the_continuous_number_is_not(x64):
    """They integrate to 1.0000 and to 1.2302."""
    euler = np.trapezoid(np.exp(log_densities("euler", 5, LINE)), LINE)
    continuous = np.trapezoid(np.exp(log_densities("exact", 5, LINE, step=fj.euler)), LINE)
    print(f"euler {euler:.4f}, continuous {continuous:.4f}")
    assert abs(euler - 1) < 1e-6
    assert continuous > 1.2


def test_it_is_the_change_of_variables_of_the_sampler_pushed_forward(x64):
    """The derivative of the pushed-forward map comes from a step into the complex plane."""
    x0 = np.linspace(-4, 4, LINE.size)
    x = x0 + 1e-30j
    for i in range(5):
        x = x + numpy_velocity(i / 5, x) / 5
    expected = -(x0**2) / 2 - math.log(2 * math.pi) / 2 - np.log(x.imag / 1e-30)
    np.testing.assert_allclose(log_densities("euler", 5, x.real), expected, rtol=0, atol=1e-9)


def test_it_is_the_change_of_variables_in_many_dimensions(x64):
    x0, columns = np.array([0.4, -0.2, 1.1]), []
    for direction in np.eye(3):
        x = x0 + 1e-30j * direction
        for t, h in zip(GRID[:-1], H, strict=True):
            x = x + h * np.tanh(A @ x + t * B)
        columns.append(x.imag / 1e-30)
    expected = normal_log_prob(x0) - np.linalg.slogdet(np.stack(columns, 1))[1]
    got = density_of("euler", Coupled(jnp.asarray(A)), GRID)(x.real, B)
    assert float(got) == pytest.approx(expected, abs=1e-12)


# --- an Euler map that is hard or impossible to invert --------------------------------------------


def test_a_step_is_inverted_where_plain_newton_goes_round_in_circles(x64):
    """y + 2 tanh(5 y) is steep between two flat parts, and a full Newton step jumps over it."""
    y = jnp.linspace(-3, 3, 201)
    x = y + 2 * jnp.tanh(5 * y)
    density = density_of("euler", lambda t, x, args: 2 * jnp.tanh(5 * x), np.array([0.0, 1.0]))
    expected = jax.vmap(normal_log_prob)(y) - jnp.log(1 + 10 / jnp.cosh(5 * y) ** 2)
    np.testing.assert_allclose(jax.vmap(density)(x), expected, rtol=0, atol=1e-9)


def quadratic(t, x, args):
    a, b, c = args
    return a + b * x + c * x * x


@pytest.mark.parametrize(
    ("why", "coefficients"),
    [
        ("no solution", (2.0, 0.0, 1.0)),  # y + y^2 + 2 = x has none at x = 1
        ("turned over", (0.0, -3.0, 0.0)),  # y -> -2 y
        ("flattened", (1.0, -1.0, 0.0)),  # all to one point
        ("flattened but for rounding", (1.0, -1.0 + 1e-7, 0.0)),
        ("not a number", (math.nan, 0.0, 0.0)),
    ],
)
def test_without_an_inverse_the_density_and_its_gradient_are_nan(why, coefficients):
    density = density_of("euler", quadratic, np.array([0.0, 1.0], np.float32))
    # The second sample has an inverse in the first problem, and is not drawn into the failure.
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(density), (0, None)))(
        jnp.array([1.0, 4.0]), coefficients
    )
    assert np.isnan(values[0])
    assert np.isnan(slopes[0])
    if why == "no solution":
        y = 1.0
        assert float(values[1]) == pytest.approx(normal_log_prob(np.array(y)) - math.log(3))
        # The derivative of -y^2 / 2 - log(1 + 2 y), times dy/dx = 1/3.
        assert float(slopes[1]) == pytest.approx((-y - 2 / 3) / 3, rel=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_step_of_a_field_in_half_precision_is_inverted_to_its_own_rounding(dtype):
    """Not only to the point where a step of the sampler is as small as that rounding."""
    weight, ts = jnp.asarray(3 * A, jnp.float32), fj.uniform_grid(50)

    def field(t, x, args):
        return jnp.tanh(weight @ x.astype(jnp.float32) + t).astype(x.dtype)

    def log_prob(x):
        return normal_log_prob(x.astype(jnp.float32))

    xs = jnp.asarray(X + np.linspace(-1, 1, 9)[:, None], dtype)
    density = jax.jit(jax.vmap(density_of("euler", field, ts, log_prob)))
    half, full = density(xs), density(xs.astype(jnp.float32))
    # The path of unit length is off by half a rounding of the field's values, at most 1; the
    # log density by some multiple of that.
    np.testing.assert_allclose(half, full, rtol=0, atol=8 * float(jnp.finfo(dtype).eps))


def test_the_field_to_be_inverted_is_evaluated_in_full_precision():
    """On accelerators whose default is to round the factors of a product, Newton would stall."""
    seen = []

    def field(t, x, args):
        seen.append(jax.config.jax_default_matmul_precision)
        return -x / 2

    density_of("euler", field, np.array([0.0, 1.0], np.float32))(jnp.ones(2))
    assert set(seen) == {"highest"}
