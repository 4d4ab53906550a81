"""What a field does not say is refused where that is seen, and never made up.

Three tables. A field of one kind where another is needed is refused by its kind, whatever the
times. A time at which a prediction does not determine what is read of it is refused where the grid
is known. What looks like either and is determined all the same is accepted, and right.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj

STRAIGHT, VP, ROOT, STILL = fj.CondOT(), fj.VariancePreserving(), fj.SquareRoot(), fj.Polynomial(2)
TARGET = fj.Gaussian(jnp.array([3.0, -1.0]), 0.5)
X0, TS, KEY = jnp.array([0.3, -1.2]), fj.uniform_grid(4), jax.random.key(0)
ZERO = NULL = jnp.zeros(())


def network(t, x, args):
    return 0.5 * x


def of(schedule, predicts="velocity", coupled=False):
    return fj.velocity(network, schedule, predicts, coupled)


def guided(v):
    return fj.guidance.classifier_free(v, 2.0, NULL)


def solved(field, ts=TS, step=None):
    sde = isinstance(field, fj.SDE)
    key = KEY if sde or step in NOISY.values() else None
    return fj.solve(field, X0, ts, NULL, step=step, key=key)


QUIET = {"ddim": fj.ddim, "dpmpp_2m": fj.dpmpp_2m, "unipc": fj.unipc, "edm_heun": fj.edm_heun()}
NOISY = {
    "ancestral": fj.ancestral,
    "stochastic_ddim": fj.stochastic_ddim(0.5),
    "dpmpp_2m_sde": fj.dpmpp_2m_sde,
    "edm_heun with churn": fj.edm_heun(churn=0.2),
}
SAMPLERS = QUIET | NOISY


def density(field, ts=TS):
    return fj.log_likelihood(X0, field, TARGET.log_prob, ts, args=NULL)


def euler_density(field, ts=TS):
    return fj.euler_log_likelihood(X0, field, TARGET.log_prob, ts, args=NULL)


# --- a field of another kind ----------------------------------------------------------------------

V = of(STRAIGHT)
NOISED = fj.with_noise(V, lambda t: 1 - t)
OWN_SDE = fj.SDE(network, lambda t, x, args: 1 - t)

NO_VELOCITIES = {
    "a plain function": network,
    "a function around a velocity": lambda t, x, args: V(t, x, args),
    "a score": TARGET.marginal_score(STRAIGHT),
    "a model of the data": fj.precondition(network, STRAIGHT),
    "the model of a target": TARGET.velocity(STRAIGHT).model,
    "a bridge's drift": fj.gaussian_bridge(TARGET, TARGET, 1.0).drift,
    "a diffusion's drift": fj.ornstein_uhlenbeck(1.0, 1.0).drift,
    "an SDE": NOISED,
    "an SDE's drift": NOISED.drift,
    "a step": fj.euler,
    "a schedule": STRAIGHT,
}
VELOCITY_NEEDED = {
    **{
        name: lambda field, ts, step=step: solved(field, ts, step)
        for name, step in SAMPLERS.items()
    },
    "sample": lambda field, ts: fj.sample(KEY, field, lambda key: X0, ts, 2, step=fj.ddim),
    "with_noise": lambda field, ts: fj.with_noise(field, 0.5),
    "change_schedule": lambda field, ts: fj.change_schedule(field, VP),
    "guidance": lambda field, ts: guided(field),
    "ddim of the guided": lambda field, ts: solved(guided(field), ts, fj.ddim),
}


def refuses(error, words, call):
    """The same under traced times, where nothing but the kind can be looked at."""
    for run in (call, jax.jit(lambda ts: jax.tree.leaves(call(ts))[0])):
        with pytest.raises(error, match=words):
            run(TS)


@pytest.mark.parametrize("needed", VELOCITY_NEEDED)
def test_what_is_no_velocity_is_refused_where_one_is_needed(needed, unchecked):
    for field in NO_VELOCITIES.values():
        call = VELOCITY_NEEDED[needed]
        refuses(TypeError, "needs a fj.Velocity", lambda ts, f=field, c=call: c(f, ts))


NO_PLAIN_FIELD = ("a score", "a model of the data", "a bridge's drift", "a diffusion's drift")


@pytest.mark.parametrize("name", [*NO_PLAIN_FIELD, "an SDE", "an SDE's drift"])
def test_the_likelihood_of_what_is_known_to_be_no_flow_is_refused(name, unchecked):
    words = "must be a velocity, a plain field.* of a flow, got"
    for likelihood in (density, euler_density):
        refuses(TypeError, words, lambda ts, f=likelihood: f(NO_VELOCITIES[name], ts))


COUPLED = of(STRAIGHT, coupled=True)
SCORE_NEEDED = {
    "with_noise": lambda v, ts: fj.with_noise(v, 0.5).drift(0.5, X0, NULL),
    "the score": lambda v, ts: v.score(0.5, X0, NULL),
    "ancestral": lambda v, ts: solved(v, ts, fj.ancestral),
    "stochastic_ddim": lambda v, ts: solved(v, ts, NOISY["stochastic_ddim"]),
    "dpmpp_2m_sde": lambda v, ts: solved(v, ts, fj.dpmpp_2m_sde),
    "edm_heun with churn": lambda v, ts: solved(v, ts, NOISY["edm_heun with churn"]),
}


@pytest.mark.parametrize("needed", SCORE_NEEDED)
def test_the_score_of_coupled_pairs_is_refused(needed, unchecked):
    """Behind guidance, another schedule and another model too."""
    for v in (
        COUPLED,
        guided(COUPLED),
        fj.change_schedule(COUPLED, VP),
        COUPLED.with_model(lambda t, x, args: x),
    ):
        words = "needs the score, which a velocity of coupled pairs does not determine"
        refuses(ValueError, words, lambda ts, v=v: SCORE_NEEDED[needed](v, ts))


# --- a time at which nothing is said --------------------------------------------------------------

AT_NOISE = {
    f"{predicts} under {type(schedule).__name__}": of(schedule, predicts)
    for predicts in ("noise", "score")
    for schedule in (STRAIGHT, fj.Trigonometric(), ROOT, STILL)
}
AT_NOISE_READ = {
    "a solve": solved,
    "a trajectory": lambda v: fj.trajectory(v, X0, TS, NULL),
    "guidance": lambda v: solved(guided(v), step=fj.midpoint),
    "another model": lambda v: solved(v.with_model(lambda t, x, args: x)),
    "the schedule of the same end": lambda v: solved(fj.change_schedule(v, fj.Trigonometric())),
    "an SDE": lambda v: solved(fj.with_noise(v, 0.5)),
    "exponential_euler": lambda v: solved(fj.with_noise(v, 0.5), step=fj.exponential_euler),
    "sample": lambda v: fj.sample(KEY, v, lambda key: X0, TS, 2, args=NULL),
    "the likelihood": density,
    "the likelihood of Euler's method": euler_density,
    "Heun's method backward": lambda v: solved(v, TS[::-1], fj.heun),
    "a call": lambda v: v(0.0, X0, NULL),
    "a call under jit": lambda v: jax.jit(lambda x: v(ZERO, x, NULL))(X0),
    "a call of the pair": lambda v: v.data_and_noise(ZERO, X0, NULL),
    **{name: lambda v, step=step: solved(v, step=step) for name, step in SAMPLERS.items()},
}


@pytest.mark.parametrize("read", AT_NOISE_READ)
def test_a_model_of_the_noise_or_the_score_is_refused_where_alpha_is_zero(read):
    for name, v in AT_NOISE.items():
        # The velocity of a path that stands still is 0, whatever the data are.
        pair_only = name.endswith("Polynomial") and read not in ("a call of the pair", *SAMPLERS)
        if not pair_only:
            words = f"a model of the {v.predicts} does not determine the .* at t = 0, where alpha"
            with pytest.raises(ValueError, match=words):
                AT_NOISE_READ[read](v)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_velocity_that_stands_still_is_not_read_as_data(name):
    for v in (of(STILL), guided(TARGET.velocity(STILL)), fj.change_schedule(of(STRAIGHT), STILL)):
        with pytest.raises(ValueError, match="velocity does not determine the data at t = 0"):
            solved(v, step=SAMPLERS[name])


AT_DATA = {
    "Heun's method": lambda v: solved(v, step=fj.heun),
    "the Runge-Kutta method": lambda v: solved(v, step=fj.rk4),
    "a step backward": lambda v: solved(v, TS[::-1]),
    "the likelihood": lambda v: density(v, TS[1:]),
    "guidance": lambda v: solved(guided(v), step=fj.heun),
    "an SDE": lambda v: solved(fj.with_noise(v, 0.5), step=fj.stochastic_heun),
    "another schedule": lambda v: solved(fj.change_schedule(v, ROOT), step=fj.heun),
    "a call": lambda v: v(1.0, X0, NULL),
}


@pytest.mark.parametrize("read", AT_DATA)
def test_the_velocity_is_refused_where_the_rate_of_sigma_is_infinite(read):
    for schedule in (VP, ROOT):
        for predicts in ("data", "v"):
            with pytest.raises(
                ValueError, match=r"does not determine the velocity at t = 1, where"
            ):
                AT_DATA[read](of(schedule, predicts))


@pytest.mark.parametrize("step", [fj.stochastic_heun, fj.reversible_heun])
def test_noise_where_there_is_no_score_is_refused(step):
    words = "does not determine the score at t = 1, where sigma = 0 and g is not 0"
    for diffusion in (0.5, lambda t: 0.5 + 0 * t):
        for predicts in ("velocity", "data", "v"):
            v = of(STRAIGHT, predicts)
            for it in (v, guided(v), fj.change_schedule(v, fj.EDM())):
                with pytest.raises(ValueError, match=words):
                    solved(fj.with_noise(it, diffusion), step=step)


@pytest.mark.parametrize("predicts", ["velocity", "data", "noise", "v"])
def test_the_score_is_refused_where_sigma_is_zero(predicts):
    with pytest.raises(ValueError, match="does not determine the score at t = 1, where sigma = 0"):
        of(STRAIGHT, predicts).score(1.0, X0, NULL)
    with pytest.raises(ValueError, match="does not determine the score"):
        fj.convert(X0, 1.0, X0, STRAIGHT, source=predicts, target="score")


FIELDS = {
    "a target's velocity": TARGET.velocity(VP),
    "a target's score": TARGET.marginal_score(VP),
    "a network": of(VP, "noise"),
    "another schedule": fj.change_schedule(TARGET.velocity(VP), STRAIGHT),
    "a guided field": guided(TARGET.velocity(VP)),
    "an SDE": fj.with_noise(TARGET.velocity(VP), fj.memoryless(VP)),
    "a bridge": fj.gaussian_bridge(TARGET, TARGET, 1.0),
}


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("times", [[0.0, 0.5, 1.2], [-0.1, 0.5, 1.0], [0.0, np.nan, 1.0]])
def test_times_that_leave_the_schedule_are_refused(name, times):
    field, ts = FIELDS[name], np.array(times, np.float32)
    key = KEY if isinstance(field, fj.SDE) else None
    calls = [
        lambda: fj.solve(field, X0, ts, NULL, key=key),
        lambda: fj.trajectory(field, X0, jnp.asarray(ts), NULL, key=key, every=2),
        lambda: jax.jit(lambda x: fj.solve(field, x, ts, NULL, key=key))(X0),
        lambda: fj.sample(KEY, field, lambda key: X0, ts, 2, args=NULL),
    ]
    known = np.all(np.isfinite(times))
    words = r"ts must lie within \[0, 1\], the times" if known else "ts must be finite, got"
    for call in calls:
        with pytest.raises(ValueError, match=words):
            call()


def test_the_times_that_leave_are_named_in_full():
    with pytest.raises(ValueError, match=r"got times from 0\.0 to 1\.0000001"):
        solved(TARGET.velocity(VP), np.array([0.0, 0.5, 1.0000001], np.float32), fj.adams())


@pytest.mark.parametrize("name", FIELDS)
def test_samples_are_not_drawn_towards_noise(name):
    with pytest.raises(ValueError, match="ts must not decrease where"):
        fj.sample(KEY, FIELDS[name], lambda key: X0, TS[::-1], 2, args=NULL)


@pytest.mark.parametrize("likelihood", [density, euler_density])
def test_a_density_is_refused_times_that_leave_the_schedule(likelihood):
    with pytest.raises(ValueError, match=r"ts must lie within \[0, 1\]"):
        likelihood(TARGET.velocity(VP), np.array([0.0, 0.5, 1.2]))


class Root(fj.Schedule):
    """A user's schedule that falls like a square root, and does not say how its square falls."""

    def alpha(self, t):
        return t

    def sigma(self, t):
        return jnp.sqrt(1 - t)


