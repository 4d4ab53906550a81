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
        np.testing.assert_array_equal(got, FIELD(0.4, X, args))


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
    np.testing.assert_allclose(in_field.embedding[1, 0], slope, rtol=1e-12)
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
            fj.guidance.classifier_free(Counting(jnp.array(1.0)), w, null=0.0), X, ts, 0.5
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
    unconditional, conditional = (FIELD(np.float32(0.4), x, args)["half"] for args in (NULL, LABEL))
    wide = -2 * unconditional.astype(np.float32) + 3 * conditional.astype(np.float32)
    np.testing.assert_allclose(got["half"].astype(np.float32), wide, rtol=2**-8)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: fj.guidance.classifier_free(None, 2.0, NULL), TypeError, "field must be.*None"),
        (lambda: fj.guidance.classifier_free(FIELD, "2", NULL), TypeError, "scale.*'2'"),
        (
            lambda: fj.guidance.classifier_free(FIELD, np.ones(2), NULL),
            ValueError,
            r"scale.*\(2,\)",
        ),
        (
            lambda: fj.guidance.classifier_free(FIELD, lambda t: jnp.ones(2), NULL)(0.5, X, LABEL),
            ValueError,
            r"scale must be a real scalar.*\(2,\)",
        ),
        (
            lambda: fj.guidance.classifier_free(FIELD, 2.0, NULL)(0.5, X, LABEL[0]),
            ValueError,
            "args must have the structure of null",
        ),
        (
            lambda: fj.guidance.classifier_free(FIELD, 2.0, NULL)(0.5, X, (LABEL[0], jnp.ones(2))),
            ValueError,
            r"args\[1\] must have the shape \(3,\) of null, got \(2,\)",
        ),
        (
            lambda: fj.guidance.classifier_free(lambda t, x, args: x[:1], 2.0, None)(0.5, X, None),
            ValueError,
            r"the field's output must have shape \(2,\)",
        ),
    ],
)
def test_bad_input_is_refused_by_name(call, error, words, unchecked):
    with pytest.raises(error, match=words):
        call()
