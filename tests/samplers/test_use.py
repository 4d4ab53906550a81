"""The samplers in the hands of `solve` and `sample`: calls, keys, gradients and bad input."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from tests.solver.random_checks import key_of

SCHEDULE = fj.CondOT()
TARGET = fj.GaussianMixture([0.3, 0.7], [[-2.0, 0.0], [2.0, 1.0]], [0.5, 0.5])
FIELD = TARGET.velocity(SCHEDULE)
X0 = jnp.array([0.3, -1.2])


def init(key):
    return jax.random.normal(key, (2,))


# --- calls of the field ---------------------------------------------------------------------------


def calls(step, *grids, batch=1):
    """How often the field is run on each of the grids."""
    count = []

    def field(t, x, args):
        jax.debug.callback(lambda: count.append(1))
        return FIELD(t, x, args)

    def run(ts):
        count.clear()
        jax.block_until_ready(jax.vmap(lambda x: fj.solve(field, x, ts, step=step))(x0))
        jax.effects_barrier()
        return len(count)

    x0 = jnp.stack(batch * [X0])
    return [run(ts) for ts in grids]


INSIDE = np.linspace(0.1, 1.0, 8, dtype=np.float32)


@pytest.mark.parametrize("method", [fj.ddim, fj.dpmpp_2m, fj.unipc])
def test_a_step_calls_the_field_once(method):
    assert calls(method(SCHEDULE), INSIDE) == [7]


def test_edm_heun_leaves_the_second_call_out_of_the_steps_that_are_eulers():
    """To sigma = 0, and from alpha = 0; also where many samples are solved at once."""
    step, grids = fj.edm_heun(SCHEDULE), (INSIDE, np.asarray(fj.uniform_grid(7)))
    assert calls(step, *grids) == [2 * 7 - 1, 2 * 7 - 2]
    # A callback is run once for the batch or once for each sample of it.
    assert calls(step, *grids, batch=3) in ([13, 12], [39, 36])


def test_steps_of_equal_schedules_compile_once():
    traced = []

    def field(t, x, args):
        traced.append(1)
        return FIELD(t, x, args)

    def run():
        step = fj.dpmpp_2m(fj.VariancePreserving(0.1, 20.0))
        fj.solve(field, X0, fj.uniform_grid(5), step=step)
        return len(traced)

    assert run() == run()


# --- keys and batches -----------------------------------------------------------------------------

NOISY = {
    "ancestral": (FIELD, fj.ancestral(SCHEDULE)),
    "dpmpp_2m_sde": (FIELD, fj.dpmpp_2m_sde(SCHEDULE)),
    "edm_heun": (FIELD, fj.edm_heun(SCHEDULE, churn=0.2)),
    "exponential_euler": (
        fj.with_noise(FIELD, SCHEDULE, fj.memoryless(SCHEDULE, start=0.05)),
        fj.exponential_euler(SCHEDULE),
    ),
}


def test_a_sample_is_the_same_whatever_it_is_drawn_with():
    field, step = NOISY["dpmpp_2m_sde"]
    key, ts = key_of("independence"), fj.uniform_grid(10)
    few = fj.sample(key, field, init, ts, 3, step=step)
    many = fj.sample(key, field, init, ts, 8, step=step, batch_size=4)
    np.testing.assert_allclose(few, many[:3], rtol=1e-5, atol=1e-5)
    assert len(np.unique(np.asarray(many))) == many.size


@pytest.mark.parametrize("name", ["exponential_euler", "unipc", "adams"])
def test_a_sample_is_a_solve_with_keys_of_its_own(name):
    field, step = NOISY.get(name, (FIELD, fj.adams() if name == "adams" else fj.unipc(SCHEDULE)))
    key, ts = key_of(name), fj.uniform_grid(10)
    samples = fj.sample(key, field, init, ts, 5, step=step, batch_size=2)
    init_key, path_key = jax.random.split(jax.random.fold_in(key, 4))
    path_key = path_key if name in NOISY else None
    alone = fj.solve(field, init(init_key), ts, step=step, key=path_key)
    np.testing.assert_allclose(samples[4], alone, rtol=1e-5, atol=1e-5)


# --- gradients ------------------------------------------------------------------------------------


def test_the_gradient_of_a_mean_over_samples_is_that_of_finite_differences(x64):
    """Through `sample`, by the default adjoint, with respect to the field's parameters."""
    key, ts, step = key_of("gradient"), fj.uniform_grid(5), fj.dpmpp_2m_sde(SCHEDULE)

    def reward(means):
        field = fj.GaussianMixture([0.3, 0.7], means, [0.5, 0.5]).velocity(SCHEDULE)
        return jnp.mean(jnp.tanh(fj.sample(key, field, init, ts, 4, step=step)))

    means = np.array([[-2.0, 0.0], [2.0, 1.0]])
    direction = np.array([[0.3, -1.0], [0.8, 0.4]])
    derive = jax.jit(jax.value_and_grad(reward))
    slope = np.sum(derive(means)[1] * direction)
    ends = [derive(means + shift * direction)[0] for shift in (1e-5, -1e-5)]
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-5, rtol=1e-6)


