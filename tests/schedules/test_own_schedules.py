"""A user's own schedule: all follows from alpha and sigma, and an end within rounding is exact."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from flowjax.schedules.point import path_at
from flowjax.schedules.schedule import checked_schedule
from tests.schedules.own_schedules import OWN, SLOPE, made, own
from tests.schedules.schedule_oracles import SCHEDULES, OwnTrigonometric, complex_step

every_own = pytest.mark.parametrize("name", OWN)
TIMES = (0.0, 0.02, 0.3, 0.7, 0.98, 1.0)
NAMES = ("alpha", "sigma", "alpha'", "sigma'", "sigma sigma'")


def numbers_of(schedule, t):
    path = path_at(schedule, t, t.dtype)
    return jnp.stack([*path[:2], *path[3:]])


@functools.cache
def at_times(name, dtype):
    """The five numbers, and their derivatives in t, at both ends and between them."""
    numbers = functools.partial(numbers_of, made(name))

    @jax.jit
    def compiled(times):
        return jax.lax.map(lambda t: (numbers(t), jax.jacrev(numbers)(t)), times)

    return jax.tree.map(np.asarray, compiled(np.asarray(TIMES, dtype)))


@every_own
@pytest.mark.thin(4)
def test_all_follows_from_the_two_methods(name, x64):
    """By a complex step through the same formulas in NumPy."""
    alpha, sigma, variance = OWN[name][0](np)
    sigma = sigma or (lambda t: np.sqrt(variance(t)))
    for t, got in zip(TIMES[1:-1], at_times(name, "float64")[0][1:-1], strict=True):
        expected = [alpha(t), sigma(t), complex_step(alpha, t), complex_step(sigma, t)]
        expected.append(expected[1] * expected[3])
        np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-13)
        schedule, snr = made(name), 2 * np.log(expected[0] / expected[1])
        np.testing.assert_allclose(schedule.log_snr(t), snr, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(schedule.variance(t), expected[1] ** 2, rtol=1e-12)


@every_own
@pytest.mark.thin(7)
def test_the_ends_are_exact_and_what_is_not_known_there_is_not_invented(name, dtype):
    """Eager and compiled; a rate that is not known is NaN, but for sigma's, which is -inf."""
    _, ends, not_known = OWN[name]
    compiled = at_times(name, dtype.name)[0]
    for end, i, expected in zip(("start", "end"), (0, -1), ends, strict=True):
        eager = numbers_of(made(name), jnp.asarray(TIMES[i], dtype))
        for numbers in (eager, compiled[i]):
            for what, got, true in zip(NAMES, numbers, expected, strict=True):
                if f"{end} {what}" in not_known:
                    assert np.isneginf(got) if what == "sigma'" else np.isnan(got), (end, what)
                elif np.isinf(true) or (true == 0 and what in ("alpha", "sigma")):
                    assert got == true, (end, what, got)
                else:
                    error = abs(float(got) - true) / max(1, abs(true))
                    assert error <= 64 * np.finfo(dtype).eps, (end, what, got, true)


@every_own
def test_derivatives_in_time_are_finite_at_the_ends_too(name, dtype):
    assert np.all(np.isfinite(at_times(name, dtype.name)[1]))


def test_a_level_that_reaches_zero_keeps_its_derivative_and_a_root_has_none(x64):
    for name, slope in (("cosines", -SLOPE), ("root by its sigma", 0)):
        got = jax.grad(lambda t, s=made(name): s(t)[1])(1.0)
        np.testing.assert_allclose(got, slope, rtol=1e-15)
    assert jax.grad(lambda t: path_at(made("root by its variance"), t, t.dtype).variance)(1.0) == -1


# Where a derivative of the exact inverse is known: alpha / sigma is (t / (1 - t))^n or so.
class Power(fj.Schedule):
    n: Any

    def alpha(self, t):
        return t**self.n

    def sigma(self, t):
        return 1 - t**self.n


@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_the_inverse_of_log_snr_keeps_the_shape_and_dtype(shape, dtype):
    ratios = jax.ShapeDtypeStruct(shape, dtype)
    out = jax.eval_shape(OwnTrigonometric().time_at, ratios)
    assert (out.shape, out.dtype) == (shape, dtype)


