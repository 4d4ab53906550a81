"""The coefficients of the closed-form diffusions, and the laws that they leave alone."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from flowjax.solver.sde import SDE
from flowjax.targets.diffusions import langevin, ornstein_uhlenbeck
from flowjax.targets.gaussian import Gaussian
from flowjax.targets.mixture import GaussianMixture


def divergence(field, x):
    return jnp.trace(jax.jacfwd(field)(x))


@eqx.filter_jit
def stationarity_error(sde, log_prob, x):
    """The Fokker-Planck equation at rest, divided by p: -div(f p)/p + lap(g^2 p)/(2 p)."""
    drift = sde.drift(0.0, x, None)
    score = jax.grad(log_prob)(x)
    variance = sde.diffusion(0.0, x, None) ** 2
    curvature = jnp.diagonal(jax.hessian(log_prob)(x)) + score**2
    outflow = divergence(lambda x: sde.drift(0.0, x, None), x) + jnp.dot(drift, score)
    return -outflow + jnp.sum(variance * curvature) / 2


def test_ornstein_uhlenbeck_has_its_two_coefficients(dtype):
    x = jnp.asarray([1.0, -2.0, 0.5], dtype)
    theta, sigma = np.array([0.5, 1.0, 2.0], dtype), np.array([0.25, 1.0, 3.0], dtype)
    sde = ornstein_uhlenbeck(theta, sigma)
    assert isinstance(sde, SDE)
    for got, expected in (
        (sde.drift(0.3, x, None), -theta * np.asarray(x)),
        (sde.diffusion(0.3, x, None), sigma),
    ):
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, expected)


def test_langevin_has_half_the_variance_in_front_of_the_score(dtype):
    x = jnp.asarray([1.0, -2.0], dtype)
    sde = langevin(lambda x: -3 * x, sigma=np.array([0.5, 2.0], dtype))
    for got, expected in (
        (sde.drift(0.3, x, None), [0.125 * -3.0, 2 * 6.0]),
        (sde.diffusion(0.3, x, None), [0.5, 2.0]),
    ):
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, expected)


TARGETS = {
    "gaussian": lambda: Gaussian(jnp.array([1.0, -0.5]), jnp.array([[2.0, 0.6], [0.6, 0.5]])),
    "mixture": lambda: GaussianMixture(
        jnp.array([1.0, 2.0]), jnp.array([[-1.0, 0.0], [1.0, 0.5]]), jnp.array([0.5, 0.8])
    ),
}


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("sigma", [0.7, np.array([0.3, 1.9])], ids=["one", "each"])
def test_langevin_leaves_the_density_of_its_score_alone(kind, sigma, x64):
    target = TARGETS[kind]()
    sde = langevin(target.score, sigma)
    wrong_factor = SDE(lambda t, x, args: 2 * sde.drift(t, x, args), sde.diffusion)
    for x in jnp.array([[0.0, 0.0], [1.3, -0.4], [-2.0, 1.0]]):
        assert abs(stationarity_error(sde, target.log_prob, x)) < 1e-12
        assert abs(stationarity_error(wrong_factor, target.log_prob, x)) > 1e-2


def test_ornstein_uhlenbeck_leaves_its_stationary_density_alone(x64):
    theta, sigma = jnp.array([0.5, 2.0]), jnp.array([0.3, 1.5])
    sde = ornstein_uhlenbeck(theta, sigma)
    stationary = Gaussian(jnp.zeros(2), sigma / jnp.sqrt(2 * theta))
    for x in jnp.array([[0.0, 0.0], [0.3, -0.4], [-0.6, 1.0]]):
        assert abs(stationarity_error(sde, stationary.log_prob, x)) < 1e-12


def test_ornstein_uhlenbeck_forgets_its_start_as_its_documented_law_says(x64):
    theta, sigma, x0 = 0.8, 0.6, 1.7
    sde = ornstein_uhlenbeck(theta, sigma)

    def mean(t):
        return x0 * jnp.exp(-theta * t)

    def variance(t):
        return sigma**2 / (2 * theta) * (1 - jnp.exp(-2 * theta * t))

    # A linear drift moves the moments by m' = f(m) and v' = 2 f'(m) v + g^2.
    for t in (0.0, 0.5, 2.0):
        slope = jax.grad(lambda x, t=t: sde.drift(t, x, None))(mean(t))
        noise = sde.diffusion(t, mean(t), None) ** 2
        np.testing.assert_allclose(jax.grad(mean)(t), sde.drift(t, mean(t), None), rtol=1e-14)
        np.testing.assert_allclose(jax.grad(variance)(t), 2 * slope * variance(t) + noise)


def test_a_pytree_state_takes_one_number_or_one_for_each_part(dtype):
    x = {"a": jnp.asarray([1.0, 2.0], dtype), "b": jnp.asarray(3.0, dtype)}
    sde = ornstein_uhlenbeck(theta={"a": 2.0, "b": 1.0}, sigma=0.5)
    drift, diffusion = sde.drift(0.0, x, None), sde.diffusion(0.0, x, None)
    np.testing.assert_array_equal(drift["a"], [-2, -4])
    np.testing.assert_array_equal(drift["b"], -3)
    np.testing.assert_array_equal(diffusion["a"], [0.5, 0.5])
    np.testing.assert_array_equal(diffusion["b"], 0.5)
    sde = langevin(lambda x: jax.tree.map(jnp.negative, x), {"a": 2.0, "b": 4.0})
    drift = sde.drift(0.0, x, None)
    np.testing.assert_array_equal(drift["a"], [-2, -4])
    np.testing.assert_array_equal(drift["b"], -24)


def test_the_parameters_are_leaves_and_other_values_compile_nothing_again():
    traces = []

    @eqx.filter_jit
    def value(sde, x):
        traces.append(None)
        return sde.drift(0.0, x, None) + sde.diffusion(0.0, x, None)

    x = jnp.array([1.0, 2.0])
    for theta, sigma in ((1.0, 0.5), (2.0, 0.25), (3, 1)):
        got = value(ornstein_uhlenbeck(theta, sigma), x)
        np.testing.assert_allclose(got, -theta * x + sigma, rtol=1e-6)
    assert len(traces) == 2  # a Python float is a weak float32, an int a strong one
    for std, sigma in ((1.0, 0.5), (2.0, 0.25)):
        got = value(langevin(Gaussian(jnp.zeros(2), std).score, sigma), x)
        np.testing.assert_allclose(got, -(sigma**2) / 2 * x / std**2 + sigma, rtol=1e-6)
    assert len(traces) == 3


def test_gradients_flow_to_the_parameters(x64):
    x = jnp.array([1.0, 2.0])

    def total(sde):
        return jnp.sum(3 * sde.drift(0.0, x, None) + 5 * sde.diffusion(0.0, x, None))

    slope = eqx.filter_grad(total)(ornstein_uhlenbeck(theta=jnp.array([0.5, 1.0]), sigma=0.25))
    np.testing.assert_array_equal(slope.drift.theta, [-3, -6])
    np.testing.assert_array_equal(slope.diffusion.sigma, 10)

    def through_construction(theta, sigma):
        return total(langevin(Gaussian(jnp.zeros(2), theta).score, sigma))

    slopes = jax.jit(jax.grad(through_construction, argnums=(0, 1)))(2.0, 0.5)
    # 3 (sigma^2 / 2) sum(-x) / theta^2 + 10 sigma
    np.testing.assert_allclose(slopes, [3 * 0.125 * 2 * 3 / 8, -3 * 0.5 * 3 / 4 + 10], rtol=1e-14)


def test_a_bfloat16_state_keeps_its_dtype():
    x = jnp.asarray([1.0, 2.0], jnp.bfloat16)
    third = jnp.float32(1 / 3)
    target = Gaussian(jnp.zeros(2, jnp.float32), 2.0)
    for sde, drift in (
        (ornstein_uhlenbeck(third, third), -third * x.astype(jnp.float32)),
        (langevin(target.score, third), -(third**2) / 8 * x.astype(jnp.float32)),
    ):
        got = sde.drift(jnp.float32(0), x, None)
        assert got.dtype == sde.diffusion(jnp.float32(0), x, None).dtype == jnp.bfloat16
        np.testing.assert_allclose(got.astype(jnp.float32), drift, rtol=2**-7)


def test_gradients_through_the_solver_are_those_of_the_discrete_recursion(x64):
    # X <- (1 - theta h) X + sigma dW, so dX <- (1 - theta h) dX - h X dtheta + dW dsigma.
    steps, h, theta, sigma, x0 = 50, 0.02, 0.8, 0.6, 1.5
    increments = np.random.default_rng().normal(size=steps) * np.sqrt(h)

    def end(sde):
        return fj.solve(sde, jnp.array(x0), fj.uniform_grid(steps), increments=increments)

    value, slope = eqx.filter_value_and_grad(end)(ornstein_uhlenbeck(theta, sigma))
    x, by_theta, by_sigma = x0, 0.0, 0.0
    for dw in increments:
        by_theta = (1 - theta * h) * by_theta - h * x
        by_sigma = (1 - theta * h) * by_sigma + dw
        x = (1 - theta * h) * x + sigma * dw
    np.testing.assert_allclose(value, x, rtol=1e-12)
    np.testing.assert_allclose(slope.drift.theta, by_theta, rtol=1e-10)
    np.testing.assert_allclose(slope.diffusion.sigma, by_sigma, rtol=1e-10)


@pytest.mark.parametrize("state", [jnp.bfloat16, jnp.float32])
def test_the_solver_takes_every_process_in_the_dtype_of_the_state(state):
    x0, ts, key = jnp.ones(2, state), fj.uniform_grid(4), jax.random.key(0)
    third = jnp.float32(1 / 3)
    target = Gaussian(jnp.zeros(2), third)
    assert fj.solve(fj.linear_field, x0, ts, args=third).dtype == state
    assert fj.solve(target.velocity(fj.CondOT()), x0, ts).dtype == state
    assert fj.solve(target.marginal_score(fj.CondOT()), x0, ts).dtype == state
    for sde in (ornstein_uhlenbeck(third, third), langevin(target.score, third)):
        for step in (fj.euler_maruyama, fj.milstein, fj.stochastic_heun):
            assert fj.solve(sde, x0, ts, key=key, step=step).dtype == state


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ornstein_uhlenbeck(None, 1.0), TypeError, "theta.*None"),
        (lambda: ornstein_uhlenbeck(1.0, "loud"), TypeError, "sigma.*'loud'"),
        (lambda: ornstein_uhlenbeck(np.nan, 1.0), ValueError, "theta must be finite, got nan"),
        (lambda: ornstein_uhlenbeck({"a": 1.0}, [1.0, np.inf]), ValueError, "sigma.*finite.*inf"),
        (lambda: ornstein_uhlenbeck({}, 1.0), TypeError, "theta must be a number.*{}"),
        (lambda: langevin(1.0, 1.0), TypeError, "score.*1.0"),
        (lambda: langevin(Gaussian(0.0, 1.0), 1.0), TypeError, r"score must be.*\.score, got Gaus"),
        (lambda: langevin(Gaussian, 1.0), TypeError, "score must be.*class"),
        (
            lambda: langevin(Gaussian(0.0, 1.0).marginal_score(fj.CondOT()), 1.0),
            TypeError,
            r"score must be a function of x alone.*got one of \(t:.*, x:.*, args:",
        ),
        (lambda: langevin(jnp.negative, np.nan), ValueError, "sigma must be finite, got nan"),
        (lambda: langevin(jnp.negative, None), TypeError, "sigma.*None"),
        (
            lambda: ornstein_uhlenbeck(jnp.ones(3), 1.0).drift(0.0, jnp.ones(2), None),
            ValueError,
            r"theta.*\(2,\).*\(3,\)",
        ),
        (
            lambda: ornstein_uhlenbeck(1.0, jnp.ones(3)).diffusion(0.0, jnp.ones(2), None),
            ValueError,
            r"sigma.*\(2,\).*\(3,\)",
        ),
        (
            lambda: langevin(lambda x: x[0], 1.0).drift(0.0, jnp.ones(2), None),
            ValueError,
            r"score.*\(2,\).*\(\)",
        ),
        (
            lambda: langevin(lambda x: {"a": x}, 1.0).drift(0.0, jnp.ones(2), None),
            ValueError,
            "score.*'a'",
        ),
    ],
)
def test_bad_input_is_refused_by_name(call, error, words, unchecked):
    with pytest.raises(error, match=words):
        call()
