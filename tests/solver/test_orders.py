"""Orders of convergence, as slopes of log error against log h, on problems with closed forms.

Errors of one method at several h come from the same Brownian paths (`coarsen`), drawn from a fresh
seed; what a root mean square over the paths still leaves to chance is bounded where it is used.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial.hermite_e import hermegauss

import flowjax as fj

pytestmark = pytest.mark.usefixtures("x64")


def slope(h, errors):
    """The exponent p of errors ~ h^p, by least squares."""
    assert np.all(np.asarray(errors) > 0)
    return np.polyfit(np.log(h), np.log(errors), 1)[0]


def check_slope(h, errors, expected, tolerance):
    measured = slope(h, errors)
    assert abs(measured - expected) <= tolerance, f"measured order {measured:.4f}, not {expected}"


# Ordinary differential equations.


def logistic(t, x, args):
    """x' = x (1 - x) (1 + sin 3t), whose solution is elementary."""
    return x * (1 - x) * (1 + jnp.sin(3 * t))


def logistic_flow(t, x0, t0=0.0):
    time = t - t0 + (np.cos(3 * t0) - np.cos(3 * t)) / 3
    return x0 * np.exp(time) / (1 - x0 + x0 * np.exp(time))


def check_global_order(step, expected, tolerance, ns):
    x0 = np.array([0.1, 0.35])
    errors = [
        np.max(np.abs(fj.solve(logistic, jnp.asarray(x0), fj.uniform_grid(n), step=step) - exact))
        for n in ns
        for exact in [logistic_flow(1.0, x0)]
    ]
    check_slope(1 / np.array(ns), errors, expected, tolerance)


def ralston(field, t0, t1, x, args, dw=None):
    h = t1 - t0
    k1 = field(t0, x, args)
    k2 = field(t0 + 2 * h / 3, x + 2 * h / 3 * k1, args)
    return x + h * (k1 + 3 * k2) / 4


def adams_bashforth_step(field, t0, t1, x, args, dw=None, previous=None):
    now = field(t0, x, args)
    return x + (t1 - t0) * (3 * now - previous) / 2, now


ADAMS_BASHFORTH = fj.Stepper(lambda field, t0, x0, args: field(t0, x0, args), adams_bashforth_step)

ORDERS = {
    "euler": (fj.euler, 1, 0.05, (64, 128, 256, 512)),
    "heun": (fj.heun, 2, 0.05, (32, 64, 128, 256)),
    "midpoint": (fj.midpoint, 2, 0.05, (32, 64, 128, 256)),
    "rk4": (fj.rk4, 4, 0.05, (16, 32, 64, 128)),
    "ralston, the user's own": (ralston, 2, 0.05, (32, 64, 128, 256)),
    "adams_bashforth, a Stepper": (ADAMS_BASHFORTH, 2, 0.05, (64, 128, 256, 512)),
}


@pytest.mark.parametrize("method", ORDERS)
def test_the_global_order_of_a_step_is_its_theory(method):
    check_global_order(*ORDERS[method])


def test_a_missing_half_lowers_heuns_order_and_is_caught():
    def planted(field, t0, t1, x, args, dw=None):
        h = t1 - t0
        k1 = field(t0, x, args)
        return x + h * (k1 + field(t1, x + h * k1, args)) / 2 + h * h * k1 / 10

    with pytest.raises(AssertionError, match="measured order"):
        check_global_order(planted, *ORDERS["heun"][1:])


# Strong orders: root mean square errors against the exact path, over many paths.

FINEST, PATHS, COARSENINGS = 256, 8000, (1, 2, 4, 8)


@functools.cache
def brownian_motion():
    """Increments of PATHS scalar paths on FINEST steps of [0, 1], drawn once from a fresh seed."""
    seed = np.random.default_rng().integers(2**31)
    ts = fj.uniform_grid(FINEST)
    draw = jax.vmap(lambda key: fj.brownian_increments(key, ts, jnp.zeros(())))
    return draw(jax.random.split(jax.random.key(seed), PATHS))


