"""The grids against their formulas in NumPy float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from tests.schedules.schedule_oracles import OwnTrigonometric


def time_of(name, level):
    """The time at which sigma / alpha is `level`."""
    if name == "CondOT":
        return 1 / (1 + level)
    if name == "EDM":
        return 1 - level / 80
    # VP(0.1, 20): -2 log alpha = log(1 + level^2) is the integral of beta over 1 - t.
    noise, slope = np.log1p(level**2), 20 - 0.1
    return 1 - (np.sqrt(0.1**2 + 2 * slope * noise) - 0.1) / slope


SCHEDULES = {"CondOT": fj.CondOT(), "EDM": fj.EDM(80.0), "VP": fj.VariancePreserving()}
every_schedule = pytest.mark.parametrize("name", SCHEDULES)


@every_schedule
@pytest.mark.parametrize(("n", "rho"), [(1, 7.0), (2, 7.0), (18, 7.0), (18, 3.0)])
@pytest.mark.thin(5)
def test_the_karras_grid_has_the_noise_levels_of_its_formula(name, n, rho, dtype):
    got = fj.karras_grid(n, SCHEDULES[name], sigma_min=0.01, sigma_max=60.0, rho=rho)
    share = np.arange(n) / max(n - 1, 1)
    sigma = (60 ** (1 / rho) + share * (0.01 ** (1 / rho) - 60 ** (1 / rho))) ** rho
    expected = np.append(time_of(name, sigma), 1.0)
    assert got.shape == (n + 1,)
    assert got.dtype == dtype
    assert got[-1] == 1
    assert np.all(np.diff(got) > 0)
    np.testing.assert_allclose(got, expected, atol=8 * jnp.finfo(dtype).eps)


def test_the_karras_grid_of_edm_spans_its_schedule():
    ts = fj.karras_grid(18, fj.EDM(80.0))
    assert ts[0] == 0
    np.testing.assert_allclose(80 * (1 - ts[-2]), 0.002, atol=80 * 2**-24)


def test_a_level_above_the_schedule_is_its_start():
    schedule = fj.EDM(40.0)
    ts = fj.karras_grid(18, schedule, sigma_max=45.0)
    assert ts[0] == 0
    assert np.all(np.diff(ts) > 0)


@pytest.mark.parametrize("n", [1, 2, 18])
def test_a_schedule_that_ends_at_sigma_min_is_stepped_to_there(n, dtype):
    """VarianceExploding never reaches 0: the n + 1 levels are evenly spaced up to its last."""
    got = fj.karras_grid(n, fj.VarianceExploding(0.002, 80.0))
    sigma = (80 ** (1 / 7) + np.arange(n + 1) / n * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    expected = np.log(sigma / 80) / np.log(0.002 / 80)
    np.testing.assert_allclose(got, expected, atol=8 * jnp.finfo(dtype).eps)
    assert got[-1] == 1
    assert np.all(np.diff(got) > 0)


def test_a_schedule_that_ends_at_log_snr_max_is_stepped_to_there(dtype):
    ends = -2 * np.log(10.0), 2 * np.log(10.0)
    got = fj.log_snr_grid(4, fj.VarianceExploding(0.1, 10.0), *ends)
    np.testing.assert_allclose(got, np.arange(5) / 4, atol=8 * jnp.finfo(dtype).eps)


@pytest.mark.nightly
def test_a_grid_of_a_schedule_of_ones_own_is_that_of_the_built_in_one(dtype):
    for grid in (fj.karras_grid, fj.log_snr_grid):
        got, expected = (grid(10, s) for s in (OwnTrigonometric(), fj.Trigonometric()))
        np.testing.assert_allclose(got, expected, atol=8 * jnp.finfo(dtype).eps)


def test_what_a_refusal_of_levels_advises_works():
    """They come from the schedule's own levels, which it names."""
    for schedule, first, last, named in (
        (fj.VarianceExploding(0.1, 90.0), 90.0, 0.1, "90 and 0.1"),
        (fj.EDM(10.0), 10.0, 0.002, "10 and 0"),
    ):
        words = f"keep sigma_max and sigma_min within those of the schedule, {named}"
        with pytest.raises(ValueError, match=words):
            fj.karras_grid(9, schedule)
        ts = fj.karras_grid(9, schedule, sigma_min=last, sigma_max=first)
        np.testing.assert_allclose(ts[0], 0, atol=1e-6)
        assert np.all(np.diff(ts) > 0)


def test_a_rho_far_from_the_usual_ones_is_the_limit_of_geometric_levels(x64):
    got = fj.karras_grid(6, fj.CondOT(), rho=1e8)
    sigma = np.geomspace(80.0, 0.002, 6)
    np.testing.assert_allclose(got, np.append(1 / (1 + sigma), 1), atol=1e-6)


