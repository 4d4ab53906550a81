"""The example of rewards, in small: the tilted law, and what the reward alone leads to."""

import pytest

from tests.examples import EXAMPLES, imported

# Optax does not hold to the strict promotion of dtypes.
pytestmark = pytest.mark.usefixtures("standard_promotion")


@pytest.mark.nightly
def test_adjoint_matching_comes_to_the_tilted_law_and_the_reward_alone_does_not(
    monkeypatch, tmp_path
):
    example = imported("rewards")
    both = {name: example.METHODS[name] for name in ("adjoint matching", "all steps")}
    monkeypatch.setattr(example, "METHODS", both)
    table = example.main(tmp_path)
    # The base is 1.29 away, and two sets of exact samples 0.02.
    assert table["adjoint matching"][0] < 0.13
    assert table["all steps"][0] > 0.5
    assert table["all steps"][1] > table["adjoint matching"][1]
    assert (tmp_path / "rewards.png").exists()


def test_the_example_is_short():
    assert len((EXAMPLES / "rewards.py").read_text().splitlines()) < 110
