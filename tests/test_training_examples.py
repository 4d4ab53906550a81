"""The examples of training: their whole way, in small, against what is known of their results."""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.svm import SVC

import flowjax as fj
from tests.examples import imported

# Optax does not hold to the strict promotion of dtypes.
pytestmark = pytest.mark.usefixtures("standard_promotion")


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs an example of so many steps in a folder of its own."""

    def run(name, steps):
        monkeypatch.chdir(tmp_path)
        return imported(name).main(steps)

    return run


@pytest.mark.parametrize("name", ["transport", "edm_digits", "resume"])
def test_what_took_a_loop_and_a_loss_of_its_own_is_a_short_script(name):
    text = inspect.getsource(imported(name).main)
    assert len(text.splitlines()) < 30
    assert not re.search(r"\bscan\b|value_and_grad|jax\.grad|jnp\.mean|while ", text)


@pytest.mark.nightly
def test_transport_makes_paths_of_less_energy(run, tmp_path, capsys):
    run("transport", 400)
    energies = dict(re.findall(r"(\w+) pairs: path energy ([\d.]+)", capsys.readouterr().out))
    independent, exact = (float(energies[name]) for name in ("independent", "exact"))
    # The least energy of any flow is the squared 2-Wasserstein distance of the two ends.
    keys = jax.random.split(jax.random.key(0), 3)
    ends = fj.data.eight_gaussians(keys[0], 1000), fj.data.moons(keys[1], 1000)
    pairs = fj.couplings.exact(keys[2], *ends)
    least = float(jnp.sum((pairs.x0 - pairs.x1) ** 2)) / 1000
    assert 0.8 * least < exact < 1.3 * least < 1.6 * least < independent
    assert (tmp_path / "transport.png").exists()


@pytest.mark.nightly
def test_digits_by_the_recipe_of_edm_are_those_that_are_asked_for(run, tmp_path):
    assert accuracy(*run("edm_digits", 400)) > 0.7
    assert (tmp_path / "edm_digits.png").exists()


def accuracy(images, labels):
    """Of a classifier that has seen real digits only."""
    flat = lambda images: np.reshape(images, (len(images), -1))  # noqa: E731
    real = fj.data.digits().train
    judge = SVC(C=10).fit(flat(real.image), np.asarray(real.label))
    return judge.score(flat(images), np.asarray(labels))


@pytest.mark.nightly
def test_a_training_that_stops_and_goes_on_ends_in_the_same_bits(run):
    with pytest.raises(SystemExit) as ended:
        run("resume", 120)
    assert not ended.value.code


@pytest.mark.nightly
def test_digits_are_drawn_in_one_step(monkeypatch, tmp_path):
    example = imported("one_step_digits")
    monkeypatch.setattr(example, "STEPS", 600)
    one, two, four, teacher = example.main(tmp_path)
    assert min(one, two, four, teacher) > 0.7
    assert (tmp_path / "one_step_digits.png").exists()


@pytest.mark.nightly
def test_networks_of_flax_are_trained_by_the_same_calls():
    pytest.importorskip("flax")
    # The mean log-density of a standard normal sample is far below, that of the truth's own -2.08.
    assert min(imported("flax_network").main(600)) > -2.6


@pytest.mark.nightly
def test_a_schroedinger_bridge_comes_to_its_closed_form(monkeypatch, tmp_path, capsys):
    example = imported("schroedinger_bridge")
    for name, value in {"NUM": 2048, "STEPS": 400, "ITERATIONS": 3}.items():
        monkeypatch.setattr(example, name, value)
    # It ends with an error if mean, variance or covariance are 0.1 off: independent ends are 0.6.
    example.main(tmp_path)
    assert "iteration 3" in capsys.readouterr().out
    assert (tmp_path / "schroedinger_bridge.png").exists()
