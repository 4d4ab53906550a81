"""Losses of two times, of interpolants and bridges: least at what is known exactly of Gaussians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from flowjax import losses
from flowjax.losses import two_times
from tests.losses.test_objectives import MEAN, STD, worst_gradient
from tests.solver.random_checks import keys_of


def middle(u):
    return 0.05 + 0.9 * u


def variance(t):
    return t**2 * STD**2 + (1 - t) ** 2


def average(t, r, x, args=None):
    """From N(0, 1) to N(MEAN, STD^2) by CondOT: the flow scales what is left of the mean."""
    h = r - t
    at_once = h == 0
    safe = jnp.where(at_once, 1.0, h)
    ratio = jnp.sqrt(variance(r) / variance(t))
    moved = r * MEAN + ratio * (x - t * MEAN)
    slope = (t * STD**2 - (1 - t)) / variance(t)
    velocity = MEAN + slope * (x - t * MEAN)
    return jnp.where(at_once, velocity, (moved - x) / safe)


def wrong_average(wrong):
    return lambda t, r, x, args: average(t, r, x) + wrong[0] * x + wrong[1]


@pytest.mark.parametrize("own_tangent", [False, True])
def test_mean_flow_is_least_at_the_average_velocity(own_tangent):
    """By its semi-gradient: its target is a constant."""

    def loss(wrong, x1, key):
        how = {"time": middle, "own_tangent": own_tangent}
        return losses.mean_flow(wrong_average(wrong), x1, key, **how)

    assert worst_gradient(loss) < 5


def test_mean_flow_of_the_other_sign_is_caught():
    def loss(wrong, x1, key):
        keys = jax.random.split(key, 3)
        x0, (t, r) = (
            jax.random.normal(keys[0], x1.shape),
            jnp.sort(jax.random.uniform(keys[1], (2,))),
        )
        t, r, v = middle(t), middle(r), x1 - x0
        xt, model = t * x1 + (1 - t) * x0, wrong_average(wrong)
        u, rate = jax.jvp(lambda t, x: model(t, r, x, None), (t, xt), (jnp.ones(()), v))
        return jnp.mean((u - jax.lax.stop_gradient(v - (r - t) * rate)) ** 2)

    assert worst_gradient(loss) > 5


def test_the_flow_map_is_least_at_the_exact_one():
    def loss(wrong, x1, key):
        return losses.flow_map(wrong_average(wrong), x1, key, time=middle)

    assert worst_gradient(loss) < 5


def test_the_teacher_of_the_flow_map_is_fixed_and_the_state_that_it_is_asked_at_is_not(x64):
    def model(weights):
        return lambda t, r, x, args: jnp.tanh(weights[0] * x + weights[1] * r) * weights[2] + t * x

    def by_hand(weights, fixed, t, r, x, velocity):
        """Of one number, in derivatives that are written out."""
        u = model(weights)(t, r, x, None)
        rate = weights[2] * weights[1] * (1 - jnp.tanh(weights[0] * x + weights[1] * r) ** 2)
        end = x + (r - t) * u
        taught = model(fixed)(r, r, end, None)
        return (model(weights)(t, t, x, None) - velocity) ** 2 + (u + (r - t) * rate - taught) ** 2

    weights, x1 = jnp.array([0.7, -0.4, 1.3]), jnp.array(0.8)
    for key in keys_of("the teacher", 3):
        t, r, x, velocity = two_times._drawn(
            model(weights), x1, key, None, None, losses.uniform, 0
        )[2]
        got = jax.grad(lambda w, key=key: losses.flow_map(model(w), x1, key))(weights)
        want = jax.grad(by_hand)(weights, weights, t, r, x, velocity)
        np.testing.assert_allclose(got, want, rtol=1e-10)
        # Planted: the teacher's parameters, or the state with them.
        both = jax.grad(lambda w, *drawn: by_hand(w, w, *drawn))(weights, t, r, x, velocity)
        assert jnp.max(jnp.abs(got - both)) > 1e-3


def test_the_target_of_mean_flow_is_its_formula(x64):
    """Against central differences in NumPy, of a network that is no average of anything."""
    seen = []

    def record(t, r, x, args):
        jax.debug.callback(lambda *a: seen.append(tuple(map(np.asarray, a))), t, r, x)
        return jnp.sin(3 * t + x) * jnp.cos(r - x)

    x0, x1, key = jnp.array([0.3, -1.0]), jnp.array([1.0, 2.0]), jax.random.key(9)
    loss = losses.mean_flow(record, x1, key, x0=x0, instant=0.0)
    jax.effects_barrier()
    t, r, x = seen[0]

    def u(t, x):
        return np.sin(3 * t + x) * np.cos(r - x)

    v, h = np.asarray(x1 - x0), 1e-5
    np.testing.assert_allclose(x, t * x1 + (1 - t) * x0, rtol=1e-12)
    rate = (u(t + h, x + h * v) - u(t - h, x - h * v)) / (2 * h)
    np.testing.assert_allclose(loss, np.mean((u(t, x) - v - (r - t) * rate) ** 2), rtol=1e-8)


def test_one_step_of_the_exact_average_is_the_flow_map_and_steps_compose(x64):
    field, x0 = fj.two_time(average), jnp.array([0.4, -1.3])
    exact = MEAN + STD * x0
    for n in (1, 2, 5):
        ends = fj.solve(field, x0, fj.uniform_grid(n), step=fj.flow_map)
        np.testing.assert_allclose(ends, exact, rtol=1e-12)
    # As a field it is the velocity.
    fine = fj.solve(field, x0, fj.uniform_grid(2000), step=fj.heun)
    np.testing.assert_allclose(fine, exact, rtol=1e-6)


def test_r_is_t_as_often_as_is_asked_for():
    """At x1 = x0 = 1 the pair stands still: u = x (r - t) has the rate -1, and no loss at r = t."""

    def loss(key):
        model = lambda t, r, x, args: x * (r - t)  # noqa: E731
        return losses.mean_flow(model, jnp.ones(1), key, x0=jnp.ones(1), instant=0.25)

    values = np.asarray(jax.vmap(loss)(jax.random.split(jax.random.key(0), 20_000)))
    assert abs(np.mean(values == 0) - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 20_000)


# --- interpolants and bridges ---------------------------------------------------------------------

FROM = fj.Gaussian(jnp.full((2,), -1.0), 0.8)


def conditional(t, x, gamma, slope_x1, slope_x0, slope_z):
    """E of a x1 + b x0 + c z given x_t = x, all of them independent Gaussians."""
    total = t**2 * STD**2 + (1 - t) ** 2 * 0.64 + gamma**2
    shared = slope_x1 * t * STD**2 + slope_x0 * (1 - t) * 0.64 + slope_z * gamma
    mean = slope_x1 * MEAN - slope_x0
    return mean + shared / total * (x - (t * MEAN - (1 - t)))


def test_an_interpolant_is_least_at_its_velocity_and_noise():
    def loss(wrong, x1, key):
        key, start = jax.random.split(key)

        def model(t, x, args):
            gamma = jnp.sin(jnp.pi * t) ** 2
            rate = jnp.pi * jnp.sin(2 * jnp.pi * t)
            b = conditional(t, x, gamma, 1.0, -1.0, rate)
            eta = conditional(t, x, gamma, 0.0, 0.0, 1.0)
            return b + wrong[0] * x, eta + wrong[1] * x

        return losses.interpolant(model, x1, key, x0=FROM.sample(start))

    assert worst_gradient(loss) < 5


def test_a_bridge_is_least_at_its_drift():
    sigma = 0.7

    def loss(wrong, x1, key):
        def model(t, x, args):
            gamma, slope = sigma * jnp.sqrt(t * (1 - t)), sigma * jnp.sqrt(t / (1 - t))
            return conditional(t, x, gamma, 1.0, -1.0, -slope) + wrong[0] * x + wrong[1]

        return losses.bridge(model, x1, key, x0=FROM.sample, sigma=sigma)

    assert worst_gradient(loss) < 5


def test_a_bridge_without_its_noise_in_the_target_is_caught():
    def loss(wrong, x1, key):
        keys = jax.random.split(key, 3)
        t, x0 = jax.random.uniform(keys[0]), FROM.sample(keys[1])
        xt = t * x1 + (1 - t) * x0 + 0.7 * jnp.sqrt(t * (1 - t)) * jax.random.normal(keys[2], (2,))
        gamma, slope = 0.7 * jnp.sqrt(t * (1 - t)), 0.7 * jnp.sqrt(t / (1 - t))
        drift = conditional(t, xt, gamma, 1.0, -1.0, -slope) + wrong[0] * xt + wrong[1]
        return jnp.mean((drift - (x1 - x0)) ** 2)

    assert worst_gradient(loss) > 5


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda key: losses.mean_flow(lambda t, x, a: x, jnp.ones(2), key), TypeError, "t, r, x"),
        (
            lambda key: losses.mean_flow(average, jnp.ones(2), key, instant=2.0),
            ValueError,
            "instant must lie within",
        ),
        (
            lambda key: losses.mean_flow(lambda t, r, x, a: x[:1], jnp.ones(2), key),
            ValueError,
            "the model's output must have shape",
        ),
        (
            lambda key: losses.interpolant(lambda t, x, a: x, jnp.ones(2), key, x0=jnp.ones(2)),
            TypeError,
            "model must return a pair",
        ),
        (
            lambda key: losses.bridge(
                lambda t, x, a: x, jnp.ones(2), key, x0=jnp.ones(2), sigma=0.0
            ),
            ValueError,
            "sigma must be positive",
        ),
        (
            lambda key: fj.solve(lambda t, x, a: x, 1.0, fj.uniform_grid(2), step=fj.flow_map),
            TypeError,
            "step flow_map needs a field of two times",
        ),
        (lambda key: fj.two_time(lambda t, x, a: x), TypeError, "model must be a function .t, r"),
    ],
)
def test_bad_input_is_refused(unchecked, call, error, words):
    with pytest.raises(error, match=words):
        call(jax.random.key(0))
