"""The formulas of the quickstart; that it runs as a whole is checked by running it."""

import importlib.util
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from flowjax.paths import CondOT
from flowjax.processes import Gaussian


@pytest.fixture(scope="module")
def quickstart():
    path = pathlib.Path(__file__).parent.parent / "examples" / "quickstart.py"
    spec = importlib.util.spec_from_file_location("quickstart", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def moments_at_the_end(sde, mean, std, n=2000):
    """Moments of Euler-Maruyama from N(0, 1), from the drift's own coefficients at each time.

    The drift of Gaussian data is a_t x + b_t, so its values at x = 0 and x = 1 name it.
    """
    m, v = 0.0, 1.0
    for i in range(n):
        t, h = i / n, 1 / n
        b, g = (float(field(t, jnp.asarray(0.0), None)) for field in sde)
        a = float(sde.drift(t, jnp.asarray(1.0), None)) - b
        m, v = m + h * (a * m + b), (1 + h * a) ** 2 * v + h * g**2
    return m, v


def test_the_sde_carries_the_noise_to_the_data(x64, quickstart):
    mean, std = 1.5, 0.4
    sde = quickstart.same_marginals(Gaussian(mean, std).velocity(CondOT()))
    m, v = moments_at_the_end(sde, mean, std, n=400)
    # The discrete method is of weak order 1: its error is a few times the step of 1/400.
    np.testing.assert_allclose([m, v], [mean, std**2], atol=0.01)


def test_the_drift_is_the_velocity_and_half_g_squared_times_the_score(x64, quickstart):
    law, schedule = Gaussian(1.5, 0.4), CondOT()
    sde = quickstart.same_marginals(law.velocity(schedule))
    x = jnp.asarray(0.3)
    for t in (0.0, 0.25, 0.9):
        g = float(sde.diffusion(t, x, None))
        assert g == pytest.approx(1 - t)
        want = law.velocity(schedule)(t, x, None) + g**2 / 2 * law.marginal_score(schedule)(
            t, x, None
        )
        np.testing.assert_allclose(sde.drift(t, x, None), want, rtol=1e-12)


def test_a_table_is_aligned(quickstart, capsys):
    quickstart.print_table(("name", "value"), [("a", "1.0"), ("longer", "10.25")])
    assert capsys.readouterr().out.splitlines() == [
        "   name     value",
        "   ------   -----",
        "   a          1.0",
        "   longer   10.25",
    ]
