"""What a sampler refuses: fields that do not know data and noise, or have no score, and times."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj

SCHEDULE, VP = fj.CondOT(), fj.VariancePreserving()
TARGET = fj.Gaussian(jnp.array([3.0, -1.0]), 0.5)
FIELD = TARGET.velocity(SCHEDULE)
SDE = fj.with_noise(FIELD, 0.5)
X0 = jnp.array([0.3, -1.2])
KEY = jax.random.key(0)
TS = fj.uniform_grid(3)
FLOW_STEPS = {
    "ddim": fj.ddim,
    "dpmpp_2m": fj.dpmpp_2m,
    "unipc": fj.unipc,
    "edm_heun": fj.edm_heun(),
}
NOISY_STEPS = {
    "ancestral": fj.ancestral,
    "stochastic_ddim": fj.stochastic_ddim(0.5),
    "dpmpp_2m_sde": fj.dpmpp_2m_sde,
    "churned edm_heun": fj.edm_heun(churn=0.1),
}
STEPS = {**FLOW_STEPS, **NOISY_STEPS}


def init(key):
    return jax.random.normal(key, (2,))


def network(t, x, args):
    return 0.5 * x


def doors(field, step, ts=TS, key=None):
    """The ways into a solve, also those whose times are traced."""
    return (
        lambda: fj.solve(field, X0, ts, step=step, key=key),
        lambda: fj.trajectory(field, X0, ts, step=step, key=key),
        lambda: jax.jit(lambda ts: fj.solve(field, X0, ts, step=step, key=key))(ts),
        lambda: fj.sample(KEY, field, init, ts, 2, step=step),
        lambda: jax.jit(lambda ts: fj.sample(KEY, field, init, ts, 2, step=step))(ts),
    )


# --- fields ---------------------------------------------------------------------------------------

NO_VELOCITIES = {
    "a plain function, network": network,
    "a plain function, <lambda>": lambda t, x, args: FIELD(t, x, args),
    "a field of the score": TARGET.marginal_score(SCHEDULE),
    "a field of the drift": SDE.drift,
    "an SDE": SDE,
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("given", NO_VELOCITIES)
def test_what_is_no_velocity_is_refused(name, given):
    for call in doors(NO_VELOCITIES[given], STEPS[name], key=KEY if name in NOISY_STEPS else None):
        with pytest.raises(TypeError, match=rf"needs a fj.Velocity, .*, got {given}: make one by"):
            call()


def test_a_density_is_refused_a_sampler_of_a_plain_field():
    with pytest.raises(TypeError, match=r"step must be a method for any ODE.*got ddim"):
        fj.log_likelihood(X0, network, TARGET.log_prob, TS, step=fj.ddim)


@pytest.mark.parametrize(
    "field",
    [
        FIELD,
        SDE.drift,
        fj.ornstein_uhlenbeck(1.0, 1.0),
        fj.SDE(lambda t, x, args: SDE.drift(t, x, args), SDE.diffusion),
        fj.SDE(SDE.drift, lambda t, x, args: jnp.ones(2)),
    ],
    ids=["a velocity", "a drift", "another SDE", "a drift behind a lambda", "another diffusion"],
)
def test_exponential_euler_is_refused_all_but_what_with_noise_makes(field):
    for call in doors(field, fj.exponential_euler, key=KEY):
        with pytest.raises(
            TypeError, match=r"exponential_euler needs an SDE made by fj\.with_noise"
        ):
            call()


COUPLED = fj.velocity(network, SCHEDULE, coupled=True)


@pytest.mark.parametrize("name", NOISY_STEPS)
def test_a_velocity_of_coupled_pairs_is_refused_where_noise_is_drawn(name):
    for v in (COUPLED, fj.change_schedule(COUPLED, VP), COUPLED.with_model(lambda t, x, args: x)):
        for call in doors(v, NOISY_STEPS[name], key=KEY):
            with pytest.raises(ValueError, match="needs the score, which a velocity of coupled"):
                call()


def test_with_noise_and_so_exponential_euler_are_refused_a_velocity_of_coupled_pairs():
    with pytest.raises(ValueError, match="needs the score, which a velocity of coupled pairs"):
        fj.with_noise(COUPLED, 0.5)


@pytest.mark.parametrize("name", [*FLOW_STEPS, "adams"])
@pytest.mark.thin(2)
def test_the_flow_of_coupled_pairs_is_that_of_its_velocity(name):
    step = FLOW_STEPS.get(name, fj.adams())
    plain = fj.velocity(network, SCHEDULE)
    ends = [fj.solve(v, X0, TS, step=step) for v in (COUPLED, plain)]
    np.testing.assert_array_equal(*ends)


# --- times ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "unipc", "edm_heun", "adams"])
def test_times_that_go_forth_and_back_are_refused(name):
    step = FLOW_STEPS.get(name, fj.adams())
    ts = np.array([0.0, 0.5, 0.3, 0.8, 1.0])
    for grid in (ts, ts[::-1]):
        with pytest.raises(ValueError, match="ts must go one way, up or down"):
            fj.solve(FIELD, X0, grid, step=step)


@pytest.mark.parametrize("ts", [[0.1, 0.5, 0.5, 0.9], [0.9, 0.5, 0.5, 0.1]])
def test_times_that_stand_still_go_one_way(ts):
    for step in (fj.ddim, fj.adams(2)):
        without = fj.solve(FIELD, X0, np.array(ts)[[0, 1, 3]], step=fj.ddim)
        got = fj.solve(FIELD, X0, np.array(ts), step=step)
        assert np.all(np.isfinite(got))
    np.testing.assert_allclose(fj.solve(FIELD, X0, np.array(ts), step=fj.ddim), without, rtol=1e-5)


@pytest.mark.parametrize("name", STEPS)
def test_a_step_of_no_length_leaves_the_state_as_it_is(name):
    """At both ends too; edm_heun has another first step from alpha = 0."""
    noisy = name in NOISY_STEPS
    ts = np.array([0.0, 0.0, 0.25, 0.25, 1.0, 1.0])
    dw = np.zeros((5, 2), np.float32) if noisy else None
    x = fj.trajectory(FIELD, X0, ts, step=STEPS[name], increments=dw)
    np.testing.assert_allclose(x[1], x[0], rtol=1e-6)
    np.testing.assert_allclose(x[5], x[4], rtol=1e-6)
    if name != "unipc":  # which corrects it there
        np.testing.assert_allclose(x[3], x[2], rtol=1e-6)


@pytest.mark.parametrize("name", NOISY_STEPS)
def test_a_sampler_that_draws_noise_does_not_go_back(name):
    """With increments, too, which an SDE may take on a decreasing grid; NaN where ts is traced."""
    ts, dw = fj.uniform_grid(3, 0.9, 0.1), jnp.zeros((3, 2))

    def solve(ts):
        return fj.solve(FIELD, X0, ts, step=STEPS[name], increments=dw)

    with pytest.raises(ValueError, match=r"which draws noise by a schedule, got times from 0\.1"):
        solve(ts)
    assert np.all(np.isnan(jax.jit(solve)(ts)))


@pytest.mark.parametrize(
    ("field", "step"),
    [
        (FIELD, None),
        (FIELD, fj.adams()),
        (FIELD, fj.dpmpp_2m),
        (fj.velocity(network, SCHEDULE), fj.ddim),
        (fj.velocity(network, VP, "noise"), fj.midpoint),
        (fj.guidance.classifier_free(FIELD, 2.0, 0.0), fj.euler),
    ],
)
def test_samples_are_not_drawn_from_the_data_end(field, step):
    """The grids of diffusers and k-diffusion run from data's time to noise's."""
    with pytest.raises(ValueError, match=r"ts must not decrease where samples.*from 0\.9 to 0\.0"):
        fj.sample(KEY, field, init, fj.uniform_grid(3, 0.9, 0.0), 3, step=step)


def test_an_ode_of_no_schedule_is_sampled_in_either_direction():
    """A rotation by minus one, and by one where time runs backward."""

    def rotation(t, x, args):
        return jnp.stack([x[1], -x[0]])

    ts = fj.uniform_grid(50, 1.0, 0.0)
    starts = jnp.stack([init(jax.random.split(jax.random.fold_in(KEY, i))[0]) for i in range(3)])
    turn = np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]])
    got = fj.sample(KEY, rotation, init, ts, 3, step=fj.rk4)
    np.testing.assert_allclose(got, np.asarray(starts) @ turn.T, rtol=1e-5, atol=1e-5)


# --- what is not determined -----------------------------------------------------------------------


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("predicts", ["noise", "score"])
@pytest.mark.thin(4)
def test_a_model_that_determines_no_data_at_t_0_is_refused_there_or_nan_where_ts_is_traced(
    name, predicts
):
    v, step = fj.velocity(network, SCHEDULE, predicts), STEPS[name]
    key = KEY if name in NOISY_STEPS else None
    solve, path, traced, sample, _ = doors(v, step, key=key)
    for call in (solve, path, sample):
        with pytest.raises(ValueError, match=rf"a model of the {predicts} does not determine the"):
            call()
    assert np.all(np.isnan(traced()))
    assert np.all(np.isfinite(jax.jit(lambda ts: doors(v, step, ts, key)[0]())(TS[1:])))


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.thin(2)
def test_a_velocity_that_stands_still_at_t_0_is_refused_there_or_nan_where_ts_is_traced(name):
    v, step = fj.velocity(network, fj.Polynomial(2)), STEPS[name]
    solve, _, traced, *_ = doors(v, step, key=KEY if name in NOISY_STEPS else None)
    with pytest.raises(ValueError, match="does not determine the data at t = 0, where alpha = al"):
        solve()
    assert np.all(np.isnan(traced()))