def test_a_schedule_is_differentiated_through_its_step(x64):
    ts = fj.uniform_grid(5)

    def end(beta_max):
        schedule = fj.VariancePreserving(0.1, beta_max)
        field = fj.Gaussian(1.0, 0.5).velocity(schedule)
        return fj.solve(field, 0.8, ts, step=fj.dpmpp_2m(schedule))

    derive = jax.jit(jax.value_and_grad(end))
    expected = (derive(20.0 + 1e-4)[0] - derive(20.0 - 1e-4)[0]) / 2e-4
    np.testing.assert_allclose(derive(20.0)[1], expected, rtol=1e-7)


# --- bad input ------------------------------------------------------------------------------------

MAKERS = [
    fj.ddim,
    fj.ancestral,
    fj.exponential_euler,
    fj.dpmpp_2m,
    fj.dpmpp_2m_sde,
    fj.unipc,
    fj.edm_heun,
]  # All but adams, which is made without a schedule.
SDE = fj.with_noise(FIELD, SCHEDULE, 1.0)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("schedule", [fj.CondOT, None, lambda t: (t, 1 - t)])
def test_what_is_no_schedule_is_refused(make, schedule):
    with pytest.raises(TypeError, match="schedule must be a schedule such as"):
        make(schedule)


@pytest.mark.parametrize("make", [fj.ddim, fj.dpmpp_2m, fj.unipc, fj.edm_heun])
def test_a_step_for_a_flow_is_refused_an_sde(make):
    with pytest.raises(TypeError, match="is for an ODE"):
        fj.solve(SDE, X0, fj.uniform_grid(3), step=make(SCHEDULE), key=jax.random.key(0))


@pytest.mark.parametrize("name", ["ancestral", "dpmpp_2m_sde", "edm_heun"])
def test_a_step_that_brings_its_noise_to_a_flow_is_refused_an_sde(name, unchecked):
    with pytest.raises(TypeError, match=f"{name} is a step for a velocity field"):
        fj.solve(SDE, X0, fj.uniform_grid(3), step=NOISY[name][1], key=jax.random.key(0))


def test_exponential_euler_is_refused_a_plain_field(unchecked):
    step = fj.exponential_euler(SCHEDULE)
    with pytest.raises(TypeError, match="For the flow itself it is ddim"):
        fj.solve(FIELD, X0, fj.uniform_grid(3), step=step, key=jax.random.key(0))
    with pytest.raises(TypeError, match="given a plain field and neither key nor increments"):
        fj.solve(FIELD, X0, fj.uniform_grid(3), step=step)


