"""Each step against an independent NumPy loop of its paper's algorithm, and against each other."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from flowjax.samplers._scheduled import interval
from tests.samplers import oracles

TARGETS = {"Gaussian": oracles.GAUSSIAN, "mixture": oracles.MIXTURE}
# The papers' variables are finite where alpha is positive, so the grids begin there.
SCHEDULES = {
    "CondOT": (fj.CondOT(), np.array([0.05, 0.1, 0.3, 0.35, 0.6, 0.9, 1.0])),
    "circle": (fj.Trigonometric(), np.array([0.02, 0.3, 0.4, 0.7, 0.8, 0.95, 1.0])),
    "EDM": (fj.EDM(20.0), np.array([0.0, 0.3, 0.8, 0.9, 0.95, 0.99, 1.0])),
}
X0 = np.array([-1.5, -0.3, 0.4, 1.2])
XI = np.random.default_rng(0).standard_normal((6, X0.size))

STEPS = {
    "ddim": (fj.ddim, oracles.ddim),
    "dpmpp_2m": (fj.dpmpp_2m, oracles.dpmpp_2m),
    "unipc": (fj.unipc, oracles.unipc),
    "edm_heun": (fj.edm_heun(), oracles.edm_heun),
    "ancestral": (fj.ancestral, oracles.ancestral),
    "stochastic_ddim": (fj.stochastic_ddim(0.6), partial(oracles.ancestral, eta=0.6)),
    "dpmpp_2m_sde": (fj.dpmpp_2m_sde, oracles.dpmpp_2m_sde),
}
NOISY = {"ancestral", "stochastic_ddim", "dpmpp_2m_sde"}

every_schedule = pytest.mark.parametrize("name", ["CondOT", "circle"])


def start(schedule, ts):
    alpha, sigma = oracles.levels(schedule, ts)
    return alpha, sigma, sigma[0] * X0


def solved(step, field, x0, ts, xi=None):
    """The states at the end, for each of x0, with the noise xi if it is given."""
    if xi is None:
        return np.asarray(jax.vmap(lambda x: fj.solve(field, x, ts, step=step))(x0))
    dw = xi * np.sqrt(np.diff(ts))[:, None]
    solve = jax.vmap(lambda x, dw: fj.solve(field, x, ts, step=step, increments=dw), (0, 1))
    return np.asarray(solve(x0, dw))


def assert_same(got, expected, tolerance=1e-10):
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("method", STEPS)
@every_schedule
def test_a_step_is_its_papers_algorithm(method, name, x64):
    schedule, ts = SCHEDULES[name]
    step, loop = STEPS[method]
    xi = XI if method in NOISY else None
    alpha, sigma, x0 = start(schedule, ts)
    for target in TARGETS.values():
        got = solved(step, oracles.field_of(target, schedule), x0, ts, xi)
        assert_same(got, loop(oracles.denoiser(target), alpha, sigma, x0, xi))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("CondOT", {"churn": 0.3, "s_noise": 1.1}),
        ("circle", {"churn": 5.0, "s_tmin": 0.1, "s_tmax": 4.0}),
        ("EDM", {"churn": 0.2, "s_noise": 0.9}),
    ],
)
def test_edm_heun_with_churn_is_algorithm_2(name, settings, x64):
    schedule, ts = SCHEDULES[name]
    alpha, sigma, x0 = start(schedule, ts)
    a_first, s_first = (float(level) for level in schedule(0.0))
    most = np.inf if a_first == 0 else s_first / a_first
    for target in TARGETS.values():
        step, field = fj.edm_heun(**settings), oracles.field_of(target, schedule)
        expected = oracles.edm_heun(
            oracles.denoiser(target), alpha, sigma, x0, XI, most=most, **settings
        )
        assert_same(solved(step, field, x0, ts, XI), expected)
        unchurned = oracles.edm_heun(oracles.denoiser(target), alpha, sigma, x0)
        assert np.max(np.abs(expected - unchurned)) > 0.01


@every_schedule
def test_exponential_euler_is_an_ornstein_uhlenbeck_step(name, x64):
    schedule, ts = SCHEDULES[name]
    alpha, sigma, x0 = start(schedule, ts)
    size = float(sigma[0])
    g2 = (size * (1.2 - ts[:-1])) ** 2
    rates = [np.asarray(rate) for rate in schedule.rates(ts[:-1])]
    a, s = alpha[:-1], sigma[:-1]
    kappa = g2 / (2 * (s**2 * rates[0] / a - s * rates[1]))
    for target in TARGETS.values():
        field = oracles.field_of(target, schedule)
        sde = fj.with_noise(field, lambda t: size * (1.2 - t))
        got = solved(fj.exponential_euler, sde, x0, ts, XI)
        expected = oracles.exponential_euler(oracles.denoiser(target), alpha, sigma, x0, XI, kappa)
        assert_same(got, expected)


def test_exponential_euler_of_the_memoryless_sde_is_ancestral_sampling(x64):
    schedule, ts = SCHEDULES["CondOT"]
    _, _, x0 = start(schedule, ts)
    field = oracles.field_of(oracles.MIXTURE, schedule)
    # Inside the schedule; at t = 0 this g is infinite.
    sde = fj.with_noise(field, lambda t: jnp.sqrt(2 * (1 - t) / t))
    got = solved(fj.exponential_euler, sde, x0, ts, XI)
    assert_same(got, solved(fj.ancestral, field, x0, ts, XI), 1e-12)


def test_exponential_euler_without_noise_is_ddim(x64):
    schedule, ts = SCHEDULES["CondOT"]
    _, _, x0 = start(schedule, ts)
    field = oracles.field_of(oracles.MIXTURE, schedule)
    sde = fj.with_noise(field, 0.0)
    got = solved(fj.exponential_euler, sde, x0, ts, XI)
    assert_same(got, solved(fj.ddim, field, x0, ts), 1e-12)


def test_stochastic_ddim_on_the_circle_is_the_papers(x64):
    schedule, ts = SCHEDULES["circle"]
    alpha, sigma, x0 = start(schedule, ts)
    for target in TARGETS.values():
        got = solved(fj.stochastic_ddim(0.3), oracles.field_of(target, schedule), x0, ts, XI)
        expected = oracles.stochastic_ddim(oracles.denoiser(target), alpha, sigma, x0, XI, eta=0.3)
        assert_same(got, expected)


@pytest.mark.parametrize(("eta", "same"), [(0.0, fj.ddim), (1.0, fj.ancestral)])
def test_stochastic_ddim_goes_from_ddim_to_ancestral_sampling(eta, same):
    """To the last bits in float32, also from alpha = 0 and to sigma = 0."""
    ts, schedule = np.array([0.0, 0.001, 0.3, 0.9, 0.9999, 1.0], np.float32), fj.CondOT()
    field = oracles.field_of(oracles.MIXTURE, schedule)
    x0, xi = X0.astype(np.float32), XI[:5].astype(np.float32)
    got = solved(fj.stochastic_ddim(eta), field, x0, ts, xi)
    expected = solved(same, field, x0, ts, xi if eta else None)
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-6)


def test_ddim_of_the_straight_path_is_euler(x64):
    schedule, ts = SCHEDULES["CondOT"]
    field = oracles.field_of(oracles.MIXTURE, schedule)
    assert_same(solved(fj.ddim, field, X0, ts), solved(fj.euler, field, X0, ts), 1e-13)


def test_ddim_is_exact_where_data_and_noise_stay_the_same(x64):
    """A single datum: D is it, and E the noise that the path began with."""
    for schedule, ts in SCHEDULES.values():
        alpha, sigma, _ = start(schedule, ts)
        field = fj.Gaussian(3.0, 0.0).velocity(schedule)
        got = solved(fj.ddim, field, alpha[0] * 3.0 + sigma[0] * X0, ts[[0, 2, 5]])
        assert_same(got, alpha[5] * 3.0 + sigma[5] * X0, 1e-12)


def test_one_step_of_ddim_from_noise_to_data_is_the_expected_data(x64):
    x0 = jnp.array([[0.3, -1.0], [2.0, 0.1]])

    v = fj.velocity(lambda t, x, args: jnp.tanh(3 * x), fj.CondOT(), "data")
    got = fj.solve(v, x0, np.array([0.0, 1.0]), step=fj.ddim)
    assert_same(got, np.tanh(3 * x0), 1e-15)


@pytest.mark.parametrize("method", STEPS)
@pytest.mark.thin(2)
def test_a_step_takes_a_pytree_leaf_by_leaf_in_the_precision_of_each(method):
    """A leaf of 16 bits is computed in 32, and rounded between the steps."""
    schedule, ts = SCHEDULES["CondOT"]
    ts, step = ts.astype(np.float32), STEPS[method][0]
    x0 = X0.astype(np.float32)
    dw = (XI * np.sqrt(np.diff(ts))[:, None]).astype(np.float32) if method in NOISY else None

    field = fj.velocity(lambda t, x, args: jax.tree.map(lambda y: (1 - y) / 2, x), schedule)

    def split(x):
        return {"wide": x[..., 0], "narrow": (jnp.asarray(x[..., 1:], jnp.bfloat16),)}

    increments = None if dw is None else split(dw)
    got = fj.solve(field, split(x0), ts, step=step, increments=increments)
    expected = fj.solve(field, x0, ts, step=step, increments=dw)
    assert got["narrow"][0].dtype == jnp.bfloat16
    np.testing.assert_allclose(got["wide"], expected[0], rtol=1e-5)
    # Each of 6 steps rounds a few numbers of size 3 to 8 bits, one of which is D / alpha.
    np.testing.assert_allclose(got["narrow"][0].astype(np.float32), expected[1:], atol=0.2)


@pytest.mark.parametrize("method", ["dpmpp_2m", "unipc", "dpmpp_2m_sde"])
@pytest.mark.parametrize("n", [10, 20])
@pytest.mark.thin(2)
def test_the_last_step_of_a_uniform_grid_that_stops_short_of_sigma_0_is_of_order_1(method, n, x64):
    """It is more than three times as long in lambda as the one before; and the end is nearer."""
    (step, loop), schedule, ts = STEPS[method], fj.CondOT(), np.linspace(0.02, 0.995, n + 1)
    alpha, sigma, x0 = start(schedule, ts)
    no_noise = np.zeros((n, X0.size))
    for target in TARGETS.values():
        data = oracles.denoiser(target)
        got = solved(
            step, oracles.field_of(target, schedule), x0, ts, no_noise if method in NOISY else None
        )
        assert_same(got, loop(data, alpha, sigma, x0, no_noise, short=(n - 1,)))
        if method != "dpmpp_2m_sde":
            exact = oracles.exact_map(target, schedule, ts[0], ts[-1])(x0)
            of_order_2 = loop(data, alpha, sigma, x0)
            assert np.max(np.abs(got - exact)) < np.max(np.abs(of_order_2 - exact))


@pytest.mark.parametrize("method", ["dpmpp_2m", "unipc"])
def test_ten_steps_to_where_sigma_is_nearly_0_end_near_the_exact_map(method):
    """0.697 of 1, and by a last step of order 2 0.79."""
    v = fj.Gaussian(0.0, 0.7).velocity(fj.CondOT())
    end = fj.solve(v, 1.0, fj.uniform_grid(10, 0.0, 0.995), step=STEPS[method][0])
    assert abs(end - np.hypot(0.995 * 0.7, 0.005)) < 0.012


def test_an_interval_holds_the_papers_coefficients(x64):
    for schedule, ts in SCHEDULES.values():
        a, s = oracles.levels(schedule, ts)
        for i in range(len(ts) - 2):
            got = interval(schedule, jnp.array(ts[i]), jnp.array(ts[i + 1]), jnp.zeros(()))
            h = np.log(a[i + 1] / s[i + 1]) - np.log(a[i] / s[i])
            assert_same(got.h, h, 1e-12)
            assert_same(got.inverse_h, 1 / h, 1e-12)
            assert_same(got.decay, np.exp(-h), 1e-12)
            assert_same(got.gain, -a[i + 1] * np.expm1(-h), 1e-12)


@pytest.mark.parametrize(
    ("ends", "decay", "gain", "h"),
    [
        ((0.0, 0.5), 0.0, 0.5, 0.0),
        ((0.5, 1.0), 0.0, 1.0, 0.0),
        ((0.0, 1.0), 0.0, 1.0, 0.0),
        ((0.5, 0.5), 1.0, 0.0, 0.0),
        ((0.5, 0.0), 1.0, -1.0, 0.0),  # backward, to pure noise: the gain is a_1 - a_0 s_1 / s_0
        ((0.0, 0.0), 1.0, 0.0, 0.0),
        ((1.0, 1.0), 1.0, 1.0, 0.0),
    ],
)
def test_what_is_infinite_in_an_interval_at_the_ends_of_a_schedule_is_not_there(
    ends, decay, gain, h
):
    got = interval(fj.CondOT(), *map(jnp.float32, ends), jnp.zeros(()))
    assert (got.decay, got.gain, got.h, got.inverse_h) == (decay, gain, h, 0.0)


def test_the_gradient_with_respect_to_the_times_is_that_of_finite_differences(x64):
    schedule, ts = fj.CondOT(), jnp.array([0.0, 0.1, 0.35, 0.5, 0.8, 1.0])
    field = oracles.field_of(oracles.MIXTURE, schedule)
    step = fj.dpmpp_2m
    derive = jax.jit(jax.value_and_grad(lambda ts: fj.solve(field, jnp.array(0.4), ts, step=step)))
    _, gradient = derive(ts)
    assert np.all(np.isfinite(gradient))
    for i in range(1, 5):
        shift = 1e-6 * np.eye(len(ts))[i]
        expected = (derive(ts + shift)[0] - derive(ts - shift)[0]) / 2e-6
        np.testing.assert_allclose(gradient[i], expected, rtol=1e-7)
