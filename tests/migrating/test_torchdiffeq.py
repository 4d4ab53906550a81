"""The page for those who come from torchdiffeq and torchsde, where they are installed."""

import pytest

from tests.migrating import pages

torch = pytest.importorskip("torch")
torchdiffeq = pytest.importorskip("torchdiffeq")
torchsde = pytest.importorskip("torchsde")

PAGE = "torchdiffeq.md"


def test_the_numbers_are_those_of_torchdiffeq_and_torchsde():
    found = pages.differences(PAGE)
    assert len(found) == 4
    assert all(off < 1e-5 for off in found)


def test_another_method_is_not_taken_for_it():
    assert pages.first_difference(PAGE, "fj.heun", "fj.midpoint") > 1e-4


OWN = pages.words("""
    bm func function h options parameters sde state t ta tb ts y0
""")
# What an equation may be given as, of torchsde's base class.
METHODS = ("f", "g", "h", "f_and_g", "g_prod", "f_and_g_prod")


def test_every_name_of_theirs_exists():
    from torchdiffeq._impl.odeint import SOLVERS
    from torchsde import settings

    def names(group):
        return [value for name, value in vars(group).items() if not name.startswith("_")]

    values = {
        *SOLVERS,
        *("step_size", "grid_constructor", "perturb"),
        *("drift", "f", "grad_free"),
        *names(settings.METHODS),
        *names(settings.NOISE_TYPES),
        *names(settings.SDE_TYPES),
        *names(settings.LEVY_AREA_APPROXIMATIONS),
    }
    arguments = (
        torchdiffeq.odeint,
        torchdiffeq.odeint_adjoint,
        torchsde.BrownianInterval,
        torchsde.BaseSDE,
        *("dt", "adaptive", "dt_min", "logqp", "extra", "extra_solver_state", "names", "bm"),
        *("adjoint_method", "sde_type", *METHODS),
    )
    spans = [span for left, _ in pages.rows(PAGE) for span in left]
    scope = {**vars(torchdiffeq), **vars(torchsde), **dict.fromkeys(OWN, pages.OPAQUE)}
    assert not pages.wrong_names(spans, scope, arguments, values)
    assert len(spans) > 60
