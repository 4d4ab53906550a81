"""Bad input is refused when it is traced, by a message that says what was expected and what came.

Each row of the design's table of bad input has a test here. The annotations of flowjax are off
(fixture `unchecked`), so that what speaks is flowjax itself, as in use.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from tests.solver.oracles import leafwise

pytestmark = pytest.mark.usefixtures("unchecked")

TS = fj.uniform_grid(4)
KEY = jax.random.key(0)
X0 = jnp.ones(3)


def decay(t, x, args):
    return leafwise(lambda leaf: -leaf, x)


def constant(t, x, args):
    return 0.5


OU = fj.SDE(decay, constant)


def refuses(error, *words):
    """Expects `error`, of exactly that type, with all the words in its message, in that order."""
    return pytest.raises(error, match="(?s)" + ".*".join(re.escape(word) for word in words))


# Grids.


@pytest.mark.parametrize("n", [0, -1, -100])
def test_a_grid_of_no_steps_is_refused(n):
    with refuses(ValueError, "n must be a static positive int", f"got {n}"):
        fj.uniform_grid(n)


@pytest.mark.parametrize("n", [2.5, 10.0, True, "10", None, np.bool_(True), jnp.array(3)])
def test_a_number_of_steps_that_is_no_int_is_refused(n):
    with refuses(TypeError, "n must be a static positive int", "got"):
        fj.uniform_grid(n)


def test_a_traced_number_of_steps_is_refused():
    with refuses(TypeError, "n must be a static positive int", "traced", "static"):
        jax.jit(fj.uniform_grid)(10)


def test_ints_of_numpy_are_ints():
    np.testing.assert_array_equal(fj.uniform_grid(np.int64(4)), TS)


BAD_GRIDS = {
    "one time": (jnp.zeros(1), "(1,)"),
    "no time": (jnp.zeros(0), "(0,)"),
    "a scalar": (0.5, "()"),
    "two axes": (jnp.zeros((2, 3)), "(2, 3)"),
    "integers": (np.arange(5), "int"),
    "a list of ints": ([0, 1, 2], "int"),
    "booleans": (np.array([False, True]), "bool"),
    "complex numbers": (np.array([0, 1], np.complex64), "complex64"),
}


@pytest.mark.parametrize("case", BAD_GRIDS)
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["as it is", "under jit"])
def test_what_is_no_grid_is_refused(case, wrap):
    ts, came = BAD_GRIDS[case]
    with refuses(ValueError, "ts must be a 1-D floating array of at least 2 times", "got", came):
        wrap(lambda ts: fj.solve(decay, X0, ts))(jnp.asarray(ts))
    with refuses(ValueError, "ts must be a 1-D floating array of at least 2 times", "got", came):
        fj.brownian_increments(KEY, ts, X0)


DECREASING = {"decreasing": TS[::-1], "back and forth": jnp.array([0.0, 0.5, 0.25, 1.0])}


@pytest.mark.parametrize("case", DECREASING)
def test_an_sde_refuses_a_decreasing_grid_and_an_ode_takes_it(case):
    ts = DECREASING[case]
    for call in (
        lambda: fj.solve(OU, X0, ts, key=KEY),
        lambda: fj.trajectory(OU, X0, ts, key=KEY),
        lambda: fj.brownian_increments(KEY, ts, X0),
        lambda: fj.brownian_path(KEY, ts, X0),
    ):
        with refuses(ValueError, "ts must not decrease"):
            call()
    expected = np.prod(1 - np.diff(np.asarray(ts)))
    no_noise = jnp.zeros((len(ts) - 1, 3))
    for solved in (fj.solve(decay, X0, ts), fj.solve(OU, X0, ts, increments=no_noise)):
        np.testing.assert_allclose(solved, np.full(3, expected), rtol=1e-6)


def test_a_grid_in_halves_that_decreases_is_refused_under_jit_too():
    ts = TS[::-1].astype(jnp.bfloat16)
    for call in (
        lambda key: fj.solve(OU, X0, ts, key=key),
        lambda key: fj.brownian_increments(key, ts, X0),
    ):
        with refuses(ValueError, "ts must not decrease"):
            jax.jit(call)(KEY)


def test_increments_over_times_of_which_one_is_traced_are_those_over_the_same_times():
    traced = jax.jit(lambda t: fj.brownian_increments(KEY, [0.0, t, 1.0], X0))(0.25)
    expected = fj.brownian_increments(KEY, jnp.array([0.0, 0.25, 1.0]), X0)
    np.testing.assert_allclose(traced, expected, rtol=1e-6)


def test_a_grid_is_not_taken_for_one_that_lay_at_the_same_address():
    for _ in range(20):
        good = jnp.array([0.0, 0.5, 1.0])
        fj.brownian_increments(KEY, good, X0)
        del good
        with refuses(ValueError, "ts must not decrease"):
            fj.brownian_increments(KEY, jnp.array([0.0, 1.0, 0.5]), X0)


# What the field returns.

TREE = {"a": jnp.ones((4, 4)), "b": jnp.ones(2)}
BAD_FIELDS = {
    "a scalar": (jnp.ones((4, 4)), lambda x: jnp.sum(x), ["shape (4, 4)", "got shape ()"]),
    "a row": (jnp.ones((4, 4)), lambda x: x[0], ["shape (4, 4)", "got shape (4,)"]),
    "a column": (jnp.ones((4, 4)), lambda x: x[:, :1], ["shape (4, 4)", "got shape (4, 1)"]),
    "an axis too many": (X0, lambda x: x[None], ["shape (3,)", "got shape (1, 3)"]),
    "another size": (X0, lambda x: jnp.ones(4), ["shape (3,)", "got shape (4,)"]),
    "one leaf of another shape": (
        *(TREE, lambda x: {"a": x["a"], "b": x["b"][0]}),
        ["['b']", "shape (2,)", "got shape ()"],
    ),
    "another structure": (TREE, lambda x: (x["a"], x["b"]), ["structure", "'a'", "got"]),
    "a leaf too few": (TREE, lambda x: {"a": x["a"]}, ["structure", "'b'", "got"]),
    "nothing": (X0, lambda x: None, ["structure", "got", "None"]),
    "bfloat16 for float32": (
        *(X0, lambda x: x.astype(jnp.bfloat16)),
        ["dtype float32", "got", "dtype bfloat16"],
    ),
    "float32 for bfloat16": (
        *(X0.astype(jnp.bfloat16), lambda x: x.astype(jnp.float32)),
        ["dtype bfloat16", "got", "dtype float32"],
    ),
    "integers": (X0, lambda x: x.astype(jnp.int32), ["dtype float32", "got", "dtype int32"]),
    "complex numbers": (
        *(X0, lambda x: x.astype(jnp.complex64)),
        ["dtype float32", "got", "dtype complex64"],
    ),
    "booleans": (X0, lambda x: x > 0, ["dtype float32", "got", "dtype bool"]),
}


@pytest.mark.parametrize("case", BAD_FIELDS)
@pytest.mark.thin(3)
def test_a_field_that_returns_something_else_than_the_state_is_refused(case):
    """By its name, its leaf's, what was expected and what came; under any step and transform."""
    x0, wrong, words = BAD_FIELDS[case]
    field = lambda t, x, args: wrong(x)  # noqa: E731
    for step in (fj.euler, fj.heun):
        with refuses(ValueError, "field output", *words):
            fj.solve(field, x0, TS, step=step)
    with refuses(ValueError, "field output", *words):
        jax.jit(jax.vmap(lambda x0: fj.trajectory(field, x0, TS)))(
            leafwise(lambda leaf: jnp.stack([leaf, leaf]), x0)
        )
    with refuses(ValueError, "drift output", *words):
        fj.solve(fj.SDE(field, constant), x0, TS, key=KEY)


