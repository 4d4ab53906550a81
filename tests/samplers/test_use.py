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
    """How often the model is run on each of the grids."""
    count = []

    def model(t, x, args):
        jax.debug.callback(lambda: count.append(1))
        return FIELD(t, x, args)

    field = fj.velocity(model, SCHEDULE)

    def run(ts):
        count.clear()
        jax.block_until_ready(jax.vmap(lambda x: fj.solve(field, x, ts, step=step))(x0))
        jax.effects_barrier()
        return len(count)

    x0 = jnp.stack(batch * [X0])
    return [run(ts) for ts in grids]


INSIDE = np.linspace(0.1, 1.0, 8, dtype=np.float32)


@pytest.mark.parametrize("step", [fj.ddim, fj.dpmpp_2m, fj.unipc])
def test_a_step_calls_the_model_once(step):
    assert calls(step, INSIDE) == [7]


def test_edm_heun_leaves_the_second_call_out_of_the_steps_that_are_eulers():
    """To sigma = 0, and from alpha = 0; also where many samples are solved at once."""
    step, grids = fj.edm_heun(), (INSIDE, np.asarray(fj.uniform_grid(7)))
    assert calls(step, *grids) == [2 * 7 - 1, 2 * 7 - 2]
    # A callback is run once for the batch or once for each sample of it.
    assert calls(step, *grids, batch=3) in ([13, 12], [39, 36])


def test_velocities_of_one_model_under_equal_schedules_compile_once():
    traced = []

    def model(t, x, args):
        traced.append(1)
        return x

    def run():
        v = fj.velocity(model, fj.VariancePreserving(0.1, 20.0), "data")
        fj.solve(v, X0, fj.uniform_grid(5), step=fj.dpmpp_2m)
        return len(traced)

    assert run() == run()


# --- keys and batches -----------------------------------------------------------------------------

NOISY = {
    "ancestral": (FIELD, fj.ancestral),
    "stochastic_ddim": (FIELD, fj.stochastic_ddim(0.5)),
    "dpmpp_2m_sde": (FIELD, fj.dpmpp_2m_sde),
    "edm_heun": (FIELD, fj.edm_heun(churn=0.2)),
    "exponential_euler": (
        fj.with_noise(FIELD, fj.memoryless(SCHEDULE, start=0.05)),
        fj.exponential_euler,
    ),
}
BRINGS_NOISE = [step for name, (_, step) in NOISY.items() if name != "exponential_euler"]


def test_a_sample_is_the_same_whatever_it_is_drawn_with():
    field, step = NOISY["dpmpp_2m_sde"]
    key, ts = key_of("independence"), fj.uniform_grid(10)
    few = fj.sample(key, field, init, ts, 3, step=step)
    many = fj.sample(key, field, init, ts, 8, step=step, batch_size=4)
    np.testing.assert_allclose(few, many[:3], rtol=1e-5, atol=1e-5)
    assert len(np.unique(np.asarray(many))) == many.size


@pytest.mark.parametrize("name", ["exponential_euler", "unipc", "adams"])
def test_a_sample_is_a_solve_with_keys_of_its_own(name):
    field, step = NOISY.get(name, (FIELD, fj.adams() if name == "adams" else fj.unipc))
    key, ts = key_of(name), fj.uniform_grid(10)
    samples = fj.sample(key, field, init, ts, 5, step=step, batch_size=2)
    init_key, path_key = jax.random.split(jax.random.fold_in(key, 4))
    path_key = path_key if name in NOISY else None
    alone = fj.solve(field, init(init_key), ts, step=step, key=path_key)
    np.testing.assert_allclose(samples[4], alone, rtol=1e-5, atol=1e-5)


# --- gradients ------------------------------------------------------------------------------------


def test_the_gradient_of_a_mean_over_samples_is_that_of_finite_differences(x64):
    """Through `sample`, by the default adjoint, with respect to the field's parameters."""
    key, ts, step = key_of("gradient"), fj.uniform_grid(5), fj.dpmpp_2m_sde

    def reward(means):
        field = fj.GaussianMixture([0.3, 0.7], means, [0.5, 0.5]).velocity(SCHEDULE)
        return jnp.mean(jnp.tanh(fj.sample(key, field, init, ts, 4, step=step)))

    means = np.array([[-2.0, 0.0], [2.0, 1.0]])
    direction = np.array([[0.3, -1.0], [0.8, 0.4]])
    derive = jax.jit(jax.value_and_grad(reward))
    slope = np.sum(derive(means)[1] * direction)
    ends = [derive(means + shift * direction)[0] for shift in (1e-5, -1e-5)]
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-5, rtol=1e-6)