@every_schedule
@pytest.mark.parametrize("n", [1, 2, 18])
def test_the_log_snr_grid_is_evenly_spaced_in_it(name, n, dtype):
    schedule = SCHEDULES[name]
    got = fj.log_snr_grid(n, schedule, -6.0, 7.0)
    log_snr = np.linspace(-6.0, 7.0, n) if n > 1 else np.array([-6.0])
    expected = np.append(time_of(name, np.exp(-log_snr / 2)), 1.0)
    assert got.shape == (n + 1,)
    assert got.dtype == dtype
    assert got[-1] == 1
    np.testing.assert_allclose(got, expected, atol=8 * jnp.finfo(dtype).eps)


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("n", [1, 2, 18])
def test_the_shifted_grid_is_the_papers_in_the_papers_time(n, shift, dtype):
    got = fj.shifted_grid(n, shift)
    paper = np.arange(n, -1, -1) / n  # 1 is noise
    expected = 1 - shift * paper / (1 + (shift - 1) * paper)
    assert got.dtype == dtype
    assert (got[0], got[-1]) == (0, 1)
    assert np.all(np.diff(got) > 0)
    np.testing.assert_allclose(got, expected, atol=4 * jnp.finfo(dtype).eps)


def test_a_shift_multiplies_the_noise_level_of_every_time(x64):
    t, shifted = fj.uniform_grid(10)[1:-1], fj.shifted_grid(10, 3.0)[1:-1]
    np.testing.assert_allclose((1 - shifted) / shifted, 3 * (1 - t) / t, rtol=1e-14)


def test_a_grid_is_concrete_under_jit_and_traced_with_its_schedule():
    @jax.jit
    def inside(sigma_max):
        grids = fj.karras_grid(5, fj.CondOT()), fj.log_snr_grid(5, fj.CondOT())
        assert all(np.asarray(grid).shape == (6,) for grid in grids)
        return fj.karras_grid(5, fj.EDM(sigma_max))

    np.testing.assert_allclose(inside(80.0), fj.karras_grid(5, fj.EDM(80.0)), atol=1e-6)


def test_a_grid_is_differentiable_in_its_schedule(x64):
    def middle(sigma_max):
        return fj.karras_grid(5, fj.EDM(sigma_max))[2]

    level = 80 * (1 - middle(80.0))  # t = 1 - level / sigma_max
    np.testing.assert_allclose(jax.grad(middle)(80.0), level / 80**2, rtol=1e-12)


