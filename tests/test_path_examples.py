"""The example of weighed paths: its estimates against the exact probability."""

import pytest

from tests.examples import EXAMPLES, imported


@pytest.mark.nightly
def test_weighed_paths_find_the_rare_event(tmp_path):
    """Within five standard errors, of which one is below two percent; false alarms one in 1e6."""
    example = imported("path_weights")
    mean, error, truth = example.main(str(tmp_path))
    assert abs(mean - truth) < 5 * error < 0.1 * truth
    assert (tmp_path / "path_weights.png").exists()
    assert len((EXAMPLES / "path_weights.py").read_text().splitlines()) < 80


def test_paths_that_are_not_weighed_are_an_error(monkeypatch, tmp_path):
    """A planted fault: weights of one, for P in the place of Q is no change of law."""
    example = imported("path_weights")
    monkeypatch.setattr(example, "P", example.Q)
    # Not what was compiled with the other P.
    monkeypatch.setattr(example, "weighed", example.weighed.__wrapped__)
    with pytest.raises(SystemExit, match="FAILED"):
        example.main(str(tmp_path))
