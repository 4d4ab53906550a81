"""Weak orders of the steps that draw noise, on 0.3 N(-2, 0.25) + 0.7 N(2, 0.25), without sampling.

The expectation of a function of the end of the scheme is found by going backward over its steps,
v_i(x) = E v_{i+1}(step(x, dw)), with quadrature over dw and splines through v. The truth is that of
the mixture itself, since all these schemes keep its marginals as their steps become short.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import CubicSpline, RectBivariateSpline

import flowjax as fj
from tests.samplers import oracles

SCHEDULE = fj.CondOT()
FIELD = oracles.field_of(oracles.MIXTURE, SCHEDULE)
SDE = fj.with_noise(FIELD, lambda t: 1.5 - t)

STATES = np.linspace(-8, 8, 201)
DATA = np.linspace(-8, 8, 31)
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(8)
WEIGHTS = WEIGHTS / np.sum(WEIGHTS)
POWERS = (1, 2)


def density(t):
    """Of the path at t, times the distance of STATES, so that a sum over these is an integral."""
    weights, means, stds = oracles.MIXTURE
    a, s = oracles.levels(SCHEDULE, t)
    std = np.hypot(a * stds, s)
    normals = np.exp(-(((STATES[:, None] - a * means) / std) ** 2) / 2) / std / np.sqrt(2 * np.pi)
    return normals @ weights * (STATES[1] - STATES[0])


def moments_of_plain_steps(field, step, ts):
    """E X^p at the end of the scheme, for each p of POWERS."""

    @jax.jit
    def ends(t0, t1):
        def end(x, xi):
            return step(field, t0, t1, x, None, xi * jnp.sqrt(t1 - t0))

        return jax.vmap(lambda x: jax.vmap(lambda xi: end(x, xi))(NODES))(STATES)

    values = np.stack([STATES**p for p in POWERS], axis=-1)
    for t0, t1 in reversed(list(itertools.pairwise(ts))):
        after = CubicSpline(STATES, values)(np.asarray(ends(t0, t1)))
        values = np.einsum("xqp,q->xp", after, WEIGHTS)
    return density(ts[0]) @ values


def moments_of_remembering_steps(field, stepper, ts):
    """The same where v depends on the data expected one step before too."""

    @jax.jit
    def ends(t0, t1, inverse_h):
        def end(x, data, xi):
            dw = xi * jnp.sqrt(t1 - t0)
            return stepper.step(field, t0, t1, x, None, dw, (data, inverse_h))

        over_noise = jax.vmap(end, (None, None, 0))
        return jax.vmap(jax.vmap(over_noise, (None, 0, None)), (0, None, None))(STATES, DATA, NODES)

    steps, inverse_h = [], 0.0
    for t0, t1 in itertools.pairwise(ts):
        x1, (data, inverse) = ends(t0, t1, inverse_h)
        steps.append((np.asarray(x1), np.asarray(data)))
        inverse_h = float(inverse[0, 0, 0])
    values = [np.repeat(STATES[:, None] ** p, len(DATA), axis=1) for p in POWERS]
    for x1, data in reversed(steps):
        values = [RectBivariateSpline(STATES, DATA, v).ev(x1, data) @ WEIGHTS for v in values]
    # The first step weighs what it remembers by zero.
    return np.array([density(ts[0]) @ v[:, 0] for v in values])


def errors(field, step, n):
    """Of the mean and the mean square, after n steps inside the schedule."""
    ts = np.linspace(0.1, 0.9, n + 1)
    remembers = isinstance(step, fj.Stepper)
    moments = moments_of_remembering_steps if remembers else moments_of_plain_steps
    truth = np.array([density(ts[-1]) @ STATES**p for p in POWERS])
    return np.abs(moments(field, step, ts) - truth)


def check(order, field, step_of, n=40):
    """The order that shows between n steps and 2 n."""
    shown = np.log2(errors(field, step_of(n), n) / errors(field, step_of(2 * n), 2 * n))
    np.testing.assert_allclose(shown, order, atol=0.25)


def test_ancestral_is_of_weak_order_1(x64):
    check(1, FIELD, lambda n: fj.ancestral)


def test_exponential_euler_is_of_weak_order_1(x64):
    check(1, SDE, lambda n: fj.exponential_euler)


def test_dpmpp_2m_sde_is_of_weak_order_2(x64):
    check(2, FIELD, lambda n: fj.dpmpp_2m_sde, n=20)


def test_edm_heun_is_of_weak_order_2_where_churn_is_spread_over_the_steps(x64):
    check(2, FIELD, lambda n: fj.edm_heun(churn=2 / n))


def test_five_percent_more_noise_is_caught(x64):
    step = fj.ancestral

    def noisier(field, t0, t1, x, args, dw):
        return step(field, t0, t1, x, args, 1.05 * dw)

    with pytest.raises(AssertionError):
        check(1, FIELD, lambda n: noisier)