BAD_DIFFUSIONS = {
    "a row": (jnp.ones((4, 4)), lambda x: x[0], ["shape (4, 4)", "got shape (4,)"]),
    "a matrix": (X0, lambda x: jnp.eye(3), ["shape (3,)", "got shape (3, 3)"]),
    "integers": (X0, lambda x: jnp.ones(3, jnp.int32), ["real", "got", "dtype int32"]),
    "complex numbers": (X0, lambda x: 1j, ["real", "got", "complex"]),
    "one leaf of another shape": (
        *(TREE, lambda x: {"a": 1.0, "b": jnp.ones(3)}),
        ["['b']", "shape (2,)", "got shape (3,)"],
    ),
    "another structure": (TREE, lambda x: [1.0, 1.0], ["structure", "'a'", "got"]),
    "an array for a pytree": (TREE, lambda x: jnp.ones(2), ["structure", "'a'", "got"]),
}


@pytest.mark.parametrize("case", BAD_DIFFUSIONS)
def test_a_diffusion_that_fits_no_leaf_is_refused(case):
    x0, wrong, words = BAD_DIFFUSIONS[case]
    sde = fj.SDE(decay, lambda t, x, args: wrong(x))
    for step in (fj.euler_maruyama, fj.milstein):
        with refuses(ValueError, "diffusion output", *words):
            fj.solve(sde, x0, TS, key=KEY, step=step)


