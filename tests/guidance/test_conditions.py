"""Guidance, against its formula by hand."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from tests.guidance.oracles import LABEL as LABEL64
from tests.guidance.oracles import NULL as NULL64
from tests.guidance.oracles import (
    PREDICTIONS,
    SCHEDULES,
    T,
    count,
    level,
    model,
    outputs,
    velocity_of,
)
from tests.guidance.oracles import X as X64


class Conditional(eqx.Module):
    """A field with weights and a condition; an embedding of labels, the last one for none."""

    embedding: jax.Array

    def __call__(self, t, x, args):
        row = self.embedding[args[0]]

        def on_leaf(leaf):
            wide = row[0] * leaf.astype(row.dtype) + row[1] * jnp.asarray(t, row.dtype)
            return wide.astype(leaf.dtype)

        return jax.tree.map(on_leaf, x)


MODEL = Conditional(jnp.array([[1.0, 2.0], [-1.0, 0.5], [0.25, 0.0]]))
FIELD = fj.velocity(MODEL, fj.CondOT())
NULL = (jnp.array(2), jnp.zeros(3))
LABEL = (jnp.array(1), jnp.ones(3))
X = jnp.array([0.5, -2.0])


def by_hand(x, t, w):
    return (1 - w) * 0.25 * x + w * (-x + 0.5 * t)


@pytest.mark.parametrize("w", [0.0, 1.0, 3.5, -1.0])
def test_the_scale_weighs_the_conditional_field_against_the_other(w):
    got = eqx.filter_jit(fj.guidance.classifier_free(FIELD, w, NULL))(0.4, X, LABEL)
    np.testing.assert_allclose(got, by_hand(np.asarray(X), 0.4, w), rtol=1e-6)


def test_a_scale_of_one_is_the_conditional_field_and_of_zero_the_unconditional():
    for w, args in ((1, LABEL), (0, NULL)):
        got = fj.guidance.classifier_free(FIELD, w, NULL)(0.4, X, LABEL)
        np.testing.assert_array_equal(got, MODEL(0.4, X, args))


def test_a_scale_may_change_with_time():
    """Guidance in an interval, with Python's numbers or an array."""
    for scale in (
        lambda t: jnp.where((t > 0.2) & (t < 0.8), 3.0, 1.0),
        lambda t: jnp.where((t > 0.2) & (t < 0.8), 3, 1),
    ):
        guided = fj.guidance.classifier_free(FIELD, scale, NULL)
        for t, w in ((0.1, 1), (0.5, 3), (0.9, 1)):
            expected = by_hand(np.asarray(X), t, w)
            np.testing.assert_allclose(guided(t, X, LABEL), expected, rtol=1e-6)


def test_solving_the_guided_field_is_eulers_method_by_hand(x64):
    field = jax.tree.map(lambda leaf: leaf.astype(np.float64), FIELD)
    x0, ts, w = np.array([0.5, -2.0]), fj.uniform_grid(5), np.float64(2.5)
    null, label = ((jnp.array(k), jnp.zeros(3)) for k in (2, 1))

    def end(field, w):
        return fj.solve(fj.guidance.classifier_free(field, w, null), x0, ts, label)

    def expected(a, w):
        x = x0
        for t in np.arange(5) / 5:
            x = x + ((1 - w) * 0.25 * x + w * (a * x + 0.5 * t)) / 5
        return x

    np.testing.assert_allclose(end(field, w), expected(-1.0, w), rtol=1e-13)
    in_field, in_w = jax.grad(lambda f, w: end(f, w).sum(), argnums=(0, 1))(field, w)
    slope = np.sum(expected(-1.0 + 1e-30j, w).imag / 1e-30)
    np.testing.assert_allclose(in_field.model.embedding[1, 0], slope, rtol=1e-12)
    slope = np.sum(expected(-1.0, w + 1e-30j).imag / 1e-30)
    np.testing.assert_allclose(in_w, slope, rtol=1e-12)


def test_a_new_scale_compiles_nothing():
    traces, ts = [], fj.uniform_grid(3)

    class Counting(eqx.Module):
        weight: jax.Array

        def __call__(self, t, x, args):
            traces.append(None)
            return self.weight * x + args

    def end(w):
        return fj.solve(
            fj.guidance.classifier_free(
                fj.velocity(Counting(jnp.array(1.0)), fj.CondOT()), w, null=0.0
            ),
            X,
            ts,
            0.5,
        )

    first, count = end(2.0), len(traces)
    assert not np.allclose(end(3.0), first)
    assert len(traces) == count > 0


