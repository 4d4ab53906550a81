"""A schedule of the user's own whose ends are zero only up to rounding: all samplers, all ways.

In float32 its alpha(0) is -4e-8, and its sigma(1) 0 or, in a compiled program, 1.5e-4. It is
`Trigonometric` otherwise, whose ends are exact.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj


class Cosine(fj.Schedule):
    """The cosine schedule as one writes it down."""

    def alpha(self, t):
        return jnp.cos(jnp.pi / 2 * (1 - t))

    def sigma(self, t):
        return jnp.sqrt(1 - self.alpha(t) ** 2)


N, STD = 20, 0.7
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
    "exponential_euler": fj.exponential_euler,
}


def data(t, x, args):
    """E[x_1 | x] under either."""
    alpha, sigma = fj.Trigonometric()(t)
    return alpha * STD**2 * x / ((alpha * STD) ** 2 + sigma**2)


FIELDS = {
    "target": lambda schedule: fj.Gaussian(0.0, STD).velocity(schedule),
    "data": lambda schedule: fj.velocity(data, schedule, "data"),
}


def solver(kind, schedule, name):
    """A solve from 1 over a grid, with the same noise under any schedule."""
    v, dw = FIELDS[kind](schedule), None
    if name in NOISY_STEPS:
        dw = jnp.asarray(np.random.default_rng(0).normal(size=N) / np.sqrt(N), jnp.float32)
    if name == "exponential_euler":
        v = fj.with_noise(v, lambda t: 0.8 * (1 - t))
    step = {**FLOW_STEPS, **NOISY_STEPS}[name]
    return lambda ts: fj.solve(v, jnp.float32(1.0), ts, step=step, increments=dw)


def check(kind, name, ts, near, within):
    """Outside of jit and inside, where the times are traced."""
    expected = solver(kind, fj.Trigonometric(), name)(ts)
    end = solver(kind, Cosine(), name)
    np.testing.assert_allclose([end(ts), jax.jit(end)(ts)], [expected] * 2, atol=2e-5)
    if name in FLOW_STEPS:
        assert abs(expected - near) < within


@pytest.mark.parametrize(
    ("kind", "name"),
    [("target", "ddim"), *(("data", name) for name in (*FLOW_STEPS, *NOISY_STEPS))],
)
@pytest.mark.thin(2)
def test_a_sampler_ends_where_it_does_with_exact_ends(kind, name):
    check(kind, name, fj.uniform_grid(N), STD, 0.06)


@pytest.mark.parametrize(
    ("kind", "name"), [("target", "unipc"), *(("data", name) for name in FLOW_STEPS)]
)
def test_a_sampler_goes_back_as_with_exact_ends(kind, name):
    check(kind, name, fj.uniform_grid(N, 1.0, 0.0), 1 / STD, 0.1)


@pytest.mark.parametrize("name", [*FLOW_STEPS, *NOISY_STEPS])
def test_a_model_of_the_noise_is_refused_where_alpha_is_0_but_for_rounding(name):
    v = fj.velocity(lambda t, x, args: x, Cosine(), "noise")
    v = fj.with_noise(v, 0.1) if name == "exponential_euler" else v
    step, key = {**FLOW_STEPS, **NOISY_STEPS}[name], jax.random.key(0)
    with pytest.raises(ValueError, match="model of the noise does not determine the data at t = 0"):
        fj.solve(v, 1.0, fj.uniform_grid(N), step=step, key=key if name in NOISY_STEPS else None)
