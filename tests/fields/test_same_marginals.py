"""SDEs with a flow's marginals, against linear SDEs in NumPy and their exact discrete moments.

For Gaussian data everything is linear in x, and the closed forms here come from the Gaussian's
score alone, not from a velocity that is converted: with p_t = N(m, v), the drift is
m' + (v'/2 - g^2/2) (x - m) / v.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from tests.samplers.schedules import OneOf
from tests.schedules.schedule_oracles import SCHEDULES, complex_step
from tests.solver.random_checks import assert_near, keys_of

every_schedule = pytest.mark.parametrize("name", SCHEDULES)
MEAN, STD = 0.8, 0.6
START = 0.05  # of the memoryless noise
TIMES = np.array([0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97, 1.0])
AMOUNTS = {"constant": (0.7, 0.0, 0.0), "like sigma": (0.0, 0.9, 0.0), "memoryless": (0, 0, 1.0)}


class Amount(eqx.Module):
    """g(t) = c_0 + c_1 sigma(t) + c_2 memoryless(t): one function for all kinds of noise."""

    weights: jax.Array
    schedule: object

    def __call__(self, t):
        parts = jnp.ones_like(t), self.schedule(t)[1], fj.memoryless(self.schedule, START)(t)
        return sum(w * part for w, part in zip(self.weights.astype(t.dtype), parts, strict=True))


def amount(formulas, weights, t):
    """The same in NumPy; the memoryless g^2 is 2 (s^2 a'/a - s s')."""
    point, held = formulas(t), formulas(np.maximum(t, START))
    memoryless = np.sqrt(2 * np.maximum(held.s2 * held.a_rate / held.a - held.r, 0))
    return weights[0] + weights[1] * point.s + weights[2] * memoryless


def velocity_of(schedule):
    return fj.Gaussian(MEAN, STD).velocity(schedule)


def marginal(formulas, t):
    """The mean and variance of x_t, and their rates."""
    p = formulas(t)
    variance, rate = p.a**2 * STD**2 + p.s2, 2 * (p.a * p.a_rate * STD**2 + p.r)
    return p.a * MEAN, variance, p.a_rate * MEAN, rate


def linear_drift(formulas, g, t):
    """(slope, constant) of the drift in x; NaN where there is noise and no score."""
    m, v, m_rate, v_rate = marginal(formulas, t)
    p = formulas(t)
    determined = g == 0 or p.s2 != 0 or p.a_rate * p.s2 - p.a * p.r != 0
    slope = (v_rate - g**2) / 2 / v if determined else np.nan
    return slope, m_rate - slope * m


def make(schedule, weights, noise_until=None):
    amount = Amount(jnp.asarray(weights), schedule)
    return fj.with_noise(velocity_of(schedule), amount, noise_until=noise_until)


ALL = tuple(schedule for schedule, _ in SCHEDULES.values())


def number_of(name):
    return list(SCHEDULES).index(name)


@jax.jit
def compiled_values(index, times, weights, xs):
    """One program for all schedules: the number of one is an argument."""
    schedule = OneOf(index, ALL)

    def values(weights, t, x):
        sde = make(schedule, weights)
        return sde.drift(t, x, None), sde.diffusion(t, x, None)

    over_xs = jax.vmap(values, (None, None, 0))
    # A scan over the times, so that the switch between schedules stays one.
    return jax.lax.map(lambda t: jax.vmap(over_xs, (0, None, None))(weights, t, xs), times)


def values_of(name, times, xs):
    """Drift, (times, amounts, xs), and diffusion, (times, amounts), of every kind of noise."""
    weights = np.array(list(AMOUNTS.values()))
    drift, diffusion = compiled_values(number_of(name), times, weights, xs)
    return np.asarray(drift), np.asarray(diffusion)[..., 0]


@every_schedule
@pytest.mark.thin(2)
def test_drift_and_diffusion_are_the_closed_forms(name, x64):
    """At both ends too, or NaN where there is noise and no score.

    Polynomial at t = 0 has a score that its velocity alone does not tell.
    """
    _, formulas = SCHEDULES[name]
    xs = np.array([-0.3, 1.1])

    drift, diffusion = values_of(name, TIMES, xs)
    for i, t in enumerate(TIMES):
        for j, weights in enumerate(AMOUNTS.values()):
            g = amount(formulas, weights, t)
            np.testing.assert_allclose(diffusion[i, j], g, rtol=1e-12, atol=1e-14)
            slope, constant = linear_drift(formulas, g, t)
            # The roundings of u and x are carried into the score, through its denominator.
            p = formulas(t)
            denominator = p.a_rate * p.s2 - p.a * p.r
            if p.s2 == denominator == 0 and g > 0:
                assert np.all(np.isnan(drift[i, j]))
                continue
            gain = g**2 / denominator if denominator != 0 else 0
            size = max(1, abs(slope), abs(constant)) * (1 + gain)
            np.testing.assert_allclose(
                drift[i, j] / size, (slope * xs + constant) / size, atol=1e-12
            )


@pytest.mark.parametrize("schedule", [fj.CondOT(), fj.VariancePreserving()])
def test_where_there_is_no_noise_a_score_that_is_not_determined_has_no_part_in_the_gradient(
    schedule, x64
):
    """Of a step that calls the drift at t = 1, traced: as the one of the flow itself."""
    v = fj.Gaussian(jnp.array([0.5]), 0.7).velocity(schedule)
    sde = fj.with_noise(v, 0.5, noise_until=0.9)

    def slopes(field):
        return jax.jit(jax.jacrev(lambda t, x: field(t, x, None), argnums=(0, 1)))(
            1.0, jnp.array([0.3])
        )

    for got, expected in zip(slopes(sde.drift), slopes(v), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12)


# --- moments --------------------------------------------------------------------------------------


def discrete_moments(formulas, weights, noise_from=lambda t: False):
    """m <- (1+ha) m + hb and v <- (1+ha)^2 v + g^2 h, from the marginal at t = 0, at all times."""
    m, v, _, _ = marginal(formulas, np.float64(0))
    moments = [(m, v)]
    for t, h in zip(TIMES[:-1], np.diff(TIMES), strict=True):
        g = 0.0 if noise_from(t) else amount(formulas, weights, t)
        a, b = linear_drift(formulas, g, t)
        m, v = (1 + h * a) * m + h * b, (1 + h * a) ** 2 * v + g**2 * h
        moments.append((m, v))
    return np.array(moments)


SAMPLES = 2**16


def unchanged(sde, schedule):
    return sde


@functools.partial(jax.jit, static_argnums=(0, 1))
def compiled_paths(plant, schedules, index, noise_until, m, v, weights, keys):
    """One program for several schedules."""
    schedule = OneOf(index, schedules)
    x0 = m + jnp.sqrt(v) * jax.random.normal(keys[1], (SAMPLES,))

    def one(weights):
        sde = plant(make_of_state(schedule, weights, noise_until), schedule)
        return fj.trajectory(sde, x0, jnp.asarray(TIMES, jnp.float32), key=keys[0])

    return jax.vmap(one)(weights)


@functools.cache
def simulate(name, plant=unchanged, noise_until=None):
    """Samples at all times, (amounts, times, samples), of every kind of noise."""
    m, v, _, _ = marginal(SCHEDULES[name][1], np.float64(0))
    weights = np.array(list(AMOUNTS.values()), np.float32)
    keys = keys_of(f"same marginals {name}", 2)
    given = noise_until, np.float32(m), np.float32(v), weights, keys
    if plant is unchanged and noise_until is None:
        return compiled_paths(plant, ALL, number_of(name), *given)
    return compiled_paths(plant, (SCHEDULES[name][0],), 0, *given)


def make_of_state(schedule, weights, noise_until):
    """The SDE of many independent samples as one state."""
    velocity = fj.Gaussian(jnp.full(SAMPLES, MEAN), STD).velocity(schedule)
    return fj.with_noise(velocity, Amount(weights, schedule), noise_until=noise_until)


def check_moments(name, paths, noise_from=lambda t: False):
    """Mean and variance after each step of each kind of noise.

    60 numbers: a false alarm in 3.4e-5.
    """
    formulas = SCHEDULES[name][1]
    for weights, path in zip(AMOUNTS.values(), np.asarray(paths, np.float64), strict=True):
        moments = discrete_moments(formulas, weights, noise_from)
        for i in range(1, TIMES.size):
            m, v = moments[i]
            what = f"{name}, g = {weights}, t = {TIMES[i]}"
            assert_near(path[i].mean(), m, np.sqrt(v / SAMPLES), f"{what}: mean")
            assert_near(
                np.mean((path[i] - m) ** 2), v, v * np.sqrt(2 / SAMPLES), f"{what}: variance"
            )


@every_schedule
def test_the_moments_are_those_of_the_linear_sde(name):
    check_moments(name, simulate(name))


def test_the_moments_with_noise_free_last_steps():
    until = TIMES[-4]
    paths = simulate("CondOT", noise_until=float(until))
    check_moments("CondOT", paths, noise_from=lambda t: t >= until)
    with pytest.raises(AssertionError, match="standard errors away"):
        check_moments("CondOT", paths)


def too_much_noise(sde, schedule):
    """The factor of two of w = g^2 / 2."""
    return fj.SDE(sde.drift, lambda t, x, args: np.sqrt(2) * sde.diffusion(t, x, args))


def flipped_score(sde, schedule):
    """u - g^2/2 score."""
    return fj.SDE(
        lambda t, x, args: 2 * sde.drift.velocity(t, x, args) - sde.drift(t, x, args),
        sde.diffusion,
    )


def noise_without_score(sde, schedule):
    return fj.SDE(sde.drift.velocity, sde.diffusion)


@pytest.mark.parametrize("plant", [too_much_noise, flipped_score, noise_without_score])
def test_the_moment_check_catches_planted_bugs(plant):
    with pytest.raises(AssertionError, match="standard errors away"):
        check_moments("Trigonometric", simulate("Trigonometric", plant))


@every_schedule
def test_in_the_limit_of_small_steps_the_marginals_are_those_of_the_flow(name, x64):
    """Without any chance: the drift's own coefficients, in the recursion of the moments.

    The error of Euler-Maruyama's moments is of order 1, so halving the step halves it, and
    2 fine - coarse is better by an order.
    """
    _, formulas = SCHEDULES[name]
    end, most = 0.9, 2000
    times = START + (end - START) / most * np.arange(most)
    drift_at_all, g_at_all = values_of(name, times, np.array([0.0, 1.0]))

    def moments(n):
        h, stride = (end - START) / n, most // n
        drift, g = drift_at_all[::stride], g_at_all[::stride]
        a, b = drift[..., 1] - drift[..., 0], drift[..., 0]
        m, v, _, _ = marginal(formulas, START)
        for i in range(n):
            m, v = (1 + h * a[i]) * m + h * b[i], (1 + h * a[i]) ** 2 * v + g[i] ** 2 * h
        return np.array([m, v])

    expected = np.array(marginal(formulas, np.float64(end))[:2])[:, None]
    coarse, fine = moments(most // 2), moments(most)
    errors = [np.abs(it / expected - 1) for it in (coarse, fine, 2 * fine - coarse)]
    assert np.all(errors[1] < 0.05)
    assert np.all((errors[1] < 0.6 * errors[0]) | (errors[1] < 1e-5))
    assert np.all((errors[2] < 0.1 * errors[1]) | (errors[2] < 1e-5))


# --- the pieces -----------------------------------------------------------------------------------


def test_memoryless_noise_for_cond_ot_is_its_formula(x64):
    t = np.linspace(0.01, 1, 12)
    g = jax.jit(jax.vmap(fj.memoryless(fj.CondOT())))(t)
    np.testing.assert_allclose(g, np.sqrt(2 * (1 - t) / t), rtol=1e-12)


@jax.jit
def memoryless_and_slope(index, times):
    return jax.lax.map(jax.value_and_grad(fj.memoryless(OneOf(index, ALL))), times)


@every_schedule
def test_memoryless_noise_is_finite_with_its_gradient_at_both_ends(name, x64):
    times = np.array([0.0, 0.005, 0.01, 0.5, 1.0])
    g, slope = memoryless_and_slope(number_of(name), times)
    assert np.all(np.isfinite(g))
    assert np.all(np.isfinite(slope))
    assert g[0] == g[2]


def test_the_memoryless_drift_is_twice_the_velocity_less_the_growth_of_the_signal(x64):
    schedule, formulas = SCHEDULES["Trigonometric"]
    sde = fj.with_noise(velocity_of(schedule), fj.memoryless(schedule))
    both = jax.jit(lambda t, x: (velocity_of(schedule)(t, x, None), sde.drift(t, x, None)))
    for t in (0.1, 0.5, 0.9):
        point, x = formulas(t), 0.4
        u, drift = both(t, x)
        expected = 2 * u - point.a_rate / point.a * x
        np.testing.assert_allclose(drift, expected, rtol=1e-12)


def test_the_memoryless_end_is_independent_of_the_start():
    """Cov(X_0, X_1) of the discrete scheme, against constant noise. 2 numbers: 1e-6."""
    paths = np.asarray(simulate("CondOT"), np.float64)
    for path, weights in zip(paths, AMOUNTS.values(), strict=True):
        start, end = path[0], path[-1]
        ratio = 1.0
        for t, h in zip(TIMES[:-1], np.diff(TIMES), strict=True):
            g = amount(SCHEDULES["CondOT"][1], weights, t)
            ratio *= 1 + h * linear_drift(SCHEDULES["CondOT"][1], g, t)[0]
        m, v = discrete_moments(SCHEDULES["CondOT"][1], weights)[-1]
        error = np.sqrt((v + ratio**2) / SAMPLES)
        assert_near(np.mean(start * (end - m)), ratio, error, f"g = {weights}")
        if weights == AMOUNTS["memoryless"]:
            assert abs(ratio) < 1e-12  # the first step from t = START forgets everything


def test_from_noise_until_on_it_is_the_flow():
    ts = fj.uniform_grid(7)
    velocity = velocity_of(fj.CondOT())
    sde = fj.with_noise(velocity, 0.7, noise_until=ts[-2])
    for t in (ts[-2], ts[-1]):
        assert sde.diffusion(t, 0.3, None) == 0
        assert sde.drift(t, 0.3, None) == velocity(t, 0.3, None)
    assert sde.diffusion(ts[-3], 0.3, None) == np.float32(0.7)
    # The last step of a solve is Euler's, whatever dtype the grid and the time were given in.
    for until in (ts[-2], float(ts[-2]), np.asarray(ts, np.float64)[-2]):
        sde = fj.with_noise(velocity, 0.7, noise_until=until)
        path = fj.trajectory(sde, 0.3, ts, key=jax.random.key(0))
        expected = path[-2] + (ts[-1] - ts[-2]) * velocity(ts[-2], path[-2], None)
        np.testing.assert_allclose(path[-1], expected, rtol=1e-6)


def test_constant_noise_blows_up_near_a_point_unless_it_ends_before():
    """What the docstring warns of: steps are unstable where sigma is below g sqrt(h) / 2."""
    velocity, n = fj.Gaussian(jnp.zeros(1000), 1e-3).velocity(fj.CondOT()), 100
    ts, x0 = fj.uniform_grid(n), jax.random.normal(jax.random.key(1), (1000,))

    def spread(g, until):
        sde = fj.with_noise(velocity, g, noise_until=until)
        return float(jnp.std(fj.solve(sde, x0, ts, key=jax.random.key(0))))

    assert spread(1.0, 1.0) > 100 * spread(1.0, 1 - 1 / np.sqrt(n)) > 0
    assert spread(1.0, 1 - 1 / np.sqrt(n)) < 2e-3
    assert spread(lambda t: 1 - t, float(ts[-2])) < 2e-3


def test_a_number_and_a_function_of_time_say_the_same(x64):
    velocity = velocity_of(fj.VariancePreserving())

    def values(t, g):
        sde = fj.with_noise(velocity, g)
        return sde.drift(t, 0.3, None), sde.diffusion(t, 0.3, None)

    of_all_three = jax.jit(lambda t: [values(t, g) for g in (2.0, lambda t: 2.0, 2)])

    for t in (0.0, 0.4, 1.0):
        number, *others = of_all_three(t)
        assert number[1] == 2
        assert others == [number, number]


def test_gradients_reach_the_velocity_the_schedule_and_the_noise(x64):
    """Through a solve, against a complex step through the recursion in NumPy."""
    ts = np.array([0.0, 0.2, 0.5, 0.8, 1.0])
    dw = np.random.default_rng().normal(size=4) * np.sqrt(np.diff(ts))

    def end(mean, beta, g):
        schedule = fj.VariancePreserving(0.1, beta)
        velocity = fj.Gaussian(mean, STD).velocity(schedule)
        sde = fj.with_noise(velocity, g, noise_until=0.8)
        return fj.solve(sde, 0.3, ts, increments=dw)

    def by_hand(mean, beta, g):
        x = 0.3
        for t, h, w in zip(ts[:-1], np.diff(ts), dw, strict=True):
            elapsed = 1 - t
            a = np.exp(-(elapsed**2) * (beta - 0.1) / 4 - elapsed * 0.1 / 2)
            rate = a * (0.1 + elapsed * (beta - 0.1)) / 2
            v, v_rate = a**2 * STD**2 + 1 - a**2, 2 * a * rate * (STD**2 - 1)
            noise = 0 if t >= 0.8 else g
            drift = rate * mean + (v_rate - noise**2) / 2 / v * (x - a * mean)
            x = x + h * drift + noise * w
        return x

    given = (0.8, 12.0, 0.6)
    value, slopes = jax.jit(jax.value_and_grad(end, argnums=(0, 1, 2)))(*given)
    np.testing.assert_allclose(value, by_hand(*given), rtol=1e-12)
    for i, slope in enumerate(slopes):
        moved = lambda z, i=i: by_hand(*given[:i], z, *given[i + 1 :])  # noqa: E731
        np.testing.assert_allclose(slope, complex_step(moved, given[i]), rtol=1e-10)


def test_new_values_compile_nothing():
    traces, ts = [], fj.uniform_grid(3)

    class Counting(eqx.Module):
        weight: jax.Array

        def __call__(self, t, x, args):
            traces.append(None)
            return self.weight * x

    def end(weight, g, until):
        v = fj.velocity(Counting(jnp.asarray(weight)), fj.CondOT())
        sde = fj.with_noise(v, g, noise_until=until)
        return fj.solve(sde, 0.3, ts, key=jax.random.key(0))

    first, count = end(1.0, 0.5, 0.6), len(traces)
    assert end(0.5, 0.7, 0.4) != first
    assert len(traces) == count > 0
    # With noise to the end, where there is no score: not even the reason for it tells of g.
    end(1.0, 0.5, None)
    count = len(traces)
    end(1.0, 0.7, None)
    assert len(traces) == count


def test_a_velocity_and_its_sde_may_be_arguments_of_jit(x64):
    """They are pytrees of their arrays: one trace for all values, and gradients like them."""
    traces, ts, dw = [], fj.uniform_grid(3), 0.1 * np.ones(3)

    def end(v, sde):
        traces.append(None)
        guided = fj.guidance.classifier_free(v, 2.0, null=0.0)
        return fj.solve(guided, 0.3, ts, 0.5) + fj.solve(sde, 0.3, ts, increments=dw)

    def end_of(mean, g):
        v = fj.Gaussian(mean, STD).velocity(fj.VariancePreserving())
        return v, fj.with_noise(v, g)

    compiled = jax.jit(jax.value_and_grad(end, argnums=(0, 1)))
    for mean, g in ((0.8, 0.5), (-0.3, 0.7)):
        value, (of_v, of_sde) = compiled(*end_of(mean, g))
        expected, slopes = jax.value_and_grad(lambda *of: end(*end_of(*of)), (0, 1))(mean, g)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        in_mean = of_v.model.target.mean + of_sde.drift.velocity.model.target.mean
        in_g = of_sde.drift.noise.amount.value + of_sde.diffusion.amount.value
        np.testing.assert_allclose((in_mean, in_g), slopes, rtol=1e-12)
    assert len(traces) == 3  # one of them all, and one of each by itself


def test_each_leaf_keeps_its_dtype():
    x = {"half": jnp.ones(3, jnp.bfloat16), "single": jnp.ones(2)}
    v = fj.velocity(lambda t, x, args: jax.tree.map(jnp.negative, x), fj.CondOT())
    sde = fj.with_noise(v, lambda t: 1 - t)
    drift = sde.drift(np.float32(0.5), x, None)
    assert {k: leaf.dtype for k, leaf in drift.items()} == {k: x[k].dtype for k in x}
    # u + g^2/2 (a u - x) / s
    np.testing.assert_allclose(drift["single"], np.full(2, -1 + 0.125 * (-1.5) / 0.5), rtol=1e-6)
    np.testing.assert_allclose(drift["half"].astype(np.float32), -1.375, rtol=2**-8)
    ends = fj.solve(sde, x, fj.uniform_grid(3), key=jax.random.key(0))
    assert ends["half"].dtype == jnp.bfloat16


def network(t, x, args):
    return -x


STRAIGHT = fj.CondOT()
V = fj.velocity(network, STRAIGHT)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: fj.with_noise(1.0, 1.0), TypeError, "with_noise needs a fj.Velocity.*got 1.0"),
        (lambda: fj.with_noise(network, 1.0), TypeError, "needs a fj.Velocity.*network: make one"),
        (lambda: fj.with_noise(fj.with_noise(V, 0.5), 0.5), TypeError, "fj.Velocity.*got an SDE"),
        (
            lambda: fj.with_noise(fj.Gaussian(0.0, 1.0).marginal_score(STRAIGHT), 1.0),
            TypeError,
            "needs a fj.Velocity.*got a field of the score",
        ),
        (
            lambda: fj.with_noise(fj.velocity(network, STRAIGHT, coupled=True), 1.0),
            ValueError,
            "with_noise needs the score, which a velocity of coupled pairs does not determine",
        ),
        (lambda: fj.with_noise(V, "g"), TypeError, "diffusion.*'g'"),
        (lambda: fj.with_noise(V, None), TypeError, "diffusion.*None"),
        (lambda: fj.with_noise(V, fj.EDM), TypeError, "diffusion.*EDM"),
        (lambda: fj.with_noise(V, -1.0), ValueError, "diffusion must be finite.*at least 0.*-1.0"),
        (lambda: fj.with_noise(V, np.nan), ValueError, "diffusion must be finite.*nan"),
        (lambda: fj.with_noise(V, np.inf), ValueError, "diffusion must be finite.*inf"),
        (lambda: fj.with_noise(V, np.ones(2)), ValueError, r"diffusion.*\(2,\)"),
        (
            lambda: fj.with_noise(V, lambda t, x, args: 1.0),
            TypeError,
            r"diffusion must be.*t -> scalar, or a number, got one of \(t, x, args\)",
        ),
        (
            lambda: fj.with_noise(V, lambda t: jnp.ones(2)),
            ValueError,
            r"diffusion\(t\) must be one number, got an array of shape \(2,\)",
        ),
        (lambda: fj.with_noise(V, STRAIGHT), TypeError, r"diffusion\(t\) must be a real number"),
        (lambda: fj.with_noise(V, 1.0, noise_until="end"), TypeError, "noise_until.*'end'"),
        (lambda: fj.with_noise(V, 1.0, noise_until=np.nan), ValueError, "noise_until.*nan"),
        (lambda: fj.with_noise(V, 1.0, noise_until=-2), ValueError, "noise_until.*0 to 1.*-2"),
        (lambda: fj.with_noise(V, 1.0, noise_until=49), ValueError, "noise_until.*0 to 1.*49"),
        (
            lambda: fj.with_noise(V, 1.0, noise_until=fj.uniform_grid(3)),
            ValueError,
            r"noise_until must be one number.*\(4,\)",
        ),
        (
            lambda: fj.with_noise(fj.velocity(lambda t, x, args: x[:1], STRAIGHT), 1.0).drift(
                0.5, jnp.ones(2), None
            ),
            ValueError,
            r"the model's output must have shape \(2,\)",
        ),
        (lambda: fj.memoryless(fj.CondOT), TypeError, "schedule.*CondOT"),
        (lambda: fj.memoryless(V), TypeError, "schedule must be.*Velocity"),
        (lambda: fj.memoryless(STRAIGHT, "0"), TypeError, "start.*'0'"),
        (lambda: fj.memoryless(STRAIGHT, 1.0), ValueError, "start must be from 0.*1.0"),
        (lambda: fj.memoryless(STRAIGHT, -0.1), ValueError, "start.*-0.1"),
        (lambda: fj.memoryless(STRAIGHT, np.nan), ValueError, "start.*nan"),
        (lambda: fj.memoryless(STRAIGHT, 0.0), ValueError, "start must be above 0 under CondOT"),
    ],
)
def test_bad_input_is_refused_by_name(call, error, words, unchecked):
    with pytest.raises(error, match=words):
        call()


def test_memoryless_noise_from_a_traced_start_of_zero_is_infinite_and_no_number_comes_of_it():
    """Where alpha is zero; a schedule that keeps some signal is free to start at t = 0."""
    assert jax.jit(lambda start: fj.memoryless(STRAIGHT, start)(0.0))(0.0) == np.inf
    assert np.isfinite(fj.memoryless(fj.VariancePreserving(), 0.0)(0.0))

    def end(start):
        sde = fj.with_noise(velocity_of(STRAIGHT), fj.memoryless(STRAIGHT, start))
        return fj.solve(sde, 0.3, fj.uniform_grid(3), key=jax.random.key(0))

    assert not np.isfinite(jax.jit(end)(0.0))
    assert np.isfinite(jax.jit(end)(0.01))


def test_a_function_of_time_may_have_other_arguments_of_its_own():
    for diffusion in (lambda t, power=2: t**power, jnp.cos, jax.jit(lambda t: 1 - t)):
        sde = fj.with_noise(V, diffusion)
        np.testing.assert_allclose(sde.diffusion(0.3, 0.0, None), diffusion(0.3), rtol=1e-6)
