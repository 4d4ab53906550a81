"""What CONTRIBUTING.md shows a newcomer runs, and gives the right numbers."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from tests.test_documentation import run_page

PAGE = Path(__file__).parents[1] / "CONTRIBUTING.md"
X0 = jnp.array([0.3, 1.2])


@pytest.fixture(scope="module")
def shown():
    """The names that the page leaves behind."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return run_page(PAGE.read_text(encoding="utf-8"), PAGE.name)


def test_the_step_is_of_second_order_and_takes_pytrees(shown, x64):
    def field(t, x, args):
        return jax.tree.map(lambda x: -2 * x, x)

    def errors(n):
        x0 = {"one": jnp.float64(1.0), "many": jnp.array([0.5, -3.0])}
        x1 = fj.solve(field, x0, fj.uniform_grid(n), step=shown["ralston"])
        error = jax.tree.map(lambda x1, x0: x1 - x0 * np.exp(-2), x1, x0)
        return np.array([error["one"], *error["many"]])

    np.testing.assert_allclose(errors(50) / errors(100), 4, rtol=0.05)


def test_the_sampler_is_ddim_and_wants_a_velocity(shown):
    target = fj.GaussianMixture(jnp.array([0.3, 0.7]), jnp.array([-2.0, 2.0]), 0.5)
    v, ts = target.velocity(fj.CondOT()), fj.uniform_grid(10)
    got, want = (fj.solve(v, 0.4, ts, step=step) for step in (shown["my_ddim"], fj.ddim))
    np.testing.assert_allclose(got, want, rtol=1e-6)
    with pytest.raises(TypeError, match=r"step my_ddim needs a fj\.Velocity"):
        fj.solve(fj.linear_field, 0.4, ts, args=1.0, step=shown["my_ddim"])


def test_the_schedule_is_the_trigonometric_one(shown):
    t = jnp.linspace(0, 1, 11)
    mine, known = shown["Cosine"](), fj.Trigonometric()
    for method in ("__call__", "rates", "half_variance_rate", "log_snr"):
        got, want = (getattr(schedule, method)(t) for schedule in (mine, known))
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    # With data N(mu, c^2) it ends at mu + c x0: to the order of the sampler, which is 2.
    target = fj.Gaussian(jnp.array([3.0, -1.0]), 0.5)
    x1 = fj.solve(target.velocity(mine), X0, fj.uniform_grid(100), step=fj.dpmpp_2m)
    np.testing.assert_allclose(x1, target.mean + 0.5 * X0, atol=5e-3)


def test_the_guidance_is_the_formula_and_keeps_the_schedule(shown):
    guided, worse = shown["guided"], shown["worse"]
    good = fj.velocity(guided.model.model, guided.schedule)
    assert guided.schedule == worse.schedule == shown["Cosine"]()
    t, x = 0.4, X0
    want = worse(t, x, None) + 2 * (good(t, x, None) - worse(t, x, None))
    np.testing.assert_allclose(guided(t, x, None), want, rtol=1e-5)
