"""What is no field, or has swapped arguments, is refused at every door, with what to do about it.

The annotations of flowjax are off (fixture `unchecked`), so that what speaks is flowjax itself.
"""

import re

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest

import flowjax as fj

pytestmark = pytest.mark.usefixtures("unchecked")

TS, KEY, X0 = fj.uniform_grid(4), jax.random.key(0), jnp.ones(3)
PRIOR = fj.Gaussian(jnp.zeros(3), 1.0)
A = 0.5 * jnp.eye(3)


def one(t, x, args):
    return 1.0


def decay(t, x, args):
    return -x


def kept(value, t0, t1, x0, x1, dw):
    return value


# Each door, by what it is given for a field, times and further options.
DOORS = {
    "solve": lambda f, ts=TS, **how: fj.solve(f, X0, ts, **how),
    "trajectory": lambda f, ts=TS, **how: fj.trajectory(f, X0, ts, **how),
    "trajectory at": lambda f, ts=TS, **how: fj.trajectory(f, X0, ts, at=(0, 2), **how),
    "fold": lambda f, ts=TS, **how: fj.fold(f, X0, ts, init=0.0, update=kept, **how),
    "sample": lambda f, ts=TS, **how: fj.sample(KEY, f, PRIOR.sample, ts, 2, **how),
    "log_likelihood": lambda f, ts=TS, **how: fj.log_likelihood(X0, f, PRIOR.log_prob, ts, **how),
}


def refuses(*words, error=TypeError):
    return pytest.raises(error, match="(?s)" + ".*".join(map(re.escape, words)))


@pytest.mark.parametrize("door", DOORS)
def test_every_door_refuses_what_is_easily_mistaken(door):
    enter = DOORS[door]
    with refuses("ts must be a grid", "got 20", "write fj.uniform_grid(20)"):
        enter(decay, ts=20)
    with refuses("step must be", "fj.euler, heun, midpoint, rk4", "euler_maruyama", "got 'heun'"):
        enter(decay, step="heun")
    for step in (diffrax.Tsit5(), diffrax.Tsit5):
        with refuses("step must be", "becomes a step by flowjax.interop.from_diffrax(solver)"):
            enter(decay, step=step)
    with refuses("must be a function (t, x, args)", "(t, x)", "given args too", "args=None"):
        enter(lambda t, x: -x)
    with refuses("got ODETerm, a term of diffrax", "its vector_field", "fj.SDE(drift, diffusion)"):
        enter(diffrax.ODETerm(decay))
    with refuses("must be", "an object of the class Gaussian", "define __call__(self, t, x, args)"):
        enter(PRIOR)
    with refuses("must be", "the class MLP, not "):
        enter(eqx.nn.MLP)
    with refuses("output must have", "must take (t, x, args) in this order", error=ValueError):
        enter(lambda x, t, args: -x)
    with refuses("must take (t, x, args) in this order", error=(TypeError, ValueError)):
        enter(lambda x, t, args: A @ x)


def test_a_network_of_x_alone_is_refused_with_the_field_that_it_makes():
    with refuses("got one of (x", "lambda t, x, network: network(x)", "args=network"):
        fj.solve(eqx.nn.Linear(3, 3, key=KEY), X0, TS)


def matrix(x, t, args):
    return jnp.outer(x, x)[:, :2]


SWAPPED = {
    "it raises": ("field", lambda x, t, args: A @ x),
    "it gives a scalar": ("field", lambda x, t, args: -x),
    "a pytree": ("field", lambda x, t, args: {"a": -t * x["a"]}),
    "a drift": ("drift", fj.SDE(lambda x, t, args: A @ x, one)),
    "a diffusion": ("diffusion", fj.SDE(decay, lambda x, t, args: A @ x)),
    "a matrix": ("diffusion", fj.SDE(decay, matrix, noise=(2,))),
    "an operator": (
        "diffusion",
        fj.SDE(decay, lambda *at: lineax.MatrixLinearOperator(matrix(*at)), noise=(2,)),
    ),
    "a model": ("model", fj.velocity(lambda x, t, args: A @ x, fj.CondOT())),
}


@pytest.mark.parametrize("case", SWAPPED)
def test_swapped_arguments_are_named(case):
    name, field = SWAPPED[case]
    x0 = {"a": X0} if case == "a pytree" else X0
    noise = {"key": KEY} if isinstance(field, fj.SDE) else {}

    def end(x0):
        return sum(map(jnp.sum, jax.tree.leaves(fj.solve(field, x0, TS, **noise))))

    for transform in (lambda f: f, jax.jit, jax.grad):
        with refuses(f"{name} must take (t, x, args) in this order", error=(TypeError, ValueError)):
            transform(end)(x0)


def test_swapped_arguments_of_a_model_are_named_in_a_likelihood():
    with refuses("model must take (t, x, args) in this order", error=(TypeError, ValueError)):
        DOORS["log_likelihood"](SWAPPED["a model"][1])


@pytest.mark.parametrize(
    ("field", "error"),
    [
        # Either order gives the same, or neither fits: the error is what it is without a look.
        (lambda t, x, args: jnp.ones(3, jnp.int32), ValueError),
        (lambda t, x, args: jnp.ones(4), ValueError),
        (lambda t, x, args: jnp.ones((2, 2)) @ x, TypeError),
        (lambda t, x, args: args["rate"] * x, TypeError),
        (lambda t, x, args: x.at[0].set(float(t)), jax.errors.ConcretizationTypeError),
    ],
)
def test_other_errors_are_not_taken_for_swapped_arguments(field, error):
    with pytest.raises(error) as caught:
        fj.solve(field, X0, TS)
    notes = getattr(caught.value, "__notes__", [])
    assert "in this order" not in "".join([str(caught.value), *notes])


def test_what_the_field_raises_stays_what_it_is():
    """Also where the field would take its arguments the other way round."""

    def particular(t, x, args):
        if x.ndim and x.shape[0] == 3:
            raise KeyError("my own")
        return t * x

    with pytest.raises(KeyError, match="my own"):
        fj.solve(particular, X0, TS)


def test_the_shape_comes_first_where_a_field_of_the_right_order_gives_a_scalar():
    with refuses("field output must have shape (3,)", "may be swapped", error=ValueError):
        fj.solve(lambda t, x, args: jnp.sin(t), X0, TS)


def test_where_shapes_do_not_tell_nothing_is_said():
    """A scalar, and a field that is right in either order, as far as shapes go."""
    np.testing.assert_allclose(fj.solve(lambda x, t, args: -x, 1.0, fj.uniform_grid(1)), 1.0)
    np.testing.assert_allclose(fj.solve(lambda x, t, args: t * x, X0, fj.uniform_grid(1)), X0)