def strong_errors(step, sde, exact):
    """Root mean square error at t = 1 over the paths, for each coarsening of the finest grid."""

    @jax.jit
    def ends(increments):
        def end(dw, k):
            ts = fj.uniform_grid(FINEST // k)
            return fj.solve(sde, X0, ts, step=step, increments=fj.coarsen(dw, k))

        return [jax.vmap(functools.partial(end, k=k))(increments) for k in COARSENINGS]

    increments = brownian_motion()
    truth = exact(np.sum(np.asarray(increments), axis=1))
    return [np.sqrt(np.mean((np.asarray(end) - truth) ** 2)) for end in ends(increments)]


# dX = -p^2 sin X cos^3 X dt + p cos^2 X dW (Ito), X = arctan(p W + tan x0).
P, X0 = 0.6, 0.3
MULTIPLICATIVE = fj.SDE(
    lambda t, x, args: -(P**2) * jnp.sin(x) * jnp.cos(x) ** 3,
    lambda t, x, args: P * jnp.cos(x) ** 2,
)
# The same process in Stratonovich's sense: f - g g'/2, and g g' = -2 p^2 sin X cos^3 X.
STRATONOVICH = fj.SDE(lambda t, x, args: 0 * x, MULTIPLICATIVE.diffusion)


def multiplicative_exact(w, t=1.0):
    return np.arctan(P * w + np.tan(X0))


# dX = (b/sqrt(1+t) - X/(2(1+t))) dt + (a b/sqrt(1+t)) dW, X = (x0 + b (t + a W))/sqrt(1+t).
A, B = 0.4, 1.1
ADDITIVE = fj.SDE(
    lambda t, x, args: B / jnp.sqrt(1 + t) - x / (2 * (1 + t)),
    lambda t, x, args: A * B / jnp.sqrt(1 + t),
)


def additive_exact(w, t=1.0):
    return (X0 + B * (t + A * w)) / np.sqrt(1 + t)


# Chance moves these slopes by a standard deviation of 1e-5 (additive) to 0.008 (multiplicative), as
# measured over 60 seeds, and their means are within 0.008 of the theory: every tolerance is more
# than five standard deviations away, a false alarm in less than one run in a million.
STRONG = {
    "euler_maruyama, multiplicative": (MULTIPLICATIVE, multiplicative_exact, 0.5, 0.05),
    "euler_maruyama, additive": (ADDITIVE, additive_exact, 1.0, 0.03),
    "milstein, multiplicative": (MULTIPLICATIVE, multiplicative_exact, 1.0, 0.06),
    "stochastic_heun, Stratonovich": (STRATONOVICH, multiplicative_exact, 1.0, 0.06),
}


def check_strong_order(step, case):
    sde, exact, expected, tolerance = STRONG[case]
    errors = strong_errors(step, sde, exact)
    check_slope(np.array(COARSENINGS) / FINEST, errors, expected, tolerance)


@pytest.mark.parametrize("case", STRONG)
def test_the_strong_order_of_a_step_is_its_theory(case):
    check_strong_order(getattr(fj, case.split(",")[0]), case)


def with_the_stratonovich_drift(sde, t0, t1, x, args, dw):
    g = sde.diffusion(t0, x, args)
    _, g_dg = jax.jvp(lambda x: sde.diffusion(t0, x, args), (x,), (g,))
    return x + (t1 - t0) * (sde.drift(t0, x, args) + g_dg / 2) + g * dw


def with_sqrt_h_for_h(sde, t0, t1, x, args, dw):
    return x + jnp.sqrt(t1 - t0) * sde.drift(t0, x, args) + sde.diffusion(t0, x, args) * dw


def milstein_without_minus_h(sde, t0, t1, x, args, dw):
    g = sde.diffusion(t0, x, args)
    _, g_dg = jax.jvp(lambda x: sde.diffusion(t0, x, args), (x,), (g,))
    return x + (t1 - t0) * sde.drift(t0, x, args) + g * dw + g_dg * dw * dw / 2


@pytest.mark.parametrize(
    ("planted", "case"),
    [
        (with_the_stratonovich_drift, "euler_maruyama, multiplicative"),
        (with_sqrt_h_for_h, "euler_maruyama, additive"),
        (milstein_without_minus_h, "milstein, multiplicative"),
    ],
)
def test_the_strong_order_catches_the_planted_bug(planted, case):
    with pytest.raises(AssertionError, match="measured order"):
        check_strong_order(planted, case)


# Weak order, without sampling: for geometric Brownian motion dX = mu X dt + sigma X dW a step
# multiplies X by a random factor, whose moments Gauss-Hermite quadrature gives exactly (they are
# polynomials in dW). The factors are independent, so E X_n^m is the n-th power of the m-th moment.

MU, SIGMA = 0.5, 0.6
NODES, WEIGHTS = hermegauss(12)
WEIGHTS = WEIGHTS / np.sum(WEIGHTS)


def geometric(mu):
    return fj.SDE(lambda t, x, args: mu * x, lambda t, x, args: SIGMA * x)


@functools.cache
def one_step(step, sde):
    """``(h, dws) -> X_h`` for each of many increments, from X = 1 at time 0."""
    return jax.jit(
        jax.vmap(
            lambda h, dw: fj.solve(
                sde, jnp.ones(()), jnp.stack([0 * h, h]), step=step, increments=dw[None]
            ),
            in_axes=(None, 0),
        )
    )


def weak_errors(step, sde, moment, ns):
    exact = np.exp(moment * MU + moment * (moment - 1) / 2 * SIGMA**2)
    errors = []
    for n in ns:
        factors = one_step(step, sde)(1 / n, jnp.asarray(NODES / np.sqrt(n)))
        errors.append(abs(np.sum(WEIGHTS * np.asarray(factors) ** moment) ** n - exact))
    return np.array(errors)


def check_weak_order(step, sde, moment):
    ns = np.array([64, 128, 256, 512])
    check_slope(1 / ns, weak_errors(step, sde, moment, ns), 1.0, 0.05)


WEAK = {
    "euler_maruyama": geometric(MU),
    "milstein": geometric(MU),
    # In Stratonovich's sense the drift of the same process is smaller by sigma^2 / 2.
    "stochastic_heun": geometric(MU - SIGMA**2 / 2),
}


@pytest.mark.parametrize("moment", [1, 2])
@pytest.mark.parametrize("method", WEAK)
def test_the_weak_order_is_one(method, moment):
    check_weak_order(getattr(fj, method), WEAK[method], moment)


def test_the_weak_order_catches_the_stratonovich_drift():
    with pytest.raises(AssertionError, match="measured order"):
        check_weak_order(with_the_stratonovich_drift, WEAK["euler_maruyama"], 1)


def test_the_mean_over_all_paths_of_a_binomial_tree_is_the_exact_mean():
    """Increments of +-sqrt(h) have a Gaussian's moments up to the third, so that the mean and the
    mean square of Euler-Maruyama over all 2^n paths are (1 + mu h)^n and the like, exactly."""
    n = 10
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=n)))
    ts = fj.uniform_grid(n)
    ends = jax.vmap(lambda dw: fj.solve(WEAK["euler_maruyama"], 1.0, ts, increments=dw))(
        jnp.asarray(signs / np.sqrt(n))
    )
    h = 1 / n
    np.testing.assert_allclose(np.mean(ends), (1 + MU * h) ** n, rtol=1e-13)
    expected = ((1 + MU * h) ** 2 + SIGMA**2 * h) ** n
    np.testing.assert_allclose(np.mean(ends**2), expected, rtol=1e-13)


