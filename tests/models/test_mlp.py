"""The network against its own formula in NumPy, and the labels it takes and refuses."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from flowjax.grids.uniform import uniform_grid
from flowjax.models import MLP
from flowjax.solver.views import solve

FIVE_SIGMA = 2 * stats.norm.sf(5)


@pytest.fixture(scope="module")
def model():
    return varied((2, 3), 4)


def varied(shape, num_classes):
    """A model with every weight at random: the zero start would hide half of the formula."""
    skeleton = eqx.filter_eval_shape(
        lambda key: MLP(shape, width=8, depth=2, num_classes=num_classes, key=key),
        jax.random.key(0),
    )
    normal = np.random.default_rng(1).normal
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.4 * normal(size=leaf.shape), leaf.dtype), skeleton
    )


def in_numpy(model, t, x, label):
    """The formula of the docstring, one sample, in float64."""

    def silu(z):
        return z / (1 + np.exp(-z))

    def affine(layer, z):
        return np.asarray(layer.weight, float) @ z + np.asarray(layer.bias, float)

    frequencies = np.pi * 2.0 ** np.linspace(-1, 4, 16)
    condition = affine(
        model.time_layer, np.concatenate([np.cos(frequencies * t), np.sin(frequencies * t)])
    )
    if label is not None:
        condition = condition + np.asarray(model.label_table, float)[label]
    condition = silu(condition)
    hidden = affine(model.state_layer, np.asarray(x, float).reshape(-1))
    for block in model.blocks:
        scale, shift = np.split(affine(block.modulation, condition), 2)
        normal = hidden / np.sqrt(np.mean(hidden**2) + 1e-6)
        hidden = hidden + affine(
            block.second, silu(affine(block.first, (1 + scale) * normal + shift))
        )
    return affine(model.output_layer, silu(hidden)).reshape(np.shape(x))


@pytest.mark.parametrize(
    ("shape", "num_classes"), [((), None), ((3,), 4), ((2, 3), None), ((2, 2, 3), 4)]
)
@pytest.mark.thin(2)
def test_the_output_is_the_formula_of_the_docstring(dtype, shape, num_classes):
    model = varied(shape, num_classes)
    x = jnp.asarray(np.random.default_rng(2).normal(size=shape), dtype)
    network = eqx.filter_jit(model)
    for t, label in ((0.0, 0), (0.37, 3), (1.0, 4)):
        got = network(jnp.asarray(t), x, None if num_classes is None else jnp.asarray(label))
        assert got.dtype == dtype
        want = in_numpy(model, t, x, None if num_classes is None else label)
        tolerance = 1e-12 if dtype == jnp.float64 else 1e-4
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


def test_a_half_precision_state_is_computed_in_the_weights_precision(model):
    x = jax.random.normal(jax.random.key(3), (2, 3), jnp.bfloat16)
    network = eqx.filter_jit(model)
    got = network(0.3, x, 1)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_array_equal(got, network(0.3, x.astype(jnp.float32), 1).astype(x.dtype))


def affine_maps(model):
    """Those that do not start at zero."""
    inner = [part for block in model.blocks for part in (block.modulation, block.first)]
    return [model.state_layer, model.time_layer, model.output_layer, *inner]


def test_a_new_model_is_drawn_as_equinox_draws_and_each_part_apart():
    """Uniform within 1 / sqrt(inputs). With 9 laws and 28 pairs, a false alarm in 2e-5 of keys."""
    model = MLP((40,), 64, 2, 500, key=jax.random.key(0))
    theirs = eqx.nn.Linear(40, 64, key=jax.random.key(1))
    drawn = []
    for layer in (*affine_maps(model), theirs):
        values = np.concatenate([layer.weight.ravel(), layer.bias]) * layer.weight.shape[1] ** 0.5
        assert stats.kstest(values, stats.uniform(-1, 2).cdf).pvalue > FIVE_SIGMA
        drawn.append(values[:2000])
    labels = np.ravel(model.label_table)
    assert stats.kstest(labels, stats.norm.cdf).pvalue > FIVE_SIGMA
    drawn[-1] = labels[:2000]
    correlations = np.corrcoef(drawn) - np.eye(len(drawn))
    assert np.abs(correlations).max() < 5 / np.sqrt(2000)
    for block in model.blocks:
        assert not np.any(block.second.weight)
        assert not np.any(block.second.bias)


def test_a_new_model_is_a_function_of_its_key_alone(x64):
    def new(key):
        return MLP((2,), 8, 2, 3, key=key)

    keys = jax.random.split(jax.random.key(2), 2)
    together = jax.tree.leaves(jax.vmap(new)(keys))
    for i, key in enumerate(keys):
        for a, b in zip(jax.tree.leaves(new(key)), together, strict=True):
            assert a.dtype == jnp.float64, "JAX's default"
            np.testing.assert_array_equal(a, b[i])
    # One draw for the weights of all shapes and one for the labels: each shape's own would have
    # to be compiled.
    assert str(jax.make_jaxpr(new)(keys[0])).count("random_bits") == 2


def test_a_new_model_depends_on_neither_time_nor_label_yet():
    model = MLP((3,), 16, 3, 4, key=jax.random.key(0))
    x = jnp.array([1.0, -2.0, 0.5])
    network = eqx.filter_jit(model)
    np.testing.assert_array_equal(network(0.1, x, jnp.asarray(0)), network(0.9, x, jnp.asarray(3)))


def test_a_batch_by_vmap_is_the_samples_one_by_one(model):
    ts, labels = jnp.linspace(0.0, 1.0, 5), jnp.arange(5)
    xs = jax.random.normal(jax.random.key(4), (5, 2, 3))
    together = eqx.filter_jit(jax.vmap(model))(ts, xs, labels)
    network = eqx.filter_jit(model)
    alone = jnp.stack([network(*sample) for sample in zip(ts, xs, labels, strict=True)])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


def test_the_model_is_a_field_for_the_solver(model):
    x = jax.random.normal(jax.random.key(4), (2, 3))
    end = solve(model, x, uniform_grid(2), args=jnp.asarray(2))
    half = np.asarray(x) + 0.5 * in_numpy(model, 0.0, x, 2)
    np.testing.assert_allclose(
        end, half + 0.5 * in_numpy(model, 0.5, half, 2), rtol=1e-4, atol=1e-5
    )


def test_only_the_row_of_the_label_learns_from_it(model):
    def loss(model):
        return jnp.sum(model(0.5, jnp.ones((2, 3)), jnp.asarray(2)) ** 2)

    rows = np.linalg.norm(eqx.filter_jit(jax.grad(loss))(model).label_table, axis=1)
    assert rows[2] > 0
    np.testing.assert_array_equal(rows[[0, 1, 3, 4]], 0)


def test_null_is_the_label_after_the_last(model):
    assert model.null == 4
    assert varied((3,), None).null is None
    x = jnp.ones((2, 3))
    network = eqx.filter_jit(model)
    np.testing.assert_array_equal(network(0.5, x, model.null), network(0.5, x, jnp.uint8(4)))


@pytest.mark.parametrize("label", [-1, 5, -5, 1000])
def test_an_array_label_out_of_range_gives_nan(model, label):
    assert np.all(np.isnan(eqx.filter_jit(model)(0.5, jnp.ones((2, 3)), jnp.asarray(label))))


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        (None, TypeError, "from 0 to 4 .model.null, for no label., got None"),
        (1.0, TypeError, "got 1.0"),
        ("one", TypeError, "got 'one'"),
        (np.float32(1), TypeError, "for no label., got .*32"),
        (jnp.ones(()), TypeError, "got f32"),
        (True, TypeError, "got True"),
        (jnp.asarray(True), TypeError, "got bool"),
        ({"label": 1}, TypeError, "got {'label': 1}"),
        (jnp.array([1, 2]), ValueError, "shape \\(2,\\).*vmap"),
        (-1, ValueError, "got -1"),
        (5, ValueError, "got 5"),
        (np.int64(5), ValueError, "got 5"),
    ],
)
def test_a_bad_label_is_refused(model, unchecked, args, error, words):
    with pytest.raises(error, match=words):
        model(0.5, jnp.ones((2, 3)), args)


def test_a_label_for_a_model_without_labels_is_refused(unchecked):
    model = varied((3,), None)
    with pytest.raises(TypeError, match="num_classes"):
        model(0.5, jnp.ones(3), 1)


@pytest.mark.parametrize(
    ("t", "x", "error", "words"),
    [
        (0.5, jnp.ones((3, 2)), ValueError, r"\(2, 3\), got f32\[3,2\]"),
        (0.5, jnp.ones((7, 2, 3)), ValueError, "vmap"),
        (0.5, jnp.ones(()), ValueError, r"got f32\[\]"),
        (0.5, jnp.ones((2, 3), int), TypeError, "x must be a real floating array"),
        (0.5, jnp.ones((2, 3), complex), TypeError, "x must be a real floating array"),
        (
            0.5,
            {"x": jnp.ones((2, 3))},
            ValueError,
            "an array of the model's shape .* got {'x': f32",
        ),
        (0.5, [[1.0, 2.0, 3.0]] * 2, ValueError, "an array of the model's shape"),
        (0.5, None, ValueError, "x must hold at least one array"),
        (jnp.zeros(1), jnp.ones((2, 3)), ValueError, "t must be a scalar"),
        (jnp.ones((2, 3)), 0.5, ValueError, r"t must be a scalar, got shape \(2, 3\)"),
        (None, jnp.ones((2, 3)), TypeError, "t must be a real number or array, got None"),
        ("0.5", jnp.ones((2, 3)), TypeError, "t must be a real number or array, got '0.5'"),
    ],
)
def test_a_bad_time_or_state_is_refused(model, unchecked, t, x, error, words):
    with pytest.raises(error, match=words):
        model(t, x, 0)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"shape": 8}, TypeError, "shape must be a tuple"),
        ({"shape": None}, TypeError, "shape must be a tuple"),
        ({"key": None}, TypeError, "key must be one JAX key.*got None"),
        ({"num_classes": list("ab")}, TypeError, "num_classes"),
        ({"shape": (8, 0)}, ValueError, "shape\\[1\\]"),
        ({"shape": (8.0,)}, TypeError, "shape\\[0\\]"),
        ({"width": 0}, ValueError, "width"),
        ({"depth": 1.5}, TypeError, "depth"),
        ({"num_classes": 0}, ValueError, "num_classes"),
        ({"num_classes": True}, TypeError, "num_classes"),
        ({"key": 0}, TypeError, "key"),
        ({"key": jax.random.split(jax.random.key(0))}, ValueError, "batch of keys"),
    ],
)
def test_bad_settings_are_refused(unchecked, change, error, words):
    settings = {"shape": (3,), "width": 8, "depth": 1, "key": jax.random.key(0)} | change
    with pytest.raises(error, match=words):
        MLP(**settings)