class RootThatSaysEnough(Root):
    def variance(self, t):
        return 1 - t


@pytest.mark.parametrize(
    "field",
    [
        lambda schedule: of(schedule, "data"),
        lambda schedule: of(schedule, "score"),
        TARGET.velocity,
        lambda schedule: fj.with_noise(of(schedule), 0.5),
    ],
)
def test_a_rate_that_a_schedule_does_not_tell_is_refused(field):
    """It tells it by the rate of its square. A step that is not taken there needs it not."""
    step = fj.stochastic_heun if isinstance(field(Root()), fj.SDE) else fj.heun
    ts = TS[1:]
    with pytest.raises(ValueError, match=r"rate of sigma.*give .*variance\(t\)"):
        solved(field(Root()), ts, step)
    assert np.all(np.isfinite(solved(field(Root()), ts)))
    assert np.all(np.isfinite(solved(of(Root()), ts, fj.heun)))


def test_a_schedule_that_tells_the_rate_of_its_square_is_taken_to_the_end():
    ends = [solved(TARGET.velocity(s), TS, fj.heun) for s in (RootThatSaysEnough(), ROOT)]
    np.testing.assert_allclose(*ends, rtol=1e-5)


def test_a_schedule_whose_numbers_are_arrays_is_looked_at_too():
    with pytest.raises(ValueError, match="a model of the noise does not determine"):
        solved(of(fj.Polynomial(jnp.float32(1.0)), "noise"))