def test_a_step_that_returns_something_else_than_the_state_is_refused():
    def transposed(field, t0, t1, x, args, dw=None):
        return {"a": x["a"], "b": x["b"][:1]}

    with refuses(ValueError, "step output['b']", "shape (2,)", "got shape (1,)"):
        fj.solve(decay, TREE, TS, step=transposed)

    with refuses(ValueError, "step output", "structure", "got"):
        fj.solve(decay, X0, TS, step=lambda field, t0, t1, x, args, dw=None: (x, x))


# States.

BAD_STATES = {
    "integers": (jnp.arange(3), "x0", "int32"),
    "a Python int": (1, "x0", "int"),
    "booleans": (jnp.array([True]), "x0", "bool"),
    "complex numbers": (jnp.ones(2, jnp.complex64), "x0", "complex64"),
    "a Python complex": (1j, "x0", "complex"),
    "a leaf of integers": ({"a": X0, "b": (X0, np.arange(2))}, "x0['b'][1]", "int"),
    "a string": ({"a": "x"}, "x0['a']", "str"),
    "a key": (KEY, "x0", "key"),
    "eight bits": (jnp.ones(2, jnp.float8_e4m3fn), "x0", "float8"),
}


@pytest.mark.parametrize("case", BAD_STATES)
def test_a_state_that_is_not_real_floating_is_refused_by_the_leafs_name(case):
    x0, leaf, came = BAD_STATES[case]
    with refuses(TypeError, f"{leaf} must be a real floating array", "got", came):
        fj.solve(decay, x0, TS)
    with refuses(TypeError, f"{leaf} must be a real floating array", "got", came):
        fj.solve(OU, x0, TS, key=KEY)


@pytest.mark.parametrize("x0", [None, (), {"a": None}])
def test_a_state_without_arrays_is_refused(x0):
    with refuses(ValueError, "x0 must hold at least one array", "got"):
        fj.solve(decay, x0, TS)


# Noise.


def test_an_sde_without_noise_is_refused():
    for step in (None, fj.euler_maruyama, fj.milstein):
        with refuses(ValueError, "SDE", "key", "increments"):
            fj.solve(OU, X0, TS, step=step)


def test_noise_from_two_sources_is_refused():
    with refuses(ValueError, "key and increments were both given"):
        fj.solve(OU, X0, TS, key=KEY, increments=jnp.zeros((4, 3)))


