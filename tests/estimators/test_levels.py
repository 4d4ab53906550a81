"""Multilevel Monte Carlo against the exact moments of coupled paths and closed forms.

The paths of a level are coupled linear recursions, so E (X_fine - X_coarse)^2 is known exactly.
Random checks allow five standard errors: a false alarm in 1.7 million for each number.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2, norm

import flowjax as fj
from flowjax.estimators import levels, multilevel
from flowjax.estimators.levels import Level, Problem, draw
from flowjax.sampling.chunks import threefry
from tests.estimators.problems import NOISE, OU, THETA, ou_moments, square
from tests.solver.random_checks import FALSE_ALARM, assert_near, key_of

KEY = jax.random.key(0)
MU, SIGMA, NUM, COARSEST = 0.1, 0.2, 8192, 4
GBM = fj.SDE(lambda t, x, args: MU * x, lambda t, x, args: SIGMA * x)
LEVELS = range(1, 5)


def start(key):
    return jnp.ones(())


def measured(sde, f=lambda x: x, step=None, which=LEVELS, n=COARSEST):
    """Levels with NUM samples each."""
    problem = Problem(f, sde, start, None, step, False, NUM, None, None)
    ts = np.linspace(0, 1, n + 1, dtype=np.float32)
    drawn = [Level(threefry(key_of("levels")), level, ts) for level in which]
    for level in drawn:
        draw(problem, level, 1, None)
    return drawn


def coupled(level, a, b):
    """Mean and second moment of X_fine - X_coarse after one step of a(h) X + b(X) dW a time.

    For the geometric Brownian motion the four second moments of (fine, coarse) follow
    X' = X (1 + mu h + sigma dw); for the Ornstein-Uhlenbeck process the difference is Gaussian.
    """
    n = COARSEST * 2**level
    h = 1 / n
    ff = fc = cc = 1.0
    grow, coarse = 1 + a * h, 1 + 2 * a * h
    for _ in range(n // 2):
        if b == "multiplied":
            ff *= (grow**2 + SIGMA**2 * h) ** 2
            # E of (grow + s w1) (grow + s w2) (coarse + s (w1 + w2))
            fc *= grow**2 * coarse + 2 * SIGMA**2 * h * grow
            cc *= coarse**2 + 2 * SIGMA**2 * h
        else:
            ff = grow**4 * ff + NOISE**2 * h * (grow**2 + 1)
            fc = grow**2 * coarse * fc + NOISE**2 * h * (grow + 1)
            cc = coarse**2 * cc + 2 * NOISE**2 * h
    mean = grow**n - coarse ** (n // 2)
    return mean, ff - 2 * fc + cc - mean**2


PROBLEMS = {"multiplicative": (GBM, MU, "multiplied"), "additive": (None, -THETA, "added")}


def check_levels(drawn, a, b):
    """Mean and variance of each level; the kurtosis of the difference is below 10."""
    for level in drawn:
        mean, variance = coupled(level.level, a, b)
        error = np.sqrt(variance / level.num)
        assert_near(level.mean[0], mean, error, f"mean of level {level.level}")
        spread = np.sqrt(9 / level.num)
        assert_near(level.variance[0] / variance, 1, spread, f"variance of level {level.level}")


def rate(drawn):
    """The slope of log2 of the variance over the levels, with the sign turned."""
    variances = [level.variance[0, 0] for level in drawn]
    return -np.polyfit([level.level for level in drawn], np.log2(variances), 1)[0]


# --- the levels -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "order"), [("multiplicative", 1), ("additive", 2)], ids=["multiplicative", "additive"]
)
def test_the_levels_have_the_moments_of_coupled_paths(name, order):
    sde, a, b = PROBLEMS[name]
    drawn = measured(OU if sde is None else sde)
    check_levels(drawn, a, b)
    # Of four log-variances with errors below sqrt(9 / NUM) / ln 2 = 0.048 each, the slope has one
    # of 0.048 / sqrt(5); the exact variances are no pure power of h, which is the rest.
    exact = [np.log2(coupled(level, a, b)[1]) for level in LEVELS]
    slope = -np.polyfit(LEVELS, exact, 1)[0]
    assert abs(slope - order) < 0.15
    assert abs(rate(drawn) - slope) < 5 * 0.048 / np.sqrt(5)


def test_the_variance_of_milstein_falls_by_the_second_order():
    """To five standard errors of the slope; that of Euler-Maruyama is 1."""
    assert abs(rate(measured(GBM, step=fj.milstein)) - 2) < 5 * 0.048 / np.sqrt(5) + 0.15


@pytest.mark.parametrize(
    "wrong",
    [
        lambda dw, k: -fj.coarsen(dw, k),  # a path of its own
        lambda dw, k: dw[::2] * jnp.asarray(np.sqrt(2), dw.dtype),  # half of it its own
        lambda dw, k: fj.coarsen(dw, k) / jnp.asarray(np.sqrt(2), dw.dtype),  # sqrt of the fine h
    ],
    ids=["own", "half", "root"],
)
def test_a_coarse_path_on_other_noise_is_caught(monkeypatch, wrong):
    monkeypatch.setattr(levels, "coarsen", wrong)
    other = fj.SDE(lambda t, x, args: -THETA * x, lambda t, x, args: NOISE)  # compiles anew
    with pytest.raises(AssertionError, match="of level 2"):
        check_levels(measured(other, which=[2]), -THETA, "added")


def test_a_level_in_several_parts_is_the_solve_in_one():
    (level,) = measured(OU, f=square, which=[2], n=64)
    assert level.segment < level.steps // 2 == 128
    ts = np.linspace(0, 1, 257, dtype=np.float32)

    def both(i):
        path_key = jax.random.split(jax.random.fold_in(level.key, i))[1]
        dw = fj.brownian_increments(path_key, ts, jnp.zeros(()))
        fine = fj.solve(OU, 1.0, ts, increments=dw)
        return fine, fj.solve(OU, 1.0, ts[::2], increments=fj.coarsen(dw, 2))

    fine, coarse = (np.asarray(x, float) for x in jax.jit(jax.vmap(both))(jnp.arange(NUM)))
    np.testing.assert_allclose(level.ts, ts, atol=1e-7)
    np.testing.assert_allclose(level.mean[1], np.mean(fine**2), rtol=1e-5)
    np.testing.assert_allclose(level.mean[0], np.mean(fine**2 - coarse**2), atol=1e-6)
    np.testing.assert_allclose(level.variance[0], np.var(fine**2 - coarse**2), rtol=1e-3)


# --- the estimate ---------------------------------------------------------------------------------


def black_scholes(spot, strike, rate, volatility):
    """The price of a call in a year."""
    d = (np.log(spot / strike) + rate + volatility**2 / 2) / volatility
    return spot * norm.cdf(d) - strike * np.exp(-rate) * norm.cdf(d - volatility)


def call(x):
    return np.float32(np.exp(-MU)) * jnp.maximum(x - 1, 0)


def test_the_mean_squared_error_is_within_the_tolerance():
    tolerance, runs = 0.01, 20
    truth = black_scholes(1.0, 1.0, MU, SIGMA)
    ts, squares = fj.uniform_grid(1), []
    for key in jax.random.split(key_of("runs"), runs):
        got = multilevel(call, key, GBM, start, ts, tolerance, batch_size=128)
        assert got.standard_error <= 1.01 * tolerance / np.sqrt(2)
        assert got.bias <= tolerance / np.sqrt(2)
        squares.append((float(got.mean) - truth) ** 2)
    # As of a Gaussian error of that size in each run.
    assert np.mean(squares) / tolerance**2 < chi2.isf(FALSE_ALARM, runs) / runs


def test_the_numbers_of_samples_are_those_of_the_formula():
    tolerance = 0.004
    got = multilevel(call, KEY, GBM, start, fj.uniform_grid(1), tolerance, batch_size=256)
    measured = got.levels
    np.testing.assert_array_equal(measured.cost[:3], [1, 3, 6])
    variance = np.asarray(measured.variance, float)
    work = np.sqrt(variance * measured.cost).sum()
    wanted = np.ceil(2 / tolerance**2 * np.sqrt(variance / measured.cost) * work)
    assert np.all(measured.num >= wanted / 1.02)
    # In whole batches, and variances that were measured on fewer samples asked for some more.
    assert np.all(measured.num <= 1.5 * wanted + 2 * 256)
    np.testing.assert_allclose(got.mean, np.sum(measured.mean), rtol=1e-5)
    np.testing.assert_allclose(
        got.standard_error, np.sqrt(np.sum(variance / measured.num)), rtol=1e-5
    )
    plain = 2 * float(measured.plain_variance[-1]) / tolerance**2 * measured.steps[-1]
    assert np.sum(measured.num * measured.cost) < plain / 2


def test_f_may_return_a_pytree_whose_every_element_is_within_the_tolerance():
    def both(x):
        return {"x": x, "square": jnp.stack([x * x, 2 * x * x])}

    got = multilevel(both, KEY, OU, start, fj.uniform_grid(8), 0.02)
    mean, second = np.exp(-THETA), NOISE**2 * (1 - np.exp(-2 * THETA)) / (2 * THETA)
    second += mean**2
    want = {"x": mean, "square": np.array([second, 2 * second])}
    for name, value in want.items():
        error = 5 * np.asarray(got.standard_error[name]) + 0.02
        assert np.all(np.abs(got.mean[name] - value) < error)
        assert np.all(np.asarray(got.standard_error[name]) <= 0.02 * 1.01 / np.sqrt(2))
    assert got.levels.mean["square"].shape == (len(got.levels.num), 2)


def test_no_more_is_compiled_from_some_level_on():
    """With little noise the bias alone asks for levels, and each of them for one batch."""
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    counts, numbers = [], []
    for tolerance in (0.002, 0.0005):
        sde = fj.SDE(lambda t, x, args: 3 * x, lambda t, x, args: 1e-4)
        compiled.clear()
        got = multilevel(
            lambda x: x / 20, KEY, sde, start, fj.uniform_grid(16), tolerance, batch_size=4
        )
        counts.append(len(compiled))
        numbers.append(len(got.levels.num))
    assert numbers[1] >= numbers[0] + 2 > 6
    assert counts[1] <= counts[0]


def test_a_bias_that_is_left_gives_a_warning():
    with pytest.warns(UserWarning, match="raise max_levels"):
        got = multilevel(square, KEY, OU, start, fj.uniform_grid(1), 0.05, max_levels=2)
    exact = [m**2 + v for m, v in map(ou_moments, (1, 2))]
    np.testing.assert_allclose(got.bias, abs(exact[1] - exact[0]), atol=0.05)


# --- bad input ------------------------------------------------------------------------------------


OF_AREAS = fj.Stepper(
    lambda sde, t0, x, args: None,
    lambda sde, t0, t1, x, args, dw, memory: (x + dw[0], memory),
    levy_area=True,
)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"f": 1.0}, TypeError, r"f must be a function \(x1\)"),
        ({"f": lambda x: x > 0}, TypeError, "what f returns must be a real floating array"),
        ({"sde": fj.linear_field}, TypeError, "sde must be an SDE"),
        ({"tolerance": 0.0}, ValueError, "tolerance must be a finite number above 0"),
        ({"tolerance": float("nan")}, ValueError, "tolerance must be a finite number above 0"),
        ({"tolerance": "1"}, TypeError, "tolerance must be a static number"),
        ({"weak_order": -1.0}, ValueError, "weak_order must be a finite number above 0"),
        ({"max_levels": 1}, ValueError, "max_levels must be at least 2"),
        ({"batch_size": 1}, ValueError, "batch_size must be at least 2"),
        ({"step": fj.reversible_heun}, TypeError, "step must be one without memory"),
        ({"step": OF_AREAS}, TypeError, "step must take the increments alone, got"),
        ({"step": fj.heun}, TypeError, "step heun is for an ODE"),
        ({"ts": [0.0, 0.5, 0.5, 1.0]}, ValueError, "ts must have steps that can be halved"),
        ({"ts": np.float32([1, 1 + 1.2e-7])}, ValueError, "ts must have steps that can be halved"),
        ({"ts": [1.0, 0.0]}, ValueError, "ts"),
        ({"ts": [0.0]}, ValueError, "ts must be a 1-D floating array of at least 2 times"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_input_is_refused(how, error, message):
    what = {"f": square, "sde": OU, "ts": fj.uniform_grid(1), "tolerance": 0.1} | how
    f, sde, ts, tolerance = (what.pop(name) for name in ("f", "sde", "ts", "tolerance"))
    with pytest.raises(error, match=message):
        multilevel(f, KEY, sde, start, ts, tolerance, **what)


def test_times_that_are_traced_are_refused():
    with pytest.raises(ValueError, match="ts must be known"):
        jax.jit(lambda ts: multilevel(square, KEY, OU, start, ts, 0.1).mean)(fj.uniform_grid(2))
