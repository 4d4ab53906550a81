"""At a scale of one, guided sampling is conditional sampling."""

import jax
import numpy as np
import pytest

import flowjax as fj
from tests.guidance.oracles import LABEL, NULL, PREDICTIONS, SCHEDULES, X, model

TS = np.linspace(0.1, 0.9, 4)


def at_scale_one(v):
    """Every function of `fj.guidance` at the scale that does nothing to the condition."""
    guided = fj.guidance.classifier_free(v, 1.0, NULL)
    return {
        "classifier_free": guided,
        "cfg_zero": fj.guidance.cfg_zero(v, 1.0, NULL),
        "autoguidance": fj.guidance.autoguidance(v, model(v.schedule, "data"), 1.0),
        "interval": fj.guidance.interval(guided, 0.3, 0.7),
        "rescaled": fj.guidance.rescaled(guided, 0.7),
        "by_gradient": fj.guidance.by_gradient(v, lambda t, x, args: 1.0),
    }


@pytest.mark.parametrize("predicts", PREDICTIONS)
def test_guidance_at_scale_one_is_conditional_sampling(predicts, x64):
    """To rounding, by a step that reads the velocity and one that reads the data."""

    @jax.jit
    def ends(x):
        found = []
        for schedule, step in zip(SCHEDULES, (fj.heun, fj.ddim, fj.euler), strict=True):
            v = model(schedule, predicts)
            plain = fj.solve(v, x, TS, LABEL, step=step)
            for name, guided in at_scale_one(v).items():
                found.append((plain, {name: fj.solve(guided, x, TS, LABEL, step=step)}))
        return found

    for plain, guided in ends(X):
        for name, end in guided.items():
            np.testing.assert_allclose(end, plain, rtol=1e-12, err_msg=name)
