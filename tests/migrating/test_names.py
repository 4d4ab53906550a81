"""Every name that the pages on migrating give of flowjax, and of what JAX has, exists."""

import numpy as np
import pytest

import flowjax as fj
from tests.migrating import pages

# Names of the reader's own, in pieces of code.
OWN = pages.words("""
    Pairs alpha args churn diffusion drift dw eps epsilon field gamma guided indices init
    init_log_prob key labels like lineax m max_step model n network new noise null optimistix
    path posterior prior schedule sde shape sigma sigma_max sigma_min sigmas snr step t times ts
    v value variance weight x x0 x1
""")
ARGUMENTS = (fj.solve, fj.trajectory, fj.sample, fj.losses.flow_matching, fj.convert)
VALUES = ("data", "noise", "score", "v", "velocity")


def wrong(spans):
    return pages.wrong_names(
        spans, {**pages.here(), **dict.fromkeys(OWN, pages.OPAQUE)}, ARGUMENTS, VALUES
    )


@pytest.mark.parametrize("page", pages.PAGES)
def test_every_name_of_flowjax_exists_and_takes_what_it_is_given(page):
    spans = [span for _, right in pages.rows(page) for span in right]
    assert spans
    assert not wrong(spans)


@pytest.mark.parametrize(
    "span",
    [
        "fj.no_such_name",
        "fj.losses.no_such_loss(...)",
        "fj.sample(..., no_such_argument=1)",
        "fj.velocity(..., predicts='epsilon')",
        "no_such_argument=True",
        "nobody",
        "fj.solve(",
    ],
)
def test_a_wrong_name_is_caught(span):
    assert wrong([span])


def test_what_is_right_is_not_called_wrong():
    spans = ["fj.sample", "fj.velocity(network, schedule, predicts='v')", "key=key", "jax.vmap"]
    assert not pages.wrong_names(
        spans,
        {**pages.here(), "network": pages.OPAQUE, "schedule": pages.OPAQUE, "key": pages.OPAQUE},
        ARGUMENTS,
        VALUES,
    )


def test_a_difference_that_is_nan_is_not_passed_over():
    ones, nan = np.ones(2), np.array([np.nan])
    assert pages.difference(([2 * ones, ones], [ones, ones])) == 1
    for first, second in ((ones, nan), (nan, ones)):
        assert np.isnan(pages.difference(([first, second], [first, second])))