# --- what is determined ---------------------------------------------------------------------------


def accepted(field, ts=TS, step=None):
    """Traces a solve; what is refused is refused then."""
    jax.eval_shape(lambda ts: solved(field, ts, step), ts)
    jax.eval_shape(lambda x: solved(field, ts, step) + x, X0)


def test_what_says_enough_is_accepted_at_both_ends():
    for schedule in (STRAIGHT, fj.Trigonometric(), ROOT):
        for predicts in ("velocity", "data", "v"):
            accepted(of(schedule, predicts))
    for predicts in ("noise", "score"):
        for schedule in (VP, fj.EDM(), fj.VarianceExploding(0.01, 10.0)):
            accepted(of(schedule, predicts))
            # Alpha is 0 at t = 0 in the new schedule alone.
            accepted(fj.change_schedule(of(schedule, predicts), STRAIGHT))
            accepted(fj.change_schedule(of(schedule, predicts), STRAIGHT), step=fj.dpmpp_2m)
    # t = 0 of the new schedule is no end of the old one.
    accepted(fj.change_schedule(of(STRAIGHT, "noise"), fj.EDM()))
    for step in (fj.heun, fj.rk4):
        accepted(of(VP), step=step)
        accepted(of(VP, "score"), step=step)
        for predicts in ("data", "v"):
            accepted(of(STRAIGHT, predicts), step=step)
    for predicts in ("data", "v"):
        for step in (fj.euler, *QUIET.values()):
            accepted(of(ROOT, predicts), step=step)
            # Nor does the density of the Euler sampler call it at the data end.
            jax.eval_shape(lambda x, v=of(ROOT, predicts): euler_density(v) + x, X0)
    accepted(fj.velocity(fj.precondition(network, STRAIGHT), STRAIGHT, "data"), step=fj.heun)
    accepted(fj.velocity(TARGET.marginal_score(VP), VP, "score"), step=fj.heun)
    accepted(TARGET.velocity(STILL), step=fj.ddim)
    accepted(of(STILL))
    accepted(COUPLED)
    for step in QUIET.values():
        accepted(COUPLED, step=step)


