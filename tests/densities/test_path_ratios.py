"""Girsanov weights and divergences of paths: exact for the discrete scheme, at any step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from tests.densities.test_paths import MATRIX, TS, path_like
from tests.solver.random_checks import assert_near, key_of

COARSE = np.array([0.0, 0.5, 0.8, 1.5], np.float32)
NUM = 20_000


def to_p(t, x, args):
    return jnp.sin(t) - args * x


def to_q(t, x, args):
    return 0.3 - 0.4 * x


def same(g, **noise):
    return fj.SDE(to_p, g, **noise), fj.SDE(to_q, g, **noise)


def of_state(t, x, args):
    return 0.7 + 0.2 * jnp.cos(x)


def of_matrix(t, x, args):
    return (1 + x[1] ** 2) * jnp.asarray(MATRIX, x.dtype)


def velocities():
    def data_p(t, x, args):
        return jnp.tanh(x + args)

    def data_q(t, x, args):
        return jnp.tanh(x)

    return (
        fj.velocity(data_p, fj.CondOT(), predicts="data"),
        fj.velocity(data_q, fj.CondOT(), predicts="data"),
    )


PAIRS = {
    "elementwise": (same(of_state), fj.euler_maruyama),
    "matrix": (same(of_matrix, noise=(3,)), fj.euler_maruyama),
    "ancestral": (velocities(), fj.ancestral),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_ratio_is_the_difference_of_two_densities(name, x64):
    (p, q), step = PAIRS[name]
    how = {"args": 0.7, "step": step}
    along = fj.observers.several(
        ratio=fj.densities.log_ratio(p, q, **how),
        p=fj.densities.log_prob(p, **how),
        q=fj.densities.log_prob(q, **how),
    )
    x0 = jnp.array([0.3, -0.8])
    _, value = fj.fold(q, x0, TS, **how, key=key_of(name), **along._asdict())
    assert float(value["ratio"]) == pytest.approx(float(value["p"] - value["q"]), abs=1e-12)


def test_a_stored_path_has_the_ratio_of_the_fold(x64):
    p, q = PAIRS["elementwise"][0]
    how, x0 = {"args": 0.7, "key": key_of("stored")}, jnp.array([0.3, -0.8])
    path = fj.trajectory(q, x0, TS, **how)
    _, value = fj.fold(q, x0, TS, **how, **fj.densities.log_ratio(p, q, 0.7)._asdict())
    got = fj.path_log_ratio(path, p, q, TS, 0.7)
    assert float(got) == pytest.approx(float(value), abs=1e-12)


# --- the mean weight ------------------------------------------------------------------------------


def no_square(p, q, x):
    """A planted fault: without the half of the square."""
    return fj.densities.log_ratio(p, q, 0.7).update(jnp.float32(0), *x) + half_square(p, q, *x[:3])


def half_square(p, q, t0, t1, x):
    u = (p.drift(t0, x, 0.7) - q.drift(t0, x, 0.7)) / p.diffusion(t0, x, 0.7)
    return (t1 - t0) / 2 * jnp.sum(u**2)


def mean_for_sum(p, q, x):
    """A planted fault: the mean over the elements."""
    return fj.densities.log_ratio(p, q, 0.7).update(jnp.float32(0), *x) / 2


def right(p, q, x):
    return fj.densities.log_ratio(p, q, 0.7).update(jnp.float32(0), *x)


def mean_weight(name, weigh):
    """Weights of three coarse steps of Q, and of X_3^2 under P beside it."""
    p, q = PAIRS[name][0]

    def weight(key):
        def update(value, *step):
            return value + weigh(p, q, step)

        _, value = fj.fold(
            q, jnp.array([0.3, -0.8]), COARSE, 0.7, key=key, init=jnp.float32(0), update=update
        )
        return jnp.exp(value)

    keys = jax.random.split(key_of(f"weights {name}"), NUM)
    weights = np.asarray(jax.jit(jax.vmap(weight))(keys), float)
    assert_near(weights.mean(), 1, weights.std() / np.sqrt(NUM), f"mean weight, {name}")


@pytest.mark.parametrize("name", ["elementwise", "matrix"])
def test_the_mean_weight_is_one_after_three_coarse_steps(name):
    mean_weight(name, right)


@pytest.mark.parametrize("planted", [no_square, mean_for_sum])
def test_a_planted_fault_is_caught_by_the_mean_weight(planted):
    with pytest.raises(AssertionError, match="mean weight"):
        mean_weight("elementwise", planted)


# --- noise that leaves out directions -------------------------------------------------------------


def kicked(force):
    """Underdamped: noise for the speed alone."""

    def drift(t, x, args):
        return {"x": x["v"], "v": force(x["x"]) - x["v"]}

    def diffusion(t, x, args):
        return {"x": None, "v": 0.6 * jnp.eye(2)}

    return fj.SDE(drift, diffusion, noise=(2,))


def test_noise_for_the_speed_alone_has_a_ratio_and_no_density(x64):
    p, q = kicked(lambda x: -x), kicked(lambda x: jnp.sin(x))
    start = {"x": jnp.array([0.5, 1.0]), "v": jnp.array([0.0, -1.0])}
    path = fj.trajectory(q, start, TS, key=key_of("kicked"))
    x, v, h = np.asarray(path["x"])[:-1], np.asarray(path["v"]), np.diff(TS)[:, None]
    u = (-x - np.sin(x)) / 0.6
    dw = (np.diff(v, axis=0) - h * (np.sin(x) - v[:-1])) / 0.6
    expected = (u * dw - h / 2 * u**2).sum()
    got = fj.path_log_ratio(path, p, q, TS)
    assert float(got) == pytest.approx(expected, rel=1e-10)
    with pytest.raises(
        ValueError, match=r"sde must have noise in every direction.*2 motions for 4"
    ):
        fj.path_log_prob(path, p, TS)


@pytest.mark.parametrize("agree", [True, False])
def test_where_there_is_no_noise_the_means_must_agree(agree, x64):
    def g(t, x, args):
        return jnp.array([0.6, 0.0])

    def other(t, x, args):
        return jnp.array([0.2, 0.4 if agree else 0.3])

    p = fj.SDE(other, g)
    q = fj.SDE(lambda t, x, args: jnp.array([0.5, 0.4]), g)
    path = fj.trajectory(q, jnp.zeros(2), TS, key=key_of("half"))
    dw = (np.diff(path[:, 0]) - 0.5 * np.diff(TS)) / 0.6
    expected = (-0.5 * dw - np.diff(TS) / 8).sum() if agree else np.nan
    got = fj.path_log_ratio(path, p, q, TS)
    np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_traced_noise_that_differs_has_no_ratio():
    path = path_like((2,))

    def ratio(sigma):
        p, q = fj.ornstein_uhlenbeck(1.0, sigma), fj.ornstein_uhlenbeck(0.5, 0.7)
        return fj.path_log_ratio(path, p, q, TS.astype(np.float32))

    values = jax.jit(jax.vmap(ratio))(jnp.array([0.7, 0.71]))
    np.testing.assert_array_equal(np.isnan(values), [False, True])


# --- the divergence -------------------------------------------------------------------------------

RATES, SIGMA = (1.7, 0.4), 0.6


def divergence_of_ornstein_uhlenbeck(start):
    """KL(Q || P) of the chains, by the exact recursion of E X_k^2 under Q; and of one element."""
    (of_p, of_q), value, second = RATES, 0.0, start**2
    for h in np.diff(COARSE.astype(float)):
        value += h / 2 * (of_p - of_q) ** 2 * second.sum() / SIGMA**2
        second = (1 - of_q * h) ** 2 * second + SIGMA**2 * h
    return value


def divergences(planted=1.0):
    p, q = (fj.ornstein_uhlenbeck(theta, SIGMA) for theta in RATES)
    start, along = np.array([1.0, -0.5]), fj.densities.kl(q, p)

    def value(key):
        x0 = jnp.asarray(start, jnp.float32)
        return planted * fj.fold(q, x0, COARSE, key=key, **along._asdict())[1]

    keys = jax.random.split(key_of("divergence"), NUM)
    values = np.asarray(jax.jit(jax.vmap(value))(keys), float)
    expected = divergence_of_ornstein_uhlenbeck(start)
    assert_near(values.mean(), expected, values.std() / np.sqrt(NUM), "divergence")


def test_the_divergence_of_two_ornstein_uhlenbeck_chains_is_exact_at_coarse_steps():
    divergences()


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_a_missing_half_or_a_mean_over_two_elements_is_caught_by_the_divergence(factor):
    with pytest.raises(AssertionError, match="divergence"):
        divergences(factor)


def test_the_divergence_of_a_step_by_a_matrix_is_that_of_two_normal_laws(x64):
    """Half the square of the difference of the means, by the inverse of the covariance."""
    (p, q), _ = PAIRS["matrix"]
    x, (t0, t1) = np.array([0.3, -0.8]), TS[:2]
    h, g = t1 - t0, np.asarray(p.diffusion(t0, x, 0.7))
    between = h * np.asarray(p.drift(t0, x, 0.7) - q.drift(t0, x, 0.7))
    expected = between @ np.linalg.solve(h * g @ g.T, between) / 2
    update = fj.densities.kl(q, p, 0.7).update
    got = update(jnp.zeros(()), jnp.asarray(t0), jnp.asarray(t1), jnp.asarray(x), None, None)
    assert float(got) == pytest.approx(expected, rel=1e-12)
