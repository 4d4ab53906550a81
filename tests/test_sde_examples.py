"""The examples of a latent and a neural SDE: what they compute, and their whole way, in small."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from tests.examples import imported

# Optax does not hold to the strict promotion of dtypes.
pytestmark = [pytest.mark.nightly, pytest.mark.usefixtures("standard_promotion")]


@pytest.fixture
def latent(monkeypatch):
    """The example with longer steps, and fewer of training."""
    example = imported("latent_sde")
    grid, indices = fj.grid_through(np.asarray(example.times), max_step=0.01)
    monkeypatch.setattr(example, "ts", grid)
    monkeypatch.setattr(example, "at", indices)
    monkeypatch.setattr(example, "STEPS", 150)
    return example


@pytest.fixture
def neural(monkeypatch):
    """The example with longer steps, fewer paths and fewer steps of training."""
    example = imported("neural_sde")
    grid, indices = fj.grid_through(example.TIMES, max_step=0.1)
    monkeypatch.setattr(example, "ts", grid)
    monkeypatch.setattr(example, "at", indices)
    monkeypatch.setattr(example, "PATHS", 1024)
    monkeypatch.setattr(example, "STEPS", 150)
    return example


@pytest.fixture
def fits(monkeypatch):
    """The data and the result of each call of `fit` that an example has made."""
    calls, fit = [], fj.training.fit

    def noted(model, loss, data, *args, **options):
        result = fit(model, loss, data, *args, **options)
        calls.append((data, result))
        return result

    monkeypatch.setattr(fj.training, "fit", noted)
    return calls


def arguments(tmp_path):
    return ["--out", str(tmp_path), "--seed", str(np.random.default_rng().integers(2**31))]


# --- the latent SDE -------------------------------------------------------------------------------


def kalman(theta, sigma, noise, times, ys):
    """log p(y) of each series, by a filter in NumPy."""
    stationary = sigma**2 / (2 * theta)
    mean, variance, total = np.zeros(len(ys)), stationary, np.zeros(len(ys))
    for gap, y in zip(np.diff(times), ys.T, strict=True):
        decay = np.exp(-theta * gap)
        mean, variance = decay * mean, stationary + decay**2 * (variance - stationary)
        spread = variance + noise**2
        total += -((y - mean) ** 2) / (2 * spread) - np.log(2 * np.pi * spread) / 2
        gain = variance / spread
        mean, variance = mean + gain * (y - mean), (1 - gain) * variance
    return total


def test_the_log_evidence_is_that_of_a_kalman_filter(latent):
    ys = np.random.default_rng().normal(size=(5, 8)).astype(np.float32)
    theta, sigma = 0.7, 1.3
    want = kalman(theta, sigma, latent.NOISE, np.asarray(latent.times, float), ys.astype(float))
    got = latent.log_evidence(jnp.log(jnp.array([theta, sigma])), ys)
    assert float(got) == pytest.approx(want.mean(), rel=1e-4)


def test_the_mean_weight_is_the_evidence_whatever_the_guide(latent):
    rng, draws = np.random.default_rng(), 20_000
    theta, sigma, y = 0.7, 1.3, jnp.asarray(0.7 * rng.normal(size=8), jnp.float32)
    # Goals that are the next observations, held loosely: not the posterior, but near enough to it.
    model = jnp.log(theta), jnp.log(sigma), jnp.zeros(9), jnp.eye(9, 8, -1)
    keys = jax.random.split(jax.random.key(rng.integers(2**31)), draws)
    losses = jax.jit(jax.vmap(latent.negative_elbo, (None, None, 0)))(model, y, keys)
    exact = float(latent.log_evidence(jnp.stack(model[:2]), y[None]))
    weights = np.exp(-np.asarray(losses, float) - exact)
    # Five standard errors, and two percent for steps of 0.01. A weight
    # without u dW, with it of the other sign, or with all of u^2, is farther off.
    assert abs(weights.mean() - 1) < 5 * weights.std() / np.sqrt(draws) + 0.02
    assert -np.mean(losses) < exact


@pytest.mark.nightly
def test_a_latent_sde_learns_the_parameters_of_the_greatest_evidence(latent, fits, tmp_path):
    # This checks theta and sigma against the truth, by five standard errors, and the ELBO.
    latent.main(arguments(tmp_path))
    ((ys, (state, _)),) = fits
    fit = jnp.stack(state.model[:2])
    hessian = jax.hessian(latent.log_evidence)(fit, ys)
    from_best = jnp.linalg.solve(hessian, jax.grad(latent.log_evidence)(fit, ys))
    errors = jnp.sqrt(jnp.diag(jnp.linalg.inv(-len(ys) * hessian)))
    # The distance of the two maxima is no accident of the data: steps of 0.01 cost half an error.
    assert jnp.max(jnp.abs(from_best / errors)) < 2
    assert (tmp_path / "latent_sde.png").exists()


def test_a_latent_sde_that_has_not_learnt_is_an_error(latent, monkeypatch, tmp_path):
    monkeypatch.setattr(latent, "STEPS", 4)
    with pytest.raises(SystemExit, match="FAILED"):
        latent.main(arguments(tmp_path))


# --- the neural SDE -------------------------------------------------------------------------------


def test_the_energy_score_of_brownian_motion_is_that_of_gaussian_vectors(neural):
    rng, draws, size = np.random.default_rng(), 2000, len(neural.TIMES) - 1
    y = jnp.asarray(np.cumsum(rng.normal(size=size + 1)), jnp.float32)
    model = (lambda x: 0 * x, jnp.log(0.7))
    keys = jax.random.split(jax.random.key(rng.integers(2**31)), draws)
    scores = jax.vmap(lambda key: neural.energy_score(model, y, key))(keys)
    # The scaled increments are independent, of standard deviation 0.7.
    x = 0.7 * rng.normal(size=(2, 200_000, size))
    scaled = np.diff(y) / np.sqrt(np.diff(neural.TIMES))
    want = np.linalg.norm(x[0] - scaled, axis=1) - np.linalg.norm(x[0] - x[1], axis=1) / 2
    # By chance once in a million runs.
    error = np.hypot(np.std(scores) / np.sqrt(draws), np.std(want) / np.sqrt(len(want)))
    assert abs(np.mean(scores) - np.mean(want)) < 5 * error


@pytest.mark.nightly
def test_a_neural_sde_learns_the_drift_and_the_diffusion(neural, fits, tmp_path):
    # This checks theta and sigma against the truth, by eight standard errors of a mean of eight.
    neural.main(arguments(tmp_path))
    ((_, (state, _)),) = fits
    # The errors themselves are small, so that the check has power.
    assert jnp.std(jnp.exp(state.model[1])) < 0.1
    assert (tmp_path / "neural_sde.png").exists()


def test_a_neural_sde_that_has_not_learnt_is_an_error(neural, monkeypatch, tmp_path):
    monkeypatch.setattr(neural, "STEPS", 4)
    with pytest.raises(SystemExit, match="FAILED"):
        neural.main(arguments(tmp_path))