@pytest.mark.parametrize("step", [fj.stochastic_heun, fj.reversible_heun])
def test_noise_that_vanishes_where_there_is_no_score_is_accepted(step):
    accepted(fj.with_noise(V, lambda t: 1 - t), step=step)
    accepted(fj.with_noise(V, 0.5, noise_until=TS[-2]), step=step)
    accepted(fj.with_noise(V, 0.0), step=step)
    accepted(fj.with_noise(of(VP), 0.5), step=step)  # sigma' is infinite: there is a score
    accepted(fj.with_noise(of(STRAIGHT, "score"), 0.5), TS[1:], step)
    accepted(fj.with_noise(V, 0.5))  # not called there


def exact_noise(t, x, args):
    """The noise that the marginal of TARGET expects: a model of it that is right."""
    return (1 - t) * (x - t * TARGET.mean) / (t**2 * 0.5**2 + (1 - t) ** 2)


def test_what_is_refused_is_what_would_be_wrong():
    """From just after t = 0 the model that is refused there ends where the closed form does."""
    v, ts = fj.velocity(exact_noise, STRAIGHT, "noise"), fj.uniform_grid(200, 1e-3)
    # A deviation of the marginal stays one: x_1 = mu + (s_1 / s_0) (x_0 - alpha_0 mu).
    size = np.sqrt(ts[0] ** 2 * 0.5**2 + (1 - ts[0]) ** 2)
    expected = TARGET.mean + 0.5 / size * (X0 - ts[0] * TARGET.mean)
    np.testing.assert_allclose(solved(v, ts, fj.dpmpp_2m), expected, atol=2e-3)