def test_each_leaf_keeps_its_dtype_and_halves_are_computed_in_float32():
    x = {"half": X.astype(jnp.bfloat16), "single": X}
    got = eqx.filter_jit(fj.guidance.classifier_free(FIELD, 3.0, NULL))(np.float32(0.4), x, LABEL)
    assert {key: leaf.dtype for key, leaf in got.items()} == {
        "half": jnp.bfloat16,
        "single": jnp.float32,
    }
    unconditional, conditional = (MODEL(np.float32(0.4), x, args)["half"] for args in (NULL, LABEL))
    wide = -2 * unconditional.astype(np.float32) + 3 * conditional.astype(np.float32)
    np.testing.assert_allclose(got["half"].astype(np.float32), wide, rtol=2**-8)


@pytest.mark.parametrize("predicts", ["velocity", "data", "noise", "score", "v"])
def test_what_the_model_predicts_is_guided_whatever_it_is(predicts, x64):
    """All of them are linear in each other at one (t, x), and 1 - w + w is 1."""
    target, schedule, t, w = fj.Gaussian(jnp.zeros(2), 0.7), fj.Trigonometric(), 0.4, 2.5

    def model(t, x, label):
        u = target.velocity(schedule)(t, x, None) + label
        return fj.convert(u, t, x, schedule, source="velocity", target=predicts)

    v = fj.velocity(model, schedule, predicts)
    guided = fj.guidance.classifier_free(v, w, null=np.float64(0.0))
    assert (guided.schedule, guided.predicts) == (schedule, predicts)
    x, label = np.array([0.5, -2.0]), np.float64(0.3)
    expected = (1 - w) * v(t, x, np.float64(0.0)) + w * v(t, x, label)
    np.testing.assert_allclose(guided(t, x, label), expected, rtol=1e-12)


def test_a_guided_target_tells_its_data_no_more_where_its_velocity_does_not():
    """A target knows its data and noise; the velocity that guidance mixes does not tell them."""
    target, schedule = fj.Gaussian(jnp.ones(2), 0.5), fj.Polynomial(2)
    guided = fj.guidance.classifier_free(target.velocity(schedule), 2.0, NULL)
    fj.solve(target.velocity(schedule), X, fj.uniform_grid(2), step=fj.ddim)
    with pytest.raises(ValueError, match="the velocity does not determine the data at t = 0"):
        fj.solve(guided, X, fj.uniform_grid(2), NULL, step=fj.ddim)
    fj.solve(guided, X, fj.uniform_grid(2), NULL)


guide = fj.guidance.classifier_free


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: guide(None, 2.0, NULL), TypeError, "needs a fj.Velocity.*got None"),
        (lambda: guide(MODEL, 2.0, NULL), TypeError, "needs a fj.Velocity.*Conditional: make one"),
        (lambda: guide(fj.with_noise(FIELD, 0.5), 2.0, NULL), TypeError, "got an SDE"),
        (lambda: guide(FIELD, "2", NULL), TypeError, "scale.*'2'"),
        (lambda: guide(FIELD, None, NULL), TypeError, "scale.*None"),
        (lambda: guide(FIELD, NULL, 2.0), TypeError, "scale must be a real number"),
        (lambda: guide(FIELD, np.nan, NULL), ValueError, "scale must be finite, got nan"),
        (lambda: guide(FIELD, np.inf, NULL), ValueError, "scale must be finite, got inf"),
        (lambda: guide(FIELD, np.ones(2), NULL), ValueError, r"scale.*\(2,\)"),
        (
            lambda: guide(FIELD, lambda: 1.0, NULL),
            TypeError,
            r"t -> scalar, or a number, got one of \(\)",
        ),
        (lambda: guide(FIELD, 2.0), TypeError, "missing 1 required positional argument: 'null'"),
        (lambda: guide(FIELD, 2.0, None)(0.5, X, None), ValueError, "args must be the condition"),
        (
            lambda: guide(FIELD, lambda t: jnp.ones(2), NULL)(0.5, X, LABEL),
            ValueError,
            r"scale\(t\) must be one number.*\(2,\)",
        ),
        (
            lambda: guide(FIELD, 2.0, NULL)(0.5, X, LABEL[0]),
            ValueError,
            "args must have the structure of null",
        ),
        (
            lambda: guide(FIELD, 2.0, NULL)(0.5, X, None),
            ValueError,
            "args must have the structure of null.*None",
        ),
        (
            lambda: guide(FIELD, 2.0, NULL)(0.5, X, (LABEL[0], jnp.ones(2))),
            ValueError,
            r"args\[1\] must have the shape \(3,\) of null, got \(2,\)",
        ),
        (
            lambda: guide(fj.velocity(lambda t, x, args: x[:1], fj.CondOT()), 2.0, 0.0)(
                0.5, X, 1.0
            ),
            ValueError,
            r"the model's output must have shape \(2,\)",
        ),
    ],
)
def test_bad_input_is_refused_by_name(call, error, words, unchecked):
    with pytest.raises(error, match=words):
        call()