def test_the_inverse_of_log_snr_is_that_of_the_closed_form(dtype):
    """Over all ratios that floating numbers have a time for, by CondOT's own."""
    eps = np.finfo(dtype).eps
    ratios = jnp.linspace(-60.0, -2 * np.log(eps), 301, dtype=dtype)
    got, expected = (jax.jit(s.time_at)(ratios) for s in (made("straight"), fj.CondOT()))
    # A time near 1 is told by one rounding, and the ratio by one of its own.
    np.testing.assert_allclose(got, expected, rtol=64 * eps)


def test_the_inverse_of_log_snr_is_exact_at_the_ends_and_clipped_beyond(dtype):
    roots, exploding = made("sigma the root of a difference"), made("exploding")
    first, last = -2 * np.log(64.0), 2 * np.log(2.0**14)

    @jax.jit
    def times(ratios):
        return [jax.vmap(jax.value_and_grad(s.time_at))(ratios) for s in (roots, exploding)]

    ratios = jnp.asarray([-np.inf, first - 1, last + 1, np.inf, np.nan], dtype)
    of_roots, of_exploding = times(ratios)
    np.testing.assert_array_equal(of_roots[0][np.array([0, 3, 4])], [0, 1, np.nan])
    np.testing.assert_array_equal(of_exploding[0], [0, 0, 1, 1, np.nan])
    np.testing.assert_array_equal(of_exploding[1], 0)
    for t in (0.0, 1.0):
        assert exploding.time_at(exploding.log_snr(jnp.asarray(t, dtype))) == t


def test_the_inverse_of_log_snr_has_all_derivatives(x64):
    """In the ratio and in an array of the schedule, twice, by Polynomial's closed form."""

    def derivatives(make):
        def slopes(ratio, n):
            return jax.grad(lambda ratio, n: make(n).time_at(ratio), argnums=(0, 1))(ratio, n)

        compute = jax.jit(lambda ratio: (slopes(ratio, 2.0), jax.jacfwd(slopes)(ratio, 2.0)))
        return jax.lax.map(compute, jnp.array([-3.0, 0.4, 5.0]))

    got, expected = derivatives(Power), derivatives(fj.Polynomial)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11)


def test_the_inverse_of_log_snr_serves_under_vmap_and_scan(x64):
    ratios = jnp.linspace(-5.0, 5.0, 4)
    schedule = made("sine and cosine")
    expected = fj.Trigonometric().time_at(ratios)
    np.testing.assert_allclose(jax.vmap(schedule.time_at)(ratios), expected, rtol=1e-14)
    np.testing.assert_allclose(jax.lax.map(schedule.time_at, ratios), expected, rtol=1e-14)


def test_an_own_schedule_of_a_built_in_ones_formulas_is_that_one(x64):
    for name in ("straight", "sine and cosine", "root by its variance"):
        of_flowjax = {"straight": "CondOT", "sine and cosine": "Trigonometric"}.get(
            name, "SquareRoot"
        )
        for t in (0.0, 0.3, 0.9):
            got = path_at(made(name), t, jnp.float64)
            expected = path_at(SCHEDULES[of_flowjax][0], t, jnp.float64)
            np.testing.assert_allclose(got, expected, rtol=1e-14, atol=1e-15)


class Overridden(OwnTrigonometric):
    def rates(self, t):
        return jnp.full_like(t, 2.0), jnp.full_like(t, -3.0)


def test_a_closed_form_overrides_what_follows():
    path = path_at(Overridden(), 0.5, jnp.float32)
    assert (path.alpha_rate, path.sigma_rate) == (2, -3)
    assert path.half_variance_rate == -3 * path.sigma


def test_functions_among_the_fields_are_methods_too():
    class OfFunctions(fj.Schedule):
        alpha: Any
        variance: Any

    schedule = OfFunctions(lambda t: t, lambda t: 1 - t)
    assert schedule(0.75) == fj.SquareRoot()(0.75)


class Floor(fj.Schedule):
    """Levels that stand still before the ends: small, and meant."""

    kind: str
    floor: float

    def alpha(self, t):
        return jnp.maximum(t, self.floor)

    def sigma(self, t):
        if self.kind == "smooth":
            return jnp.sqrt((1 - t) ** 2 + self.floor**2)
        return jnp.clip(80 * (1 - t), 80 * self.floor)


