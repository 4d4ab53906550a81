"""Expectations against the moments of the scheme, and against the samples that `sample` draws.

Random checks allow five standard errors: a false alarm in 1.7 million for each number.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from flowjax.estimators import expectation, path_expectation
from tests.estimators.problems import (
    ARGS,
    GBM,
    OU,
    as_numpy,
    at_one,
    at_zero,
    gbm_moments,
    given,
    ou_moments,
    square,
)
from tests.solver.random_checks import assert_near, key_of

TS = fj.uniform_grid(8)
KEY = jax.random.key(0)
BROWNIAN = fj.SDE(lambda t, x, args: 0 * x, lambda t, x, args: 1.0)


def several(x):
    return {"square": x * x, "sum": jnp.sum(x)}


def normal_pair(key):
    return jax.random.normal(key, (2,))


# --- the same samples -----------------------------------------------------------------------------


def test_the_samples_are_those_of_sample_bit_for_bit():
    """Each is found among them once: so often does f say that it is that one."""
    samples = fj.sample(KEY, OU, normal_pair, TS, 30)

    def which(x):
        return jnp.all(x[None] == samples, axis=1).astype(float)

    found = expectation(which, KEY, OU, normal_pair, TS, 30, batch_size=7).mean
    np.testing.assert_allclose(30 * found, np.ones(30), rtol=1e-5)


@pytest.mark.parametrize("how", [{}, {"batch_size": 9, "progress": True}], ids=str)
def test_mean_and_error_are_those_of_the_samples_for_any_size_of_chunks(how):
    samples = as_numpy(fj.sample(KEY, OU, normal_pair, TS, 50))
    got = expectation(several, KEY, OU, normal_pair, TS, 50, **how)
    values = {"square": samples**2, "sum": samples.sum(axis=1)}
    for name, value in values.items():
        np.testing.assert_allclose(got.mean[name], value.mean(axis=0), rtol=1e-5, atol=1e-7)
        error = value.std(axis=0, ddof=1) / np.sqrt(50)
        np.testing.assert_allclose(got.standard_error[name], error, rtol=1e-5)
    assert got.num == 50


def test_paths_and_folds_are_those_of_their_own_views():
    paths = as_numpy(fj.sample_paths(KEY, OU, normal_pair, TS, 20))
    got = path_expectation(square, KEY, OU, normal_pair, TS, 20, every=4, batch_size=6)
    np.testing.assert_allclose(got.mean, np.mean(paths[:, ::4] ** 2, axis=0), rtol=1e-5)

    both = lambda x1, value: (x1, value)  # noqa: E731
    observer = (lambda x0: 0 * x0, lambda value, t0, t1, x0, x1, dw: value + x0 * dw)
    x1, value = expectation(both, KEY, OU, normal_pair, TS, 20, observer=observer).mean
    np.testing.assert_allclose(x1, paths[:, -1].mean(axis=0), rtol=1e-5)
    path_key = lambda i: jax.random.split(jax.random.fold_in(KEY, i))[1]  # noqa: E731
    increments = lambda i: fj.brownian_increments(path_key(i), TS, jnp.zeros(2))  # noqa: E731
    dw = as_numpy(jax.vmap(increments)(jnp.arange(20)))
    want = np.sum(paths[:, :-1] * dw, axis=1).mean(axis=0)
    np.testing.assert_allclose(value, want, rtol=1e-4, atol=1e-6)


def test_each_sample_has_its_own_args():
    rates = jnp.linspace(0.5, 1.5, 10)
    how = {"args": rates, "args_axes": 0}
    want = fj.sample(KEY, fj.linear_field, at_one, TS, 10, **how).mean(axis=0)
    got = expectation(lambda x: x, KEY, fj.linear_field, at_one, TS, 10, batch_size=3, **how)
    np.testing.assert_allclose(got.mean, want, rtol=1e-6)


def test_the_memory_of_a_gradient_does_not_grow_with_the_number_of_samples():
    def bytes_of(num):
        def mean(rate):
            sde = fj.ornstein_uhlenbeck(rate, 0.5)
            return jnp.sum(expectation(square, KEY, sde, at_one, TS, num, batch_size=500).mean)

        return jax.jit(jax.grad(mean)).lower(1.0).compile().memory_analysis().temp_size_in_bytes

    # But for the moments at the start of each chunk; the states of one chunk alone take 4 kB.
    assert bytes_of(50_000) - bytes_of(1000) < 100 * 98


def test_it_runs_under_jit_and_vmap():
    keys = jax.random.split(KEY, 3)
    mapped = jax.jit(jax.vmap(lambda key: expectation(square, key, OU, at_one, TS, 20)))(keys)
    alone = [expectation(square, key, OU, at_one, TS, 20) for key in keys]
    np.testing.assert_allclose(mapped.mean, np.stack([one.mean for one in alone]), rtol=1e-5)
    np.testing.assert_array_equal(mapped.num, [20] * 3)


def test_states_of_half_precision_are_averaged_in_float32():
    def ones(key):
        return jnp.ones((), jnp.bfloat16)

    got = expectation(lambda x: x, KEY, OU, ones, TS, 2000, batch_size=500)
    assert got.mean.dtype == got.standard_error.dtype == jnp.float32
    # To the rounding of single samples, 2^-9, and five standard errors.
    assert abs(got.mean - ou_moments(8)[0]) < 2**-9 + 5 * got.standard_error


# --- against the moments of the scheme ------------------------------------------------------------


def checked(got, mean, variance, kurtosis, what):
    """Mean and standard error, against the truth; the kurtosis is that of f, or a bound on it."""
    groups = got.num
    assert_near(got.mean, mean, np.sqrt(variance / groups), what)
    spread = np.sqrt((kurtosis - 1) / groups)
    assert_near(as_numpy(got.standard_error) ** 2 * groups / variance, 1, spread, what)


def test_moments_of_euler_maruyama_with_their_errors():
    key, num = key_of("moments"), 20_000
    mean, variance = ou_moments(8)
    got = expectation(lambda x: x, key, OU, at_one, TS, num, batch_size=5000)
    checked(got, mean, variance, 3, "mean")
    second = expectation(square, key, OU, at_one, TS, num)
    # Of the square of N(m, v): variance 2 v^2 + 4 m^2 v, and kurtosis below that of chi^2_1.
    checked(second, mean**2 + variance, 2 * variance**2 + 4 * mean**2 * variance, 15, "square")
    first, square_of_gbm = gbm_moments(8)
    got = expectation(lambda x: x, key, GBM, given, TS, num, args=ARGS)
    assert_near(got.mean, first, np.sqrt((square_of_gbm - first**2) / num), "GBM")
    for wrong in (got._replace(mean=got.mean * num / (num - 1000)), second):
        with pytest.raises(AssertionError):
            assert_near(wrong.mean, first, got.standard_error, "a sum over too few")


def test_an_error_that_lacks_the_root_of_num_is_caught():
    got = expectation(lambda x: x, KEY, OU, at_one, TS, 100)
    with pytest.raises(AssertionError):
        checked(got._replace(standard_error=got.standard_error * 10), *ou_moments(8), 3, "error")


# --- antithetic pairs -----------------------------------------------------------------------------


def test_antithetic_pairs_are_exact_for_linear_functions_under_additive_noise():
    got = expectation(lambda x: 2 * x - 1, KEY, OU, at_one, TS, 20, antithetic=True)
    np.testing.assert_allclose(got.mean, 2 * ou_moments(8)[0] - 1, rtol=1e-5)
    assert np.all(got.standard_error < 1e-7)
    plain = expectation(lambda x: 2 * x - 1, KEY, OU, at_one, TS, 20)
    assert np.all(plain.standard_error > 0.05)


@pytest.mark.parametrize("step", [fj.milstein, fj.reversible_heun])
def test_antithetic_pairs_are_exact_under_any_step(step):
    got = expectation(lambda x: x, KEY, OU, at_one, TS, 8, antithetic=True, step=step)
    quiet = fj.SDE(OU.drift, lambda t, x, args: 0.0)
    want = fj.solve(quiet, jnp.ones(2), TS, key=KEY, step=step)
    np.testing.assert_allclose(got.mean, want, rtol=1e-5)


def test_antithetic_pairs_under_a_sampler_that_reads_the_schedule():
    v = fj.Gaussian(jnp.array([3.0, -1.0]), 0.5).velocity(fj.CondOT())
    how = {"step": fj.ancestral, "antithetic": lambda x: -x}
    got = expectation(lambda x: x, KEY, v, normal_pair, fj.uniform_grid(16), 8, **how)
    # The field is affine, and E X_0 = 0: the mean is that of a path from 0 without noise.
    assert np.all(got.standard_error < 1e-5)
    sde = fj.with_noise(v, lambda t: 1 - t)
    how = {"step": fj.exponential_euler, "antithetic": True}
    got = expectation(lambda x: x, KEY, sde, at_one, fj.uniform_grid(16), 8, **how)
    assert np.all(got.standard_error < 1e-5)


def test_antithetic_pairs_gain_what_the_closed_form_says():
    """f = x + x^2 of N(0, 1): the mean of a pair is x^2, of variance 2; an even f gains nothing."""
    num = 40_000
    got = expectation(
        lambda x: (x + x * x, x * x), key_of("pairs"), BROWNIAN, at_zero, TS, num, antithetic=True
    )
    spread = np.sqrt(14 / (num / 2))  # the kurtosis of chi^2_1 is 15
    for mean, error in zip(got.mean, got.standard_error, strict=True):
        assert_near(mean, 1, np.sqrt(2 / (num / 2)), "mean")
        assert_near(error**2 * (num / 2) / 2, 1, spread, "variance of a pair")
    with pytest.raises(AssertionError):  # as if all were independent
        assert_near(got.standard_error[1] ** 2 * num / 2, 1, spread, "variance")


def test_the_first_of_a_pair_is_the_sample_and_folds_see_the_increments_of_their_path():
    samples = fj.sample(KEY, BROWNIAN, at_zero, TS, 10)
    observer = (lambda x0: 0 * x0, lambda value, t0, t1, x0, x1, dw: value + dw)
    got = expectation(
        lambda x1, w: (jnp.abs(x1), x1 * w), KEY, BROWNIAN, at_zero, TS, 20,
        antithetic=True, observer=observer,
    )  # fmt: skip
    np.testing.assert_allclose(got.mean[0], np.mean(np.abs(samples)), rtol=1e-6)
    np.testing.assert_allclose(got.mean[1], np.mean(as_numpy(samples) ** 2), rtol=1e-5)


def test_a_mirrored_start_is_exact_for_linear_functions_of_a_flow():
    def around_two(key):
        return 2 + jax.random.normal(key, (2,))

    got = expectation(
        lambda x: x, KEY, fj.linear_field, around_two, TS, 20, args=1.0,
        antithetic=lambda x: 4 - x,
    )  # fmt: skip
    np.testing.assert_allclose(got.mean, np.full(2, 2 * (1 - 1 / 8) ** 8), rtol=1e-6)
    assert np.all(got.standard_error < 1e-6)


# --- control variates -----------------------------------------------------------------------------


def test_a_control_takes_out_the_part_of_the_variance_that_it_explains():
    """f = x + x^2 / 2 and g = x of N(0, 1): 1 - rho^2 = (1/2) / (3/2)."""
    num, key = 40_000, key_of("control")
    f = lambda x: x + x * x / 2  # noqa: E731
    how = {"num": num, "control": (lambda x: x, 0.0)}
    got = expectation(f, key, BROWNIAN, at_zero, TS, **how)
    plain = expectation(f, key, BROWNIAN, at_zero, TS, num)
    # What is left is x^2 / 2, of variance 1/2 and kurtosis 15.
    assert_near(got.mean, 0.5, np.sqrt(0.5 / num), "mean")
    assert_near(got.standard_error**2 * num / 0.5, 1, np.sqrt(14 / num), "variance")
    assert_near(plain.standard_error**2 * num / 1.5, 1, np.sqrt(14 / num), "plain variance")
    with pytest.raises(AssertionError):
        assert_near(plain.mean + got.mean - 0.5, 0.5, 1e-5, "the mean of another estimate")


def test_controls_are_fitted_jointly_and_exact_where_they_explain_all():
    control = (lambda x: {"x": x, "square": x * x}, {"x": 0.0, "square": 1.0})
    f = lambda x: jnp.stack([3 * x - 2 * x * x, 1 + x])  # noqa: E731
    for how in ({}, {"batch_size": 30}, {"antithetic": True}):
        control_of = control
        if how.get("antithetic"):  # x of a pair is 0 in the mean
            control_of = (lambda x: x * x, 1.0)
        got = expectation(f, KEY, BROWNIAN, at_zero, TS, 100, control=control_of, **how)
        np.testing.assert_allclose(got.mean, [-2.0, 1.0], atol=1e-4)
        # What is left is known to the rounding of f's variance, 17 and 1.
        rounding = np.sqrt(np.finfo(np.float32).eps * np.array([17, 1])) * 0.1
        assert np.all(got.standard_error < 3 * rounding)


def test_a_wrong_mean_of_the_control_is_caught():
    how = {"control": (lambda x: x, 0.1)}
    got = expectation(lambda x: x + x * x, KEY, BROWNIAN, at_zero, TS, 10_000, **how)
    with pytest.raises(AssertionError):
        assert_near(got.mean, 1, got.standard_error, "mean")


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"f": 3.0}, TypeError, r"f must be a function \(x1\)"),
        ({"f": lambda x, y: x}, TypeError, r"f must be a function \(x1\)"),
        ({"f": lambda x: x > 0}, TypeError, "what f returns must be a real floating array"),
        ({"f": lambda x: None}, ValueError, "what f returns must hold at least one array"),
        ({"num": 1}, ValueError, "num must be at least 2 for a standard error"),
        ({"num": 2.5}, TypeError, "num must be a static positive int"),
        ({"num": 9, "antithetic": True}, ValueError, "num must be even for antithetic pairs"),
        ({"num": 2, "antithetic": True}, ValueError, "num must be at least 4"),
        ({"antithetic": "x0"}, TypeError, "antithetic must be a function"),
        ({"antithetic": lambda x: x[:1]}, ValueError, r"antithetic\(x0\) must have shape"),
        ({"field": fj.linear_field, "args": 1.0, "antithetic": True}, ValueError, "no noise is"),
        ({"control": 1.0}, TypeError, "control must be a pair"),
        ({"control": (1.0, 1.0)}, TypeError, "g of control must be a function"),
        ({"control": (lambda x: x, 0.0)}, ValueError, r"what g returns must have shape \(\)"),
        ({"control": (lambda x: x, [0.0, 0.0])}, ValueError, "what g returns must have mu's"),
        ({"control": (lambda x: x, jnp.zeros(2)), "num": 3}, ValueError, "beside 2 fitted"),
        ({"observer": abs}, TypeError, "observer must be a pair"),
        ({"observer": (0.0, abs)}, TypeError, "update of observer must be a function"),
        ({"init": 3.0}, TypeError, "init must be a function"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_input_is_refused(how, error, message):
    what = {"f": square, "field": OU, "init": at_one, "num": 10} | how
    f, field, init, num = (what.pop(name) for name in ("f", "field", "init", "num"))
    with pytest.raises(error, match=message):
        expectation(f, KEY, field, init, TS, num, **what)