def test_noise_for_an_ode_is_refused():
    with refuses(ValueError, "key was given", "ODE"):
        fj.solve(decay, X0, TS, key=KEY)
    with refuses(ValueError, "increments was given", "ODE"):
        fj.solve(decay, X0, TS, increments=jnp.zeros((4, 3)))


BAD_KEYS = {
    "an int": (0, "0"),
    "a float": (0.5, "0.5"),
    "a string": ("seed", "seed"),
    "an array of floats": (jnp.zeros(2), "float32"),
    "an array of ints": (jnp.zeros(2, jnp.int32), "int32"),
    "one word": (jnp.zeros((), jnp.uint32), "uint32"),
    "three words": (jnp.zeros(3, jnp.uint32), "uint32"),
}


@pytest.mark.parametrize("case", BAD_KEYS)
def test_what_is_no_key_is_refused(case):
    key, came = BAD_KEYS[case]
    for call in (
        lambda: fj.solve(OU, X0, TS, key=key),
        lambda: fj.brownian_increments(key, TS, X0),
        lambda: fj.brownian_path(key, TS, X0),
    ):
        with refuses(TypeError, "key must be one JAX key", "got", came):
            call()


KEY_BATCHES = {
    "typed": (jax.random.split(KEY, 5), "(5,)"),
    "a typed batch of one": (jax.random.split(KEY, 1), "(1,)"),
    "old": (jax.random.split(jax.random.PRNGKey(0), 5), "(5,)"),
    "old, in two axes": (jnp.zeros((2, 3, 2), jnp.uint32), "(2, 3)"),
}


@pytest.mark.parametrize("case", KEY_BATCHES)
def test_a_batch_of_keys_is_refused_and_vmap_is_suggested(case):
    keys, came = KEY_BATCHES[case]
    for call in (
        lambda: fj.solve(OU, X0, TS, key=keys),
        lambda: fj.trajectory(OU, X0, TS, key=keys),
        lambda: fj.brownian_increments(keys, TS, X0),
    ):
        with refuses(ValueError, "key", f"got a batch of keys of shape {came}", "jax.vmap"):
            call()


BAD_INCREMENTS = {
    "one too few": (X0, jnp.zeros((3, 3)), ["increments", "shape (4, 3)", "got shape (3, 3)"]),
    "one too many": (X0, jnp.zeros((5, 3)), ["increments", "shape (4, 3)", "got shape (5, 3)"]),
    "a scalar per step": (X0, jnp.zeros(4), ["increments", "shape (4, 3)", "got shape (4,)"]),
    "a scalar": (X0, jnp.zeros(()), ["increments", "shape (4, 3)", "got shape ()"]),
    "steps last": (X0, jnp.zeros((3, 4)), ["increments", "shape (4, 3)", "got shape (3, 4)"]),
    "another dtype": (X0, jnp.zeros((4, 3), jnp.bfloat16), ["float32", "got", "bfloat16"]),
    "integers": (X0, jnp.zeros((4, 3), jnp.int32), ["float32", "got", "int32"]),
    "one leaf": (
        *(TREE, {"a": jnp.zeros((4, 4, 4)), "b": jnp.zeros((4, 3))}),
        ["increments['b']", "shape (4, 2)", "got shape (4, 3)"],
    ),
    "another structure": (TREE, jnp.zeros((4, 2)), ["increments", "structure", "'a'", "got"]),
}


@pytest.mark.parametrize("case", BAD_INCREMENTS)
def test_increments_that_do_not_fit_are_refused(case):
    x0, increments, words = BAD_INCREMENTS[case]
    with refuses(ValueError, *words):
        fj.solve(OU, x0, TS, increments=increments)


BAD_COARSENINGS = [
    (0, ValueError, "got 0"),
    (-2, ValueError, "got -2"),
    (2.0, TypeError, "got 2.0"),
    (True, TypeError, "got True"),
]


