"""The example of posterior sampling, in small, against the posterior that it knows."""

import numpy as np
import pytest

from tests.examples import EXAMPLES, imported


@pytest.mark.nightly
def test_the_posterior_is_drawn_best_by_mmps_and_twisted_smc(monkeypatch, tmp_path):
    example = imported("posterior")
    monkeypatch.setattr(example, "NUM", 400)
    monkeypatch.setattr(example, "STEPS", 100)
    found = example.main(tmp_path)
    exact = example.exact()
    weights = np.asarray(exact.weights / exact.weights.sum())
    above = weights[np.asarray(exact.means)[:, 1] > 1e-3].sum()
    # Particles that stem from one another count for less: as for a quarter of them.
    error = 5 * np.sqrt(above * (1 - above) / 100)
    for name in ("mmps", "twisted_smc"):
        distance, share = found[name]
        assert abs(share - above) < error
        assert distance < min(found["dps"][0], found["pigdm"][0])
    assert (tmp_path / "posterior.png").exists()


def test_the_example_is_short():
    assert len((EXAMPLES / "posterior.py").read_text().splitlines()) < 80
