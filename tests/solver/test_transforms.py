"""Solves under jit, vmap, scan over n, low precision, and JAX's strictest checks."""

import functools
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from tests.solver.oracles import (
    NUMPY_STEPS,
    PROBLEMS,
    Problem,
    array_problem,
    as_float64,
    assert_close,
    assert_same_bits,
    cast,
    leafwise,
    numpy_increments,
    numpy_trajectory,
    tree_problem,
    uneven_grid,
)

EPS = {"float32": 2e-6, "float64": 1e-14}


def setting(make, n, dtype):
    """The problem, and (x0, ts, args) in the given dtype."""
    problem = make(jnp)
    ts = jnp.asarray(uneven_grid(n), dtype)
    return problem, cast(problem.x0, dtype), ts, cast(problem.args, dtype)


# jit, vmap, trajectory.


@pytest.mark.parametrize("state", PROBLEMS)
def test_a_solve_under_the_users_jit_is_the_solve_without(state, dtype):
    problem, x0, ts, args = setting(PROBLEMS[state], 17, dtype)
    increments = cast(numpy_increments(as_float64(ts), problem.x0), dtype)

    def solve(x0, ts, args, increments):
        return fj.solve(problem.sde, x0, ts, args, increments=increments)

    plain = solve(x0, ts, args, increments)
    jitted = jax.jit(solve)(x0, ts, args, increments)
    assert_close(jitted, as_float64(plain), EPS[dtype.name])


def test_vmap_is_the_loop_over_initial_states_arguments_grids_and_keys():
    dtype = jnp.dtype("float32")
    problem, x0, ts, args = setting(array_problem, 8, dtype)
    key = jax.random.key(2)
    generator = np.random.default_rng(4)

    def several(tree):
        return leafwise(
            lambda leaf: np.asarray(leaf + generator.uniform(0, 0.5, (3, *leaf.shape)), dtype),
            leafwise(np.asarray, tree),
        )

    keys = jax.random.split(key, 3)
    t1s = np.asarray([1.0, 1.5, 2.0], dtype)
    x0s, many_args, grids = several(x0), several(args), t1s[:, None] * np.asarray(ts)
    end = jax.jit(lambda x0, ts, args, key: fj.solve(problem.sde, x0, ts, args, key=key))
    for axes in [(0, None, None, None), (0, 0, 0, 0)]:
        inputs = [
            many if axis == 0 else one
            for axis, many, one in zip(
                axes, (x0s, grids, many_args, keys), (x0, ts, args, key), strict=True
            )
        ]
        batch = leafwise(np.asarray, jax.vmap(end, in_axes=axes)(*inputs))
        for i in range(3):
            row = [
                leafwise(lambda leaf, i=i: leaf[i], value) if axis == 0 else value
                for axis, value in zip(axes, inputs, strict=True)
            ]
            got = leafwise(lambda leaf, i=i: leaf[i], batch)
            assert_close(got, as_float64(end(*row)), EPS[dtype.name])


@pytest.mark.parametrize(
    ("make", "n", "adjoint"),
    [
        (array_problem, 100, fj.Checkpointed()),
        (array_problem, 100, fj.Direct()),
        (array_problem, 100, fj.Truncated(20)),
        (tree_problem, 20, fj.Checkpointed()),
    ],
)
def test_a_trajectory_starts_at_x0_and_ends_at_the_solution(make, n, adjoint):
    problem, x0, ts, args = setting(make, n, jnp.float32)
    path = fj.trajectory(problem.drift, x0, ts, args, adjoint=adjoint)
    end = fj.solve(problem.drift, x0, ts, args, adjoint=adjoint)
    assert jax.tree.map(jnp.shape, path) == jax.tree.map(lambda x: (n + 1, *x.shape), x0)
    path = leafwise(np.asarray, path)
    assert_same_bits(leafwise(lambda leaf: leaf[0], path), x0)
    assert_close(leafwise(lambda leaf: leaf[-1], path), as_float64(end), EPS["float32"])


@functools.cache
def whole_trajectory(n, noisy):
    problem, x0, ts, args = setting(array_problem, n, jnp.float32)
    if noisy:
        call = functools.partial(fj.trajectory, problem.sde, x0, ts, args, key=jax.random.key(8))
    else:
        call = functools.partial(fj.trajectory, problem.drift, x0, ts, args, step=fj.heun)
    return call, call()