@pytest.mark.parametrize(("k", "error", "came"), BAD_COARSENINGS)
def test_coarsening_by_what_is_no_positive_int_is_refused(k, error, came):
    with refuses(error, "k must be a static positive int", came):
        fj.coarsen(jnp.zeros((8, 3)), k)


def test_coarsening_by_a_number_that_does_not_divide_the_steps_is_refused():
    with refuses(ValueError, "increments['b']", "k = 3", "got shape (8, 2)"):
        fj.coarsen({"a": jnp.zeros((6, 2)), "b": jnp.zeros((8, 2))}, 3)
    with refuses(ValueError, "increments", "k = 3", "got shape ()"):
        fj.coarsen(jnp.zeros(()), 3)
    with refuses(TypeError, "k must be a static positive int", "traced"):
        jax.jit(fj.coarsen)(jnp.zeros((8, 3)), 2)


@pytest.mark.parametrize("kind", ["rbg", "unsafe_rbg"])
def test_keys_of_other_generators_work_and_give_each_sample_of_a_batch_its_own_path(kind):
    keys = jax.random.split(jax.random.key(0, impl=kind), 3)
    batch = jax.vmap(lambda key: fj.brownian_increments(key, TS, X0))(keys)
    for i, key in enumerate(keys):
        np.testing.assert_array_equal(batch[i], fj.brownian_increments(key, TS, X0))
    assert len(np.unique(batch)) == batch.size


# Steps and equations.


@pytest.mark.parametrize("step", [fj.euler, fj.heun, fj.midpoint, fj.rk4])
def test_an_ode_step_given_an_sde_is_refused(step):
    with refuses(TypeError, step.__name__, "ODE"):
        fj.solve(OU, X0, TS, key=KEY, step=step)


@pytest.mark.parametrize("step", [fj.euler_maruyama, fj.milstein, fj.stochastic_heun])
def test_an_sde_step_given_a_plain_field_is_refused(step):
    with refuses(TypeError, "SDE", "plain field"):
        fj.solve(decay, X0, TS, step=step)
    with refuses(TypeError, step.__name__, "SDE", "plain field"):
        fj.solve(decay, X0, TS, step=step, key=KEY)
    with refuses(TypeError, step.__name__, "SDE", "plain field"):
        step(decay, jnp.array(0.0), jnp.array(0.1), X0, None, X0)


@pytest.mark.parametrize("step", ["euler", 3, (fj.euler,)])
def test_what_is_no_step_is_refused(step):
    with refuses(TypeError, "step must be a function or a Stepper", "got"):
        fj.solve(decay, X0, TS, step=step)


def test_a_step_that_takes_too_few_arguments_is_refused():
    with refuses(TypeError, "step must take (field, t0, t1, x, args, dw", "got", "'t', 'x'"):
        fj.solve(decay, X0, TS, step=lambda t, x, h: x)


@pytest.mark.parametrize("field", [None, 3.0, "drift", X0])
def test_what_is_no_field_is_refused(field):
    with refuses(TypeError, "field must be a function (t, x, args) -> dx", "got"):
        fj.solve(field, X0, TS)


def test_an_sde_of_what_are_no_fields_is_refused():
    with refuses(TypeError, "drift must be a function", "got 1.0"):
        fj.solve(fj.SDE(1.0, constant), X0, TS, key=KEY)
    with refuses(TypeError, "diffusion must be a function", "got 1.0"):
        fj.solve(fj.SDE(decay, 1.0), X0, TS, key=KEY)


# Adjoints and `every`.

NOT_POSITIVE_INTS = [
    (0, ValueError, "got 0"),
    (-3, ValueError, "got -3"),
    (2.0, TypeError, "got 2.0"),
    (True, TypeError, "got True"),
    ("2", TypeError, "got '2'"),
]


