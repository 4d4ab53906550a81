"""At a scale of one, guided sampling is conditional sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from tests.guidance.oracles import LABEL, NULL, PREDICTIONS, SCHEDULES, T, X, model

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
@pytest.mark.thin(2)
def test_a_guided_model_at_scale_one_is_the_model(predicts, x64):
    """So that every sampler, which reads what it predicts, is that of the condition."""
    for schedule in SCHEDULES:
        v = model(schedule, predicts)
        x = jnp.asarray(X)
        want = v.model(T, x, LABEL)
        for name, guided in at_scale_one(v).items():
            got = guided.model(T, x, LABEL)
            np.testing.assert_allclose(got, want, rtol=1e-12, err_msg=name)


def test_guided_sampling_at_scale_one_is_conditional_sampling(x64):
    @jax.jit
    def ends(x):
        v = model(fj.VariancePreserving(), "noise")
        fields = {"plain": v} | at_scale_one(v)
        return {name: fj.solve(u, x, TS, LABEL, step=fj.ddim) for name, u in fields.items()}

    found = ends(X)
    plain = found.pop("plain")
    for name, end in found.items():
        np.testing.assert_allclose(end, plain, rtol=1e-12, err_msg=name)