@pytest.mark.parametrize(
    ("noisy", "n", "every"),
    [
        (False, 12, 4),
        (False, 12, 5),
        (False, 12, 12),
        (False, 100, 7),
        (True, 12, 5),
        (True, 100, 7),
    ],
)
def test_every_kth_state_is_the_trajectory_sliced_bit_for_bit(n, every, noisy):
    """Also where k does not divide n: then it stops at the last multiple of k."""
    call, whole = whole_trajectory(n, noisy)
    assert_same_bits(call(every=every), np.asarray(whole)[::every])


def test_every_kth_state_is_the_same_for_every_adjoint():
    problem, x0, ts, args = setting(array_problem, 12, jnp.float32)
    paths = [
        fj.trajectory(problem.drift, x0, ts, args, every=4, adjoint=adjoint)
        for adjoint in (fj.Checkpointed(), fj.Checkpointed(2), fj.Direct(), fj.Truncated(4))
    ]
    for path in paths[1:]:
        assert_same_bits(path, paths[0])


OU = fj.SDE(lambda t, x, args: leafwise(lambda leaf: -leaf, x), lambda t, x, args: 0.7)


def test_a_key_and_its_increments_give_the_same_path_bit_for_bit():
    x0 = {"a": jnp.array([0.4, -1.1, 0.8]), "b": jnp.array(0.3)}
    ts, key = jnp.asarray(uneven_grid(30), jnp.float32), jax.random.key(12)
    increments = fj.brownian_increments(key, ts, x0)
    assert_same_bits(
        fj.trajectory(OU, x0, ts, key=key), fj.trajectory(OU, x0, ts, increments=increments)
    )


def test_old_keys_give_the_path_of_typed_keys():
    ts = fj.uniform_grid(9)
    typed, old = (
        fj.trajectory(OU, jnp.ones(3), ts, key=key)
        for key in (jax.random.key(5), jax.random.PRNGKey(5))
    )
    assert_same_bits(old, typed)


def test_numbers_of_numpy_and_of_python_are_taken_as_arrays():
    field = lambda t, x, args: args * x  # noqa: E731
    expected = fj.solve(field, jnp.array(1.5), fj.uniform_grid(6), jnp.array(0.3))
    assert expected.dtype == jnp.float32
    times = np.linspace(0, 1, 7, dtype=np.float32)
    for x0, ts, args in [
        (1.5, times, 0.3),
        (np.float32(1.5), times, np.float32(0.3)),
        (np.array(1.5, np.float32), times.tolist(), np.array(0.3, np.float32)),
    ]:
        got = fj.solve(field, x0, ts, args)
        assert (got.dtype, got.shape) == (jnp.float32, ())
        assert_close(got, as_float64(expected), 1e-6)


def test_a_state_may_be_a_module_a_named_tuple_or_hold_empty_leaves():
    class Particle(eqx.Module):
        place: jax.Array
        nothing: None
        empty: jax.Array

    class Pair(NamedTuple):
        place: jax.Array
        nothing: None

    x0 = (Particle(jnp.array([1.0, 2.0]), None, jnp.zeros((0, 3))), Pair(jnp.array(3.0), None))
    field = lambda t, x, args: leafwise(lambda leaf: -leaf, x)  # noqa: E731
    got = fj.solve(field, x0, fj.uniform_grid(4), step=fj.rk4)
    factor = (1 - 1 / 4 + 1 / 32 - 1 / 384 + 1 / 6144) ** 4
    assert_close(got, leafwise(lambda leaf: np.asarray(leaf, np.float64) * factor, x0), 1e-6)


def test_nan_and_infinity_propagate_and_raise_nothing():
    blow_up = lambda t, x, args: jnp.where(t > 0.4, args, 0.0) * x  # noqa: E731
    path = fj.trajectory(blow_up, 1.0, fj.uniform_grid(4), jnp.nan)
    np.testing.assert_array_equal(path, [1.0, 1.0, 1.0, np.nan, np.nan])
    path = fj.trajectory(blow_up, 1.0, fj.uniform_grid(4), jnp.inf)
    np.testing.assert_array_equal(path, [1.0, 1.0, 1.0, np.inf, np.inf])


# Tracing: once for a field, a step and shapes, and of one size whatever the number of steps.


class Count:
    """An SDE that counts how often Python runs its drift, that is, how often it is traced."""

    def __init__(self):
        self.number = 0

    def field(self, t, x, args):
        self.number += 1
        return -args["rate"] * x

    def diffusion(self, t, x, args):
        return args["rate"]


