"""Autoguidance, against its formula by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from tests.guidance.oracles import (
    LABEL,
    PREDICTIONS,
    SCHEDULES,
    T,
    X,
    count,
    data_of,
    level,
    model,
    outputs,
    predicted,
)

guide = fj.guidance.autoguidance


def weak_model(schedule, predicts):
    """The same model with another label."""
    worse = model(schedule, predicts).model
    return fj.velocity(lambda t, x, label: worse(t, x, label + 0.5), schedule, predicts)


@pytest.mark.parametrize("predicts", PREDICTIONS)
def test_the_worse_velocity_is_left_behind_whatever_either_predicts(predicts, x64):
    for schedule, of_weak in zip(SCHEDULES, ("data", "v", "noise"), strict=True):
        worse = predicted("velocity", level(schedule), X, data_of(np, T, X, LABEL + 0.5))
        better = outputs(schedule, "velocity")[1]
        guided = guide(model(schedule, predicts), weak_model(schedule, of_weak), 2.5)
        assert (guided.schedule, guided.predicts) == (schedule, predicts)
        want = worse + 2.5 * (better - worse)
        np.testing.assert_allclose(guided(T, X, LABEL), want, rtol=1e-10)


def test_each_model_is_called_once():
    v = fj.velocity(lambda t, x, args: jnp.sin(x), fj.CondOT())
    weak = fj.velocity(lambda t, x, args: jnp.cos(x), fj.CondOT())
    program = jax.make_jaxpr(lambda x: guide(v, weak, 2.0)(0.5, x, None))(jnp.ones(3))
    assert count(program, "sin") == count(program, "cos") == 1


def test_one_schedule_is_differentiated_once(x64):
    """The worse model's is v's, so that a derivative is not split between two copies."""

    def value(power):
        schedule = fj.Polynomial(power)
        v = guide(model(schedule, "v"), weak_model(fj.Polynomial(power), "data"), 2.0)
        return v(T, X, LABEL).sum()

    eps = 1e-6
    jitted = jax.jit(jax.value_and_grad(value))
    below, above = (jitted(1.5 + sign * eps)[0] for sign in (-1, 1))
    np.testing.assert_allclose(jitted(1.5)[1], (above - below) / (2 * eps), rtol=1e-6)
    v, weak = (make(fj.Polynomial(jnp.array(1.5)), "data") for make in (model, weak_model))
    arrays = eqx.filter(guide(v, weak, jnp.array(2.0)), eqx.is_array)
    assert len(jax.tree.leaves(arrays)) == 2


def test_a_model_of_another_schedule_is_taken_after_a_change_of_it(x64):
    straight, worse = fj.CondOT(), fj.Gaussian(np.zeros(3), 0.9)
    v = model(straight, "data")
    changed = fj.change_schedule(worse.velocity(fj.VariancePreserving()), straight)
    want = -v(T, X, LABEL) * -2.0 - worse.velocity(straight)(T, X, None)
    np.testing.assert_allclose(guide(v, changed, 2.0)(T, X, LABEL), want, rtol=1e-6)


def test_what_the_worse_model_does_not_determine_is_refused():
    path = fj.CondOT()
    v = fj.velocity(lambda t, x, args: 0.5 * x, path)
    weak = fj.velocity(lambda t, x, args: 0.5 * x, path, "noise")
    x, ts = jnp.ones(2), fj.uniform_grid(4)
    with pytest.raises(ValueError, match="noise does not determine the velocity at t = 0"):
        fj.solve(guide(v, weak, 2.0), x, ts)
    with pytest.raises(ValueError, match="noise does not determine the data at t = 0"):
        fj.solve(guide(v, weak, 2.0), x, ts, step=fj.ddim)
    assert np.all(np.isfinite(fj.solve(guide(v, weak, 2.0), x, ts[1:])))


def field(t, x, args):
    return x


@pytest.mark.parametrize(
    ("weak", "error", "words"),
    [
        (field, TypeError, "autoguidance needs a fj.Velocity"),
        (
            fj.velocity(field, fj.VariancePreserving()),
            ValueError,
            r"weak must have the schedule of v, CondOT\(\), got Var.*change_schedule",
        ),
        (
            fj.velocity(field, fj.CondOT(), coupled=True),
            ValueError,
            "weak must be of coupled pairs if and only if v is, got coupled=True beside False",
        ),
        (
            fj.velocity(lambda t, x, args: x[:1], fj.CondOT()),
            ValueError,
            r"the model's output must have shape \(2,\)",
        ),
    ],
)
def test_a_worse_model_that_does_not_fit_is_refused(weak, error, words, unchecked):
    v = fj.velocity(field, fj.CondOT())
    with pytest.raises(error, match=words):
        guide(v, weak, 2.0)(0.5, jnp.ones(2), None)
    with pytest.raises(TypeError, match="scale must be a real number"):
        guide(v, v, None)
