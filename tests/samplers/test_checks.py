"""A step refuses the velocity of another schedule, and times in no order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj

STRAIGHT, VP = fj.CondOT(), fj.VariancePreserving()
TARGET = fj.Gaussian(jnp.array([3.0, -1.0]), 0.5)
FIELD, UNDER_VP = TARGET.velocity(STRAIGHT), TARGET.velocity(VP)
X0 = jnp.array([0.3, -1.2])
KEY = jax.random.key(0)
TS = fj.uniform_grid(3)
MAKERS = {
    "ddim": fj.ddim,
    "ancestral": fj.ancestral,
    "dpmpp_2m": fj.dpmpp_2m,
    "dpmpp_2m_sde": fj.dpmpp_2m_sde,
    "unipc": fj.unipc,
    "edm_heun": fj.edm_heun,
    "churned": lambda schedule: fj.edm_heun(schedule, churn=0.1),
}
NOISY = ("ancestral", "dpmpp_2m_sde", "churned")


def init(key):
    return jax.random.normal(key, (2,))


def network(t, x, args):
    return 0.5 * x


# --- schedules ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAKERS)
def test_the_velocity_of_another_schedule_is_refused(name):
    step, key = MAKERS[name](STRAIGHT), KEY if name in NOISY else None
    for field in (
        UNDER_VP,
        fj.velocity(network, VP, "noise"),
        fj.guidance.classifier_free(UNDER_VP, 2.0, None),
        fj.change_schedule(FIELD, STRAIGHT, VP),
    ):
        for call in (
            lambda field=field: fj.solve(field, X0, TS, step=step, key=key),
            lambda field=field: fj.sample(KEY, field, init, TS, 2, step=step),
            lambda field=field: jax.jit(lambda ts: fj.solve(field, X0, ts, step=step, key=key))(TS),
        ):
            with pytest.raises(
                ValueError,
                match=r"the field belongs to the schedule VariancePreserving\(beta_min=0.1, "
                r"beta_max=20.0\), but the step was made for CondOT\(\): give both the same",
            ):
                call()


def test_exponential_euler_is_refused_the_sde_of_another_schedule():
    sde = fj.with_noise(FIELD, STRAIGHT, 0.5)
    with pytest.raises(ValueError, match="the field belongs to the schedule CondOT"):
        fj.solve(sde, X0, TS, step=fj.exponential_euler(VP), key=KEY)


def test_the_default_schedule_of_edm_heun_is_compared():
    with pytest.raises(ValueError, match=r"the step was made for EDM\(sigma_max=80.0\)"):
        fj.solve(FIELD, X0, TS, step=fj.edm_heun())


def test_a_density_is_refused_a_step_of_another_schedule():
    with pytest.raises(ValueError, match="the step was made for VariancePreserving"):
        fj.log_likelihood(X0, FIELD, TARGET.log_prob, TS, step=fj.ddim(VP))


def test_equal_schedules_and_fields_without_one_are_taken():
    """They give what the field itself does."""
    expected = fj.solve(UNDER_VP, X0, TS, step=fj.ddim(VP))
    for field, schedule in (
        (UNDER_VP, fj.VariancePreserving(jnp.float32(0.1), jnp.float32(20.0))),
        (lambda t, x, args: UNDER_VP(t, x, args), VP),
    ):
        got = fj.solve(field, X0, TS, step=fj.ddim(schedule))
        np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_traced_schedules_are_not_compared(x64):
    """The gradient in a parameter goes through both, and may go through one."""

    def end(high, own):
        step = fj.ddim(fj.VariancePreserving(0.1, own))
        return fj.solve(TARGET.velocity(fj.VariancePreserving(0.1, high)), X0, TS, step=step)[0]

    @jax.jit
    def slopes(high):
        return jax.grad(end, argnums=(0, 1))(high, high), jax.grad(lambda h: end(h, h))(high)

    each, both = slopes(20.0)
    np.testing.assert_allclose(sum(each), both, rtol=1e-10)


# --- times ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "unipc", "edm_heun", "adams"])
def test_times_that_go_forth_and_back_are_refused(name):
    step = fj.adams() if name == "adams" else MAKERS[name](STRAIGHT)
    ts = np.array([0.0, 0.5, 0.3, 0.8, 1.0])
    for grid in (ts, ts[::-1]):
        with pytest.raises(ValueError, match="ts must go one way, up or down"):
            fj.solve(FIELD, X0, grid, step=step)


@pytest.mark.parametrize("ts", [[0.1, 0.5, 0.5, 0.9], [0.9, 0.5, 0.5, 0.1]])
def test_times_that_stand_still_go_one_way(ts):
    for step in (fj.ddim(STRAIGHT), fj.adams(2)):
        without = fj.solve(FIELD, X0, np.array(ts)[[0, 1, 3]], step=fj.ddim(STRAIGHT))
        got = fj.solve(FIELD, X0, np.array(ts), step=step)
        assert np.all(np.isfinite(got))
    np.testing.assert_allclose(
        fj.solve(FIELD, X0, np.array(ts), step=fj.ddim(STRAIGHT)), without, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("field", "step"),
    [
        (FIELD, None),
        (FIELD, fj.adams()),
        (FIELD, fj.dpmpp_2m(STRAIGHT)),
        (network, fj.ddim(STRAIGHT)),
        (fj.velocity(network, VP, "noise"), fj.midpoint),
        (fj.guidance.classifier_free(FIELD, 2.0, None), fj.euler),
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


def test_a_step_for_a_flow_names_the_step_for_its_sde():
    with pytest.raises(TypeError, match="for one of with_noise there is exponential_euler"):
        fj.solve(fj.with_noise(FIELD, STRAIGHT, 0.5), X0, TS, step=fj.ddim(STRAIGHT), key=KEY)
