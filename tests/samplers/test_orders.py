"""Orders of convergence on a flow whose map is known exactly: 0.3 N(-2, 0.25) + 0.7 N(2, 0.25)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from tests.samplers import oracles

X0 = np.array([-1.5, -0.3, 0.4, 1.2])
SCHEDULE = fj.CondOT()
INSIDE, WHOLE = (0.1, 0.9), (0.0, 1.0)


@functools.cache
def truth(ends):
    """At the end, from points at the start."""
    start = X0 * float(oracles.levels(SCHEDULE, ends[0])[1])
    return start, oracles.exact_map(oracles.MIXTURE, SCHEDULE, *ends)(start)


def error(step, n, ends, field=None, grid=None):
    """The largest error at the end of n steps, equal ones unless there is a grid."""
    start, expected = truth(ends)
    field = oracles.field_of(oracles.MIXTURE, SCHEDULE) if field is None else field
    increments = jnp.zeros(n) if isinstance(field, fj.SDE) else None
    ts = ends[0] + (ends[1] - ends[0]) * np.arange(n + 1) / n
    ts[-1] = ends[1]
    ts = ts if grid is None else grid(n)
    solve = jax.vmap(lambda x: fj.solve(field, x, ts, step=step, increments=increments))
    return np.max(np.abs(np.asarray(solve(start)) - expected))


def ratio(step, ends, n=100, field=None, grid=None):
    """By what twice as many steps divide the error."""
    return error(step, n, ends, field, grid) / error(step, 2 * n, ends, field, grid)


def test_euler_of_200_steps_is_near_the_exact_map_and_of_order_1(x64):
    assert error(fj.euler, 200, WHOLE) < 0.02
    assert ratio(fj.euler, WHOLE) == pytest.approx(2.0, abs=0.1)


def test_ddim_is_of_order_1(x64):
    assert ratio(fj.ddim, WHOLE) == pytest.approx(2.0, abs=0.1)


def test_exponential_euler_is_of_order_1_where_there_is_no_noise(x64):
    sde = fj.with_noise(oracles.field_of(oracles.MIXTURE, SCHEDULE), 0.0)
    got = ratio(fj.exponential_euler, WHOLE, field=sde)
    assert got == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("step", [fj.dpmpp_2m, fj.edm_heun()])
def test_an_order_of_2_shows_inside_the_schedule(step, x64):
    assert ratio(step, INSIDE) == pytest.approx(4.0, abs=0.2)


def test_unipc_of_order_2_reaches_order_3_by_its_corrector_inside_the_schedule(x64):
    assert ratio(fj.unipc, INSIDE) == pytest.approx(8.0, abs=0.4)


@pytest.mark.parametrize("order", [2, 4])
def test_adams_is_of_one_order_more_than_its_predictor_on_the_beta_grid(order, x64):
    """Whose first step is of a length like n^(-1/0.7), so that its error hardly matters yet."""
    got = ratio(fj.adams(order), WHOLE, grid=fj.beta_grid)
    assert np.log2(got) == pytest.approx(order + 1, abs=0.3)


@pytest.mark.parametrize("order", [2, 4])
def test_adams_is_of_order_3_on_a_uniform_grid_by_its_first_step(order, x64):
    assert ratio(fj.adams(order), WHOLE) == pytest.approx(8.0, abs=0.8)


@pytest.mark.parametrize("step", [fj.dpmpp_2m, fj.edm_heun()])
def test_from_alpha_0_the_order_is_2_but_for_a_logarithm(step, x64):
    """Step k of the first ones spans h = log((k + 1) / k) of lambda, whatever n is.

    Its error is that of one part in k of n^-2, and the sum of 1/k is log n.
    """
    expected = 4 * np.log(100) / np.log(200)
    assert ratio(step, WHOLE) == pytest.approx(expected, abs=0.1)


def test_from_alpha_0_unipc_is_of_order_2(x64):
    """The first steps and the last predict with order 1 or 2, and weigh 1/n."""
    assert ratio(fj.unipc, WHOLE) == pytest.approx(4.0, abs=0.3)


@pytest.mark.parametrize(
    ("step", "least"),
    [(fj.ddim, 1.9), (fj.dpmpp_2m, 3.4), (fj.edm_heun(), 3.4), (fj.unipc, 3.4)],
)
def test_a_flow_is_followed_backward_from_data_to_noise(step, least, x64):
    """From the exact end, with the same orders."""
    field = oracles.field_of(oracles.MIXTURE, SCHEDULE)
    start, end = truth(WHOLE)

    def error_back(n):
        solve = jax.vmap(lambda x: fj.solve(field, x, fj.uniform_grid(n, 1.0, 0.0), step=step))
        return np.max(np.abs(np.asarray(solve(end)) - start))

    assert error_back(200) < 0.02
    assert error_back(100) / error_back(200) > least