# --- what null may be -----------------------------------------------------------------------------


def absent(t, x, args):
    """A model whose conditions may be absent, all or some."""
    if args is None:
        return 0.25 * x
    text = 0.0 if args["text"] is None else args["text"]
    return args["size"] * x + jnp.asarray(text, x.dtype)


ABSENT = fj.velocity(absent, fj.CondOT())


def test_null_may_be_none():
    guided = fj.guidance.classifier_free(ABSENT, 3.0, None)
    args = {"text": jnp.array(2.0), "size": jnp.array(-1.0)}
    want = -2 * 0.25 * X + 3 * (-X + 2.0)
    np.testing.assert_allclose(guided(0.4, X, args), want, rtol=1e-6)
    # As do the labels of a solve, of which the ints are static.
    ends = fj.solve(guided, X, np.array([0.4, 0.5], np.float32), args)
    np.testing.assert_allclose(ends, X + 0.1 * want, rtol=1e-6)


def test_null_may_be_none_within_a_dictionary():
    guided = fj.guidance.classifier_free(ABSENT, 3.0, {"text": None, "size": jnp.array(0.5)})
    got = guided(0.4, X, {"text": jnp.array(2.0), "size": jnp.array(-1.0)})
    np.testing.assert_allclose(got, -2 * 0.5 * X + 3 * (-X + 2.0), rtol=1e-6)


@pytest.mark.parametrize("label", [3, np.int64(3), np.uint8(3), jnp.int32(3)])
@pytest.mark.parametrize("null", [10, np.int32(10), jnp.int8(10)])
def test_labels_of_all_integer_dtypes_are_one_condition(label, null):
    table = jnp.arange(12.0)
    v = fj.velocity(lambda t, x, label: table[label] * x, fj.CondOT())
    np.testing.assert_allclose(
        fj.guidance.classifier_free(v, 2.0, null)(0.4, X, label), (-10 + 6) * X, rtol=1e-6
    )


def test_null_is_taken_in_the_dtypes_of_args():
    seen = []

    def model(t, x, args):
        seen.append({name: leaf.dtype for name, leaf in args.items()})
        return x

    args = {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.float32(1)}
    fj.guidance.classifier_free(fj.velocity(model, fj.CondOT()), 2.0, {"a": np.zeros(2), "b": 0})(
        0.4, X, args
    )
    assert seen == [{"a": jnp.bfloat16, "b": jnp.float32}]


def test_flags_and_what_both_have_in_common_reach_the_model_as_they_are():
    """A flag is no number of a batch: where it differs, the model is called twice."""
    seen = []

    def model(t, x, args):
        seen.append(args["same"].shape)
        return args["value"] * (2 * x if args["has label"] else -x) if args["train"] else None

    v, same = fj.velocity(model, fj.CondOT()), jnp.ones(3)
    args = {"train": True, "same": same, "value": 3.0, "has label": True}
    for flag, calls, want in ((True, 1, 2 * 1.0), (False, 2, -1.0)):
        guided = fj.guidance.classifier_free(v, 2.0, {**args, "value": 1.0, "has label": flag})
        np.testing.assert_allclose(guided(0.4, X, args), (2 * 6 - want) * X, rtol=1e-6)
        assert seen == calls * [(3,)]
        seen.clear()


def test_keys_are_a_condition_like_any_other():
    def model(t, x, key):
        return jax.random.normal(key, x.shape)

    keys = [jax.random.key(seed) for seed in (0, 1)]
    got = fj.guidance.classifier_free(fj.velocity(model, fj.CondOT()), 3.0, keys[0])(
        0.4, X, keys[1]
    )
    without, conditional = (jax.random.normal(key, X.shape) for key in keys)
    np.testing.assert_allclose(got, -2 * without + 3 * conditional, rtol=1e-5)


