"""The examples of training: their whole way, in small, against what is known of their results."""

import importlib
import pathlib
import re
import runpy
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"

# Optax does not hold to the strict promotion of dtypes.
pytestmark = pytest.mark.usefixtures("standard_promotion")


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs a script of so many steps in a folder of its own, and returns what it has defined."""

    def run(name, steps):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [name, str(steps)])
        return runpy.run_path(str(EXAMPLES / f"{name}.py"))

    return run


def imported(name):
    with pytest.MonkeyPatch.context() as patch:
        # As for a script, whose folder Python searches first.
        patch.syspath_prepend(EXAMPLES)
        return importlib.import_module(name)


@pytest.mark.parametrize("name", ["transport", "edm_digits", "resume"])
def test_what_took_a_loop_and_a_loss_of_its_own_is_a_short_script(name):
    text = (EXAMPLES / f"{name}.py").read_text()
    assert len(text.splitlines()) < 40
    assert not re.search(r"\bscan\b|value_and_grad|jax\.grad|jnp\.mean|while ", text)


def test_transport_makes_paths_of_less_energy(run, tmp_path, capsys):
    run("transport", 500)
    energies = dict(re.findall(r"(\w+) pairs: path energy ([\d.]+)", capsys.readouterr().out))
    independent, exact = (float(energies[name]) for name in ("independent", "exact"))
    # No map of the one law to the other has less than the squared 2-Wasserstein distance, 11.9
    # between samples of 1000; a tenth is for the error of so short a training.
    assert 0.9 * 11.9 < exact < 0.8 * independent
    assert (tmp_path / "transport.png").exists()
'''
'''
