"""The page for those who come from torchcfm, where it is installed."""

import pytest

from tests.migrating import pages

torch = pytest.importorskip("torch")
torchcfm = pytest.importorskip("torchcfm")

PAGE = "torchcfm.md"


def test_the_numbers_are_those_of_torchcfm():
    found = pages.differences(PAGE)
    assert len(found) == 3
    assert all(off < 1e-5 for off in found)


def test_another_start_is_not_taken_for_it():
    assert pages.first_difference(PAGE, "x0=x0", "x0=-x0") > 1e-4


OWN = ("NeuralODE", "model", "torch_wrapper")


def test_every_name_of_theirs_exists():
    import torchcfm.models.models
    import torchcfm.models.unet
    from torchcfm import conditional_flow_matching, optimal_transport

    scope = {**vars(conditional_flow_matching), **vars(optimal_transport), "torchcfm": torchcfm}
    scope |= dict.fromkeys(OWN, pages.OPAQUE)
    arguments = (
        conditional_flow_matching.ConditionalFlowMatcher.sample_location_and_conditional_flow,
        optimal_transport.OTPlanSampler,
        optimal_transport.OTPlanSampler.sample_plan,
        *("solver", "atol", "rtol", "sensitivity"),
    )
    values = ("exact", "sinkhorn", "unbalanced", "partial", "euler", "dopri5", "adjoint")
    spans = [span for left, _ in pages.rows(PAGE) for span in left]
    assert not pages.wrong_names(spans, scope, arguments, values)
    assert len(spans) > 30