@pytest.mark.parametrize(("value", "error", "came"), NOT_POSITIVE_INTS)
def test_every_must_be_a_positive_int(value, error, came):
    with refuses(error, "every must be a static positive int", came):
        fj.trajectory(decay, X0, TS, every=value)


@pytest.mark.parametrize("value", [0, -3, 5, 2.0, True, "2"])
def test_segments_and_last_must_be_ints_from_one_to_the_number_of_steps(value):
    limits = "a static int from 1 to the number of steps = 4"
    with refuses(ValueError, f"segments must be {limits}", f"got {value!r}"):
        fj.solve(decay, X0, TS, adjoint=fj.Checkpointed(segments=value))
    with refuses(ValueError, f"last must be {limits}", f"got {value!r}"):
        fj.solve(decay, X0, TS, adjoint=fj.Truncated(last=value))


def test_every_must_not_exceed_the_number_of_steps():
    with refuses(ValueError, "every must be at most", "4", "got 5"):
        fj.trajectory(decay, X0, TS, every=5)


def test_a_traced_segments_last_or_every_is_refused():
    with refuses(ValueError, "segments must be a static int", "Trace"):
        jax.jit(lambda k: fj.solve(decay, X0, TS, adjoint=fj.Checkpointed(k)))(2)
    with refuses(ValueError, "last must be a static int", "Trace"):
        jax.jit(lambda k: fj.solve(decay, X0, TS, adjoint=fj.Truncated(k)))(2)
    with refuses(TypeError, "every must be a static positive int", "traced"):
        jax.jit(lambda k: fj.trajectory(decay, X0, TS, every=k))(2)


def test_truncating_between_two_recorded_times_is_refused():
    with refuses(ValueError, "last must be a multiple of every = 2", "got 3"):
        fj.trajectory(decay, X0, TS, every=2, adjoint=fj.Truncated(3))


@pytest.mark.parametrize("adjoint", [None, "direct", 3, fj.Direct])
def test_what_is_no_adjoint_is_refused(adjoint):
    with refuses(TypeError, "adjoint must be one of flowjax's adjoints", "got"):
        fj.solve(decay, X0, TS, adjoint=adjoint)


@pytest.mark.parametrize(
    "call",
    [
        lambda: fj.solve(decay, X0, TS, dt0=0.1),
        lambda: fj.solve(decay, X0, TS, every=2),
        lambda: fj.trajectory(decay, X0, TS, keys=KEY),
        lambda: fj.uniform_grid(4, t2=1.0),
        lambda: fj.brownian_increments(KEY, TS, X0, shape=(3,)),
        lambda: fj.Checkpointed(segment=2),
        lambda: fj.Truncated(2, first=1),
    ],
)
def test_an_unknown_keyword_is_refused(call):
    with refuses(TypeError, "unexpected keyword argument"):
        call()


def test_what_must_be_named_is_not_taken_by_position():
    with refuses(TypeError, "positional argument"):
        fj.solve(decay, X0, TS, None, fj.heun)


# Errors that are not flowjax's pass through unmasked.


class OwnError(Exception):
    """An exception of the user's own."""


@pytest.mark.parametrize("error", [OwnError, TypeError, ValueError, KeyError])
def test_the_users_own_exception_passes_through_as_it_is(error):
    raised = error("mine")

    def field(t, x, args):
        raise raised

    def step(field, t0, t1, x, args, dw=None):
        raise raised

    for call in (
        lambda: fj.solve(field, X0, TS),
        lambda: jax.jit(lambda x0: fj.trajectory(field, x0, TS))(X0),
        lambda: jax.grad(lambda x0: jnp.sum(fj.solve(field, x0, TS)))(X0),
        lambda: fj.solve(fj.SDE(field, constant), X0, TS, key=KEY),
        lambda: fj.solve(fj.SDE(decay, field), X0, TS, key=KEY),
        lambda: fj.solve(decay, X0, TS, step=step),
    ):
        with pytest.raises(error) as caught:
            call()
        assert caught.value is raised