BAD = {
    "n = 0": (ValueError, "n must be", lambda: fj.karras_grid(0, fj.CondOT())),
    "n = 2.5": (TypeError, "n must be", lambda: fj.log_snr_grid(2.5, fj.CondOT())),
    "n = True": (TypeError, "n must be", lambda: fj.shifted_grid(True, 3.0)),
    "a traced n": (
        TypeError,
        "n must be",
        lambda: jax.jit(lambda n: fj.karras_grid(n, fj.CondOT()))(3),
    ),
    "a class": (TypeError, "schedule must be", lambda: fj.karras_grid(3, fj.CondOT)),
    "no schedule": (TypeError, "schedule must be", lambda: fj.log_snr_grid(3, None)),
    "sigmas in the wrong order": (
        ValueError,
        "sigma_min < sigma_max",
        lambda: fj.karras_grid(3, fj.CondOT(), 80.0, 0.002),
    ),
    "sigma_min = 0": (ValueError, "positive", lambda: fj.karras_grid(3, fj.CondOT(), 0.0)),
    "rho = 0": (ValueError, "rho must be", lambda: fj.karras_grid(3, fj.CondOT(), rho=0.0)),
    "a level in words": (
        TypeError,
        "sigma_min must be a static number.*'low'",
        lambda: fj.karras_grid(3, fj.CondOT(), "low"),
    ),
    "a traced level": (
        TypeError,
        "sigma_max must be a static number, got a traced value",
        lambda: jax.jit(lambda level: fj.karras_grid(3, fj.CondOT(), 0.1, level))(80.0),
    ),
    "a traced end": (
        TypeError,
        "log_snr_max must be a static number, got a traced value",
        lambda: jax.jit(lambda end: fj.log_snr_grid(3, fj.CondOT(), -9.0, end))(9.0),
    ),
    "a traced shift": (
        TypeError,
        "shift must be a static number, got a traced value",
        lambda: jax.jit(lambda shift: fj.shifted_grid(3, shift))(3.0),
    ),
    "a traced parameter of beta_grid": (
        TypeError,
        "alpha must be a static number, got a traced value",
        lambda: jax.jit(lambda alpha: fj.beta_grid(3, alpha))(0.7),
    ),
    "an array for beta": (
        TypeError,
        "beta must be a static number",
        lambda: fj.beta_grid(3, 0.7, np.array([0.6])),
    ),
    "an infinite end": (
        ValueError,
        "must be finite",
        lambda: fj.log_snr_grid(3, fj.CondOT(), -np.inf),
    ),
    "shift = 0": (ValueError, "shift must be", lambda: fj.shifted_grid(3, 0.0)),
    "a shift beyond the dtype": (ValueError, "must increase", lambda: fj.shifted_grid(9, 1e-9)),
    "a rho of which the levels are infinite in floating numbers": (
        ValueError,
        "the times must increase",
        lambda: fj.karras_grid(9, fj.CondOT(), rho=1e-3),
    ),
    "a schedule in words": (
        TypeError,
        "schedule must be a schedule.*'CondOT'",
        lambda: fj.karras_grid(9, "CondOT"),
    ),
    "the arguments in the other order": (
        TypeError,
        r"n must be a static positive int, got CondOT\(\)",
        lambda: fj.log_snr_grid(fj.CondOT(), 9),
    ),
    "NaN for a level": (
        ValueError,
        "sigma_min and sigma_max must be positive and finite.*nan",
        lambda: fj.karras_grid(9, fj.CondOT(), np.nan),
    ),
    "NaN for a logarithm": (
        ValueError,
        "log_snr_max must be finite.*nan",
        lambda: fj.log_snr_grid(9, fj.CondOT(), log_snr_max=np.nan),
    ),
    "NaN for a shift": (ValueError, "shift must be.*nan", lambda: fj.shifted_grid(9, np.nan)),
    "NaN for beta": (ValueError, "alpha and beta must be.*nan", lambda: fj.beta_grid(9, 1, np.nan)),
    "a beta of which all times are the same": (
        ValueError,
        "must increase.*alpha and beta nearer to 1",
        lambda: fj.beta_grid(9, 0.01),
    ),
    "levels below the schedule": (
        ValueError,
        "must increase, but step 2 starts and ends at t = 1",
        lambda: fj.karras_grid(3, fj.VarianceExploding(0.1, 90.0)),
    ),
    "levels above the schedule": (
        ValueError,
        "must increase, but step 0 starts and ends at t = 0",
        lambda: fj.karras_grid(9, fj.EDM(10.0)),
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_to_a_grid_is_refused(case, unchecked):
    error, message, call = BAD[case]
    with pytest.raises(error, match=message):
        call()


# --- grids through times --------------------------------------------------------------------------


@pytest.mark.parametrize("max_step", [1e-3, 0.07, 0.25, 10])
def test_a_grid_goes_through_all_times_by_short_steps(max_step):
    times = np.concatenate([[-0.5], np.sort(np.random.default_rng(4).uniform(0, 2, 9)), [2.5]])
    ts, indices = fj.grid_through(times, max_step)
    np.testing.assert_array_equal(ts[indices], times.astype(np.float32))
    steps = np.diff(np.asarray(ts, np.float64))
    assert steps.min() > 0
    assert steps.max() <= max_step * (1 + 1e-4)
    # No more steps than it takes.
    assert len(steps) == np.sum(np.ceil(np.diff(times) / max_step))


def test_times_may_be_of_any_real_dtype():
    for dtype in (np.int8, jnp.bfloat16, np.float16):
        ts, indices = fj.grid_through(np.array([-100, 0, 100], dtype), 50.0)
        assert ts.tolist() == [-100, -50, 0, 50, 100]
        assert indices.tolist() == [0, 2, 4]


def test_a_gap_of_just_one_step_is_one_step():
    ts, indices = fj.grid_through(np.arange(4) / 10, 0.1)
    assert indices.tolist() == [0, 1, 2, 3]
    assert len(ts) == 4


@pytest.mark.parametrize(
    ("times", "max_step", "error", "words"),
    [
        ([0.0, 1.0], 0.0, ValueError, "max_step must be positive"),
        ([0.0, 1.0], -1.0, ValueError, "max_step must be positive"),
        ([0.0, 1.0], np.nan, ValueError, "max_step must be positive"),
        ([0.0, 1.0], "a", TypeError, "max_step must be a static number"),
        ([0.0, 1.0, 0.5], 0.1, ValueError, "times must be at least 2, in one row that increases"),
        ([0.0, 0.0], 0.1, ValueError, "times must be at least 2"),
        ([0.0], 0.1, ValueError, "times must be at least 2"),
        ([0.0, np.inf], 0.1, ValueError, "times must be finite"),
        ("ab", 0.1, TypeError, "times must be numbers"),
        (None, 0.1, TypeError, "times must be numbers"),
        ([[0.0], [1.0, 2.0]], 0.1, TypeError, "times must be numbers"),
        (np.array([3, 1], np.uint8), 0.1, ValueError, "times must be at least 2, in one row"),
        ([0.1, 0.1 + 1e-9, 1], 0.1, ValueError, "times further apart than float32 tells them"),
    ],
)
def test_times_that_a_grid_cannot_go_through_are_refused(unchecked, times, max_step, error, words):
    with pytest.raises(error, match=words):
        fj.grid_through(times, max_step)


def test_traced_times_have_no_grid(unchecked):
    with pytest.raises(TypeError, match="times must be static"):
        jax.jit(lambda times: fj.grid_through(times, 0.1)[0])(jnp.array([0.0, 1.0]))
