"""A state is its leaves: any pytree, with empty leaves, scalars, None and nodes of one's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj

SCHEDULE, TS, T = fj.CondOT(), fj.uniform_grid(3), jnp.float32(0.4)


@jax.tree_util.register_pytree_node_class
class Atoms:
    """A node of the user's own."""

    def __init__(self, place, charge):
        self.place, self.charge = place, charge

    def tree_flatten(self):
        return (self.place, self.charge), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


STATE = Atoms(
    {"none": None, "scalar": jnp.float32(0.3), "empty": jnp.zeros((2, 0))},
    (jnp.array([1.0, -2.0]), None),
)


def flat(tree):
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def model(t, x, args):
    return jax.tree.map(lambda leaf: jnp.sin(leaf) + t, x)


def made(predicts="velocity"):
    return fj.velocity(model, SCHEDULE, predicts)


def noised(step):
    sde = fj.with_noise(made(), lambda t: 1 - t)
    return lambda x, dw: fj.solve(sde, x, TS, increments=dw, step=step)


def driven(sde):
    return lambda x, dw: fj.solve(sde, x, TS, increments=dw)


FUNCTIONS = {
    "velocity": lambda x, dw: made("data")(T, x, None),
    "data": lambda x, dw: made().data_and_noise(T, x, None)[0],
    "noise": lambda x, dw: made().data_and_noise(T, x, None)[1],
    "score": lambda x, dw: made("v").score(T, x, None),
    "convert": lambda x, dw: fj.convert(x, T, x, SCHEDULE, source="noise", target="v"),
    "precondition": lambda x, dw: fj.precondition(model, SCHEDULE)(T, x, None),
    "change_schedule": lambda x, dw: fj.change_schedule(made(), fj.VariancePreserving())(
        T, x, None
    ),
    "guidance": lambda x, dw: fj.guidance.classifier_free(made(), 2.0, 0.0)(T, x, 1.0),
    "ddim": lambda x, dw: fj.solve(made(), x, TS, step=fj.ddim),
    "with_noise": noised(fj.euler_maruyama),
    "exponential_euler": noised(fj.exponential_euler),
    "ornstein_uhlenbeck": driven(fj.ornstein_uhlenbeck(1.0, 0.5)),
    "langevin": driven(fj.langevin(lambda x: jax.tree.map(jnp.negative, x), 0.5)),
    "linear_field": lambda x, dw: fj.solve(fj.linear_field, x, TS, 0.7),
    "linear_flow": lambda x, dw: fj.linear_flow(0.5, x, 0.7),
}


def test_every_function_of_a_state_is_that_of_its_leaves():
    increments = jax.tree.map(lambda leaf: jnp.full((3, *leaf.shape), 0.1), STATE)

    @jax.jit
    def everything(x, dw):
        return {name: function(x, dw) for name, function in FUNCTIONS.items()}

    of_tree = everything(STATE, increments)
    of_flat = everything(flat(STATE), jnp.full((3, 3), 0.1))
    for name in FUNCTIONS:
        assert jax.tree.structure(of_tree[name]) == jax.tree.structure(STATE), name
        np.testing.assert_allclose(flat(of_tree[name]), of_flat[name], rtol=1e-6, err_msg=name)
        assert np.shape(of_tree[name].place["empty"]) == (2, 0), name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_state_without_leaves_is_refused(name):
    with pytest.raises(ValueError, match="must hold at least one array, got a pytree without"):
        FUNCTIONS[name]({"none": None}, {"none": None})
