"""Schedules that do not belong together, and times at which a field says nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from tests.schedules.schedule_oracles import OwnTrigonometric

STRAIGHT, VP = fj.CondOT(), fj.VariancePreserving()
TARGET = fj.Gaussian(jnp.array([3.0, -1.0]), 0.5)
UNDER_VP = TARGET.velocity(VP)
X0 = jnp.array([0.3, -1.2])
KEY = jax.random.key(0)


def network(t, x, args):
    return 0.5 * x


# --- two schedules --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: fj.with_noise(UNDER_VP, STRAIGHT, 0.5), "velocity.*with_noise was given CondOT"),
        (
            lambda: fj.with_noise(fj.velocity(network, VP, "noise"), STRAIGHT, 0.5),
            "velocity belongs",
        ),
        (
            lambda: fj.with_noise(fj.guidance.classifier_free(UNDER_VP, 2.0, None), STRAIGHT, 0.5),
            "velocity belongs",
        ),
        (
            lambda: fj.velocity(fj.precondition(network, VP), STRAIGHT, "data"),
            "model.*velocity was given CondOT",
        ),
        (lambda: fj.velocity(TARGET.marginal_score(VP), STRAIGHT, "score"), "model belongs"),
        (lambda: fj.change_schedule(UNDER_VP, old=STRAIGHT, new=VP), "velocity.*old is CondOT"),
        (
            lambda: fj.with_noise(fj.change_schedule(UNDER_VP, VP, fj.EDM()), VP, 0.5),
            r"velocity belongs to the schedule EDM\(sigma_max=80.0\)",
        ),
        (lambda: fj.with_noise(UNDER_VP, fj.VariancePreserving(0.1, 10.0), 0.5), "beta_max=10.0"),
        (
            lambda: fj.with_noise(UNDER_VP, fj.VariancePreserving(0.1, jnp.float32(10.0)), 0.5),
            "beta_max=Array.10",
        ),
        (
            lambda: fj.with_noise(UNDER_VP, OwnTrigonometric(), 0.5),
            "velocity belongs to the schedule VariancePreserving",
        ),
        (
            lambda: jax.jit(lambda b: fj.with_noise(UNDER_VP, fj.EDM(b), 0.5).drift(0.5, X0, None))(
                80.0
            ),
            "velocity belongs",
        ),
    ],
)
def test_a_field_of_another_schedule_is_refused(make, words, unchecked):
    with pytest.raises(ValueError, match=words):
        make()


class Strange(OwnTrigonometric):
    """A schedule that will not be looked at."""

    def __call__(self, t):
        raise RuntimeError("not now")


class NotASchedule:
    schedule = "cosine"

    def __call__(self, t, x, args):
        return x


class Vector(fj.CondOT):
    """A record of an array: two of the same values, of whatever kind, are equal."""

    weights: object


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (fj.VariancePreserving(), fj.VariancePreserving(0.1, 20)),
        (fj.VariancePreserving(), fj.VariancePreserving(jnp.float32(0.1), np.float32(20.0))),
        (fj.CondOT(), fj.Polynomial(1.0)),
        (fj.Trigonometric(), OwnTrigonometric()),
        (OwnTrigonometric(), OwnTrigonometric()),
        (Vector(np.ones(3)), Vector(jnp.ones(3))),
        (Strange(), Strange()),
    ],
)
def test_schedules_of_the_same_values_are_the_same(one, other):
    """Also those that cannot be looked at: nothing is refused that is not seen to be wrong."""
    fj.with_noise(TARGET.velocity(one), other, 0.5)


def test_traced_schedules_are_not_compared_but_for_their_kind():
    def drift(high):
        sde = fj.with_noise(UNDER_VP, fj.VariancePreserving(0.1, high), 0.5)
        return sde.drift(0.5, X0, None)

    np.testing.assert_allclose(jax.jit(drift)(20.0), jax.jit(lambda: drift(20.0))(), rtol=1e-5)


def test_a_field_that_holds_no_schedule_is_not_compared():
    fj.with_noise(network, STRAIGHT, 0.5)
    fj.with_noise(NotASchedule(), STRAIGHT, 0.5)


# --- times ----------------------------------------------------------------------------------------

FIELDS = {
    "a target's velocity": UNDER_VP,
    "a target's score": TARGET.marginal_score(VP),
    "a network": fj.velocity(network, VP, "noise"),
    "a network's own velocity": fj.velocity(network, STRAIGHT),
    "another schedule": fj.change_schedule(UNDER_VP, VP, STRAIGHT),
    "a guided field": fj.guidance.classifier_free(UNDER_VP, 2.0, None),
    "an SDE": fj.with_noise(UNDER_VP, VP, fj.memoryless(VP)),
    "a bridge": fj.gaussian_bridge(TARGET, TARGET, 1.0),
}


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("ts", [[0.0, 0.5, 1.2], [-0.1, 0.5, 1.0], [0.0, np.nan, 1.0]])
def test_times_that_leave_the_schedule_are_refused(name, ts):
    field, ts = FIELDS[name], np.array(ts, np.float32)
    key = KEY if isinstance(field, fj.SDE) else None
    calls = [
        lambda: fj.solve(field, X0, ts, key=key),
        lambda: fj.trajectory(field, X0, jnp.asarray(ts), key=key, every=2),
        lambda: jax.jit(lambda x: fj.solve(field, x, ts, key=key))(X0),
    ]
    if np.all(ts == ts):
        calls += [lambda: fj.sample(KEY, field, lambda key: X0, ts, 2)]
    for call in calls:
        with pytest.raises(ValueError, match=r"ts must lie within \[0, 1\], the times"):
            call()


def test_the_times_that_leave_are_named_in_full():
    ts = np.array([0.0, 0.5, 1.0000001], np.float32)
    with pytest.raises(ValueError, match=r"got times from 0\.0 to 1\.0000001"):
        fj.solve(UNDER_VP, X0, ts, step=fj.adams())


def test_a_density_is_refused_times_that_leave_the_schedule():
    for density in (fj.log_likelihood, fj.euler_log_likelihood):
        with pytest.raises(ValueError, match=r"ts must lie within \[0, 1\]"):
            density(X0, UNDER_VP, TARGET.log_prob, np.array([0.0, 0.5, 1.2]))


def accepted(field, ts, step=None):
    """Traces a solve; what is refused is refused then."""
    jax.eval_shape(lambda x: fj.solve(field, x, ts, step=step), X0)


def exact_noise(schedule):
    """The noise that the marginal of TARGET expects: a model of it that is right."""

    def model(t, x, args):
        alpha, sigma = schedule(t)
        return sigma * (x - alpha * TARGET.mean) / (alpha**2 * 0.5**2 + sigma**2)

    return model


AT_NOISE = [fj.CondOT(), fj.Trigonometric(), fj.SquareRoot()]


@pytest.mark.parametrize("schedule", AT_NOISE)
@pytest.mark.parametrize("predicts", ["noise", "score"])
def test_a_model_that_says_nothing_of_the_velocity_at_noise_is_refused_there(schedule, predicts):
    field, ts = fj.velocity(network, schedule, predicts), fj.uniform_grid(4)
    guided = fj.guidance.classifier_free(field, 2.0, None)
    sde = fj.with_noise(field, schedule, 0.5)
    words = f"a model of the {predicts} says nothing of the velocity at t = 0.*start the grid later"
    for call in (
        lambda: fj.solve(field, X0, ts),
        lambda: fj.solve(field, X0, ts, step=fj.dpmpp_2m(schedule)),
        lambda: fj.solve(guided, X0, ts, step=fj.midpoint),
        lambda: fj.solve(sde, X0, ts, key=KEY),
        lambda: fj.sample(KEY, field, lambda key: X0, ts, 2),
        lambda: fj.log_likelihood(X0, field, TARGET.log_prob, ts),
        lambda: fj.euler_log_likelihood(X0, field, TARGET.log_prob, ts),
        # Backward, Heun's method calls the field at the last time.
        lambda: fj.solve(field, X0, ts[::-1], step=fj.heun),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_what_is_refused_is_what_would_be_wrong():
    """From just after t = 0 the model that is refused there ends where the closed form does."""
    schedule = fj.CondOT()
    field = fj.velocity(exact_noise(schedule), schedule, "noise")
    ts = fj.uniform_grid(200, 1e-3)
    alpha, sigma = schedule(ts[0])
    # A deviation of the marginal stays one: x_1 = mu + (s_1 / s_0) (x_0 - alpha_0 mu).
    size = jnp.sqrt(alpha**2 * 0.5**2 + sigma**2)
    expected = TARGET.mean + 0.5 / size * (X0 - alpha * TARGET.mean)
    got = fj.solve(field, X0, ts, step=fj.dpmpp_2m(schedule))
    np.testing.assert_allclose(got, expected, atol=2e-3)


@pytest.mark.parametrize("predicts", ["velocity", "data", "v"])
def test_other_models_may_begin_at_noise(predicts):
    for schedule in AT_NOISE:
        accepted(fj.velocity(network, schedule, predicts), fj.uniform_grid(2))


@pytest.mark.parametrize("predicts", ["noise", "score"])
def test_a_schedule_that_keeps_some_signal_may_begin_at_noise(predicts):
    for schedule in (VP, fj.EDM(), fj.VarianceExploding(0.01, 10.0)):
        accepted(fj.velocity(network, schedule, predicts), fj.uniform_grid(2))
    # Under the new schedule alpha is 0 at t = 0, but the old one's is not.
    field = fj.change_schedule(fj.velocity(network, VP, predicts), VP, STRAIGHT)
    accepted(field, fj.uniform_grid(2))


def test_a_changed_schedule_is_refused_where_the_old_one_is():
    inner = fj.velocity(network, STRAIGHT, "noise")
    from_nothing = fj.change_schedule(inner, STRAIGHT, fj.Trigonometric())
    with pytest.raises(ValueError, match="a model of the noise says nothing"):
        fj.solve(from_nothing, X0, fj.uniform_grid(2))
    # Its t = 0 is no end of the old schedule: there is some signal.
    accepted(fj.change_schedule(inner, STRAIGHT, fj.EDM()), fj.uniform_grid(2))


@pytest.mark.parametrize("predicts", ["data", "noise", "v"])
@pytest.mark.parametrize("schedule", [VP, fj.SquareRoot()])
def test_the_data_end_is_refused_to_steps_that_call_the_field_there(schedule, predicts):
    """Where sigma' is infinite. The others end there as ever."""
    field, ts = fj.velocity(network, schedule, predicts), fj.uniform_grid(2, 0.1)
    words = f"a model of the {predicts} says nothing of the velocity at t = 1.*end the grid earlier"
    for call in (
        lambda: fj.solve(field, X0, ts, step=fj.heun),
        lambda: fj.solve(field, X0, ts, step=fj.rk4),
        lambda: fj.solve(
            fj.with_noise(field, schedule, 0.5), X0, ts, step=fj.reversible_heun, key=KEY
        ),
        lambda: fj.solve(field, X0, ts[::-1]),
        lambda: fj.log_likelihood(X0, field, TARGET.log_prob, ts),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    for step in (fj.euler, fj.ddim(schedule), fj.unipc(schedule), fj.edm_heun(schedule)):
        accepted(field, ts, step)
    # The Euler sampler does not call it there, nor does its density.
    jax.eval_shape(lambda x: fj.euler_log_likelihood(x, field, TARGET.log_prob, ts), X0)


def test_models_that_say_enough_at_the_data_end_may_be_called_there():
    ts = fj.uniform_grid(2, 0.1)
    accepted(fj.velocity(network, VP, "score"), ts, fj.heun)
    accepted(fj.velocity(network, VP), ts, fj.heun)
    for predicts in ("data", "noise", "v"):
        accepted(fj.velocity(network, STRAIGHT, predicts), ts, fj.rk4)


@pytest.mark.parametrize("step", [fj.stochastic_heun, fj.reversible_heun])
def test_noise_where_there_is_no_score_is_refused_to_steps_that_call_the_drift_there(step):
    ts = fj.uniform_grid(4)

    def call(diffusion, step, **settings):
        sde = fj.with_noise(network, STRAIGHT, diffusion, **settings)
        return jax.eval_shape(lambda x, key: fj.solve(sde, x, ts, step=step, key=key), X0, KEY)

    words = r"score does not exist at t = 1, where sigma = 0.*drift there with g = 0\.5"
    for diffusion in (0.5, lambda t: 0.5 + 0 * t):
        with pytest.raises(ValueError, match=words):
            call(diffusion, step)
        call(diffusion, step, noise_until=ts[-2])
        call(diffusion, fj.euler_maruyama)
    call(lambda t: 1 - t, step)
    # What is traced is not looked at.
    jax.eval_shape(lambda g: call(g, step), jnp.float32(0.5))


class Root(fj.Schedule):
    """A user's schedule with no more than the two methods: sigma falls like a square root."""

    def alpha(self, t):
        return t

    def sigma(self, t):
        return jnp.sqrt(1 - t)


class RootThatSaysEnough(Root):
    def half_variance_rate(self, t):
        return jnp.full_like(t, -0.5)


@pytest.mark.parametrize(
    "field",
    [
        lambda schedule: fj.velocity(network, schedule, "data"),
        lambda schedule: fj.velocity(network, schedule),
        lambda schedule: TARGET.velocity(schedule),
        lambda schedule: fj.with_noise(network, schedule, 0.5),
    ],
)
def test_an_infinite_rate_that_would_give_nan_at_the_end_is_refused_there(field):
    ts, given = fj.uniform_grid(2), field(Root())
    is_sde = isinstance(given, fj.SDE)
    step = fj.stochastic_heun if is_sde else fj.heun
    key = KEY if is_sde else None
    with pytest.raises(ValueError, match=r"infinite rate of sigma at t = 1.*half_variance_rate"):
        fj.solve(given, X0, ts, step=step, key=key)
    # A step that calls it at its start alone does not come there.
    assert np.all(np.isfinite(fj.solve(given, X0, ts, key=key)))


def test_a_schedule_that_says_its_finite_part_is_taken_to_the_end():
    end = fj.solve(TARGET.velocity(RootThatSaysEnough()), X0, fj.uniform_grid(50), step=fj.heun)
    assert np.all(np.isfinite(end))


DATA = fj.precondition(network, STRAIGHT)
SCORE = TARGET.marginal_score(STRAIGHT)


@pytest.mark.parametrize(("field", "what"), [(DATA, "data"), (SCORE, "score")])
@pytest.mark.parametrize(
    "call",
    [
        lambda field: fj.solve(field, X0, fj.uniform_grid(2), step=fj.ddim(STRAIGHT)),
        lambda field: fj.solve(field, X0, fj.uniform_grid(2), step=fj.dpmpp_2m(STRAIGHT)),
        lambda field: fj.with_noise(field, STRAIGHT, 0.5),
        lambda field: fj.change_schedule(field, STRAIGHT, VP),
        lambda field: fj.log_likelihood(X0, field, TARGET.log_prob, fj.uniform_grid(2)),
    ],
)
def test_what_is_known_to_be_no_velocity_is_refused_where_one_is_needed(call, field, what):
    words = rf"must be a velocity, got a field of the {what}: .*predicts='{what}'"
    with pytest.raises(TypeError, match=words):
        call(field)


@pytest.mark.parametrize(("field", "what"), [(DATA, "data"), (SCORE, "score")])
def test_a_model_that_is_known_to_give_one_prediction_is_not_taken_for_another(field, what):
    with pytest.raises(ValueError, match=f"predicts must be '{what}', .* got 'velocity'"):
        fj.velocity(field, STRAIGHT)
    accepted(fj.velocity(field, STRAIGHT, predicts=what), fj.uniform_grid(2, 0.1))


def test_times_that_are_traced_are_not_looked_at():
    field = fj.velocity(network, STRAIGHT, "noise")
    solve = jax.jit(lambda ts: fj.solve(field, X0, ts))
    assert np.all(np.isfinite(solve(fj.uniform_grid(3))))


def test_a_schedule_whose_numbers_are_arrays_is_looked_at_too():
    schedule = fj.Polynomial(jnp.float32(1.0))
    with pytest.raises(ValueError, match="a model of the noise says nothing"):
        fj.solve(fj.velocity(network, schedule, "noise"), X0, fj.uniform_grid(2))

    def end(n, x):
        return fj.solve(fj.velocity(network, fj.Polynomial(n), "noise"), x, fj.uniform_grid(2))

    jax.eval_shape(end, 1.0, X0)


# --- other bad input ------------------------------------------------------------------------------


class NoPair(fj.CondOT):
    def rates(self, t):
        return jnp.ones_like(t)


class NoPairOfLevels(fj.CondOT):
    def __call__(self, t):
        return 0.5


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: fj.with_noise(network, STRAIGHT, -1.0),
            ValueError,
            "diffusion must not be negative, got -1.0",
        ),
        (
            lambda: fj.with_noise(network, STRAIGHT, np.nan),
            ValueError,
            "diffusion must not be negative, got nan",
        ),
        (
            lambda: fj.with_noise(network, STRAIGHT, lambda t, x, args: 1.0),
            TypeError,
            r"diffusion must be.*t -> scalar, got a function of \(t, x, args\)",
        ),
        (
            lambda: fj.guidance.classifier_free(network, lambda: 1.0, None),
            TypeError,
            r"scale must be.*t -> scalar, got a function of \(\)",
        ),
        (
            lambda: fj.with_noise(fj.with_noise(network, STRAIGHT, 0.5), STRAIGHT, 0.5),
            TypeError,
            r"^velocity must be a callable \(t, x, args\), got an SDE: give the velocity field",
        ),
        (
            lambda: fj.velocity(network, NoPair(), "data")(0.5, X0, None),
            TypeError,
            r"schedule\.rates\(t\) must return a pair, their time derivatives, got",
        ),
        (
            lambda: fj.velocity(network, NoPairOfLevels(), "data")(0.5, X0, None),
            TypeError,
            r"schedule\(t\) must return a pair, \(alpha, sigma\), got 0\.5",
        ),
    ],
)
def test_bad_input_is_refused_by_name(call, error, words, unchecked):
    with pytest.raises(error, match=words):
        call()


def test_a_function_of_time_may_have_other_arguments_of_its_own():
    for diffusion in (lambda t, power=2: t**power, jnp.cos, jax.jit(lambda t: 1 - t)):
        sde = fj.with_noise(network, STRAIGHT, diffusion)
        np.testing.assert_allclose(sde.diffusion(0.3, X0, None), diffusion(0.3), rtol=1e-6)
