"""The page for those who come from flow_matching, where it is installed."""

import pytest

from tests.migrating import pages

torch = pytest.importorskip("torch")
pytest.importorskip("flow_matching")

PAGE = "flow_matching.md"


def test_the_numbers_are_those_of_flow_matching():
    found = pages.differences(PAGE)
    assert len(found) == 4
    assert all(off < 1e-5 for off in found)


@pytest.mark.parametrize("wrong", [("fj.midpoint", "fj.euler"), ("CondOT", "Trigonometric")])
def test_another_method_or_schedule_is_not_taken_for_it(wrong):
    assert pages.first_difference(PAGE, *wrong) > 1e-4


OWN = pages.words("""
    grid log_p0 model model_extras new old scheduler snr t x x_0 x_1
""")


def test_every_name_of_theirs_exists():
    from flow_matching import loss, path, solver, utils
    from flow_matching.path import scheduler
    from flow_matching.utils import manifolds
    from torchdiffeq._impl.odeint import SOLVERS

    scope = dict.fromkeys(OWN, pages.OPAQUE)
    for module in (loss, path, solver, utils, scheduler, manifolds):
        scope |= vars(module)
    scope["scheduler"] = scope["Model"] = pages.OPAQUE
    arguments = (
        *("step_size", "time_grid", "return_intermediates", "enable_grad", "method", "atol"),
        *("rtol", "exact_divergence"),
    )
    spans = [span for left, _ in pages.rows(PAGE) for span in left]
    assert not pages.wrong_names(spans, scope, arguments, set(SOLVERS))
    assert len(spans) > 40