@pytest.mark.parametrize(
    ("null", "args", "words"),
    [
        ({"text": None}, {"text": 1.0, "size": 1.0}, "args must have the structure of null"),
        ({"text": 1.0, "size": None}, {"text": None, "size": 1.0}, "the structure of null"),
        (jnp.int32(10), jnp.float32(1), "args must have the dtype of null, int32, got float32"),
        (jnp.float32(10), 1, None),
        (0, jnp.float32(1), None),
        (jnp.float32(0), jnp.array(True), "args must have the dtype of null, float32, got bool"),
    ],
)
def test_null_and_args_that_do_not_fit_are_refused(null, args, words, unchecked):
    guided = fj.guidance.classifier_free(fj.velocity(lambda t, x, args: x, fj.CondOT()), 2.0, null)
    if words is None:
        guided(0.5, X, args)
        return
    with pytest.raises(ValueError, match=words):
        guided(0.5, X, args)


# --- one call -------------------------------------------------------------------------------------


@pytest.mark.parametrize("guide", [fj.guidance.classifier_free, fj.guidance.cfg_zero])
def test_the_model_is_traced_once_and_called_once_on_a_batch_of_two(guide):
    network = fj.models.MLP((3,), width=8, depth=2, num_classes=4, key=jax.random.key(0))
    traces = []

    def counted(t, x, label):
        traces.append(None)
        return network(t, x, label)

    def program(v):
        traces.clear()
        end = partial(fj.solve, v, ts=fj.uniform_grid(5))
        program = jax.make_jaxpr(lambda x, y: end(x, args=y))(jnp.ones(3), jnp.int32(1))
        return program, len(traces)

    v = fj.velocity(counted, fj.CondOT())
    plain, plain_traces = program(v)
    guided, guided_traces = program(guide(v, 2.0, network.null))
    assert guided_traces == plain_traces > 0
    assert count(guided, "dot_general") == count(plain, "dot_general") > 0
    # What two calls look like.
    v = fj.velocity(lambda t, x, args: counted(t, x, 4 if args is None else args), fj.CondOT())
    apart, traces_apart = program(guide(v, 2.0, None))
    assert traces_apart == 2 * plain_traces
    assert count(apart, "dot_general") == 2 * count(plain, "dot_general")


# --- CFG-Zero* ------------------------------------------------------------------------------------


def zero_by_hand(u0, u1, w):
    s = np.sum(u1 * u0) / np.sum(u0**2)
    return (1 - w) * s * u0 + w * u1


@pytest.mark.parametrize("predicts", PREDICTIONS)
def test_cfg_zero_scales_the_unconditional_velocity_whatever_is_predicted(predicts, x64):
    for schedule in SCHEDULES:
        guided = fj.guidance.cfg_zero(model(schedule, predicts), 2.5, NULL64)
        assert (guided.schedule, guided.predicts) == (schedule, predicts)
        u0, u1 = outputs(schedule, "velocity")
        want = zero_by_hand(u0, u1, 2.5)
        np.testing.assert_allclose(guided(T, X64, LABEL64), want, rtol=1e-10)
        # It is not the formula in what is predicted.
        levels, of_output = level(schedule), zero_by_hand(*outputs(schedule, predicts), 2.5)
        wrong = velocity_of(predicts, levels, X64, of_output)
        # (v is the velocity but for a factor, under `Trigonometric`.)
        if schedule == fj.CondOT() and predicts != "velocity":
            assert np.max(np.abs(wrong - want)) > 0.05


def test_the_scale_of_cfg_zero_is_of_each_sample_and_of_the_whole_state(x64):
    schedule = fj.CondOT()
    guided = fj.guidance.cfg_zero(model(schedule, "data"), 2.5, NULL64)
    xs, ts = np.stack([X64, 2 - X64, 0.3 * X64]), np.array([0.2, 0.5, 0.7])
    rows = [
        zero_by_hand(*outputs(schedule, "velocity", t, x), 2.5) for t, x in zip(ts, xs, strict=True)
    ]
    got = jax.jit(jax.vmap(lambda t, x: guided(t, x, LABEL64)))(ts, xs)
    np.testing.assert_allclose(got, rows, rtol=1e-10)

    def split(t, x, label):
        joined = model(schedule, "data").model(t, jnp.concatenate([x["a"], x["b"]]), label)
        return {"a": joined[:1], "b": joined[1:]}

    tree = {"a": X64[:1], "b": X64[1:]}
    guided = fj.guidance.cfg_zero(fj.velocity(split, schedule, "data"), 2.5, NULL64)
    got = guided(T, tree, LABEL64)
    want = zero_by_hand(*outputs(schedule, "velocity"), 2.5)
    np.testing.assert_allclose(np.concatenate([got["a"], got["b"]]), want, rtol=1e-10)


