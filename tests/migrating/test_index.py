"""The page on what all have in common: weights and networks of torch, where that is installed."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.migrating import pages

torch = pytest.importorskip("torch")

PAGE = "index.md"


def test_a_network_has_the_numbers_that_it_has_in_torch():
    found = pages.differences(PAGE)
    assert len(found) == 2
    assert all(off < 1e-5 for off in found)


def test_another_weight_is_not_taken_for_it():
    assert pages.first_difference(PAGE, "weights[name])", "weights[name] * 1.01)") > 1e-4


def test_every_name_of_torch_exists():
    spans = [span for left, _ in pages.rows(PAGE) for span in left]
    assert not pages.wrong_names(spans, {"torch": torch})
    assert len(spans) > 8


def given(module, *values):
    """An equinox module with these values in the place of its own, in its order."""
    arrays, rest = eqx.partition(module, eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)
    values = [jnp.asarray(value.detach()) for value in values]
    assert [value.shape for value in values] == [leaf.shape for leaf in leaves]
    return eqx.combine(jax.tree.unflatten(structure, values), rest)


KEY = jax.random.key(0)
NN, HERE = torch.nn, eqx.nn
LAYERS = {
    "Linear": (lambda: NN.Linear(6, 5), lambda: HERE.Linear(6, 5, key=KEY), (6,)),
    "Conv2d": (
        lambda: NN.Conv2d(4, 3, 3, padding=1),
        lambda: HERE.Conv2d(4, 3, 3, padding=1, key=KEY),
        (4, 8, 8),
    ),
    "LayerNorm": (lambda: NN.LayerNorm((6,)), lambda: HERE.LayerNorm((6,)), (6,)),
    "GroupNorm": (lambda: NN.GroupNorm(2, 4), lambda: HERE.GroupNorm(2, 4), (4, 8, 8)),
    "GELU": (NN.GELU, lambda: lambda x: jax.nn.gelu(x, approximate=False), (6,)),
    "SiLU": (NN.SiLU, lambda: jax.nn.silu, (6,)),
    "SELU": (NN.SELU, lambda: jax.nn.selu, (6,)),
    "Softplus": (NN.Softplus, lambda: jax.nn.softplus, (6,)),
    "LeakyReLU": (NN.LeakyReLU, lambda: jax.nn.leaky_relu, (6,)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_has_the_numbers_of_its_namesake(name):
    there, here, shape = (make() if callable(make) else make for make in LAYERS[name])
    for parameter in there.parameters():
        torch.nn.init.normal_(parameter)
    values = [parameter.data for parameter in there.parameters()]
    if name == "Conv2d":
        values[1] = values[1][:, None, None]
    if values:
        here = given(here, *values)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    theirs = there(torch.from_numpy(x)[None])[0].detach().numpy()
    np.testing.assert_allclose(here(jnp.asarray(x)), theirs, rtol=1e-5, atol=1e-5)


def test_an_embedding_has_the_rows_of_its_namesake():
    there = torch.nn.Embedding(7, 5)
    here = given(HERE.Embedding(7, 5, key=KEY), there.weight)
    np.testing.assert_array_equal(here(3), there(torch.tensor(3)).detach().numpy())


def test_the_other_gelu_is_told_apart():
    x = torch.linspace(-3, 3, 50)
    difference = np.abs(jax.nn.gelu(jnp.asarray(x)) - torch.nn.GELU()(x).numpy())
    assert difference.max() > 1e-4
