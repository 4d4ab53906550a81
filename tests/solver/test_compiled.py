"""What a solve compiles: used again for equal static parts, and gone when they are."""

import dataclasses
import functools
import gc
import weakref

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from flowjax.solver.compiled import Number, prepared, unpacked

TS = fj.uniform_grid(4)


class Linear:
    """A field that is equal to itself alone, and a method that is one."""

    def __init__(self, rates):
        self.rates = rates

    def __call__(self, t, x, args):
        return -x * self.rates[0]

    def slower(self, t, x, args):
        return -x * self.rates[1]


def function_over(rates):
    return lambda t, x, args: -x * rates[0]


FIELDS = {
    "a function": function_over,
    "an object": Linear,
    "a bound method": lambda rates: Linear(rates).slower,
    "a partial": lambda rates: functools.partial(lambda r, t, x, args: -x * r[0], rates),
    "an SDE": lambda rates: fj.SDE(function_over(rates), lambda t, x, args: 0.1),
}


def lives_on(make, use):
    """Whether an array that a field has closed over is alive after the field is not."""
    rates = jnp.arange(1.0, 3.0)
    alive = weakref.ref(rates)
    field = make(rates)
    del rates
    use(field)
    del field
    if jax.__version_info__ < (0, 7):
        jax.clear_caches()  # which JAX itself keeps of a jit inside of a scan
    gc.collect()
    return alive() is not None


@pytest.mark.parametrize("name", FIELDS)
def test_what_a_field_compiled_dies_with_it(name):
    key = jax.random.key(0) if name == "an SDE" else None
    assert not lives_on(FIELDS[name], lambda field: fj.solve(field, 1.0, TS, key=key))


@pytest.mark.parametrize(
    "adjoint", [fj.Checkpointed(), fj.Direct(), fj.Truncated(2), fj.Reversible()], ids=repr
)
def test_what_a_gradient_compiled_dies_with_the_field(adjoint):
    def use(field):
        end = jax.grad(lambda x: fj.solve(field, x, TS, step=fj.midpoint, adjoint=adjoint))
        jax.vmap(end)(jnp.ones(2))

    assert not lives_on(function_over, use)


def test_what_is_closed_over_inside_of_jit_dies_with_the_jitted_function():
    def use(field):
        jax.jit(lambda x: fj.solve(lambda t, x, args: field(t, x, args), x, TS))(1.0)

    assert not lives_on(function_over, use)


def test_the_test_of_what_dies_sees_a_field_that_is_kept():
    kept = []
    assert lives_on(function_over, kept.append)


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A field that is equal to any other of the same rate."""

    rate: float
    traces: list = dataclasses.field(compare=False)

    def __call__(self, t, x, args):
        self.traces.append(1)
        return -self.rate * x

    def again(self, t, x, args):
        return self(t, x, args)


@pytest.mark.parametrize("field", [Frozen, lambda *fields: Frozen(*fields).again])
def test_an_equal_field_made_anew_compiles_nothing(field):
    traces = []
    for rate in (1.0, 2.0, 1.0, 2.0, 1.0):
        fj.solve(field(rate, traces), 1.0, TS)
    assert len(traces) == 2


def returned(static, arrays):
    return [jnp.asarray(leaf) for leaf in jax.tree.leaves(unpacked(static, arrays))]


def test_the_programs_used_last_are_kept_and_no_more_than_128():
    made = [weakref.ref(prepared(returned, value)[0]) for value in range(300)]
    gc.collect()
    assert [run() is not None for run in made] == [False] * 172 + [True] * 128
    assert prepared(returned, 299)[0] is made[299]()


def test_equal_values_of_other_types_are_other_programs():
    runs = [prepared(returned, value)[0] for value in (1, 1.0, True, 1)]
    assert runs[0] is runs[3]
    assert len(set(runs)) == 3


def test_a_number_and_an_array_are_traced():
    runs = set()
    for value in (1.0, 2.0):
        run, arrays = prepared(returned, {"a": jnp.asarray(value), "b": 3, "c": Number(value)})
        runs.add(run)
        assert run(arrays) == [value, 3, value]
    assert len(runs) == 1


@dataclasses.dataclass
class Mutable:
    """A field whose rate could change after it was compiled."""

    rate: float

    def __call__(self, t, x, args):
        return -self.rate * x


@pytest.mark.parametrize("field", [Mutable(1.0), fj.SDE(Mutable(1.0), Mutable(1.0))])
def test_a_mutable_dataclass_as_a_field_is_refused_by_name(field):
    key = jax.random.key(0) if isinstance(field, fj.SDE) else None
    with pytest.raises(TypeError, match=r"Mutable.*Freeze it.*frozen=True.*args"):
        fj.solve(field, 1.0, TS, key=key)


def test_a_solve_is_exported_for_states_of_any_length():
    """By `jax.export`, with a symbolic leading dimension; the noise is the same bits."""
    key, sde = jax.random.key(0), fj.SDE(lambda t, x, args: -x, lambda t, x, args: 0.5)

    def solves(x):
        return fj.solve(sde.drift, x, TS), fj.solve(sde, x, TS, key=key)

    (length,) = jax.export.symbolic_shape("length")
    shape = jax.ShapeDtypeStruct((length, 3), jnp.float32)
    exported = jax.export.export(jax.jit(solves))(shape)
    for n in (1, 5):
        x = jnp.ones((n, 3))
        for got, expected in zip(exported.call(x), solves(x), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_functions_that_close_over_each_other_are_looked_at_once():
    """Each by all the others: the ways through them are more than one could follow."""
    fields = []

    def made(i):
        return lambda t, x, args: -x if i >= 0 else [field(t, x, args) for field in fields]

    fields += [made(i) for i in range(12)]
    assert fj.solve(fields[0], 1.0, fj.uniform_grid(1)) == 0
