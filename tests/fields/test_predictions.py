"""Conversions between predictions, against linear algebra in NumPy float64.

At one time every prediction is linear in two unknown numbers, the expected data and the score
(`schedule_oracles.rows`), so two of them give the third by a 2 x 2 system: that is the oracle, and
where the system does not determine the third, a conversion must refuse.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from flowjax.fields.predictions import missing_at
from flowjax.schedules.point import path_at
from tests.samplers.schedules import OneOf
from tests.schedules.own_schedules import OWN, made
from tests.schedules.schedule_oracles import (
    PREDICTIONS,
    SCHEDULES,
    OwnTrigonometric,
    Point,
    coefficients,
    complex_step,
    determined,
    gaussian,
    rows,
)

every_schedule = pytest.mark.parametrize("name", SCHEDULES)
PAIRS = list(itertools.product(PREDICTIONS, PREDICTIONS))
INSIDE = np.array([0.03, 0.3, 0.5, 0.7, 0.97])
ENDS = np.array([0.0, 1.0])


class Remembering(fj.Schedule):
    """A schedule that is evaluated once for each t: all conversions compile with one path."""

    schedule: fj.Schedule
    results: dict

    def alpha(self, t):
        return self(t)[0]

    def sigma(self, t):
        return self(t)[1]

    def variance(self, t):
        return self._result("variance", t)

    def __call__(self, t):
        return self._result("__call__", t)

    def rates(self, t):
        return self._result("rates", t)

    def half_variance_rate(self, t):
        return self._result("half_variance_rate", t)

    def _result(self, method, t):
        at, result = self.results.get(method, (None, None))
        if at is not t:
            result = getattr(self.schedule, method)(t)
            self.results[method] = t, result
        return result


class Problem:
    """A path point, unknowns drawn afresh, and what follows from them."""

    def __init__(self, name, t):
        self.point = SCHEDULES[name][1](np.float64(t))
        unknown = np.random.default_rng().normal(size=2)
        of = rows(self.point)
        self.x = of["x"] @ unknown
        self.values = np.array([of[prediction] @ unknown for prediction in PREDICTIONS])
        self.size = max(1.0, abs(self.x), *np.abs(self.values))


def one_conversion(index, pair, t, x, values):
    """Of the schedule and the pair of these numbers: one program serves all."""
    schedules = tuple(schedule for schedule, _ in SCHEDULES.values())
    schedule = Remembering(OneOf(index, schedules), {})
    # Before the branches, which then all remember it.
    path_at(schedule, t, x.dtype)

    def branch(pair):
        source, target = PAIRS[pair]
        value = values[PREDICTIONS.index(source)]
        return lambda: fj.convert(value, t, x, schedule, source=source, target=target)

    return jax.lax.switch(pair, [branch(pair) for pair in range(len(PAIRS))])


# A scan over the cases, so that the switches stay ones, and what is not determined is apart.
@jax.jit
def compiled_values(index, *cases):
    return jax.lax.map(lambda case: one_conversion(index, *case), cases)


@jax.jit
def compiled_derivatives(index, *cases):
    slopes = jax.grad(one_conversion, argnums=(2, 3, 4))
    return jax.lax.map(lambda case: slopes(index, *case), cases)


def of_all_pairs(compute, name, times, xs, values, dtype):
    """What `compute` gives, with the leading shape (times, 5, 5)."""
    pairs = np.tile(np.arange(len(PAIRS)), len(times))
    cases = (np.repeat(np.asarray(one, dtype), len(PAIRS), 0) for one in (times, xs, values))
    got = compute(list(SCHEDULES).index(name), pairs, *cases)
    return jax.tree.map(lambda leaf: np.asarray(leaf).reshape(-1, 5, 5, *leaf.shape[1:]), got)


def tables(name, times, xs, values, dtype):
    """The conversions at several times, from each of the five to each."""
    return of_all_pairs(compiled_values, name, times, xs, values, dtype)


def derivatives(name, times, xs, values):
    """The derivatives of the tables in t, x and values."""
    return of_all_pairs(compiled_derivatives, name, times, xs, values, np.float64)


def problems_at(name, times):
    problems = [Problem(name, t) for t in times]
    return problems, *([getattr(p, key) for p in problems] for key in ("x", "values"))


ALL_TIMES = (*INSIDE, *ENDS)


@functools.cache
def cases(name):
    """(problem, time, source, target, value, slopes in t, x and the source) for all of them."""
    problems, xs, values = problems_at(name, ALL_TIMES)
    got = tables(name, ALL_TIMES, xs, values, jnp.float64)
    in_t, in_x, in_values = derivatives(name, ALL_TIMES, xs, values)
    return [
        (
            *(problem, t, source, target, got[k, i, j]),
            (in_t[k, i, j], in_x[k, i, j], in_values[k, i, j, i]),
        )
        for k, (problem, t) in enumerate(zip(problems, ALL_TIMES, strict=True))
        for i, source in enumerate(PREDICTIONS)
        for j, target in enumerate(PREDICTIONS)
    ]


@every_schedule
@pytest.mark.thin(2)
def test_all_25_conversions_are_the_solution_of_the_linear_system(name, x64):
    """Also at both ends, where they exist."""
    for problem, t, source, target, value, _ in cases(name):
        if determined(problem.point, source, target):
            expected = problem.values[PREDICTIONS.index(target)]
            error = abs(value - expected) / problem.size
            assert error < 1e-10, (t, source, target, value, expected)


def rounding(point, source, target, x, value, dtype=np.float64):
    """What a relative error of eps in each number of a conversion makes of its result, at most.

    With M the rows of x and the source and r that of the target, the result is
    `r M^-1 (x, value)`. The error of M goes through M^-1 once more (Bauer and Skeel).
    """
    of = rows(point)
    system = np.stack([of["x"], of[source]])
    inverse = np.abs(np.linalg.inv(system))
    grown = inverse @ np.abs(system) @ inverse @ np.abs([x, value])
    return float(np.finfo(dtype).eps) * np.abs(of[target]) @ grown


@every_schedule
def test_all_25_conversions_in_float32(name):
    times = INSIDE.astype(np.float32)
    problems, *given = problems_at(name, times)
    for problem, table in zip(problems, tables(name, times, *given, jnp.float32), strict=True):
        for (i, source), (j, target) in itertools.product(enumerate(PREDICTIONS), repeat=2):
            error = abs(table[i, j] - problem.values[j])
            one = rounding(problem.point, source, target, problem.x, problem.values[i], np.float32)
            assert error <= 8 * one, (source, target)


NEAR_ENDS = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.99, 0.999, 0.9999, 0.99995, 1 - 2.0**-20, 1 - 2.0**-24)


@every_schedule
def test_near_the_ends_a_conversion_has_a_few_roundings(name):
    """In float32, beside the exact sum of its two terms, each rounded: none more is lost.

    The state and the prediction are the rounded ones, and the schedule that of the rounded time.
    """
    times = np.array(NEAR_ENDS, np.float32)
    problems = [Problem(name, np.float64(t)) for t in times]
    xs = np.array([p.x for p in problems], np.float32)
    values = np.array([p.values for p in problems], np.float32)
    for k, table in enumerate(tables(name, times, xs, values, np.float32)):
        point, x = problems[k].point, np.float64(xs[k])
        # What the two rates of a velocity have in common cancels in v.
        common = (np.abs(point.a * point.a_rate) + np.abs(point.r)) * np.abs(x)
        for (i, source), (j, target) in itertools.permutations(enumerate(PREDICTIONS), 2):
            value = np.float64(values[k, i])
            terms = coefficients(point, source, target) * [x, value]
            bound = np.sum(np.abs(terms))
            if {source, target} == {"velocity", "v"}:
                scale = point.a**2 + point.s2
                scale = scale if source == "v" else point.a_rate * point.s - point.a * point.s_rate
                bound += common / scale
            error = abs(table[i, j] - np.sum(terms))
            assert error <= 8 * EPS32 * bound, (times[k], source, target, table[i, j], terms)


EPS32 = float(np.finfo(np.float32).eps)


@pytest.mark.parametrize("name", ["CondOT", "EDM"])
def test_on_straight_lines_the_velocity_from_the_data_is_exact_to_its_own_rounding(name, unchecked):
    """It is (D - x) / (1 - t), and under CondOT (x - E) / t from the noise: no digit is lost."""
    generator, schedule = np.random.default_rng(), SCHEDULES[name][0]
    speed = 80 if name == "EDM" else 1

    @jax.jit
    def velocity(source, value, t, x):
        return jax.lax.switch(
            source,
            [
                lambda s=s: fj.convert(value, t, x, schedule, source=s, target="velocity")
                for s in ("data", "noise")
            ],
        )

    for t in np.array([0.9, 0.999, 0.99995, 1 - 2.0**-24], np.float32):
        data, noise = generator.normal(size=(2, 50))
        alpha = 1 if name == "EDM" else np.float64(t)
        x = (alpha * data + speed * (1 - np.float64(t)) * noise).astype(np.float32)
        data = data.astype(np.float32)
        exact = (data.astype(float) - x) / (1 - np.float64(t))
        np.testing.assert_allclose(velocity(0, data, t, x), exact, rtol=3 * EPS32)
    if name == "CondOT":
        for t in np.array([1e-6, 1e-4, 0.1], np.float32):
            data, noise = generator.normal(size=(2, 50))
            x = (np.float64(t) * data + (1 - np.float64(t)) * noise).astype(np.float32)
            noise = noise.astype(np.float32)
            exact = (x.astype(float) - noise) / np.float64(t)
            np.testing.assert_allclose(velocity(1, noise, t, x), exact, rtol=3 * EPS32)


@every_schedule
@pytest.mark.thin(3)
def test_there_and_back_again_is_where_it_began(name, dtype):
    """But for the rounding on the way back, and that of the way there as it comes back."""
    xs, values = (np.random.default_rng().normal(size=s).astype(dtype) for s in (5, (5, 5)))
    there = tables(name, INSIDE, xs, values, dtype)
    # A row of five predictions, made from one, goes back to that one; 25 rows at once.
    back = tables(
        *(name, np.repeat(INSIDE, 5), np.repeat(xs, 5), there.reshape(25, 5), dtype)
    ).reshape(5, 5, 5, 5)
    held = 0
    for k, t in enumerate(INSIDE):
        point = SCHEDULES[name][1](t)
        for (i, source), (j, target) in itertools.permutations(enumerate(PREDICTIONS), 2):
            outward = rounding(point, source, target, xs[k], values[k, i], dtype)
            homeward = rounding(point, target, source, xs[k], there[k, i, j], dtype)
            gain = abs(coefficients(point, target, source)[1])
            error = abs(back[k, i, j, i] - values[k, i])
            assert error <= 8 * (gain * outward + homeward), (t, source, target)
            # The figure that is asked for, in units of the largest number on the way. What comes
            # back of rounding the number in between may alone be more than that: v from a noise
            # is multiplied by 1 / alpha, 1100 for Polynomial(2) at t = 0.03.
            figure = 1e-10 if dtype == jnp.float64 else 1e-4
            size = np.max(np.abs([1, xs[k], values[k, i], there[k, i, j]]))
            if 4 * np.finfo(dtype).eps * gain * abs(there[k, i, j]) <= figure * size:
                assert error <= figure * size, (t, source, target)
                held += 1
    # At most five of a schedule's hundred have no room for it in float32: those whose gain is large
    # and whose number in between is not small.
    assert held >= (100 if dtype == jnp.float64 else 95)


@every_schedule
def test_what_is_not_determined_is_nan_and_so_is_its_gradient(name, x64):
    """And all that is determined is finite, with its gradient, at both ends too."""
    for problem, t, source, target, value, slopes in cases(name):
        numbers = np.array([value, *slopes])
        if determined(problem.point, source, target):
            assert np.all(np.isfinite(numbers)), (t, source, target, numbers)
        else:
            assert np.isnan(value), (t, source, target)
            assert np.all(np.isnan(slopes[1:])), (t, source, target, numbers)


@every_schedule
def test_the_derivatives_are_those_of_the_linear_system(name, x64):
    formulas = SCHEDULES[name][1]
    for problem, t, source, target, _, slopes in cases(name):
        of = rows(problem.point)
        independent = np.linalg.matrix_rank(np.stack([of["x"], of[source]])) == 2
        if source == target or not independent:
            continue
        weights = coefficients(problem.point, source, target)
        size = max(1, *np.abs(weights))
        np.testing.assert_allclose(np.array(slopes[1:]) / size, weights / size, atol=1e-10)
        # Sigma itself has no derivative where it falls like a root.
        smooth = {source, target} <= {"velocity", "data", "score"} or 0 < t < 1
        if smooth:
            given = problem.x, problem.values[PREDICTIONS.index(source)]

            def value_at(t, given=given, source=source, target=target):
                return coefficients(formulas(t), source, target) @ given

            expected = complex_step(value_at, t)
            size = max(1, abs(expected))
            assert abs(slopes[0] - expected) / size < 1e-8, (t, source, target)


@every_schedule
@pytest.mark.parametrize("t", ENDS)
@pytest.mark.thin(3)
def test_a_concrete_time_is_refused_just_where_the_target_is_not_determined(name, t, x64):
    schedule, formulas = SCHEDULES[name]
    x = jnp.asarray(0.3)
    for source, target in PAIRS:

        def attempt(source=source, target=target):
            return fj.convert(x, t, x, schedule, source=source, target=target)

        if determined(formulas(t), source, target):
            assert np.isfinite(attempt())
        else:
            with pytest.raises(
                ValueError, match=rf"a model of the {source} does not determine the {target}"
            ):
                attempt()


def test_a_concrete_time_is_refused_inside_a_compiled_function_too():
    def at(t, x):
        return fj.convert(x, t, x, fj.CondOT(), source="noise", target="data")

    with pytest.raises(ValueError, match="does not determine the data"):
        jax.jit(lambda x: at(0.0, x))(1.0)
    assert jnp.isnan(jax.jit(at)(0.0, 1.0))


@every_schedule
def test_the_velocity_of_a_gaussian_gives_its_score_and_data(name, x64):
    """A full covariance in five dimensions, against the formulas in NumPy."""
    schedule, formulas = SCHEDULES[name]
    generator = np.random.default_rng()
    factor = generator.normal(size=(5, 5))
    mean, covariance = generator.normal(size=5), factor @ factor.T + 0.1 * np.eye(5)
    velocity = fj.Gaussian(mean, covariance).velocity(schedule)

    @jax.jit
    @jax.vmap
    def predictions(t, x):
        u = velocity(t, x, None)
        return {
            "velocity": u,
            "score": fj.convert(u, t, x, schedule, source="velocity", target="score"),
            "data": fj.convert(u, t, x, schedule, source="velocity", target="data"),
        }

    points = [formulas(t) for t in ALL_TIMES]
    xs = np.stack([p.a * mean + np.sqrt(p.a**2 + p.s2) * generator.normal(size=5) for p in points])
    got = predictions(np.array(ALL_TIMES), xs)
    for i, (point, x) in enumerate(zip(points, xs, strict=True)):
        expected = gaussian(point, mean, covariance, x)
        for prediction, value in expected.items():
            if determined(point, "velocity", prediction):
                # The rounding of u and x, through the coefficients of the conversion.
                weights = np.abs(
                    [0, 1]
                    if prediction == "velocity" or np.linalg.matrix_rank(_system(point)) < 2
                    else coefficients(point, "velocity", prediction)
                )
                size = max(1, *np.abs(value))
                size += weights @ [np.max(np.abs(x)), np.max(np.abs(expected["velocity"]))]
                np.testing.assert_allclose(got[prediction][i] / size, value / size, atol=1e-13)


def _system(point):
    of = rows(point)
    return np.stack([of["x"], of["velocity"]])


def test_a_noise_prediction_at_the_noise_end_of_the_variance_preserving_path(dtype):
    """Alpha is 0.0066 there, not 0: the data is found, with rounding divided by it."""
    point = SCHEDULES["VariancePreserving"][1](0.0)
    data, noise = np.random.default_rng().normal(size=(2, 100))
    x = point.a * data + point.s * noise
    got = fj.convert(
        *(jnp.asarray(noise, dtype), 0.0, jnp.asarray(x, dtype), fj.VariancePreserving()),
        source="noise",
        target="data",
    )
    bound = 8 * np.finfo(dtype).eps * np.max(np.abs(x)) / point.a
    np.testing.assert_allclose(got, data, atol=bound)
    assert bound < 1e-3
    # The velocity is not hurt: alpha' is as small as alpha is.
    got = fj.convert(
        *(jnp.asarray(noise, dtype), 0.0, jnp.asarray(x, dtype), fj.VariancePreserving()),
        source="noise",
        target="velocity",
    )
    expected = point.a_rate * data + point.s_rate * noise
    np.testing.assert_allclose(got, expected, atol=100 * np.finfo(dtype).eps)


def test_a_schedule_of_ones_own_converts_alike(x64):
    """Its levels and rates may differ by rounding, and what is made of them by a few of those."""
    x, value = np.random.default_rng().normal(size=(2, 3))
    point = SCHEDULES["Trigonometric"][1](0.3)
    for source, target in PAIRS:
        got, expected = (
            fj.convert(value, 0.3, x, schedule, source=source, target=target)
            for schedule in (OwnTrigonometric(), fj.Trigonometric())
        )
        error = np.abs(np.asarray(got) - np.asarray(expected))
        assert np.all(error <= 16 * rounding(point, source, target, x, value))


@pytest.mark.nightly
@pytest.mark.parametrize(
    "name",
    [
        "sigma the root of a difference",
        "variance a difference",
        "alpha the root of a difference",
        "improved DDPM by its variance",
    ],
)
def test_under_a_schedule_of_ones_own_an_end_converts_right_or_not_at_all(name):
    """What is determined by the true numbers is that, or refused where a rate is not known."""
    schedule, ends, not_known = made(name), *OWN[name][1:]

    @jax.jit
    def compute(t, x, values):
        once = Remembering(schedule, {})
        return [
            fj.convert(values[PREDICTIONS.index(source)], t, x, once, source=source, target=target)
            for source, target in PAIRS
        ]

    for t, numbers in zip((0.0, 1.0), ends, strict=True):
        alpha, sigma, alpha_rate, _, half_variance_rate = numbers
        point = Point(alpha, sigma**2, alpha_rate, half_variance_rate)
        of, unknown = rows(point), np.random.default_rng().normal(size=2)
        x, values = of["x"] @ unknown, np.array([of[p] @ unknown for p in PREDICTIONS])
        for (source, target), got in zip(PAIRS, compute(t, x, values), strict=True):
            refused = missing_at(t, schedule, source, target) != ""
            assert refused == np.isnan(got), (t, source, target, got)
            if refused:
                rate_not_known = any(one.startswith(("start", "end")[int(t)]) for one in not_known)
                assert rate_not_known or not determined(point, source, target), (t, source, target)
            else:
                assert determined(point, source, target), (t, source, target)
                expected = values[PREDICTIONS.index(target)]
                size = max(1, abs(x), *np.abs(values))
                assert abs(got - expected) <= 1e-4 * size, (t, source, target, got, expected)


def test_each_leaf_is_converted_in_its_own_dtype(x64):
    """A float32 time beside bfloat16, and a float64 leaf beside a float32 one."""
    wide = np.random.default_rng().normal(size=(2, 4))
    dtypes = {"half": jnp.bfloat16, "single": jnp.float32, "double": jnp.float64}
    x, value = ({k: jnp.asarray(row, d) for k, d in dtypes.items()} for row in wide)
    schedule = fj.VariancePreserving()
    for t in (np.float32(0.3), 0.3, jnp.asarray(0.3)):
        got = fj.convert(value, t, x, schedule, source="velocity", target="score")
        point = SCHEDULES["VariancePreserving"][1](float(t))
        weights = coefficients(point, "velocity", "score")
        for key, d in dtypes.items():
            assert got[key].dtype == d
            exact = weights @ [np.asarray(v[key], np.float64) for v in (x, value)]
            np.testing.assert_allclose(
                np.asarray(got[key], np.float64), exact, rtol=0, atol=20 * float(jnp.finfo(d).eps)
            )


X = np.ones(3, np.float32)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: fj.convert(X, 0.5, X, fj.CondOT(), source="eps", target="data"),
            ValueError,
            "source must be one of velocity, data, noise, score, v, got 'eps'",
        ),
        (
            lambda: fj.convert(X, 0.5, X, fj.CondOT(), source="v", target=None),
            ValueError,
            "target must be one of velocity, data, noise, score, v, got None",
        ),
        (
            lambda: fj.convert(X, 0.5, X, fj.CondOT, source="v", target="data"),
            TypeError,
            "schedule.*CondOT",
        ),
        (
            lambda: fj.convert(X, 0.5, X, lambda t: (t, 1 - t), source="v", target="data"),
            TypeError,
            r"schedule must be a schedule.*subclass of fj\.Schedule",
        ),
        (
            lambda: fj.convert(X[:2], 0.5, X, fj.CondOT(), source="v", target="data"),
            ValueError,
            r"value must have shape \(3,\).*\(2,\)",
        ),
        (
            lambda: fj.convert(
                {"a": X, "b": X.astype(np.float16)},
                *(0.5, {"a": X, "b": X}, fj.CondOT()),
                source="v",
                target="data",
            ),
            ValueError,
            r"value\['b'\].*float32.*float16",
        ),
        (
            lambda: fj.convert({"a": X}, 0.5, X, fj.CondOT(), source="v", target="v"),
            ValueError,
            "value must have the state's structure",
        ),
        (
            lambda: fj.convert(X, X, X, fj.CondOT(), source="v", target="data"),
            ValueError,
            r"t must be a scalar.*\(3,\)",
        ),
        (
            lambda: fj.convert(
                np.ones(3, int), 0.5, np.ones(3, int), fj.CondOT(), source="v", target="v"
            ),
            TypeError,
            "x must be a real floating array.*int",
        ),
    ],
)
def test_bad_input_is_refused_by_name(call, error, words, unchecked):
    with pytest.raises(error, match=words):
        call()