# --- what only a traced value could tell ----------------------------------------------------------

NOISE, DATA, SLOW = of(STRAIGHT, "noise"), of(ROOT, "data"), of(STILL)


def under_jit(function, *arguments):
    return lambda: jax.jit(function)(*arguments)


def traced(field, step=None, ts=TS):
    return under_jit(lambda ts: solved(field, ts, step), ts)


def hidden(v):
    """The same behind a function, which knows of no schedule."""
    return lambda t, x, args: v(t, x, args)


def own_loop(v):
    def euler(x, t):
        return x + v(t, x, NULL) / 4, None

    return jax.lax.scan(euler, X0, TS[:-1])[0]


def noised(g, v=V):
    return fj.with_noise(v, g)


MADE_UP = {
    # A model of the noise or the score where alpha is zero.
    "the noise, on a traced grid": traced(NOISE),
    "a model of the score, on a traced grid": traced(of(STRAIGHT, "score")),
    "the noise, guided": traced(guided(NOISE)),
    "the noise, of another model": traced(NOISE.with_model(lambda t, x, args: x)),
    "the noise, under a schedule of the same end": traced(fj.change_schedule(NOISE, ROOT)),
    "the noise, of a traced schedule": under_jit(
        lambda n: solved(of(fj.Polynomial(n), "noise")), 1.0
    ),
    "the noise, behind a function": lambda: solved(hidden(NOISE)),
    "the noise, under vmap": lambda: jax.vmap(lambda ts: solved(NOISE, ts))(TS[None])[0],
    "the noise, in a loop of one's own": lambda: own_loop(NOISE),
    "the noise, in a call": under_jit(lambda t: NOISE(t, X0, NULL), 0.0),
    "the noise, converted": under_jit(
        lambda t: fj.convert(X0, t, X0, STRAIGHT, source="noise", target="data"), 0.0
    ),
    "the noise, backward": traced(NOISE, fj.heun, TS[::-1]),
    "the noise, in an SDE": traced(noised(0.5, NOISE)),
    "the noise, in an SDE behind a function": lambda: solved(
        fj.SDE(hidden(noised(0.5, NOISE).drift), noised(0.5, NOISE).diffusion)
    ),
    "the noise, in exponential_euler": traced(noised(0.5, NOISE), fj.exponential_euler),
    "the noise, in sample": under_jit(
        lambda ts: fj.sample(KEY, NOISE, lambda key: X0, ts, 1, args=NULL)[0], TS
    ),
    "the noise, in the likelihood": under_jit(lambda ts: density(NOISE, ts), TS),
    "the noise, in the likelihood of Euler's method": under_jit(
        lambda ts: euler_density(NOISE, ts), TS
    ),
    # In a sampler; the others are in tests/samplers/test_checks.py.
    "the noise, in ddim": traced(NOISE, fj.ddim),
    # A velocity that stands still.
    "the velocity that stands still, read as data": under_jit(
        lambda t: fj.convert(X0, t, X0, STILL, source="velocity", target="data"), 0.0
    ),
    "the velocity that stands still, under another schedule": traced(
        fj.change_schedule(SLOW, STRAIGHT)
    ),
    "the velocity that stands still, in ddim": traced(SLOW, fj.ddim),
    # The velocity from data where the rate of sigma is infinite.
    "the rate of sigma, in Heun's method": traced(DATA, fj.heun),
    "the rate of sigma, behind a function": lambda: solved(hidden(DATA), step=fj.heun),
    "the rate of sigma, guided": traced(guided(DATA), fj.heun),
    "the rate of sigma, backward": traced(DATA, ts=TS[::-1]),
    "the rate of sigma, in a call": under_jit(lambda t: DATA(t, X0, NULL), 1.0),
    "the rate of sigma, in the likelihood": under_jit(lambda ts: density(DATA, ts), TS),
    "the rate of sigma, of the new schedule": traced(fj.change_schedule(V, ROOT), fj.heun),
    # Times outside of the schedule, or that turn back.
    **{
        f"{ts}, in {name}": traced(TARGET.velocity(STRAIGHT), step, jnp.array(ts))
        for ts in ([0.0, 0.5, 1.2], [-0.2, 0.5, 1.0])
        for name, step in {"heun": fj.heun, "ddim": fj.ddim, "dpmpp_2m": fj.dpmpp_2m}.items()
    },
    **{
        f"back and forth, in {name}": traced(V, step, jnp.array([0.0, 0.6, 0.4, 0.9]))
        for name, step in {"dpmpp_2m": fj.dpmpp_2m, "unipc": fj.unipc, "adams": fj.adams()}.items()
    },
    "a bridge after its end": under_jit(
        lambda t: fj.gaussian_bridge(TARGET, TARGET, 1.0).drift(t, X0, None), 1.5
    ),
    # The score where sigma is zero.
    "the score, in a call": under_jit(lambda t: V.score(t, X0, NULL), 1.0),
    "the score, converted": under_jit(
        lambda t: fj.convert(X0, t, X0, STRAIGHT, source="data", target="score"), 1.0
    ),
    "the score, of a traced g": under_jit(
        lambda g: solved(noised(g), step=fj.stochastic_heun), 0.5
    ),
    "the score, on a traced grid": traced(noised(0.5), fj.reversible_heun),
    "the score, guided": traced(noised(0.5, guided(V)), fj.stochastic_heun),
    "the score, behind a function": lambda: solved(
        fj.SDE(hidden(noised(0.5).drift), noised(0.5).diffusion), step=fj.stochastic_heun
    ),
}


