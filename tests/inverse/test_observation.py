"""Observations, and conjugate gradients, against SciPy and dense solves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import flowjax as fj
from flowjax.inverse.observation import conjugate_gradients


def test_the_log_likelihood_is_that_of_independent_normals(x64):
    random = np.random.default_rng(0)
    y = {"a": random.normal(size=3), "b": random.normal(size=())}
    sigma = {"a": random.uniform(0.5, 2, 3), "b": np.array(0.3)}
    x = random.normal(size=4)

    def operator(x):
        return {"a": x[:3] ** 2, "b": jnp.sum(x)}

    observation = fj.inverse.Observation(y, operator, sigma)
    expected = stats.norm.logpdf(y["a"], x[:3] ** 2, sigma["a"]).sum()
    expected += stats.norm.logpdf(y["b"], x.sum(), sigma["b"])
    assert abs(float(observation(jnp.asarray(x))) - expected) < 1e-12


def test_one_sigma_is_that_of_every_element(x64):
    y, x = jnp.arange(3.0), jnp.array([0.5, 0.1, -1.0])
    one = fj.inverse.Observation(y, jnp.sin, 0.7)
    each = fj.inverse.Observation(y, jnp.sin, jnp.full(3, 0.7))
    assert float(one(x)) == float(each(x))


def matrix_of(random, n):
    root = random.normal(size=(n, n))
    return root @ root.T + np.eye(n)


def test_conjugate_gradients_solve_in_as_many_iterations_as_there_are_numbers(x64):
    random = np.random.default_rng(1)
    a, b = matrix_of(random, 5), random.normal(size=5)
    found = conjugate_gradients(lambda w: jnp.asarray(a) @ w, jnp.asarray(b), 5)
    np.testing.assert_allclose(found, np.linalg.solve(a, b), rtol=1e-9)
    short = conjugate_gradients(lambda w: jnp.asarray(a) @ w, jnp.asarray(b), 2)
    assert np.abs(short - np.linalg.solve(a, b)).max() > 1e-3


def test_what_is_solved_already_stays_and_has_a_derivative(x64):
    """One iteration is exact where the matrix is a multiple of one; the others divide 0 by 0."""

    def first(scale):
        return conjugate_gradients(lambda w: scale * w, jnp.array([1.0, 0.0]), 6)[0]

    value, slope = jax.jit(jax.value_and_grad(first))(2.0)
    assert (float(value), float(slope)) == (0.5, -0.25)


def test_the_derivative_of_a_solution_is_that_of_a_dense_solve(x64):
    random = np.random.default_rng(2)
    a, b = jnp.asarray(matrix_of(random, 3)), jnp.asarray(random.normal(size=3))

    def by_iterations(root):
        return jnp.sum(conjugate_gradients(lambda w: (root + root.T) @ w, b, 3) ** 3)

    def dense(root):
        return jnp.sum(jnp.linalg.solve(root + root.T, b) ** 3)

    found, expected = (jax.jit(jax.grad(f))(a) for f in (by_iterations, dense))
    np.testing.assert_allclose(found, expected, rtol=1e-8)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"observed": jnp.array([1, 2])}, TypeError, "observed must be a real floating array"),
        ({"observed": "y"}, TypeError, "observed must be a real floating array"),
        ({"observed": jnp.zeros((0,))}, ValueError, "observed must hold at least one number"),
        ({"operator": 3.0}, TypeError, "operator must be a function of the data alone"),
        ({"operator": lambda t, x: x}, TypeError, "operator must be a function of the data alone"),
        ({"sigma": 0.0}, ValueError, "sigma must be above 0 and finite, got 0.0"),
        ({"sigma": -1.0}, ValueError, "sigma must be above 0"),
        ({"sigma": jnp.nan}, ValueError, "sigma must be above 0"),
        ({"sigma": "small"}, TypeError, "sigma must be a real number"),
        ({"sigma": jnp.array([1.0, 0.0])}, ValueError, "sigma must be above 0"),
        ({"sigma": jnp.ones(3)}, ValueError, "sigma must have shape .2,. .* like observed"),
    ],
)
def test_what_is_no_observation_is_refused(unchecked, change, error, words):
    given = {"observed": jnp.zeros(2), "operator": lambda x: x[:2], "sigma": 1.0} | change
    with pytest.raises(error, match=words):
        fj.inverse.Observation(**given)


def test_an_operator_that_does_not_fit_is_named():
    wrong = fj.inverse.Observation(jnp.zeros(2), lambda x: x, 1.0)
    with pytest.raises(
        ValueError, match=r"the operator's output must have shape \(2,\) .*observed"
    ):
        wrong(jnp.zeros(3))
    cannot = fj.inverse.Observation(jnp.zeros(2), lambda x: jnp.zeros((2, 5)) @ x, 1.0)
    with pytest.raises(TypeError) as caught:
        cannot(jnp.zeros(3))
    assert "operator was given data of f32[3]" in "".join(caught.value.__notes__)


def test_a_traced_sigma_is_not_looked_at():
    def value(sigma):
        return fj.inverse.Observation(jnp.zeros(2), lambda x: x, sigma)(jnp.ones(2))

    assert np.isfinite(jax.jit(value)(0.5))