@pytest.mark.parametrize("predicts", ["velocity", "data", "v"])
def test_cfg_zero_stands_still_in_the_first_steps(predicts, x64):
    ts = np.linspace(0, 1, 6)
    guided = fj.guidance.cfg_zero(model(fj.CondOT(), predicts), 2.5, NULL64, zero_until=ts[2])
    path = fj.trajectory(guided, X64, ts, LABEL64)
    np.testing.assert_allclose(path[:3], np.tile(X64, (3, 1)), rtol=1e-12)
    third = zero_by_hand(*outputs(fj.CondOT(), "velocity", ts[2]), 2.5)
    np.testing.assert_allclose(path[3], X64 + third / 5, rtol=1e-10)


def test_cfg_zero_of_nothing_is_the_conditional_velocity(x64):
    """Where the unconditional velocity is zero there is nothing to scale, nor NaN in a gradient."""
    v = fj.velocity(lambda t, x, label: label * x, fj.CondOT())
    guided = fj.guidance.cfg_zero(v, 2.5, np.float64(0))
    slope = jax.jit(jax.jacobian(lambda x: guided(T, x, np.float64(2))))(X64)
    np.testing.assert_allclose(slope, 2.5 * 2 * np.eye(3), rtol=1e-12)


def test_cfg_zero_ends_where_a_score_says_nothing_of_it(x64):
    """At t = 1 Heun's method calls a model of the score, as it does without guidance."""
    inside, ts = model(fj.CondOT(), "score").model, np.array([0.9, 1.0])
    v = fj.velocity(
        lambda t, x, label: inside(jnp.minimum(t, 0.99), x, label), fj.CondOT(), "score"
    )
    end = fj.solve(fj.guidance.cfg_zero(v, 1.0, NULL64), X64, ts, LABEL64, step=fj.heun)
    np.testing.assert_allclose(end, fj.solve(v, X64, ts, LABEL64, step=fj.heun), rtol=1e-12)


def test_cfg_zero_is_refused_where_the_velocity_tells_nothing_of_the_prediction():
    v = fj.velocity(lambda t, x, args: args * x, fj.Polynomial(2.0), "data")
    guided = fj.guidance.cfg_zero(v, 2.0, 0.0)
    fj.solve(v, X, fj.uniform_grid(2), 1.0)
    with pytest.raises(ValueError, match="velocity does not determine the data at t = 0"):
        fj.solve(guided, X, fj.uniform_grid(2), 1.0)
    assert np.all(np.isfinite(fj.solve(guided, X, fj.uniform_grid(4)[1:], 1.0)))


@pytest.mark.parametrize("until", [-0.1, 1.5, np.nan])
def test_a_time_of_no_schedule_is_refused(until, unchecked):
    with pytest.raises(ValueError, match="zero_until must be a time from 0 to 1"):
        fj.guidance.cfg_zero(FIELD, 2.0, NULL, zero_until=until)
    with pytest.raises(TypeError, match="zero_until must be a real number"):
        fj.guidance.cfg_zero(FIELD, 2.0, NULL, zero_until="first")


# --- the law at the end ---------------------------------------------------------------------------


def gaussian(schedule):
    """Data N(0, std^2), with the standard deviation as the condition."""
    return fj.velocity(
        lambda t, x, std: fj.Gaussian(jnp.zeros(1), std).velocity(schedule)(t, x, None), schedule
    )


def end_std(v, args):
    """That of a linear flow, which takes the standard normal to its slope times it."""
    ends = [fj.solve(v, x0, fj.uniform_grid(100), args, step=fj.rk4) for x0 in np.eye(2)[:, :1]]
    return float(ends[0][0] - ends[1][0])


@pytest.mark.parametrize("schedule", [fj.CondOT(), fj.Trigonometric()])
def test_between_gaussians_the_guided_flow_ends_at_the_product_of_powers(schedule, x64):
    wide, narrow, w = np.float64(1.3), np.float64(0.5), 2.0
    got = end_std(fj.guidance.classifier_free(gaussian(schedule), w, wide), narrow)
    np.testing.assert_allclose(got, narrow**w * wide ** (1 - w), rtol=1e-5)
    # That is another law than p_1^w p_0^(1-w).
    sharpened = (w / narrow**2 + (1 - w) / wide**2) ** -0.5
    assert abs(got - sharpened) > 0.1
    # In one dimension two velocities differ by a scale alone.
    got = end_std(fj.guidance.cfg_zero(gaussian(schedule), w, wide), narrow)
    np.testing.assert_allclose(got, narrow, rtol=1e-5)