def calls(count, wrap):
    """Solves of an ODE and an SDE with new values at each call; the field's traces after each."""
    drift, diffusion = count.field, count.diffusion
    sde = fj.SDE(drift, diffusion)
    solve = wrap(lambda x0, ts, args: fj.solve(drift, x0, ts, args, step=fj.heun))
    trajectory = wrap(lambda x0, ts, args, key: fj.trajectory(sde, x0, ts, args, key=key, every=2))
    gradient = wrap(jax.grad(lambda x0, ts, args: jnp.sum(fj.solve(drift, x0, ts, args))))
    for i in range(3):
        x0, ts = jnp.full(3, 1.0 + i), fj.uniform_grid(6, 0.0, 1.0 + i)
        args = {"rate": 0.1 * (i + 1)}
        solve(x0, ts, args)
        trajectory(x0, ts, args, jax.random.key(i))
        gradient(x0, ts, args)
        yield count.number


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["as it is", "under jit"])
def test_nothing_is_traced_again_for_new_numbers(wrap):
    """New values in x0, the grid, float arguments and a new key: the field is not run again."""
    first, *later = calls(Count(), wrap)
    assert first > 0
    assert later == [first, first]


def test_a_field_that_is_a_module_is_not_traced_again_for_new_weights():
    traces = []

    class Field(eqx.Module):
        rate: jax.Array

        def __call__(self, t, x, args):
            traces.append(1)
            return -self.rate * x

    ends = [fj.solve(Field(jnp.array(r)), 1.0, fj.uniform_grid(5)) for r in (0.1, 0.2, 0.3)]
    np.testing.assert_allclose(ends, (1 - np.array([0.1, 0.2, 0.3]) / 5) ** 5, rtol=1e-6)
    assert len(traces) == 1


def test_the_trace_counter_sees_a_field_that_is_traced_again():
    """A new lambda is a new field: the check above would fail on it."""
    count = Count()
    for _ in range(2):
        fj.solve(lambda t, x, args: count.field(t, x, args), 1.0, fj.uniform_grid(4), {"rate": 0.1})
    assert count.number >= 2


def equations(jaxpr):
    """How many equations a jaxpr has, with all the jaxprs inside it."""
    total = 0
    for equation in jaxpr.eqns:
        total += 1
        for value in equation.params.values():
            for part in value if isinstance(value, (tuple, list)) else (value,):
                part = getattr(part, "jaxpr", part)
                total += equations(part) if hasattr(part, "eqns") else 0
    return total


JAXPRS = {
    "ode": lambda p, x0, ts, args: fj.solve(p.drift, x0, ts, args, step=fj.rk4),
    "ode, direct": lambda p, x0, ts, args: fj.solve(p.drift, x0, ts, args, adjoint=fj.Direct()),
    "ode, truncated": lambda p, x0, ts, args: fj.solve(
        p.drift, x0, ts, args, adjoint=fj.Truncated(5)
    ),
    "trajectory": lambda p, x0, ts, args: fj.trajectory(p.drift, x0, ts, args),
    "every fifth": lambda p, x0, ts, args: fj.trajectory(p.drift, x0, ts, args, every=5),
    "sde": lambda p, x0, ts, args: fj.solve(p.sde, x0, ts, args, key=jax.random.key(0)),
    "sde, trajectory": lambda p, x0, ts, args: fj.trajectory(
        p.sde, x0, ts, args, key=jax.random.key(0)
    ),
    "ode, gradient": jax.grad(
        lambda p, x0, ts, args: jnp.sum(fj.solve(p.drift, x0, ts, args)), argnums=1
    ),
}


def jaxpr_size(name, n):
    problem, x0, ts, args = setting(array_problem, n, jnp.float32)
    make = jax.make_jaxpr(lambda x0, ts, args: JAXPRS[name](problem, x0, ts, args))
    return equations(make(x0, ts, args).jaxpr)


@pytest.mark.parametrize("name", [name for name in JAXPRS if name != "ode, gradient"])
def test_the_jaxpr_has_the_same_size_for_ten_steps_and_ten_thousand(name):
    assert jaxpr_size(name, 10) == jaxpr_size(name, 10_000)


def test_the_jaxpr_of_a_gradient_has_one_size_for_few_steps_and_one_for_many():
    """Beyond 256 steps and 32 KiB, the states are stored in two levels: one more scan."""
    assert jaxpr_size("ode, gradient", 10) == jaxpr_size("ode, gradient", 256)
    assert jaxpr_size("ode, gradient", 10_000) == jaxpr_size("ode, gradient", 100_000)
    assert jaxpr_size("ode, gradient", 10_000) < 2 * jaxpr_size("ode, gradient", 10)


@pytest.mark.parametrize(("name", "factor"), [("ode", 2.5), ("sde", 5.0), ("ode, gradient", 2.5)])
def test_the_jaxpr_of_an_awkward_number_of_steps_is_larger_by_remainders_only(name, factor):
    """A prime number of steps leaves a shorter segment, and block of noise, each with its code."""
    assert jaxpr_size(name, 10_007) <= factor * jaxpr_size(name, 10_000)
    assert jaxpr_size(name, 100_003) <= factor * jaxpr_size(name, 10_000)


