"""Gradients in float32, where conjugate gradients converge before they are stopped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj

TS, C, SIGMA = fj.uniform_grid(20, 0.05), 3.0, 0.5
PRIOR = fj.Gaussian(jnp.zeros(2), C).velocity(fj.CondOT())


@pytest.mark.parametrize("method", ["mmps", "pigdm"])
@pytest.mark.nightly
def test_the_gradient_of_a_posterior_solve_is_that_of_differences(method):
    """The end is affine in y and x_0 for Gaussian data, so a difference is its derivative."""
    options = {"data_std": C} if method == "pigdm" else {}

    def end(y, x0):
        observe = getattr(fj.inverse, method)
        return fj.solve(observe(PRIOR, y, lambda x: x[0], SIGMA, **options), x0, TS)[0]

    key = jax.random.key(0)
    y, x0 = jax.random.normal(key, (50,)), jax.random.normal(jax.random.key(1), (50, 2))
    in_y, in_x0 = jax.jit(jax.vmap(jax.grad(end, (0, 1))))(y, x0)
    ends = jax.jit(jax.vmap(end))
    step = jnp.array([1.0, 0.0])
    np.testing.assert_allclose(in_y, ends(y + 1, x0) - ends(y, x0), rtol=1e-3)
    np.testing.assert_allclose(in_x0[:, 0], ends(y, x0 + step[None]) - ends(y, x0), atol=1e-4)


def test_a_likelihood_that_is_zero_somewhere_leaves_the_evidence_unbiased():
    """Of x_1 > -1 of the chain itself; false alarm 5.7e-7 (five standard errors of 40 runs)."""
    v, ts, num = fj.Gaussian(jnp.zeros(()), 1.0).velocity(fj.CondOT()), fj.uniform_grid(20), 200

    def inside(x):
        return jnp.where(x > -1, 0.0, -jnp.inf)

    def evidence(key):
        init = v.schedule.prior(()).sample
        return fj.inverse.twisted_smc(key, v, inside, init, ts, num).log_evidence

    found = np.exp(jax.jit(jax.vmap(evidence))(jax.random.split(jax.random.key(0), 40)))
    # The chain is linear: its end is normal, with the variance of the recursion of `ancestral`.
    variance, (a0, s0) = 1.0, (0.0, 1.0)
    for t in np.linspace(0, 1, 21)[1:]:
        a1, s1 = t, 1 - t
        kept = a0 * s1 / (s0 * a1)
        data, noise = a0 / (a0**2 + s0**2), s0 / (a0**2 + s0**2)
        factor = a1 * data + s1 * kept * noise
        variance = factor**2 * variance + s1**2 * (1 - kept**2)
        a0, s0 = a1, s1
    from scipy.stats import norm

    truth = norm.sf(-1 / np.sqrt(variance))
    assert abs(found.mean() - truth) < 5 * found.std(ddof=1) / np.sqrt(40)
