"""The page for those who come from diffrax, which is always installed."""

import diffrax
import pytest

from tests.migrating import pages

# Those that a name of the page is an argument of.
ARGUMENTS = (diffrax.diffeqsolve, diffrax.StepTo)
THEIRS = {**vars(diffrax), "diffrax": diffrax}


def test_an_ode_and_an_sde_have_the_numbers_of_diffrax():
    found = pages.first_differences("diffrax.md", 2)
    assert all(off < 1e-5 for off in found)


@pytest.mark.nightly
def test_all_of_the_page_has_the_numbers_of_diffrax():
    found = pages.differences("diffrax.md")
    assert len(found) == 4
    assert all(off < 1e-5 for off in found)


def test_another_method_is_not_taken_for_it():
    assert pages.first_difference("diffrax.md", "fj.heun", "fj.midpoint") > 1e-4


def test_every_name_of_diffrax_exists():
    spans = [span for left, _ in pages.rows("diffrax.md") for span in left]
    scope = {**THEIRS, **dict.fromkeys(OWN, pages.OPAQUE)}
    assert not pages.wrong_names(spans, scope, ARGUMENTS)
    assert len(spans) > 60


OWN = pages.words("""
    diffusion drift dt0 field function path state t0 t1 times ts
""")