def test_a_field_that_branches_on_a_traced_value_gets_jaxs_own_error():
    def branching(t, x, args):
        return -x if x[0] > 0 else x

    with pytest.raises(jax.errors.TracerBoolConversionError):
        fj.solve(branching, X0, TS)


def test_a_field_that_asks_for_a_number_gets_jaxs_own_error():
    with pytest.raises(jax.errors.ConcretizationTypeError):
        fj.solve(lambda t, x, args: x * float(t), X0, TS)


def test_shapes_that_do_not_match_inside_the_field_get_jaxs_own_error():
    with pytest.raises(TypeError, match="dot_general"):
        fj.solve(lambda t, x, args: jnp.ones((2, 2)) @ x, X0, TS)


def test_nothing_is_checked_in_the_compiled_loop():
    """No callback, no assertion and no print is left in the program."""
    text = str(jax.make_jaxpr(lambda x0: fj.solve(OU, x0, TS, key=KEY))(X0))
    for word in ("callback", "debug", "assert", "error_if", "check"):
        assert word not in text.replace("checkpoint", "")


def test_a_decreasing_grid_of_plain_numbers_is_refused_under_jit_too():
    sde = fj.ornstein_uhlenbeck(1.0, 1.0)
    with pytest.raises(ValueError, match="ts must not decrease"):
        jax.jit(lambda key: fj.solve(sde, 1.0, fj.uniform_grid(4, 1.0, 0.0), key=key))(
            jax.random.key(0)
        )


def test_what_cannot_be_hashed_is_refused_by_name():
    with pytest.raises(TypeError, match="in args must be hashable"):
        fj.solve(fj.linear_field, 1.0, TS, {"set": {1, 2}})


# What is easily mistaken.


@pytest.mark.parametrize(
    "option", [fj.heun, fj.dpmpp_2m, fj.adams(), fj.Direct(), fj.Checkpointed(2)]
)
def test_an_option_in_the_place_of_args_is_refused(option):
    for view in (fj.solve, fj.trajectory):
        with refuses(TypeError, "args is passed on to the field", "name the option"):
            view(decay, X0, TS, option)


@pytest.mark.parametrize(
    ("field", "words"),
    [
        (lambda t, x: x, "got one of (t, x)"),
        (fj.Gaussian(0.0, 1.0).velocity, "got one of (schedule"),
        (fj.memoryless(fj.CondOT()), "got one of (t"),
        ((decay, constant), "for an SDE write fj.SDE(drift, diffusion)"),
        (fj.ornstein_uhlenbeck, "got one of (theta"),
        (fj.Gaussian, "Gaussian"),
    ],
)
def test_what_is_no_field_is_refused_whatever_else_is_given(field, words):
    for how in ({}, {"key": KEY}):
        with pytest.raises(TypeError, match=re.escape(words)):
            fj.solve(field, X0, TS, **how)


def test_a_diffusion_of_other_arguments_is_refused():
    with refuses(TypeError, "must be a function (t, x, args)", "got one of (t)"):
        fj.solve(fj.SDE(decay, lambda t: 1.0), X0, TS, key=KEY)


def test_a_field_that_is_known_to_give_data_is_refused():
    denoiser = fj.precondition(lambda c, x, args: x, fj.CondOT())
    for call in (
        lambda: fj.solve(denoiser, X0, TS),
        lambda: fj.sample(KEY, denoiser, lambda key: X0, TS, 2),
    ):
        with refuses(TypeError, "got a field of the data", "predicts='data'"):
            call()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_times_that_are_not_finite_are_refused(bad):
    ts = jnp.array([0.0, bad, 2.0])
    for call in (
        lambda: fj.solve(decay, X0, ts),
        lambda: fj.brownian_increments(KEY, jnp.array([0.0, 1.0, bad]), X0),
    ):
        with refuses(ValueError, "ts must be finite"):
            call()


