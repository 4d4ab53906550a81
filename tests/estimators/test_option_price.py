"""The example, in small: each of its estimates beside Black-Scholes."""

import pytest

from tests.examples import EXAMPLES, imported


@pytest.mark.nightly
def test_a_call_is_priced_in_every_way(tmp_path):
    example = imported("option_price")
    rows, costs = example.main(tmp_path, tolerances=(0.2,), num=10_000)
    error = {name: float(got.standard_error) for name, (got, _) in rows.items()}
    for name, (got, truth) in rows.items():
        # Five standard errors, and the bias of 16 steps, which is below 0.02.
        assert abs(float(got.mean) - truth) < 5 * error[name] + 0.02, name
    assert error["control"] < error["antithetic"] < error["plain"]
    assert error["delta, pathwise"] < error["delta, log-density"] / 2
    # Each is within five times what was asked for, and costs less than plain samples.
    for (_, tolerance), (cost, plain, off) in costs.items():
        assert off < 5 * tolerance
        assert cost < plain
    assert (tmp_path / "option_price.png").exists()
    assert len((EXAMPLES / "option_price.py").read_text().splitlines()) < 80