def test_a_schedule_is_differentiated_through_a_sampler(x64):
    ts = fj.uniform_grid(5)

    def end(beta_max):
        schedule = fj.VariancePreserving(0.1, beta_max)
        field = fj.Gaussian(1.0, 0.5).velocity(schedule)
        return fj.solve(field, 0.8, ts, step=fj.dpmpp_2m)

    derive = jax.jit(jax.value_and_grad(end))
    expected = (derive(20.0 + 1e-4)[0] - derive(20.0 - 1e-4)[0]) / 2e-4
    np.testing.assert_allclose(derive(20.0)[1], expected, rtol=1e-7)


# --- bad input ------------------------------------------------------------------------------------

SDE = fj.with_noise(FIELD, 1.0)


@pytest.mark.parametrize("step", [fj.ddim, fj.dpmpp_2m, fj.unipc, fj.edm_heun(), *BRINGS_NOISE])
def test_a_step_for_a_flow_is_refused_an_sde(step):
    with pytest.raises(TypeError, match=r"needs a fj.Velocity, which knows its schedule.*an SDE"):
        fj.solve(SDE, X0, fj.uniform_grid(3), step=step, key=jax.random.key(0))


def test_exponential_euler_is_refused_a_field_and_an_sde_that_with_noise_has_not_made():
    wrapped = fj.SDE(lambda t, x, args: SDE.drift(t, x, args), SDE.diffusion)
    for field in (FIELD, SDE.drift, wrapped, fj.ornstein_uhlenbeck(1.0, 1.0)):
        with pytest.raises(
            TypeError, match=r"exponential_euler needs an SDE made by fj.with_noise"
        ):
            fj.solve(
                *(field, X0, fj.uniform_grid(3)), step=fj.exponential_euler, key=jax.random.key(0)
            )


def test_a_key_is_asked_for_where_there_is_noise_and_refused_where_there_is_none():
    with pytest.raises(TypeError, match="step ancestral draws noise: give key or increments"):
        fj.solve(FIELD, X0, fj.uniform_grid(3), step=fj.ancestral)
    with pytest.raises(ValueError, match="draws no noise"):
        fj.solve(FIELD, X0, fj.uniform_grid(3), step=fj.ddim, key=jax.random.key(0))


@pytest.mark.parametrize("step", [fj.ddim, fj.unipc])
@pytest.mark.parametrize("ts", [[0.0, 0.5, 1.1], [-0.1, 1.0], [0.0, np.nan]])
def test_times_outside_the_schedule_are_refused(step, ts):
    ts = np.array(ts)
    known = np.all(np.isfinite(ts))
    words = r"ts must lie within \[0, 1\]" if known else "ts must be finite, got"
    for call in (
        lambda: fj.solve(FIELD, X0, ts, step=step),
        lambda: fj.trajectory(FIELD, X0, jnp.asarray(ts), step=step),
        lambda: fj.sample(jax.random.key(0), FIELD, init, ts, 2, step=step),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_a_decreasing_grid_is_refused_where_noise_is_drawn():
    ts = fj.uniform_grid(3, 1.0, 0.0)
    with pytest.raises(ValueError, match="must not decrease"):
        fj.solve(FIELD, X0, ts, step=fj.ancestral, key=jax.random.key(0))


@pytest.mark.parametrize("step", [fj.ddim, fj.edm_heun(), fj.adams()])
def test_a_model_with_an_output_of_another_shape_is_refused(step):
    v = fj.velocity(lambda t, x, args: x[0], SCHEDULE)
    with pytest.raises(ValueError, match="model output must have shape"):
        fj.solve(v, X0, fj.uniform_grid(3), step=step)


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
        fj.edm_heun(**settings)


@pytest.mark.parametrize("churn", [np.float32(0.25), np.int64(1), jnp.array(0.25), 0])
def test_a_setting_may_be_any_number_that_is_not_traced(churn, unchecked):
    assert eqx.tree_equal(fj.edm_heun(churn=churn), fj.edm_heun(churn=float(churn)))


def test_a_traced_setting_is_refused(unchecked):
    with pytest.raises(TypeError, match="churn must be a static number, got a traced value"):
        jax.jit(lambda churn: fj.solve(FIELD, X0, INSIDE, step=fj.edm_heun(churn=churn)))(0.1)