@pytest.mark.parametrize("kind", ["smooth", "kinked"])
@pytest.mark.parametrize("floor", [1e-5, 1e-4, 1e-3, 3e-3])
def test_a_floor_that_is_meant_stays(kind, floor):
    schedule = Floor(kind, floor)
    assert schedule(0.0)[0] == np.float32(floor)
    # A root that is within rounding of zero counts as zero, as the docstring says.
    if kind == "kinked" or floor >= 1e-3:
        np.testing.assert_allclose(schedule(1.0)[1], schedule.sigma(jnp.ones(())), rtol=1e-6)
        np.testing.assert_allclose(schedule.rates(1.0)[1], 0, atol=1e-6)


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, r"Own lacks alpha\(t\) and sigma\(t\) or variance\(t\)"),
        ({"alpha": lambda self, t: t}, r"Own lacks sigma\(t\) or variance\(t\), sigma squared"),
        ({"variance": lambda self, t: t}, r"Own lacks alpha\(t\)\."),
    ],
)
def test_a_schedule_without_its_two_methods_is_refused_when_it_is_made(given, words):
    with pytest.raises(TypeError, match=words):
        type("Own", (fj.Schedule,), given)()


@pytest.mark.parametrize(
    ("alpha", "sigma"),
    [
        (lambda t: 1 - t, lambda t: t),
        (lambda t: 0.5, lambda t: 0.5),
        (lambda t: t, lambda t: t - 1),
        (lambda t: t * jnp.nan, lambda t: 1 - t),
    ],
)
def test_a_schedule_that_does_not_go_from_noise_to_data_is_refused(alpha, sigma):
    schedule, words = own(alpha, sigma), "must go from noise at t = 0 to data at t = 1"
    calls = [
        lambda: fj.velocity(lambda t, x, args: x, schedule),
        lambda: fj.Gaussian(0.0, 1.0).velocity(schedule),
        lambda: jax.jit(lambda x: fj.convert(x, 0.5, x, schedule, source="data", target="noise"))(
            1.0
        ),
        lambda: fj.memoryless(schedule),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=words):
            call()


def test_a_level_that_is_no_function_is_refused_when_it_is_made():
    class Numbers(fj.Schedule):
        alpha: Any
        sigma: Any

    with pytest.raises(TypeError, match="sigma must be a function of t, got 1"):
        Numbers(lambda t: t, 1.0)


@pytest.mark.parametrize(
    ("alpha", "words"),
    [
        (lambda t: jax.lax.complex(t, t), r"one real number for each time.*complex64"),
        (lambda t: jnp.stack([t, t]), r"one real number.*of shape \(\), got Array\(\["),
        (lambda t: None, "got None"),
        (lambda t: (t, 1 - t), r"got \("),
        (lambda t: "half", "got 'half'"),
    ],
)
def test_a_level_that_is_not_one_number_for_each_time_is_refused(alpha, words):
    with pytest.raises(TypeError, match=rf"Own\.alpha\(t\) must return.*{words}"):
        own(alpha, sigma=lambda t: 1 - t)(0.5)


class DuckTyped:
    def __call__(self, t):
        return t, 1 - t

    def rates(self, t):
        return 1, -1


@dataclasses.dataclass
class MutableDataclass(DuckTyped):
    power: float = 1.0


@pytest.mark.parametrize(
    ("wrong", "came"),
    [
        (fj.CondOT, r"got the class CondOT, not one made by CondOT\(\.\.\.\)"),
        (MutableDataclass, r"got the class MutableDataclass"),
        (MutableDataclass(), r"got MutableDataclass\(power=1\.0\)"),
        (DuckTyped(), "got .*DuckTyped"),
        ("CondOT", "got 'CondOT', of the type str"),
        (None, "got None"),
        (3.0, "got 3.0"),
        (lambda t: (t, 1 - t), "got <function"),
    ],
)
def test_what_is_no_schedule_is_refused_with_the_remedy(wrong, came):
    with pytest.raises(TypeError, match=rf"old must be a schedule such as fj.*{came}.*subclass of"):
        checked_schedule(wrong, name="old")
    for schedule, _ in SCHEDULES.values():
        assert checked_schedule(schedule) is schedule


def test_a_schedule_may_hold_what_cannot_be_hashed():
    class OfSettings(fj.Schedule):
        settings: dict

        def alpha(self, t):
            return t ** self.settings["power"]

        def sigma(self, t):
            return 1 - t

    v = fj.velocity(lambda t, x, args: x, OfSettings({"power": 1.0}), "data")
    assert v(0.5, 1.0, None) == fj.velocity(lambda t, x, args: x, fj.CondOT(), "data")(
        0.5, 1.0, None
    )