def test_the_jaxpr_size_catches_an_unrolled_loop():
    def unrolled(n):
        def solve(x):
            for _ in range(n):
                x = fj.solve(lambda t, x, args: -x, x, jnp.array([0.0, 1.0]))
            return x

        return equations(jax.make_jaxpr(solve)(1.0).jaxpr)

    assert unrolled(20) > unrolled(10)


# JAX's own checks. Strict dtype promotion, raising rank promotion and errors for warnings hold in
# every test (conftest.py).


def objective(x0, ts, args, key):
    """A little of everything."""
    problem = array_problem(jnp)
    end = fj.solve(problem.drift, x0, ts, args, step=fj.rk4)
    path = fj.trajectory(problem.sde, x0, ts, args, key=key, every=2, adjoint=fj.Truncated(2))
    return jnp.sum(end * end) + jnp.sum(path)


def closing_over(x0, ts, args, key):
    """The same with fields that close over what is differentiated."""
    problem = array_problem(jnp)
    drift = lambda t, x, _: problem.drift(t, x, args)  # noqa: E731
    diffusion = lambda t, x, _: problem.diffusion(t, x, args)  # noqa: E731
    end = fj.solve(drift, x0, ts, step=fj.heun)
    return jnp.sum(end * end) + jnp.sum(fj.solve(fj.SDE(drift, diffusion), x0, ts, key=key))


@pytest.mark.parametrize("function", [objective, closing_over])
def test_nothing_leaks_a_tracer(function, small_heap):
    """Where JAX traces gradients and batches; nothing needs to be compiled for that."""
    _, x0, ts, args = setting(array_problem, 4, jnp.float32)
    keys = jax.random.split(jax.random.key(0), 2)
    gradient = jax.grad(function, argnums=(0, 2))
    batched = jax.vmap(function, in_axes=(None, None, None, 0))
    with jax.checking_leaks():
        jax.make_jaxpr(function)(x0, ts, args, keys[0])
        jax.make_jaxpr(gradient)(x0, ts, args, keys[0])
        jax.make_jaxpr(batched)(x0, ts, args, keys)


def test_nothing_leaks_a_tracer_where_nothing_is_traced_outside(small_heap):
    ts = fj.uniform_grid(3)
    with jax.checking_leaks():
        by_args, by_closure = (
            jax.grad(lambda rate: fj.solve(lambda t, x, r: -r * x, 1.0, ts, rate))(0.5),
            jax.grad(lambda rate: fj.solve(lambda t, x, _: -rate * x, 1.0, ts))(0.5),
        )
    np.testing.assert_allclose(by_closure, by_args, rtol=1e-6)


def test_the_leak_check_sees_a_field_that_leaks(small_heap):
    leaked = []

    def field(t, x, args):
        leaked.append(x)
        return x

    with jax.checking_leaks(), pytest.raises(Exception, match="Leaked"):
        fj.solve(field, 1.0, fj.uniform_grid(3))


def debug_key_reuse():
    """The context in which JAX refuses a key that is used twice."""
    if not hasattr(jax, "debug_key_reuse"):
        pytest.skip("this JAX has no key reuse checker")
    return jax.debug_key_reuse(True)


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey])
def test_the_callers_key_is_not_used_for_two_purposes(make):
    problem, x0, ts, args = setting(array_problem, 4, jnp.float32)

    def end(x0, key):
        return jnp.sum(fj.solve(problem.sde, x0, ts, args, key=key))

    with debug_key_reuse():
        value = end(x0, make(0))
        jitted = jax.jit(end)(x0, make(0))
    assert_close(value, as_float64(jitted), 1e-5)


def test_the_key_reuse_check_sees_a_key_used_twice():
    with debug_key_reuse():
        key = jax.random.key(0)
        jax.random.normal(key)
        with pytest.raises(jax.errors.KeyReuseError):
            jax.random.normal(key)


# Precision: the state's dtype stays, whatever the grid's.


def time_varying(dtype):
    """An SDE on a pytree whose drift has the dtype of the state, and whose diffusion the time's."""

    def drift(t, x, args):
        return leafwise(lambda leaf: (-leaf * t.astype(dtype)).astype(dtype), x)

    x0 = {"a": np.array([1.0, -2.0, 0.5]), "b": np.array(1.5)}
    return fj.SDE(drift, lambda t, x, args: 0.5 + t), cast(x0, dtype)


