"""A fold is what one computes from the stored path, without storing it; and so is its gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from tests.solver.oracles import leafwise

pytestmark = pytest.mark.usefixtures("x64")

KEY = jax.random.key(5)
TS = np.concatenate([[0.0], np.cumsum(np.random.default_rng(3).uniform(0.02, 0.08, 11))])
X0 = {"a": np.array([0.4, -0.7]), "b": np.array(1.1)}


def drift(t, x, rate):
    return leafwise(lambda leaf: jnp.sin(leaf) * rate - t * leaf, x)


def diffusion(t, x, rate):
    return leafwise(lambda leaf: 0.3 * rate + 0.1 * leaf, x)


SDE = fj.SDE(drift, diffusion)
MATRIX = fj.SDE(
    drift,
    lambda t, x, rate: {"a": jnp.array([[0.3, 0.1, 0.0], [0.2, -0.4, rate]]), "b": None},
    noise=(3,),
)
CASES = {
    "euler": (drift, {}),
    "adams": (drift, {"step": fj.adams(3)}),
    "euler_maruyama": (SDE, {"key": KEY}),
    "a matrix": (MATRIX, {"key": KEY, "step": fj.reversible_heun}),
}


def update(value, t0, t1, x0, x1, dw):
    """Of a vector, a sum of squares, a count and what is not linear in the value."""
    path, total, steps = value
    change = leafwise(lambda a, b: b - a, x0, x1)
    squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(change))
    noise = 0.0 if dw is None else sum(jnp.sum(leaf) for leaf in jax.tree.leaves(dw))
    path = leafwise(lambda p, a, b: jnp.tanh(p) + (t1 - t0) * (a + b) / 2, path, x0, x1)
    return path, total + squares / (t1 - t0) + noise * x1["b"], steps + 1


def start(x0):
    return leafwise(jnp.zeros_like, x0), jnp.zeros(()), jnp.array(0)


def folded(field, x0, rate, **how):
    ts = jnp.asarray(TS)
    return fj.fold(field, x0, ts, rate, init=start, update=update, **how)


def from_the_path(field, x0, rate, **how):
    """The same from the stored path and the increments."""
    path = fj.trajectory(field, x0, jnp.asarray(TS), rate, **(how | {"adjoint": fj.Direct()}))
    dws = None
    if "key" in how:
        like = x0 if field.noise is None else jnp.zeros(3)
        dws = fj.brownian_increments(how["key"], jnp.asarray(TS), like)
    before, after = (leafwise(lambda leaf, j=j: leaf[j : j + len(TS) - 1], path) for j in (0, 1))
    steps = jnp.asarray(TS[:-1]), jnp.asarray(TS[1:]), before, after, dws
    value, _ = jax.lax.scan(lambda v, step: (update(v, *step), None), start(x0), steps)
    return leafwise(lambda leaf: leaf[-1], path), value


def reward(result):
    x1, (path, total, _) = result
    return total + sum(jnp.sum(leaf**3) for leaf in jax.tree.leaves((x1, path)))


def close(got, expected, rtol=1e-10):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12), got, expected
    )


@functools.cache
def truth(name):
    field, how = CASES[name]

    def loss(x0, rate):
        result = from_the_path(field, x0, rate, **how)
        return reward(result), result

    return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(X0, 0.6)


ADJOINTS = [
    fj.Checkpointed(),
    fj.Checkpointed(4),
    fj.Direct(),
    fj.Reversible(),
]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.thin(2)
def test_a_fold_and_its_gradient_are_those_of_the_stored_path(name):
    field, how = CASES[name]
    gradient, result = truth(name)
    for adjoint in ADJOINTS:
        # Of other methods a scheme of its own, or refused.
        if isinstance(adjoint, fj.Reversible) and how.get("step") is not fj.reversible_heun:
            continue

        def loss(x0, rate, adjoint=adjoint):
            result = folded(field, x0, rate, adjoint=adjoint, **how)
            return reward(result), result

        got = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(X0, 0.6)
        close(got[1], result)
        close(got[0], gradient)


def test_a_truncated_fold_is_that_of_its_last_steps_from_constants():
    field, how = CASES["euler_maruyama"]
    ts = jnp.asarray(TS)

    def truncated(x0, rate):
        return reward(folded(field, x0, rate, adjoint=fj.Truncated(4), **how))

    def in_parts(x0, rate):
        early = fj.fold(field, x0, ts[:8], rate, init=start, update=update, **how)
        x0, value = jax.lax.stop_gradient(early)
        late = {"init": value, "update": update, "first_step": 7}
        return reward(fj.fold(field, x0, ts[7:], rate, **late, **how))

    close(*(jax.jit(jax.value_and_grad(f, (0, 1)))(X0, 0.6) for f in (truncated, in_parts)))


@pytest.mark.parametrize("name", ["adams", "a matrix"])
@pytest.mark.thin(1)
def test_the_value_alone_has_a_gradient_by_what_its_update_closes_over(name):
    """Where nothing else of the solve is differentiated."""
    field, how = CASES[name]

    def loss(rate, weight, adjoint):
        def squares(value, t0, t1, x0, x1, dw):
            return value + weight * (t1 - t0) * x0["b"] ** 2

        ts = jnp.asarray(TS)
        end = fj.fold(field, X0, ts, rate, init=0.0, update=squares, adjoint=adjoint, **how)
        return end[1]

    def of_path(rate, weight):
        x = fj.trajectory(field, X0, jnp.asarray(TS), rate, adjoint=fj.Direct(), **how)["b"]
        return weight * jnp.sum(np.diff(TS) * x[:-1] ** 2)

    expected = jax.jit(jax.grad(of_path, (0, 1)))(0.6, 1.5)
    for adjoint in ADJOINTS[: 4 if name == "a matrix" else 3]:
        close(jax.jit(jax.grad(loss, (0, 1)), static_argnums=2)(0.6, 1.5, adjoint), expected)


def test_the_coupled_scheme_of_reversible_folds_along_its_own_path():
    """Against finite differences of itself; its end is that of its solve."""
    how = {"step": fj.midpoint, "adjoint": fj.Reversible()}

    def loss(rate):
        return reward(folded(drift, X0, rate, **how))

    compiled = jax.jit(loss)
    by_differences = (compiled(0.6 + 1e-5) - compiled(0.6 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(0.6), by_differences, rtol=1e-7)

    def value(rate):
        return folded(drift, X0, rate, **how)[1][1]

    compiled = jax.jit(value)
    by_differences = (compiled(0.6 + 1e-5) - compiled(0.6 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.jit(jax.grad(value))(0.6), by_differences, rtol=1e-7)
    end = fj.solve(drift, X0, jnp.asarray(TS), 0.6, **how)
    close(folded(drift, X0, 0.6, **how)[0], end)


def test_a_batch_of_folds_is_each_of_them():
    x0s = leafwise(lambda leaf: np.stack([leaf, 2 * leaf, -leaf]), X0)
    keys = jax.random.split(KEY, 3)
    batch = jax.vmap(lambda x0, key: folded(SDE, x0, 0.6, key=key))(x0s, keys)
    for i in range(3):
        one = folded(SDE, leafwise(lambda leaf, j=i: leaf[j], x0s), 0.6, key=keys[i])
        close(leafwise(lambda leaf, j=i: leaf[j], batch), one)


def test_second_derivatives_and_forward_mode_go_through_a_fold():
    def loss(rate):
        return reward(folded(drift, X0, rate))

    def plain(rate):
        return reward(from_the_path(drift, X0, rate))

    np.testing.assert_allclose(
        jax.jit(jax.hessian(loss))(0.6), jax.jit(jax.hessian(plain))(0.6), rtol=1e-9
    )


def temporary_bytes(n, adjoint=None):
    ts, how = fj.uniform_grid(n), {} if adjoint is None else {"adjoint": adjoint}

    def loss(x0):
        return reward(fj.fold(drift, x0, ts, 0.6, init=start, update=update, **how))

    compiled = jax.jit(loss if adjoint is None else jax.grad(loss)).lower(X0).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_the_memory_of_a_fold_does_not_grow_with_the_steps():
    """By less than a byte for each, of some bookkeeping: not by a value, and not by a state."""
    assert temporary_bytes(64_000) - temporary_bytes(1000) < 64_000


def test_a_fold_of_nothing_is_the_solve():
    """The same program, but for the names in it."""

    def nothing(x0):
        return fj.fold(drift, x0, jnp.asarray(TS), 0.6, init=(), update=lambda v, *a: v)[0]

    def solve(x0):
        return fj.solve(drift, x0, jnp.asarray(TS), 0.6)

    texts = []
    for function in (nothing, solve):
        text = jax.jit(lambda x0, f=function: f(x0)).lower(X0).compile().as_text()
        lines = (line.split(", metadata=")[0] for line in text.splitlines()[1:])
        texts.append([line for line in lines if not line.startswith(("HloModule", "FileNames"))])
    operations = [sum("= " in line for line in text) for text in texts]
    assert operations[0] == operations[1]


def test_init_may_be_a_value_and_states_of_half_precision_are_seen_in_float32():
    seen = []

    def count(value, t0, t1, x0, x1, dw):
        seen.append((x0.dtype, x1.dtype, dw))
        return value + 1

    x0 = jnp.array([0.5], jnp.float16)
    x1, value = fj.fold(fj.linear_field, x0, fj.uniform_grid(4), 0.5, init=0.0, update=count)
    assert x1.dtype == jnp.float16
    assert value == 4
    assert set(seen) == {(np.dtype(np.float32), np.dtype(np.float32), None)}


@pytest.mark.parametrize(
    ("init", "update", "error", "words"),
    [
        (0.0, lambda v, *a: jnp.ones(2), ValueError, r"must keep its shape \(\) and dtype float"),
        (0.0, lambda v, *a: (v, v), ValueError, "the value that update returns must have its str"),
        (0.0, lambda v, *a: jnp.float32(1), ValueError, "must keep its shape .* and dtype float64"),
        (0.0, lambda v, *a: "a", ValueError, "must keep its shape"),
        (0.0, lambda v, t0, t1, x: v, TypeError, "update must be a function.*t0, t1, x0, x1, dw"),
        (0.0, None, TypeError, "update must be a function"),
        ("a", lambda v, *a: v, TypeError, "init must be an array or a number, got 'a'"),
        ({"a": "b"}, lambda v, *a: v, TypeError, r"init\['a'\] must be an array or a number"),
        (lambda x0, t: 0.0, lambda v, *a: v, TypeError, "init must be a function x0 -> value"),
    ],
)
def test_a_bad_update_is_refused(unchecked, init, update, error, words):
    with pytest.raises(error, match=words):
        fj.fold(drift, X0, jnp.asarray(TS), 0.6, init=init, update=update)
