"""Guidance, against its formula by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj


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
        (lambda: guide(FIELD, 2.0, None), TypeError, "null must be the args that stand for no"),
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
