"""Guidance in an interval and rescaled, against their formulas by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from tests.guidance.oracles import (
    LABEL,
    NULL,
    PREDICTIONS,
    SCHEDULES,
    T,
    X,
    count,
    level,
    model,
    outputs,
    velocity_of,
)

W = 2.5
PAIRS = list(zip(PREDICTIONS, (*SCHEDULES, *SCHEDULES[:2]), strict=True))


def guided(schedule=SCHEDULES[0], predicts="data"):
    return fj.guidance.classifier_free(model(schedule, predicts), W, NULL)


def by_hand(u0, u1):
    return (1 - W) * u0 + W * u1


# --- interval -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("predicts", "schedule"), PAIRS)
def test_there_is_guidance_between_two_times_alone(predicts, schedule, x64):
    v = fj.guidance.interval(guided(schedule, predicts), 0.3, 0.7)
    assert (v.schedule, v.predicts) == (schedule, predicts)
    ts = np.array([0.2, 0.3, 0.5, 0.7, 0.8])
    got = jax.jit(jax.vmap(lambda t: v(t, X, LABEL)))(ts)
    for t, u in zip(ts, got, strict=True):
        u0, u1 = outputs(schedule, "velocity", t)
        want = by_hand(u0, u1) if 0.3 <= t <= 0.7 else u1
        np.testing.assert_allclose(u, want, rtol=1e-9)


def test_outside_of_the_interval_the_model_alone_is_paid_for():
    calls = []

    def counted(t, x, label):
        jax.debug.callback(lambda _: calls.append(None), label)
        return label * x

    v = fj.guidance.classifier_free(fj.velocity(counted, fj.CondOT()), W, 0.0)
    v = fj.guidance.interval(v, 0.25, 0.5)
    fj.solve(v, jnp.ones(2), fj.uniform_grid(8), 1.0).block_until_ready()
    jax.effects_barrier()
    # Of a batch of two each is counted, in the steps that begin at 2/8, 3/8 and 4/8.
    assert len(calls) == 3 * 2 + 5
    network = fj.velocity(lambda t, x, label: label * x, fj.CondOT())
    v = fj.guidance.interval(fj.guidance.classifier_free(network, W, 0.0), 0.25, 0.5)
    solve = jax.vmap(lambda x, label: fj.solve(v, x, fj.uniform_grid(8), label))
    # It remains a branch where samples are mapped over.
    assert count(jax.make_jaxpr(solve)(jnp.ones((4, 2)), jnp.ones(4)), "cond") == 1


def test_an_interval_and_its_derivatives_compose_with_the_solve(x64):
    ts = np.linspace(0.1, 0.9, 5)

    def end(w, start):
        v = fj.guidance.classifier_free(model(SCHEDULES[0], "data"), w, NULL)
        return fj.solve(fj.guidance.interval(v, start, 0.6), X, ts, LABEL)

    x, slope, step = X, 0.0, 1e-30j
    for w in (W, W + step):
        x = X
        for t, h in zip(ts[:-1], np.diff(ts), strict=True):
            u0, u1 = outputs(SCHEDULES[0], "velocity", t, x)
            x = x + h * ((1 - w) * u0 + w * u1 if 0.25 <= t <= 0.6 else u1)
        slope = x.imag.sum() / 1e-30
    np.testing.assert_allclose(end(W, 0.25), x.real, rtol=1e-10)
    np.testing.assert_allclose(jax.grad(lambda w: end(w, 0.25).sum())(W), slope, rtol=1e-10)
    traced = jax.jit(end)(W, 0.25)
    np.testing.assert_allclose(traced, x.real, rtol=1e-10)


def test_what_guidance_does_not_determine_at_an_end_is_not_asked_for_there():
    v = fj.Gaussian(jnp.zeros(2), 0.5).velocity(fj.CondOT())
    guided = fj.guidance.by_gradient(v, lambda t, x, args: -jnp.sum((x - 1) ** 2))
    x, ts = jnp.array([0.3, -1.0]), fj.uniform_grid(5)
    for start in (0.0, np.float32(0)):
        with pytest.raises(ValueError, match="does not determine the velocity at t = 0"):
            fj.solve(fj.guidance.interval(guided, start, 1.0), x, ts)
    for step in (fj.euler, fj.ddim):
        later = fj.solve(fj.guidance.interval(guided, 0.1, 1.0), x, ts, step=step)
        first = fj.solve(v, x, ts[:2], step=step)
        want = fj.solve(guided, first, ts[1:], step=step)
        np.testing.assert_allclose(later, want, rtol=1e-5)


# --- rescaled -------------------------------------------------------------------------------------


def rescaled_by_hand(f0, f1, phi):
    mixed = by_hand(f0, f1)
    return phi * mixed * np.std(f1) / np.std(mixed) + (1 - phi) * mixed


@pytest.mark.parametrize("predicts", PREDICTIONS)
def test_the_output_of_the_model_is_rescaled_whatever_it_predicts(predicts, x64):
    for schedule in SCHEDULES:
        v = fj.guidance.rescaled(guided(schedule, predicts), 0.7)
        assert (v.schedule, v.predicts) == (schedule, predicts)
        value = rescaled_by_hand(*outputs(schedule, predicts), 0.7)
        want = velocity_of(predicts, level(schedule), X, value)
        np.testing.assert_allclose(v(T, X, LABEL), want, rtol=1e-10)
        wrong = rescaled_by_hand(*outputs(schedule, "velocity"), 0.7)
        # (v is the velocity but for a factor, under `Trigonometric`.)
        if schedule == fj.CondOT() and predicts != "velocity":
            assert np.max(np.abs(wrong - want)) > 0.02


def test_each_leaf_and_each_sample_has_its_own_deviation(x64):
    def split(t, x, label):
        joined = model(fj.CondOT(), "data").model(t, jnp.concatenate([x["a"], x["b"]]), label)
        return {"a": joined[:1], "b": joined[1:]}

    v = fj.guidance.classifier_free(fj.velocity(split, fj.CondOT(), "data"), W, NULL)
    v = fj.guidance.rescaled(v, 1.0)
    xs = np.stack([X, 1 - X])
    got = jax.vmap(lambda x: v.model(T, {"a": x[:1], "b": x[1:]}, LABEL))(xs)
    for k, x in enumerate(xs):
        f0, f1 = outputs(fj.CondOT(), "data", T, x)
        # One number has no deviation, and is left as it is.
        np.testing.assert_allclose(got["a"][k], by_hand(f0[:1], f1[:1]), rtol=1e-10)
        want = rescaled_by_hand(f0[1:], f1[1:], 1.0)
        np.testing.assert_allclose(got["b"][k], want, rtol=1e-10)


def test_an_output_of_one_value_has_no_nan_in_its_derivative(x64):
    v = fj.velocity(lambda t, x, label: label * jnp.ones_like(x), fj.CondOT())
    v = fj.guidance.rescaled(fj.guidance.classifier_free(v, W, NULL), 0.7)
    slope = jax.jit(jax.jacobian(lambda label: v(T, X, label)))(LABEL)
    np.testing.assert_allclose(slope, W * np.ones(3), rtol=1e-12)


def test_transformations_compose_and_share_one_call():
    plain = fj.velocity(lambda t, x, label: jnp.sin(label * x), fj.CondOT())
    guided = fj.guidance.classifier_free(plain, W, jnp.array(0.3))
    args = jnp.array([0.5, -1.0, 2.0]), jnp.array(-0.8)

    def products(v):
        return count(jax.make_jaxpr(lambda t: v(t, *args))(0.5), "sin")

    rescaled = fj.guidance.rescaled(guided, 0.7)
    assert products(rescaled) == products(plain)
    for v in (
        fj.guidance.interval(rescaled, 0.3, 0.7),
        fj.guidance.rescaled(fj.guidance.interval(guided, 0.3, 0.7), 0.7),
    ):
        # One for each branch.
        assert products(v) == 2 * products(plain)
        for t, like in ((0.1, plain), (0.5, rescaled)):
            np.testing.assert_allclose(v(t, *args), like(t, *args), rtol=1e-5)


PLAIN = fj.velocity(lambda t, x, args: args * x, fj.CondOT())
GUIDED = fj.guidance.classifier_free(PLAIN, W, 0.0)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: fj.guidance.interval(PLAIN, 0, 1), TypeError, "interval needs a guided velocity"),
        (lambda: fj.guidance.rescaled(PLAIN, 0.7), TypeError, "rescaled needs a guided velocity"),
        (lambda: fj.guidance.rescaled(None, 0.7), TypeError, "rescaled needs a fj.Velocity"),
        (lambda: fj.guidance.interval(GUIDED, 0.7, 0.3), ValueError, "start <= end.*got 0.7, 0.3"),
        (lambda: fj.guidance.interval(GUIDED, -0.1, 1), ValueError, "start and end must be times"),
        (lambda: fj.guidance.interval(GUIDED, 0, np.nan), ValueError, "start and end must be"),
        (lambda: fj.guidance.interval(GUIDED, "0", 1), TypeError, "start must be a real number"),
        (lambda: fj.guidance.rescaled(GUIDED, 1.1), ValueError, "phi must be from 0 to 1, got 1.1"),
        (lambda: fj.guidance.rescaled(GUIDED, np.ones(2)), ValueError, r"phi must be one number"),
    ],
)
def test_bad_input_is_refused_by_name(call, error, words, unchecked):
    with pytest.raises(error, match=words):
        call()