@pytest.mark.parametrize("kind", [np.asarray, list])
def test_times_that_the_dtype_does_not_tell_apart_are_refused(kind):
    """What `uniform_grid` refuses, by the door of one's own grid."""
    ts = np.linspace(1.7e9, 1.7e9 + 1, 101)
    with refuses(ValueError, "ts has neighbours that are one time in float32", "jax_enable_x64"):
        fj.solve(decay, X0, kind(ts))
    repeated = kind(np.array([0.0, 0.5, 0.5, 1.0]))
    np.testing.assert_allclose(fj.solve(decay, X0, repeated), 0.25)


def test_flags_and_words_of_numpy_are_static():
    def field(t, x, args):
        return -x if args["flag"] and args["mode"] == "decay" else x

    args = {"flag": np.bool_(True), "mode": np.str_("decay")}
    np.testing.assert_allclose(fj.solve(field, X0, fj.uniform_grid(1), args), 0.0)
    with refuses(TypeError, "arrays among the arguments must hold numbers, got dtype <U1"):
        fj.solve(field, X0, TS, np.array(["a"]))


def test_a_partial_step_is_refused_what_the_step_is_refused():
    v = fj.velocity(decay, fj.CondOT(), coupled=True)
    with refuses(TypeError, "step ddim needs a fj.Velocity"):
        fj.solve(decay, X0, TS, step=functools.partial(fj.ddim))
    with refuses(ValueError, "step ancestral needs the score"):
        fj.solve(v, X0, TS, step=functools.partial(fj.ancestral), key=KEY)
    with refuses(TypeError, "step ancestral draws noise: give key or increments"):
        fj.solve(fj.velocity(decay, fj.CondOT()), X0, TS, step=fj.ancestral)


def test_facts_that_are_none_are_refused():
    step = fj.Stepper(lambda *a: 0.0, lambda f, t0, t1, x, a, dw=None, m=None: (x, m), reads="sed")
    with refuses(ValueError, "reads of step", "'velocity' or 'with_noise', got 'sed'"):
        fj.solve(decay, X0, TS, step=step)
    with refuses(TypeError, "step must be a function or a Stepper"):
        fj.solve(decay, X0, TS, step=fj.Stepper(None, None))


def test_a_field_that_returns_a_word_is_refused():
    with refuses(TypeError, "field output must be a real array like the state's, got 'a'"):
        fj.solve(lambda t, x, args: "a", X0, TS)


def test_a_model_of_another_schedule_is_refused_inside_too():
    v = fj.velocity(lambda t, x, args: x, fj.CondOT(), "data")
    model = fj.precondition(lambda c, x, args: x, fj.VariancePreserving())
    with refuses(ValueError, "schedule must be the one that this model was made for"):
        v.with_model(model)


def test_a_velocity_is_not_made_by_hand():
    with refuses(TypeError, "a Velocity is made by fj.velocity"):
        fj.Velocity(decay, fj.CondOT(), "noise", False, None, None)


@pytest.mark.parametrize("bad", [None, {}, jnp.arange(4), jnp.ones(4, complex)])
def test_increments_that_are_none_are_not_coarsened(bad):
    with pytest.raises((TypeError, ValueError), match="increments"):
        fj.coarsen(bad, 2)


@pytest.mark.parametrize(
    ("x", "term", "error"),
    [
        (X0, (jnp.ones((5, 3)), X0), ValueError),
        (X0, (0.5, jnp.ones(3, complex)), TypeError),
        (X0, jnp.ones(2), ValueError),
        (X0, (0.5, jnp.ones(2)), ValueError),
        ({"a": X0}, (0.5, X0), ValueError),
    ],
)
def test_terms_unlike_the_state_are_not_added(x, term, error):
    with pytest.raises(error, match="term"):
        fj.plus(x, term)
