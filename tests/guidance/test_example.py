"""The example: guided flows beside the law whose scores they mix."""

import pytest

import flowjax as fj
from tests.examples import EXAMPLES, imported


@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.nightly
def test_guided_flows_do_not_end_at_the_law_whose_scores_they_mix(monkeypatch, tmp_path):
    """By the distance to it another draw of that law is told from each, not from particles."""
    assert len((EXAMPLES / "guidance.py").read_text().splitlines()) < 80
    example = imported("guidance")
    monkeypatch.setattr(example, "NUM", 200)
    monkeypatch.setattr(example, "TS", fj.uniform_grid(30))
    chance, distances = example.main(tmp_path)
    to_power = {name: distance for name, (distance, _) in distances.items()}
    to_data = {name: distance for name, (_, distance) in distances.items()}
    assert 2 * chance < min(to_power["classifier_free"], to_power["autoguidance"])
    assert to_power.pop("corrected") < 2 * chance
    assert min(to_power, key=to_power.get) in ("interval", "cfg_zero")
    assert min(to_data, key=to_data.get) == "not guided"
    assert max(to_data, key=to_data.get) == "classifier_free"
    assert (tmp_path / "guidance.png").exists()