@pytest.mark.parametrize("name", MADE_UP)
@pytest.mark.thin(9)
def test_what_only_a_traced_value_could_tell_is_nan(name):
    assert np.all(np.isnan(MADE_UP[name]()))


def test_where_there_is_no_noise_the_drift_and_its_gradients_are_those_of_the_velocity():
    """At t = 1, where there is no score; also in g, though g is zero there."""
    target = TARGET.velocity(STRAIGHT)

    def value(which, x, g):
        sde = fj.with_noise(target, lambda t: g * (1 - t))
        return jnp.sum((sde.drift if which else target)(1.0, x, None) ** 2)

    both = jax.jit(jax.value_and_grad(value, argnums=(1, 2)), static_argnums=0)
    for got, want in zip(
        jax.tree.leaves(both(1, X0, 0.7)), jax.tree.leaves(both(0, X0, 0.7)), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-6)
    second = jax.jit(jax.grad(jax.grad(lambda g: fj.with_noise(target, g).drift(0.5, X0, None)[0])))
    # u + g^2/2 score, twice by g.
    np.testing.assert_allclose(second(0.0), target.score(0.5, X0, None)[0], rtol=1e-6)


def test_data_alone_say_nothing_of_the_noise_of_coupled_pairs_at_the_data():
    """Of independent pairs the noise is zero on average there."""
    back = fj.uniform_grid(4, 1.0, 0.0)

    def start(v, ts):
        return fj.solve(v, jnp.ones(2), ts, step=fj.ddim)

    coupled, independent = of(STRAIGHT, "data", coupled=True), of(STRAIGHT, "data")
    with pytest.raises(ValueError, match="of coupled pairs, data alone says nothing of the noise"):
        start(coupled, back)
    assert np.all(np.isnan(jax.jit(lambda ts: start(coupled, ts))(back)))
    assert np.all(np.isfinite(start(independent, back)))