TIME_VARYING = Problem(
    drift=lambda t, x, args: leafwise(lambda leaf: -leaf * t, x),
    diffusion=lambda t, x, args: leafwise(lambda leaf: 0.5 + t + 0 * leaf, x),
    slope=lambda t, x, args: leafwise(np.zeros_like, x),
    x0=None,
    args=None,
)
SOME_STEPS, ALL_STEPS = ["rk4", "euler_maruyama"], sorted(set(NUMPY_STEPS) - {"adams_bashforth"})


@pytest.mark.parametrize(
    ("name", "time", "methods"),
    [
        ("bfloat16", "float64", ALL_STEPS),
        ("bfloat16", "float32", SOME_STEPS),
        ("float16", "float64", SOME_STEPS),
        ("float16", "float32", SOME_STEPS),
        ("float32", "float64", ALL_STEPS),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)} steps",
)
@pytest.mark.thin(2)
def test_no_grid_promotes_the_state(name, time, methods, x64):
    """The numbers are those of float64 up to the roundings of the state, one or two a step."""
    dtype = jnp.dtype(name)
    sde, x0 = time_varying(dtype)
    ts = fj.uniform_grid(8).astype(time)
    increments = cast(numpy_increments(np.linspace(0, 1, 9), leafwise(as_float64, x0)), dtype)
    for method in methods:
        noisy = method in ("euler_maruyama", "milstein", "stochastic_heun")
        got = fj.trajectory(
            sde if noisy else sde.drift,
            x0,
            ts,
            step=getattr(fj, method),
            increments=increments if noisy else None,
        )
        assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(got))
        expected = numpy_trajectory(method, TIME_VARYING, x0, ts, None, increments)
        assert_close(got, expected, 16 * float(jnp.finfo(dtype).eps))


@pytest.mark.parametrize("name", ["bfloat16", "float32"])
def test_no_grid_promotes_a_state_with_the_noise_of_a_key(name, x64):
    sde, x0 = time_varying(jnp.dtype(name))
    path = fj.trajectory(sde, x0, fj.uniform_grid(4), key=jax.random.key(0))
    assert all(leaf.dtype == jnp.dtype(name) for leaf in jax.tree.leaves(path))
    increments = fj.brownian_increments(jax.random.key(0), fj.uniform_grid(4), x0)
    expected = numpy_trajectory(
        "euler_maruyama", TIME_VARYING, x0, fj.uniform_grid(4), None, increments
    )
    assert_close(path, expected, 16 * float(jnp.finfo(name).eps))


def test_leaves_of_different_dtypes_keep_each_its_own(x64):
    x0 = {
        "half": jnp.ones(2, jnp.bfloat16),
        "single": jnp.ones(2, jnp.float32),
        "double": jnp.ones(2, jnp.float64),
    }
    increments = leafwise(lambda leaf: jnp.zeros((8, 2), leaf.dtype), x0)
    ts = fj.uniform_grid(8)
    got = fj.solve(OU, x0, ts, increments=increments, step=fj.stochastic_heun)
    assert leafwise(lambda leaf: leaf.dtype, got) == leafwise(lambda leaf: leaf.dtype, x0)
    factor = (1 - 1 / 8 + 1 / 128) ** 8
    for name, tolerance in (("half", 0.03), ("single", 1e-6), ("double", 1e-14)):
        np.testing.assert_allclose(np.asarray(got[name], np.float64), factor, rtol=tolerance)


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_the_time_given_to_a_field_is_at_least_float32(name):
    seen = []

    def field(t, x, args):
        seen.append(t.dtype)
        return -x

    for time_dtype in (jnp.dtype(name), jnp.float32):
        ts = fj.uniform_grid(4).astype(time_dtype)
        assert fj.solve(field, jnp.ones((), name), ts, step=fj.rk4).dtype == jnp.dtype(name)
    assert set(seen) == {jnp.dtype("float32")}


@pytest.mark.parametrize(("promotion", "rank"), [("standard", "allow"), ("strict", "raise")])
def test_results_do_not_depend_on_the_promotion_settings(promotion, rank):
    problem, x0, ts, args = setting(tree_problem, 10, jnp.float32)
    increments = cast(numpy_increments(as_float64(ts), problem.x0), jnp.float32)
    with jax.numpy_dtype_promotion(promotion), jax.numpy_rank_promotion(rank):
        got = fj.trajectory(problem.sde, x0, ts, args, step=fj.milstein, increments=increments)
    expected = numpy_trajectory("milstein", tree_problem(np), x0, ts, args, increments)
    assert_close(got, expected, 1e-6)
