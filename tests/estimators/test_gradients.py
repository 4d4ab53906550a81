"""Gradients of expectations against closed forms of the scheme, and against NumPy.

Random checks allow five standard errors: a false alarm in 1.7 million for each number.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from flowjax.estimators import expectation, log_density_gradient, pathwise_gradient
from tests.estimators.problems import (
    ARGS,
    GBM,
    MU,
    NOISE,
    OU,
    SIGMA,
    START,
    as_numpy,
    at_one,
    gbm_moments,
    given,
    square,
)
from tests.solver.random_checks import assert_near, key_of

N = 6
TS = fj.uniform_grid(N)
KEY = jax.random.key(0)
ADDITIVE = fj.SDE(lambda t, x, rate: -rate * x, lambda t, x, rate: NOISE)
TRUTH = dict(
    zip(
        ("mu", "sigma", "start"),
        jax.grad(lambda *a: gbm_moments(N, *a)[1], (0, 1, 2))(MU, SIGMA, START),
        strict=True,
    )
)


@pytest.fixture(scope="module")
def estimates():
    """Both gradients of E X_1^2 of the geometric Brownian motion."""
    how = {"args": ARGS | {"kind": 3}, "batch_size": 10_000}
    return {
        gradient: gradient(square, key_of(gradient.__name__), GBM, given, TS, 40_000, **how)
        for gradient in (pathwise_gradient, log_density_gradient)
    }


def unbiased(estimate):
    for name, truth in TRUTH.items():
        assert_near(estimate.mean[name], truth, estimate.standard_error[name], name)


@pytest.mark.parametrize("gradient", [pathwise_gradient, log_density_gradient])
def test_both_gradients_are_unbiased_in_drift_diffusion_and_start(estimates, gradient):
    unbiased(estimates[gradient])
    assert estimates[gradient].mean["kind"] is None
    wrong = {
        "sign": lambda leaf: -leaf,
        "factor": lambda leaf: 2 * leaf,
        "mean over steps": lambda leaf: leaf / N,
    }
    for change in wrong.values():
        mean = {name: change(estimates[gradient].mean[name]) for name in TRUTH}
        with pytest.raises(AssertionError):
            unbiased(estimates[gradient]._replace(mean=mean))


def test_the_density_costs_variance(estimates):
    paths, density = (
        estimates[g].standard_error for g in (pathwise_gradient, log_density_gradient)
    )
    for name in TRUTH:
        assert density[name] > 2 * paths[name]


def test_the_pathwise_gradient_is_that_of_the_expectation_with_the_error_of_its_samples():
    what = (square, KEY, GBM, given, TS, 40)

    def mean(args):
        return expectation(*what, args=args, batch_size=20).mean

    def one(args, i):
        path_key = jax.random.split(jax.random.fold_in(KEY, i))[1]
        return square(fj.solve(GBM, jnp.asarray(args["start"]), TS, args, key=path_key))

    got = pathwise_gradient(*what, args=ARGS, batch_size=20)
    each = jax.jit(jax.vmap(jax.grad(one), (None, 0)))(ARGS, jnp.arange(40))
    for name, want in jax.grad(mean)(ARGS).items():
        np.testing.assert_allclose(got.mean[name], want, rtol=1e-4)
        samples = as_numpy(each[name])
        np.testing.assert_allclose(got.mean[name], samples.mean(), rtol=1e-4)
        error = samples.std(ddof=1) / np.sqrt(40)
        np.testing.assert_allclose(got.standard_error[name], error, rtol=1e-4)


def test_the_gradient_by_density_is_a_regression_on_the_scores_of_the_paths():
    rate, num = 1.2, 200
    positive = lambda x: (x[0] > 0.4).astype(x.dtype)  # noqa: E731
    got = log_density_gradient(positive, KEY, ADDITIVE, at_one, TS, num, args=rate, batch_size=70)
    paths = as_numpy(fj.sample_paths(KEY, ADDITIVE, at_one, TS, num, args=rate))
    before, after, h = paths[:, :-1], paths[:, 1:], 1 / N
    # log p = -(x' - x + h rate x)^2 / (2 h s^2), summed over steps and elements.
    each = -(after - before + h * rate * before) * before / NOISE**2
    score = each.sum(axis=(1, 2))
    y = (paths[:, -1, 0] > 0.4) * score
    rows = np.stack([np.ones(num), score], axis=1)
    beta, squares, *_ = np.linalg.lstsq(rows, y, rcond=None)
    error = np.sqrt(squares[0] / (num - 2) * np.linalg.inv(rows.T @ rows)[0, 0])
    np.testing.assert_allclose(got.mean, beta[0], rtol=1e-3)
    np.testing.assert_allclose(got.standard_error, error, rtol=1e-3)
    with pytest.raises(AssertionError):  # the mean over elements
        np.testing.assert_allclose(got.mean, beta[0] / 2, rtol=1e-3)


def test_only_the_density_sees_the_jumps_of_f():
    positive = lambda x: (x > 0).astype(x.dtype)  # noqa: E731
    shifted = fj.SDE(lambda t, x, args: 0 * x + args, lambda t, x, args: 1.0)
    how = {"num": 20_000, "args": 0.3}
    start = lambda key: jnp.zeros(())  # noqa: E731
    by_density = log_density_gradient(positive, key_of("jump"), shifted, start, TS, **how)
    truth = np.exp(-(0.3**2) / 2) / np.sqrt(2 * np.pi)
    assert_near(by_density.mean, truth, by_density.standard_error, "the density at the jump")
    assert pathwise_gradient(positive, KEY, shifted, start, TS, **how).mean == 0


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"f": 3.0}, TypeError, r"f must be a function \(x1\) -> scalar"),
        ({"f": lambda x: x}, TypeError, "f must return a real floating scalar"),
        ({"num": 2}, ValueError, "num must be at least 3"),
        ({"args": None}, TypeError, "args must hold a real floating array"),
        ({"args": {"kind": 3}}, TypeError, "args must hold a real floating array"),
        ({"sde": fj.linear_field}, TypeError, "sde must be an SDE"),
        ({"step": fj.milstein}, ValueError, "step"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_input_is_refused(how, error, message):
    what = {"f": jnp.sum, "sde": OU, "num": 10, "args": 1.0} | how
    f, sde, num = (what.pop(name) for name in ("f", "sde", "num"))
    with pytest.raises(error, match=message):
        log_density_gradient(f, KEY, sde, at_one, TS, num, **what)
    if not {"num", "sde", "step"} & set(how):
        with pytest.raises(error, match=message):
            pathwise_gradient(f, KEY, sde, at_one, TS, num, **what)
