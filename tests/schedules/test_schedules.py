"""Schedules, against formulas in NumPy and against their own derivatives."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from tests.samplers.schedules import OneOf
from tests.schedules.schedule_oracles import (
    ROOTS,
    SCHEDULES,
    complex_step,
)

ALL = tuple(schedule for schedule, _ in SCHEDULES.values())
every_schedule = pytest.mark.parametrize("name", SCHEDULES)
# The oracle's own rounding, 1 - t^n near t = 1, stays below the tolerance at these.
TIMES = np.array([0.0, 1e-3, 0.1, 0.3, 0.5, 0.51, 0.8, 0.99, 1.0])
INSIDE = TIMES[1:-1]


def functions(schedule, t):
    """All that a schedule says at time t."""
    alpha, sigma = schedule(t)
    alpha_rate, sigma_rate = schedule.rates(t)
    snr = schedule.log_snr(t)
    return {
        "alpha": alpha,
        "sigma": sigma,
        "alpha_rate": alpha_rate,
        "sigma_rate": sigma_rate,
        "half_variance_rate": schedule.half_variance_rate(t),
        "log_snr": snr,
        "round trip": schedule.time_at(snr),
    }


@jax.jit
def compiled_values(index, schedules, times):
    """One program for all schedules: the number of one is an argument."""
    return jax.lax.map(lambda t: functions(OneOf(index, schedules), t), times)


@jax.jit
def compiled_slopes(index, schedules, times):
    def of(schedules, t):
        return functions(OneOf(index, schedules), t)

    return jax.lax.map(lambda t: jax.jacrev(of, argnums=(0, 1))(schedules, t), times)


@functools.cache
def values_and_slopes(schedule, dtype):
    """At the times; the derivatives, in 64 bits alone, are those in the parameters and in time."""
    index = [type(one) for one in ALL].index(type(schedule))
    schedules = (*ALL[:index], schedule, *ALL[index + 1 :])
    given = (
        index,
        jax.tree.map(lambda leaf: np.asarray(leaf, dtype), schedules),
        TIMES.astype(dtype),
    )
    values = jax.tree.map(np.asarray, compiled_values(*given))
    slopes = jax.tree.map(np.asarray, compiled_slopes(*given)) if dtype == jnp.float64 else {}
    in_parameters = {key: jax.tree.leaves(value[0][index]) for key, value in slopes.items()}
    return values, in_parameters, {key: value[1] for key, value in slopes.items()}


def evaluated(name, dtype):
    return values_and_slopes(SCHEDULES[name][0], dtype)[0]


def slopes(name):
    return values_and_slopes(SCHEDULES[name][0], jnp.dtype(jnp.float64))[1:]


@every_schedule
@pytest.mark.thin(3)
def test_alpha_and_sigma_are_their_formulas(name, dtype):
    point = SCHEDULES[name][1](TIMES)
    tolerance = 1e-13 if dtype == jnp.float64 else 2e-5
    out = evaluated(name, dtype)
    alpha, sigma = out["alpha"], out["sigma"]
    np.testing.assert_allclose(alpha, point.a, rtol=tolerance)
    np.testing.assert_allclose(sigma, point.s, rtol=tolerance)


@pytest.mark.parametrize(
    "name", sorted(SCHEDULES.keys() - {"VariancePreserving", "VarianceExploding"})
)
def test_the_ends_are_exact(name, dtype):
    out = evaluated(name, dtype)
    alpha, sigma = out["alpha"], out["sigma"]
    unscaled = name == "EDM"
    assert (alpha[0], sigma[0]) == ((1, 80) if unscaled else (0, 1))
    assert (alpha[-1], sigma[-1]) == (1, 0)


def test_the_variance_preserving_path_ends_at_the_data_and_starts_near_the_noise(dtype):
    out = evaluated("VariancePreserving", dtype)
    alpha, sigma = out["alpha"], out["sigma"]
    assert (alpha[-1], sigma[-1]) == (1, 0)
    np.testing.assert_allclose(alpha[0], np.exp(-(20 + 0.1) / 4), rtol=1e-6)
    np.testing.assert_allclose(np.asarray(alpha) ** 2 + np.asarray(sigma) ** 2, 1, rtol=1e-6)


@every_schedule
def test_the_rates_are_the_derivatives_by_a_complex_step(name, x64):
    """Of alpha and of sigma squared, at both ends too."""
    formulas = SCHEDULES[name][1]
    out = evaluated(name, jnp.dtype(jnp.float64))
    for i, t in enumerate(TIMES):
        rate = complex_step(lambda t: formulas(t).a, t)
        half = complex_step(lambda t: formulas(t).s2, t) / 2
        np.testing.assert_allclose(out["alpha_rate"][i], rate, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(out["half_variance_rate"][i], half, rtol=1e-11, atol=1e-13)
        if t < 1:
            expected = formulas(t).s_rate
            np.testing.assert_allclose(out["sigma_rate"][i], expected, rtol=1e-11, atol=1e-14)
    last = out["sigma_rate"][-1]
    assert np.isneginf(last) if name in ROOTS else np.isfinite(last)
    assert np.all(np.isfinite(out["half_variance_rate"]))


@every_schedule
def test_the_rates_are_the_derivatives_of_the_schedule(name, x64):
    _, slope = slopes(name)
    out = evaluated(name, jnp.dtype(jnp.float64))
    np.testing.assert_allclose(slope["alpha"], out["alpha_rate"], rtol=1e-12, atol=1e-14)
    inside = slice(None, -1) if name in ROOTS else slice(None)
    got, expected = slope["sigma"][inside], out["sigma_rate"][inside]
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


@every_schedule
def test_log_snr_is_the_logarithm_of_the_ratio_and_so_is_its_derivative(name, x64):
    point = SCHEDULES[name][1](INSIDE)
    expected = 2 * np.log(point.a) - np.log(point.s2)
    out = evaluated(name, jnp.dtype(jnp.float64))
    np.testing.assert_allclose(out["log_snr"][1:-1], expected, rtol=1e-12, atol=1e-12)
    _, slope = slopes(name)
    expected = 2 * (point.a_rate / point.a - point.r / point.s2)
    np.testing.assert_allclose(slope["log_snr"][1:-1], expected, rtol=1e-11)


@every_schedule
def test_log_snr_is_infinite_just_where_alpha_or_sigma_is_zero(name, dtype):
    start, *_, end = evaluated(name, dtype)["log_snr"]
    point = SCHEDULES[name][1](np.array([0.0, 1.0]))
    assert np.isneginf(start) if point.a[0] == 0 else np.isfinite(start)
    assert np.isposinf(end) if point.s2[1] == 0 else np.isfinite(end)


@every_schedule
def test_time_at_inverts_log_snr_to_rounding(name, dtype):
    formulas = SCHEDULES[name][1]
    got = np.asarray(evaluated(name, dtype)["round trip"], np.float64)
    np.testing.assert_allclose(got[[0, -1]], [0, 1], atol=4 * np.finfo(dtype).eps)
    # Rounding t itself, and the logarithm, is allowed: eps (1 + |log_snr| dt / d log_snr).
    t = np.asarray(INSIDE, dtype).astype(np.float64)
    point = formulas(t)
    slope = 2 * (point.a_rate / point.a - point.r / point.s2)
    snr = 2 * np.log(point.a) - np.log(point.s2)
    error = np.abs(got[1:-1] - t) / (1 + (1 + np.abs(snr)) / slope)
    assert np.max(error) < 4 * np.finfo(dtype).eps
    # The derivative of the round trip is 1.
    if dtype == jnp.float64:
        _, slope = slopes(name)
        np.testing.assert_allclose(slope["round trip"][1:-1], 1, rtol=1e-12)


@jax.jit
def compiled_time_at(index, ratios):
    """The times, and their derivatives in the ratio."""
    return jax.lax.map(jax.value_and_grad(OneOf(index, ALL).time_at), ratios)


@every_schedule
def test_time_at_solves_for_the_ratio_it_is_given(name, x64):
    """Not through log_snr: the formulas at the time must have the ratio."""
    formulas = SCHEDULES[name][1]
    reach = np.clip(
        [-1e3, 1e3], *np.asarray(evaluated(name, jnp.dtype(jnp.float64))["log_snr"])[[0, -1]]
    )
    ratios = np.linspace(max(reach[0], -6) + 0.01, min(reach[1], 6) - 0.01, 7)
    times, _ = compiled_time_at(list(SCHEDULES).index(name), ratios)
    for snr, t in zip(ratios, times, strict=True):
        point = formulas(float(t))
        np.testing.assert_allclose(2 * np.log(point.a) - np.log(point.s2), snr, atol=1e-11)


@every_schedule
def test_ratios_out_of_reach_are_clipped_and_have_no_derivative(name):
    ratios = np.array([-np.inf, -1e4, 1e4, np.inf], np.float32)
    times, rates = map(np.asarray, compiled_time_at(list(SCHEDULES).index(name), ratios))
    np.testing.assert_allclose(times, [0, 0, 1, 1], atol=1e-7)
    assert (times[0], times[-1]) == (0, 1)
    np.testing.assert_array_equal(rates[[0, 3]], 0)
    assert np.all(np.isfinite(rates))


@every_schedule
def test_all_derivatives_are_finite_at_both_ends(name, x64):
    """In time and in the schedule's parameters, of an infinite sigma' and log_snr too."""
    for leaf in jax.tree.leaves(slopes(name)):
        assert leaf.shape == TIMES.shape
        assert np.all(np.isfinite(leaf))


@pytest.mark.parametrize("name", ROOTS)
def test_where_sigma_falls_like_a_root_its_square_has_the_derivative(name, x64):
    schedule, formulas = SCHEDULES[name]
    slope = jax.jit(jax.vmap(jax.grad(schedule.variance)))(TIMES)
    np.testing.assert_allclose(slope, 2 * formulas(TIMES).r, rtol=1e-12)


def test_the_derivatives_in_the_parameters_are_those_of_the_formulas(x64):
    def vp(low, high, t):
        return np.exp(-((1 - t) ** 2) * (high - low) / 4 - (1 - t) * low / 2)

    def ve(low, high, t):
        return high * (low / high) ** t

    for kind, formula, which in (
        (fj.VariancePreserving, vp, 0),
        (fj.VarianceExploding, ve, 1),
    ):
        computed = jax.jit(jax.grad(lambda p, t, k=kind, w=which: k(*p)(t)[w]))
        for t in (0.0, 0.4, 1.0):
            got = computed((0.1, 20.0), t)
            expected = [
                complex_step(lambda low: formula(low, 20.0, t), 0.1),  # noqa: B023
                complex_step(lambda high: formula(0.1, high, t), 20.0),  # noqa: B023
            ]
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-15)
    # Polynomial: d t^n / dn = t^n log t; EDM: linear.
    slope = jax.jit(jax.grad(lambda n: fj.Polynomial(n)(0.3)[0]))(2.0)
    np.testing.assert_allclose(slope, 0.3**2 * np.log(0.3), rtol=1e-13)
    slope = jax.jit(jax.grad(lambda s: fj.EDM(s)(0.25)[1]))(3.0)
    np.testing.assert_allclose(slope, 0.75, rtol=1e-15)


def test_a_parameter_is_a_number_or_an_array_with_the_same_result():
    t = np.linspace(0, 1, 5, dtype=np.float32)
    evaluate = eqx.filter_jit(lambda schedule, t: schedule(t))
    for of_numbers, of_arrays in (
        (fj.VariancePreserving(0.2, 10), fj.VariancePreserving(jnp.float32(0.2), np.float32(10))),
        (fj.VarianceExploding(0.1, 5), fj.VarianceExploding(jnp.array(0.1), jnp.array(5))),
        (fj.Polynomial(2), fj.Polynomial(jnp.array(2.0))),
        (fj.EDM(80), fj.EDM(jnp.float32(80))),
    ):
        for got, expected in zip(evaluate(of_arrays, t), evaluate(of_numbers, t), strict=True):
            assert got.dtype == jnp.float32
            np.testing.assert_allclose(got, expected, rtol=1e-6)


@every_schedule
@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_a_schedule_keeps_the_shape_and_dtype_of_time(name, shape, dtype):
    t = jax.ShapeDtypeStruct(shape, dtype)
    for leaf in jax.tree.leaves(jax.eval_shape(SCHEDULES[name][0], t)):
        assert (leaf.shape, leaf.dtype) == (shape, dtype)
    schedule = SCHEDULES[name][0]
    for leaf in jax.tree.leaves(jax.eval_shape(lambda t: functions(schedule, t), t)):
        assert (leaf.shape, leaf.dtype) == (shape, dtype)


@every_schedule
def test_a_time_of_16_bits_is_computed_in_32(name):
    schedule, t = SCHEDULES[name][0], jax.ShapeDtypeStruct((), jnp.bfloat16)
    for leaf in jax.tree.leaves(jax.eval_shape(lambda t: functions(schedule, t), t)):
        assert leaf.dtype == jnp.float32


def test_an_integer_time_becomes_the_default_float(dtype):
    for schedule in ALL:
        for value in jax.eval_shape(lambda s=schedule: (*s(0), *s.rates(1))):
            assert value.dtype == dtype


def test_the_first_polynomial_is_cond_ot(x64):
    """Its derivatives too, also at t = 0."""
    first, straight = (
        values_and_slopes(s, jnp.dtype(jnp.float64)) for s in (fj.Polynomial(1), fj.CondOT())
    )
    for got, expected in ((first[0], straight[0]), (first[2], straight[2])):
        for key, value in expected.items():
            np.testing.assert_allclose(got[key], value, rtol=1e-12, atol=1e-12, err_msg=key)


def test_a_polynomial_of_any_power_has_finite_derivatives(x64):
    """Between 1 and 2 the rate's own derivative is infinite at t = 0, and given as zero."""
    values, in_n, in_t = values_and_slopes(fj.Polynomial(1.5), jnp.dtype(jnp.float64))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((in_n, in_t)))
    np.testing.assert_allclose(values["alpha"], TIMES**1.5, rtol=1e-14)
    np.testing.assert_allclose(in_t["alpha"], 1.5 * TIMES**0.5, rtol=1e-13)
    np.testing.assert_allclose(in_t["alpha_rate"][1:], 0.75 / np.sqrt(TIMES[1:]), rtol=1e-13)