def test_exponential_euler_is_refused_a_diffusion_that_is_no_scalar():
    sde = fj.SDE(SDE.drift, lambda t, x, args: jnp.ones(2))
    with pytest.raises(ValueError, match="must be one scalar for exponential_euler"):
        fj.solve(
            *(sde, X0, fj.uniform_grid(3)),
            step=fj.exponential_euler(SCHEDULE),
            key=jax.random.key(0),
        )


def test_a_key_is_asked_for_where_there_is_noise_and_refused_where_there_is_none():
    with pytest.raises(TypeError, match="neither key nor increments"):
        fj.solve(FIELD, X0, fj.uniform_grid(3), step=fj.ancestral(SCHEDULE))
    with pytest.raises(ValueError, match="draws no noise"):
        fj.solve(FIELD, X0, fj.uniform_grid(3), step=fj.ddim(SCHEDULE), key=jax.random.key(0))


@pytest.mark.parametrize("make", [fj.ddim, fj.unipc])
@pytest.mark.parametrize("ts", [[0.0, 0.5, 1.1], [-0.1, 1.0], [0.0, np.nan]])
def test_times_outside_the_schedule_are_refused(make, ts):
    step, ts = make(SCHEDULE), np.array(ts)
    for call in (
        lambda: fj.solve(FIELD, X0, ts, step=step),
        lambda: fj.trajectory(FIELD, X0, jnp.asarray(ts), step=step),
        lambda: fj.sample(jax.random.key(0), FIELD, init, ts, 2, step=step),
    ):
        with pytest.raises(ValueError, match=r"ts must lie within \[0, 1\]"):
            call()


def test_a_decreasing_grid_is_refused_where_noise_is_drawn():
    ts = fj.uniform_grid(3, 1.0, 0.0)
    with pytest.raises(ValueError, match="must not decrease"):
        fj.solve(FIELD, X0, ts, step=fj.ancestral(SCHEDULE), key=jax.random.key(0))


@pytest.mark.parametrize("make", [fj.ddim, fj.edm_heun, lambda schedule: fj.adams()])
def test_a_field_of_another_shape_is_refused(make):
    with pytest.raises(ValueError, match="field output must have shape"):
        fj.solve(lambda t, x, args: x[0], X0, fj.uniform_grid(3), step=make(SCHEDULE))


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"churn": -0.1}, ValueError),
        ({"churn": jnp.array([0.1])}, TypeError),
        ({"churn": np.True_}, TypeError),
        ({"churn": True}, TypeError),
        ({"churn": 0.1, "s_tmin": 5.0, "s_tmax": 1.0}, ValueError),
        ({"churn": 0.1, "s_noise": -1.0}, ValueError),
        ({"churn": 0.1, "s_tmin": float("nan")}, ValueError),
        ({"S_churn": 0.1}, TypeError),
    ],
)
def test_bad_settings_of_edm_heun_are_refused(settings, error, unchecked):
    with pytest.raises(error):
        fj.edm_heun(SCHEDULE, **settings)


@pytest.mark.parametrize("churn", [np.float32(0.25), np.int64(1), jnp.array(0.25), 0])
def test_a_setting_may_be_any_number_that_is_not_traced(churn, unchecked):
    assert eqx.tree_equal(
        fj.edm_heun(SCHEDULE, churn=churn), fj.edm_heun(SCHEDULE, churn=float(churn))
    )


def test_a_traced_setting_is_refused(unchecked):
    with pytest.raises(TypeError, match="churn must be a static number, got a traced value"):
        jax.jit(lambda churn: fj.solve(FIELD, X0, INSIDE, step=fj.edm_heun(SCHEDULE, churn=churn)))(
            0.1
        )


def test_a_step_is_a_record_that_shows_its_schedule():
    step = fj.ddim(fj.VariancePreserving(0.1, 20.0))
    assert "VariancePreserving(beta_min=0.1, beta_max=20.0)" in repr(step)
    assert eqx.tree_equal(step, fj.ddim(fj.VariancePreserving(0.1, 20.0)))