# The notes' expansions: X_{t+h} = X_t + h u + h R_t(h), and with noise + sigma_t (W_{t+h} - W_t).
# R is what one step of Euler's method misses, divided by h. It goes to zero as h for a smooth flow
# and, in root mean square, as sqrt(h) for a diffusion whose noise does not depend on the state.

HS = 1 / np.array([32, 64, 128, 256])


def check_local_order(step, expected):
    t, x = 0.4, np.array([0.1, 0.35])
    solve = jax.jit(lambda h: fj.solve(logistic, jnp.asarray(x), jnp.stack([t, t + h]), step=step))
    remainders = [np.max(np.abs(logistic_flow(t + h, x, t) - solve(h))) / h for h in HS]
    check_slope(HS, remainders, expected, 0.05)


@pytest.mark.parametrize(
    ("method", "expected"), [("euler", 1), ("heun", 2), ("midpoint", 2), ("rk4", 4)]
)
def test_the_remainder_of_the_expansion_vanishes_at_the_order_of_the_step(method, expected):
    check_local_order(getattr(fj, method), expected)


def check_local_strong_order(step, sde, exact, expected):
    """Root mean square of R over W_h ~ N(0, h), by quadrature: no sampling."""
    nodes, weights = hermegauss(40)
    solve = jax.jit(
        jax.vmap(
            lambda h, dw: fj.solve(sde, X0, jnp.stack([0 * h, h]), step=step, increments=dw[None]),
            in_axes=(None, 0),
        )
    )
    remainders = []
    for h in HS:
        w = nodes * np.sqrt(h)
        r = (exact(w, h) - np.asarray(solve(h, jnp.asarray(w)))) / h
        remainders.append(np.sqrt(np.sum(weights * r**2) / np.sum(weights)))
    check_slope(HS, remainders, expected, 0.05)


def test_the_remainder_of_a_diffusions_expansion_vanishes_as_sqrt_h():
    check_local_strong_order(fj.euler_maruyama, ADDITIVE, additive_exact, 0.5)


def test_milsteins_remainder_vanishes_as_sqrt_h_also_where_the_noise_depends_on_the_state():
    check_local_strong_order(fj.milstein, MULTIPLICATIVE, multiplicative_exact, 0.5)


@pytest.mark.parametrize("planted", [with_sqrt_h_for_h, with_the_stratonovich_drift])
def test_a_remainder_that_does_not_vanish_is_caught(planted):
    with pytest.raises(AssertionError, match="measured order"):
        check_local_strong_order(planted, MULTIPLICATIVE, multiplicative_exact, 0.5)