def test_a_schedule_is_a_record():
    for schedule, _ in SCHEDULES.values():
        assert schedule == type(schedule)(*vars(schedule).values())
        assert hash(schedule) == hash(type(schedule)(*vars(schedule).values()))
    assert fj.VariancePreserving(0.1, 10.0) != fj.VariancePreserving()
    assert jax.tree.leaves(fj.CondOT()) == []


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: fj.VariancePreserving(0.0, 1.0), ValueError, "beta_min.*positive.*0.0"),
        (lambda: fj.VariancePreserving(-0.1), ValueError, "beta_min.*-0.1"),
        (lambda: fj.VariancePreserving(np.nan), ValueError, "beta_min.*nan"),
        (lambda: fj.VariancePreserving(2.0, 1.0), ValueError, "beta_min <= beta_max.*2.0, 1.0"),
        (lambda: fj.VariancePreserving(0.1, np.inf), ValueError, "beta_max.*finite.*inf"),
        (lambda: fj.VariancePreserving("low"), TypeError, "beta_min.*'low'"),
        (lambda: fj.VariancePreserving(beta_max=None), TypeError, "beta_max.*None"),
        (lambda: fj.VariancePreserving(1e-4, 0.02), ValueError, "hardly begins in noise.*DDPM"),
        (lambda: fj.VariancePreserving(np.str_("low")), TypeError, "beta_min.*real number.*low"),
        (
            lambda: fj.VariancePreserving(0.1, np.array("20")),
            TypeError,
            "beta_max.*real number.*20",
        ),
        (lambda: fj.VarianceExploding(np.array(None), 1.0), TypeError, "sigma_min.*real number"),
        (lambda: fj.VarianceExploding(np.nan, 1.0), ValueError, "sigma_min.*nan"),
        (lambda: fj.EDM(np.array(True)), TypeError, "sigma_max.*real number"),
        (lambda: fj.EDM(jnp.float32(np.nan)), ValueError, "sigma_max.*nan"),
        (lambda: fj.EDM("80"), TypeError, "sigma_max.*real number.*'80'"),
        (lambda: fj.EDM([80.0]), TypeError, "sigma_max.*real number"),
        (lambda: fj.VarianceExploding(0.0, 1.0), ValueError, "sigma_min.*positive.*0.0"),
        (lambda: fj.VarianceExploding(1.0, 1.0), ValueError, "sigma_min < sigma_max.*1.0, 1.0"),
        (lambda: fj.VarianceExploding(0.1, np.nan), ValueError, "sigma_max.*nan"),
        (lambda: fj.VarianceExploding(0.1, np.ones(2)), ValueError, r"sigma_max.*\(2,\)"),
        (lambda: fj.VarianceExploding(True, 2.0), TypeError, "sigma_min.*True"),
        (lambda: fj.Polynomial(0), ValueError, r"n must be.*>= 1.*0\.0"),
        (lambda: fj.Polynomial(0.5), ValueError, r"n must be.*>= 1.*0\.5"),
        (lambda: fj.Polynomial(np.nan), ValueError, "n must be.*nan"),
        (lambda: fj.Polynomial(jnp.array(-1.0)), ValueError, "n must be.*-1"),
        (lambda: fj.Polynomial(2j), TypeError, "n must be a real number.*2j"),
        (lambda: fj.EDM(0.0), ValueError, "sigma_max.*positive.*0.0"),
        (lambda: fj.EDM(np.inf), ValueError, "sigma_max.*finite.*inf"),
        (lambda: fj.EDM(jnp.array(1j)), TypeError, "sigma_max.*real number"),
        (lambda: fj.CondOT()(None), TypeError, "t must be a real number.*None"),
        (lambda: fj.EDM()(1j), TypeError, "t must be a real number.*complex"),
    ],
)
def test_bad_parameters_and_times_are_refused_by_name(make, error, words, unchecked):
    with pytest.raises(error, match=words):
        make()


def test_traced_parameters_are_not_looked_at():
    assert jnp.isfinite(jax.jit(lambda low: fj.VariancePreserving(low)(0.5)[0])(-1.0))
    assert jnp.isfinite(jax.vmap(lambda n: fj.Polynomial(n)(0.5)[0])(jnp.array([0.5, 2.0])))[0]
