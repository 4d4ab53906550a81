"""The samplers that the example compares, what it measures them by, and its whole way, in small."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

import flowjax as fj
from tests.examples import imported


@pytest.fixture(scope="module")
def example():
    return imported("digit_samplers")


@pytest.fixture
def small(example, monkeypatch, names):
    """The example with few calls, few digits and the samplers `names`."""
    monkeypatch.setattr(example, "CALLS", (10,))
    monkeypatch.setattr(example, "LABELS", np.repeat(np.arange(10), 20))
    every = example.samplers
    monkeypatch.setattr(example, "samplers", lambda v: {name: every(v)[name] for name in names})
    return example


# --- the energy distance --------------------------------------------------------------------------


def test_the_energy_distance_is_that_of_a_plain_double_loop(example):
    rng = np.random.default_rng()
    x, y = rng.normal(size=(7, 3)), rng.normal(size=(5, 3)) + 1

    def mean_distance(a, b, itself):
        pairs = [
            np.sqrt(np.sum((a[i] - b[j]) ** 2))
            for i in range(len(a))
            for j in range(len(b))
            if not (itself and i == j)
        ]
        return sum(pairs) / len(pairs)

    want = 2 * mean_distance(x, y, False) - mean_distance(x, x, True) - mean_distance(y, y, True)
    assert example.energy_distance(x, y)[0] == pytest.approx(want, rel=1e-12)


def gaussian_energy(m):
    """Of N(0, 1) and N(m, 1): the difference of two draws has variance 2."""
    apart = 2 / np.sqrt(np.pi) * np.exp(-(m**2) / 4) + m * erf(m / 2)
    return 2 * apart - 4 / np.sqrt(np.pi)


@pytest.mark.parametrize("m", [0.5, 2.0])
def test_the_energy_distance_of_two_gaussians_is_the_closed_form(example, m):
    rng = np.random.default_rng()
    x, y = rng.normal(size=(1000, 1)), rng.normal(m, size=(700, 1))
    energy, error = example.energy_distance(x, y)
    # By chance this fails once in a million runs, as do the others below that say five errors.
    assert abs(energy - gaussian_energy(m)) < 5 * error
    # Without the factor 2 of E|X - Y|, or with the mean of another law, it is far off.
    assert abs(energy - gaussian_energy(m + 0.5)) > 5 * error


def many_energies(example, m, count, size):
    rng = np.random.default_rng()
    draws = [(rng.normal(size=(size, 1)), rng.normal(m, size=(size, 1))) for _ in range(count)]
    return np.transpose([example.energy_distance(x, y) for x, y in draws])


def test_the_energy_distance_has_no_bias_where_the_laws_are_the_same(example):
    count, size = 2000, 10
    energies, _ = many_energies(example, 0.0, count, size)
    five_errors = 5 * energies.std() / np.sqrt(count)
    assert abs(energies.mean()) < five_errors
    # Each row compared with itself too would add 2 E|X - X'| / size.
    assert 4 / np.sqrt(np.pi) / size > 2 * five_errors


def test_the_standard_error_is_the_spread_of_many_energy_distances(example):
    count = 500
    energies, errors = many_energies(example, 1.0, count, 50)
    # The relative error of a standard deviation is 1 / sqrt(2 count), of Gaussian numbers.
    assert errors.mean() / energies.std() == pytest.approx(1, abs=5 / np.sqrt(2 * count))


# --- the samplers ---------------------------------------------------------------------------------


NAMES = ("Euler", "Heun", "DPM-Solver++ 2M", "Adams", "SDE: Euler-Maruyama", "SDE: DPM-Solver++ 2M")


@pytest.mark.parametrize("name", NAMES)
def test_a_sampler_calls_the_network_as_often_as_it_says(example, name):
    calls = []

    def field(t, x, args):
        jax.debug.callback(lambda t: calls.append(float(t)), t)
        return -x

    field, step, grid, calls_per_step = example.samplers(fj.velocity(field, fj.CondOT()))[name]
    ts = grid(10 // calls_per_step)
    key = jax.random.key(0) if name.startswith("SDE") else None
    jax.block_until_ready(fj.solve(field, 1.0, ts, step=step, key=key))
    jax.effects_barrier()
    assert len(calls) == 10


def test_the_network_is_the_one_that_was_saved(example, tmp_path):
    key, image = jax.random.key(0), jnp.ones((8, 8))
    network = fj.models.MLP((8, 8), 256, 3, num_classes=10, key=jax.random.key(1))
    eqx.tree_serialise_leaves(tmp_path / "digits.eqx", network)
    read = example.network(tmp_path / "digits.eqx", None, key, 1)
    np.testing.assert_array_equal(read(0.5, image, 3), network(0.5, image, 3))


# --- the whole way --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [("DPM-Solver++ 2M", "SDE: Euler-Maruyama", "SDE: DPM-Solver++ 2M")]
)
def test_a_flow_to_the_digits_passes(small, names, monkeypatch, tmp_path, capsys):
    image, label = (leaf[::4] for leaf in fj.data.digits().train)

    def to_real_images(t, x, args):
        """The velocity of the straight path to the training images of one label, a bit blurred."""
        away = x[None] - t * image
        variance = (1 - t) ** 2 + (0.1 * t) ** 2
        logits = -jnp.sum(away**2, axis=(1, 2)) / (2 * variance)
        shares = jax.nn.softmax(jnp.where(label == args, logits, -jnp.inf))
        rate = (0.01 * t - (1 - t)) / variance
        return jnp.tensordot(shares, image + rate * away, axes=1)

    monkeypatch.setattr(small, "network", lambda *args: to_real_images)
    small.main(tmp_path, seed=np.random.default_rng().integers(2**31))
    tables = capsys.readouterr().out
    assert all(tables.count(f"\n   {name} ") == 2 for name in (*names, "real digits"))
    assert (tmp_path / "digit_samplers.png").exists()


@pytest.mark.parametrize("names", [("Euler",)])
def test_a_flow_that_leads_nowhere_is_an_error(small, monkeypatch, tmp_path):
    monkeypatch.setattr(small, "network", lambda *args: lambda t, x, args: jnp.zeros_like(x))
    with pytest.raises(SystemExit, match="FAILED: after 10 calls Euler's are not like"):
        small.main(tmp_path)
