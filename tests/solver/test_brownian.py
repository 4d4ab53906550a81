"""A Brownian path is a pure function of (key, step, element), bit for bit, and it is Brownian.

Everything here goes through public functions and holds for any generator of the noise.
"""

import functools
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowjax.grids.uniform import uniform_grid
from flowjax.solver.adjoints import Checkpointed, Direct, Truncated
from flowjax.solver.brownian import brownian_increments, brownian_path, coarsen
from flowjax.solver.sde import SDE
from flowjax.solver.sde_steps import euler_maruyama, milstein, stochastic_heun
from flowjax.solver.views import solve, trajectory
from tests.conftest import enable_x64
from tests.solver.random_checks import (
    assert_mean,
    assert_near,
    assert_standard_normal,
    assert_uncorrelated,
    key_of,
    key_words,
    keys_of,
)

# Nonuniform, and with steps whose square roots are not exact.
TIMES = np.array([0.0, 0.01, 0.04, 0.3, 0.5, 1.25, 2.0], np.float32)
STEPS = TIMES.size - 1
# Whole vectors of a compiled loop, its remainder, both, and neither.
SIZES = {
    "float32": [1, 7, 8, 33, 1000],
    "float64": [1, 7, 33],
    "bfloat16": [7],
    "float16": [7],
}
# Twelve uneven steps.
FINE = 1.5 * np.linspace(0, 1, 13) ** 2
LARGEST = {"float32": 4099, "float64": 4099, "bfloat16": 33, "float16": 33}


def assert_same_bits(got, expected):
    """Two pytrees of the same arrays: not within a tolerance, and not up to the sign of zero."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes(), f"{np.count_nonzero(a != b)} of {a.size} differ"


def increments(key, size=7, dtype=jnp.float32, ts=TIMES):
    return brownian_increments(key, ts, jnp.zeros(size, dtype))


def one_by_one(words, **kind):
    """The increments of each key, given as a row of words, in a call of its own."""
    return np.stack([np.asarray(increments(jnp.asarray(key), **kind)) for key in words])


# --- the contract, bit for bit --------------------------------------------------------------------


@pytest.fixture(scope="module")
def large_state():
    """Increments of the largest state, for each dtype."""
    paths = {}
    for name in SIZES:
        with enable_x64(name == "float64"):
            paths[name] = np.asarray(increments(key_of("sizes"), LARGEST[name], jnp.dtype(name)))
    return paths


@pytest.mark.parametrize(("name", "size"), [(name, size) for name in SIZES for size in SIZES[name]])
def test_an_element_does_not_depend_on_the_size_of_the_state(name, size, large_state):
    with enable_x64(name == "float64"):
        got = increments(key_of("sizes"), size, jnp.dtype(name))
        assert_same_bits(got, large_state[name][:, :size])


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_increments_of_16_bits_are_those_of_float32_rounded(name, large_state):
    rounded = large_state["float32"][:, : LARGEST[name]].astype(jnp.dtype(name))
    assert_same_bits(large_state[name], rounded)


def test_elements_are_counted_along_the_flattened_state():
    expected = increments(key_of("shape"), 30)
    got = brownian_increments(key_of("shape"), TIMES, jnp.zeros((2, 3, 5)))
    assert_same_bits(got, expected.reshape(STEPS, 2, 3, 5))


@pytest.mark.parametrize(
    ("dtype", "size", "batch"),
    [
        ("float32", 33, 1),
        ("float32", 33, 7),
        ("float32", 1, 64),
        ("float64", 7, 7),
    ],
    indirect=["dtype"],
)
def test_a_path_does_not_depend_on_the_batch_it_is_drawn_in(batch, size, dtype):
    draw = jax.vmap(lambda key: increments(key, size, dtype))
    expected = one_by_one(key_words("batch", batch), size=size, dtype=dtype)
    assert_same_bits(draw(keys_of("batch", batch)), expected)


def test_a_path_does_not_depend_on_nested_batches_or_their_axes():
    nested = jax.vmap(jax.vmap(increments, out_axes=2), in_axes=1, out_axes=1)
    got = np.transpose(nested(keys_of("nested", 15).reshape(3, 5)), (3, 1, 0, 2))
    assert_same_bits(got, one_by_one(key_words("nested", 15)).reshape(3, 5, STEPS, 7))


def test_a_path_is_the_same_inside_another_compiled_program(dtype):
    key = key_of("compiled")
    program = jax.jit(lambda key: jnp.sort(increments(key, 7, dtype), axis=0)[::-1])
    assert_same_bits(program(key), np.sort(increments(key, 7, dtype), axis=0)[::-1])


@pytest.mark.thin(1)
def test_a_path_is_the_same_where_its_key_is_a_constant_of_the_program(dtype):
    """What is constant a compiler may compute itself, without the contractions of its own code."""
    keys, words = keys_of("constant", 4), key_words("constant", 4)
    sde = SDE(lambda t, x, args: -x, lambda t, x, args: 0.5)
    splits = jax.vmap(lambda key: increments(key, 3, dtype))

    def draws(key):
        return increments(key, 3, dtype), increments(key, 1, dtype, ts=FINE)

    def solved(key):
        return solve(sde, jnp.ones(3, dtype), TIMES, key=key)

    @jax.jit
    def program():
        made = jax.random.wrap_key_data(jnp.asarray(words[1]))
        constant = [keys[0], made, words[2], keys[3]]
        return [draws(key) for key in constant], solved(made), splits(jax.random.split(made, 3))

    expected = [draws(key) for key in keys], solved(keys[1]), splits(jax.random.split(keys[1], 3))
    assert_same_bits(program(), expected)


def test_a_path_is_the_same_to_rounding_when_nothing_is_compiled():
    """Operation by operation, no product and sum are contracted to one rounding."""
    expected = increments(key_of("compiled"), 3)
    with jax.disable_jit():
        got = increments(key_of("compiled"), 3)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("float32", 7), ("float32", 1000), ("float64", 33)],
    indirect=["dtype"],
)
def test_a_path_is_the_same_when_fused_with_what_uses_it(size, dtype):
    """No product inside an increment is contracted with the sum that the increment enters."""
    dw = one_by_one(key_words("fused", 3), size=size, dtype=dtype)
    x = np.random.default_rng(0).normal(size=dw.shape).astype(dtype)

    @jax.jit
    def fused(keys, x):
        dw = jax.vmap(lambda key: increments(key, size, dtype))(keys)
        return x + dw, x - dw, 3 * dw

    assert_same_bits(fused(keys_of("fused", 3), x), (x + dw, x - dw, 3 * dw))


@pytest.mark.parametrize("batch_size", [None, 4])
def test_a_path_does_not_depend_on_the_chunks_it_is_drawn_in(batch_size):
    got = jax.lax.map(increments, keys_of("chunks", 10), batch_size=batch_size)
    assert_same_bits(got, one_by_one(key_words("chunks", 10)))


def test_float32_increments_are_the_same_bits_with_x64_on_and_off():
    key = key_of("x64")
    expected = np.asarray(increments(key, 33))
    with enable_x64(True):
        assert_same_bits(increments(key, 33), expected)


def test_an_increment_does_not_depend_on_the_steps_after_it():
    expected = increments(key_of("steps"), 33)
    for n in (1, 2, 5):
        assert_same_bits(increments(key_of("steps"), 33, ts=TIMES[: n + 1]), expected[:n])


def test_an_increment_does_not_depend_on_when_its_step_begins():
    """Times that double precision holds exactly, so that only the lengths of the steps matter."""
    ts = np.array([0.0, 0.5, 0.75, 1.75], np.float32)
    got = increments(key_of("begin"), 33, ts=ts + np.float32(16))
    assert_same_bits(got, increments(key_of("begin"), 33, ts=ts))


def test_an_increment_scales_as_the_square_root_of_its_step(dtype):
    got = increments(key_of("scale"), 33, dtype, ts=4 * TIMES)
    assert_same_bits(got, 2 * increments(key_of("scale"), 33, dtype))


def test_typed_and_old_keys_name_the_same_path():
    for seed in (0, 1, 2**31 - 1):
        old = jax.random.PRNGKey(seed)
        assert_same_bits(increments(old, 33), increments(jax.random.key(seed), 33))


@pytest.mark.parametrize("implementation", ["rbg", "unsafe_rbg"])
def test_keys_of_other_implementations_name_one_path_each(implementation):
    """A batch of them neither shares a path nor changes it (as their own bits under vmap do)."""
    keys = jax.random.split(jax.random.key(5, impl=implementation), 7)
    expected = np.stack([np.asarray(increments(key)) for key in keys])
    assert_same_bits(jax.vmap(increments)(keys), expected)
    assert_same_bits(jax.vmap(increments)(jax.random.key_data(keys)), expected)
    assert np.unique(expected).size == expected.size


def test_every_word_of_a_key_matters():
    """Keys that differ in one bit of any of their words name different paths."""
    for words in (2, 4):
        one_word = np.eye(words, dtype=np.uint32)
        paths = one_by_one([0 * one_word[0], *one_word, *(one_word << np.uint32(31))])
        assert np.unique(paths).size == paths.size


def test_four_devices_draw_the_bits_that_one_draws(tmp_path):
    """Batches spread over devices by sample, and a state spread over them by element."""
    script = """
    import sys
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec
    import flowjax as fj

    assert len(jax.devices()) == 4
    mesh = Mesh(np.array(jax.devices()), ("devices",))
    ts = jnp.asarray(np.load(sys.argv[1]))
    sde = fj.SDE(lambda t, x, args: -x, lambda t, x, args: 0.5)
    keys = jax.random.wrap_key_data(jnp.asarray(np.load(sys.argv[2])))
    batch = jax.vmap(lambda key: fj.brownian_increments(key, ts, jnp.zeros(33)))
    state = lambda key: fj.brownian_increments(key, ts, jnp.zeros((8, 33)))
    solved = jax.vmap(lambda key: fj.solve(sde, jnp.ones(33), ts, key=key))
    for name, draw, given, spec in (
        ("batch", batch, keys, PartitionSpec("devices")),
        ("state", state, keys[0], PartitionSpec(None, "devices")),
        ("solved", solved, keys, PartitionSpec("devices")),
    ):
        layout = NamedSharding(mesh, spec)
        if given.ndim:
            given = jax.device_put(given, NamedSharding(mesh, PartitionSpec("devices")))
        drawn = jax.jit(draw, out_shardings=layout)(given)
        parts = {str(shard.index) for shard in drawn.addressable_shards}
        assert len(drawn.sharding.device_set) == 4 and len(parts) == 4
        np.save(f"{sys.argv[3]}/{name}.npy", np.asarray(drawn))
    """
    np.save(tmp_path / "ts.npy", TIMES)
    np.save(tmp_path / "keys.npy", key_words("devices", 28))
    root = Path(__file__).parents[2]
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), "ts.npy", "keys.npy", "."],
        cwd=tmp_path,
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(root)},
        check=True,
    )
    sde = SDE(lambda t, x, args: -x, lambda t, x, args: 0.5)
    keys = keys_of("devices", 28)
    solved = jax.vmap(lambda key: solve(sde, jnp.ones(33), TIMES, key=key))(keys)
    state = brownian_increments(keys[0], TIMES, jnp.zeros((8, 33)))
    for name, expected in (
        ("batch", one_by_one(key_words("devices", 28), size=33)),
        ("state", state),
        ("solved", solved),
    ):
        assert_same_bits(np.load(tmp_path / f"{name}.npy"), expected)


# --- the same path inside a solve -----------------------------------------------------------------


def noise_alone(sde, t0, t1, x, args, dw):
    """A step whose new state is its Brownian increment."""
    return dw


def sum_of_noise(sde, t0, t1, x, args, dw):
    """A step that adds its Brownian increment, so that a compiler may fuse the two."""
    return jax.tree.map(jnp.add, x, dw)


def summed(increments):
    """Partial sums in the order of the steps, each rounded to at least 32 bits, from zero."""
    dw = np.asarray(increments)
    terms = np.concatenate([np.zeros_like(dw[:1]), dw])
    wide = np.float64 if dw.dtype == np.float64 else np.float32
    return np.add.accumulate(terms.astype(wide), axis=0, dtype=wide).astype(dw.dtype)


BROWNIAN_MOTION = SDE(lambda t, x, args: 0 * x, lambda t, x, args: 1.0)


@pytest.mark.parametrize(
    "adjoint",
    [Checkpointed(), Checkpointed(segments=4), Direct(), Truncated(2)],
    ids=repr,
)
def test_a_solve_draws_the_increments_of_its_key(adjoint):
    key, x0 = key_of("solve"), jnp.zeros(7)
    path = trajectory(BROWNIAN_MOTION, x0, TIMES, step=noise_alone, key=key, adjoint=adjoint)
    expected = increments(key, 7)
    assert_same_bits(path[1:], expected)
    last = solve(BROWNIAN_MOTION, x0, TIMES, step=noise_alone, key=key, adjoint=adjoint)
    assert_same_bits(last, expected[-1])


@pytest.mark.parametrize("steps", [1, 127, 262])
def test_a_solve_draws_the_increments_of_its_key_for_any_number_of_steps(steps):
    """One step, an odd block of them, and two blocks and a part of one, here and under two levels
    of checkpoints.
    """
    ts = np.linspace(0, 1, steps + 1, dtype=np.float32)
    key, x0 = key_of("steps"), jnp.zeros(33)
    expected = increments(key, 33, ts=ts)
    path = trajectory(BROWNIAN_MOTION, x0, ts, step=noise_alone, key=key)
    assert_same_bits(path[1:], expected)
    if steps > 127:
        last = solve(BROWNIAN_MOTION, x0, ts, step=noise_alone, key=key)
        assert_same_bits(last, expected[-1])


STATES = {
    "a number": np.zeros(()),
    "rows of two": np.zeros((64, 2)),
    "short and long leaves": {"a": np.zeros(3), "b": [np.zeros(2**13), np.zeros((2, 1))]},
}


@pytest.mark.parametrize(
    ("dtype", "like"),
    [
        *(("float32", like) for like in STATES),
        ("float64", "rows of two"),
        ("bfloat16", "rows of two"),
    ],
    indirect=["dtype"],
)
def test_a_solve_draws_the_increments_of_its_key_for_any_state(like, dtype):
    x0 = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), STATES[like])
    key = key_of("any state")
    path = trajectory(BROWNIAN_MOTION, x0, TIMES, step=sum_of_noise, key=key)
    assert_same_bits(path, jax.tree.map(summed, brownian_increments(key, TIMES, x0)))


@pytest.mark.parametrize(
    ("dtype", "size", "batch"),
    [
        ("float32", 33, 7),
        ("float32", 1, 64),
        ("float32", 2, 1000),
        ("float64", 7, 7),
    ],
    indirect=["dtype"],
)
def test_a_batch_of_solves_draws_the_increments_of_its_keys(batch, size, dtype):
    x0 = jnp.zeros(size, dtype)
    run = jax.vmap(lambda k: trajectory(BROWNIAN_MOTION, x0, TIMES, step=sum_of_noise, key=k))
    some = slice(None, None, max(1, batch // 7))
    alone = one_by_one(key_words("batch", batch)[some], size=size, dtype=dtype)
    expected = np.stack([summed(path) for path in alone])
    assert_same_bits(np.asarray(run(keys_of("batch", batch)))[some], expected)


def test_a_thinned_trajectory_follows_the_path_of_the_whole_one():
    key, x0 = key_of("thinned"), jnp.zeros(7)
    for every in (2, 3):
        path = trajectory(BROWNIAN_MOTION, x0, TIMES, step=noise_alone, key=key, every=every)
        assert_same_bits(path[1:], increments(key)[every - 1 :: every])


@pytest.mark.parametrize("adjoint", [Checkpointed(), Checkpointed(4), Direct()], ids=repr)
def test_the_backward_pass_sees_the_increments_of_the_forward_pass(adjoint):
    """d/ds_i of sum(x0 + sum_i s_i dW_i) is dW_i itself: what is recomputed are the same bits."""

    def weighted(sde, t0, t1, x, args, dw):
        i = jnp.searchsorted(jnp.asarray(TIMES), t0)
        return x + args[i] * dw

    @jax.jit
    @jax.vmap
    def gradient(key, scales):
        def total(scales):
            run = {"args": scales, "step": weighted, "key": key, "adjoint": adjoint}
            return jnp.sum(solve(BROWNIAN_MOTION, jnp.zeros(7), TIMES, **run))

        return jax.grad(total)(scales)

    got = gradient(keys_of("backward", 3), jnp.ones((3, STEPS, 7)))
    assert_same_bits(got, one_by_one(key_words("backward", 3)))


ADDITIVE = SDE(lambda t, x, args: jax.tree.map(lambda x: -x, x), lambda t, x, args: 0.7)
MULTIPLICATIVE = SDE(
    lambda t, x, args: jax.tree.map(lambda x: 0.3 * x, x),
    lambda t, x, args: jax.tree.map(lambda x: 0.5 * x + 0.1 * t.astype(x.dtype), x),
)
TREE = {"cell": np.ones((2, 2)), "positions": (np.full(7, 0.5), np.array(2.0))}


@pytest.mark.parametrize(
    ("dtype", "step", "sde", "x0"),
    [
        ("float32", euler_maruyama, ADDITIVE, np.ones(33)),
        ("float64", euler_maruyama, MULTIPLICATIVE, TREE),
        ("bfloat16", euler_maruyama, ADDITIVE, np.ones(33)),
        ("float32", milstein, MULTIPLICATIVE, TREE),
        ("float32", stochastic_heun, MULTIPLICATIVE, TREE),
    ],
    ids=[
        "additive",
        "multiplicative, tree",
        "bfloat16",
        "milstein",
        "heun",
    ],
    indirect=["dtype"],
)
def test_a_solve_with_a_key_is_the_solve_with_its_increments(step, sde, x0, dtype):
    x0 = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), x0)
    key = key_of("key or increments")
    given = brownian_increments(key, TIMES, x0)
    assert_same_bits(
        solve(sde, x0, TIMES, step=step, key=key),
        solve(sde, x0, TIMES, step=step, increments=given),
    )


def test_a_batch_of_solves_with_keys_is_the_batch_with_their_increments():
    keys = keys_of("key or increments", 7)
    x0 = jnp.ones(33)
    given = jax.vmap(lambda key: increments(key, 33))(keys)
    with_keys = jax.vmap(lambda key: trajectory(MULTIPLICATIVE, x0, TIMES, key=key))
    with_increments = jax.vmap(lambda dw: trajectory(MULTIPLICATIVE, x0, TIMES, increments=dw))
    assert_same_bits(with_keys(keys), with_increments(given))


# --- Brownian motion ------------------------------------------------------------------------------

PATHS = 2**18


@pytest.fixture(scope="module")
def brownian_paths():
    """(times, paths): 2^18 paths over TIMES, of 256 keys and 1024 elements."""
    draw = jax.vmap(lambda key: brownian_path(key, TIMES, jnp.zeros(PATHS // 256)), out_axes=1)
    return np.asarray(draw(keys_of("paths", 256)), np.float64).reshape(TIMES.size, PATHS)


def check_brownian_motion(w):
    """The three properties that define Brownian motion, of paths w of shape (times, paths).

    About 150 numbers are compared: false alarm 1e-4.
    """
    # 1. It starts at zero.
    if np.any(w[0] != 0):
        raise AssertionError("W is not zero at ts[0]")
    # 2. W_t - W_s is N(0, t - s).
    for s in range(STEPS):
        for t in range(s + 1, TIMES.size):
            what = f"W({TIMES[t]}) - W({TIMES[s]})"
            z = (w[t] - w[s]) / np.sqrt(np.float64(TIMES[t]) - np.float64(TIMES[s]))
            assert_mean(z, 0, f"mean of {what}")
            assert_near(np.mean(z**2), 1, np.sqrt(2 / z.size), f"variance of {what}")
            assert_near(np.mean(z**4), 3, np.sqrt(96 / z.size), f"fourth moment of {what}")
            if t == s + 1 or (s, t) == (0, STEPS):
                assert_standard_normal(z, what)
    # 3. Increments over disjoint intervals are independent.
    z = np.diff(w, axis=0) / np.sqrt(np.diff(TIMES.astype(np.float64)))[:, None]
    for i in range(STEPS):
        for j in range(i):
            assert_uncorrelated(z[i], z[j], f"increments {j} and {i}")


def check_covariance(w):
    """Cov(W_s, W_t) = min(s, t). False alarm: 21 numbers, 1.2e-5."""
    t = TIMES[1:].astype(np.float64)
    expected = np.minimum(t[:, None], t[None, :])
    # For normal variables Var(W_s W_t) = s t + min(s, t)^2.
    error = np.sqrt((np.outer(t, t) + expected**2) / w.shape[1])
    assert_near(w[1:] @ w[1:].T / w.shape[1], expected, error, "covariance of W at two times")


def test_the_path_is_brownian_motion(brownian_paths):
    check_brownian_motion(brownian_paths)


def test_the_covariance_of_the_path_is_the_earlier_time(brownian_paths):
    check_covariance(brownian_paths)


def planted_paths(w, bug):
    """The paths of generators that are not Brownian motion, from the increments of one that is."""
    h = np.diff(TIMES.astype(np.float64))[:, None]
    z = np.diff(w, axis=0) / np.sqrt(h)
    dw = {
        "h for its square root": h * z,
        "one normal for all steps": np.sqrt(h) * z[:1],
        "all steps as long as the mean": np.sqrt(h.mean()) * z,
    }[bug]
    return np.concatenate([np.zeros((1, w.shape[1])), np.cumsum(dw, axis=0)])


@pytest.mark.parametrize("check", [check_brownian_motion, check_covariance])
@pytest.mark.parametrize(
    "bug",
    ["h for its square root", "one normal for all steps", "all steps as long as the mean"],
)
def test_a_path_that_is_not_brownian_is_caught(bug, check, brownian_paths):
    with pytest.raises(AssertionError, match=r"W\(|covariance"):
        check(planted_paths(brownian_paths, bug))


def test_a_path_that_does_not_start_at_zero_is_caught(brownian_paths):
    with pytest.raises(AssertionError, match="not zero"):
        check_brownian_motion(brownian_paths + 1e-6)


@jax.jit
def steps_and_path(key, ts):
    like = {"a": jnp.zeros((2, 3)), "b": jnp.zeros(())}
    return brownian_increments(key, ts, like), brownian_path(key, ts, like)


def test_a_path_is_the_running_sum_of_its_increments(x64):
    """In float64, where the order of summation shows in the last digits only."""
    steps, path = steps_and_path(key_of("sum"), FINE)
    for name, shape in (("a", (2, 3)), ("b", ())):
        assert path[name].shape == (FINE.size, *shape)
        np.testing.assert_array_equal(np.asarray(path[name])[0], 0)
        np.testing.assert_allclose(
            np.asarray(path[name])[1:], np.cumsum(steps[name], axis=0), rtol=1e-13, atol=1e-14
        )


@pytest.mark.parametrize("k", [1, 3, 4, 12])
def test_coarsened_increments_are_of_the_same_path_at_every_kth_time(k, x64):
    steps, path = jax.tree.map(np.asarray, steps_and_path(key_of("coarse"), FINE))
    coarse = jax.jit(coarsen, static_argnums=1)(steps, k)
    for name in steps:
        assert coarse[name].shape == (12 // k, *steps[name].shape[1:])
        np.testing.assert_allclose(
            np.cumsum(coarse[name], axis=0), path[name][::k][1:], rtol=1e-12, atol=1e-14
        )


def test_coarsening_in_two_stages_is_coarsening_at_once(x64):
    dw = brownian_increments(key_of("stages"), uniform_grid(24), jnp.zeros(5))
    np.testing.assert_allclose(coarsen(coarsen(dw, 3), 4), coarsen(dw, 12), rtol=1e-12, atol=1e-15)


def test_a_solve_on_coarsened_increments_follows_the_path_of_the_fine_one(x64):
    """Noise alone is integrated exactly on any grid, so both solves end in the same place."""
    ts = uniform_grid(24)
    dw = brownian_increments(key_of("refined"), ts, jnp.zeros(5))
    fine = solve(BROWNIAN_MOTION, jnp.zeros(5), ts, key=key_of("refined"))
    coarse = solve(BROWNIAN_MOTION, jnp.zeros(5), ts[::8], increments=coarsen(dw, 8))
    np.testing.assert_allclose(coarse, fine, rtol=1e-12, atol=1e-14)


class Pair(NamedTuple):
    """A pytree node of one's own."""

    first: Any
    second: Any


def test_the_elements_of_all_leaves_are_counted_in_turn_whatever_their_dtypes(x64):
    """Over steps whose square roots are exact, so that their precision does not matter."""
    dtypes = {"a": "float32", "b": "bfloat16", "c": "float64", "d": "float32"}
    shapes = {"a": (3,), "b": (2, 2), "c": (5,), "d": ()}
    like = {name: jax.ShapeDtypeStruct(shapes[name], dtypes[name]) for name in shapes}
    key, ts = key_of("leaves"), np.array([0, 0.25, 1.25, 1.3125], np.float32)
    got = brownian_increments(key, ts, like)
    flat = {name: increments(key, 13, name, ts) for name in ("float32", "float64")}
    first = 0
    for name, leaf in like.items():
        computed = flat["float64" if name == "c" else "float32"][:, first : first + leaf.size]
        assert_same_bits(got[name], computed.astype(leaf.dtype).reshape(3, *leaf.shape))
        first += leaf.size


def test_leaves_without_elements_and_nodes_of_any_kind_go_through_every_function():
    bare = [jnp.zeros(3), jnp.zeros(())]
    like = Pair({"none": None, "empty": jnp.zeros((0, 2)), "x": bare[0]}, (bare[1], jnp.zeros(0)))

    def filled(x, y):
        steps = x.shape[:-1]
        empty = jnp.zeros((*steps, 0, 2)), jnp.zeros((*steps, 0))
        return Pair({"none": None, "empty": empty[0], "x": x}, (y, empty[1]))

    key = key_of("empty")
    dw = brownian_increments(key, TIMES, like)
    assert_same_bits(dw, filled(*brownian_increments(key, TIMES, bare)))
    assert_same_bits(brownian_path(key, TIMES, like), filled(*brownian_path(key, TIMES, bare)))
    assert_same_bits(coarsen(dw, 2), filled(*coarsen([dw.first["x"], dw.second[0]], 2)))
    nothing = jnp.zeros((0, 4))
    assert coarsen(brownian_increments(key, TIMES, nothing), 2).shape == (3, 0, 4)


def test_increments_are_not_a_number_where_traced_times_decrease_and_zero_where_they_stand_still():
    ts = jnp.array([0.0, 1.0, 1.0, 0.5, 0.75])
    dw = np.asarray(jax.jit(lambda ts: increments(key_of("traced"), 3, ts=ts))(ts))
    np.testing.assert_array_equal(np.isnan(dw).all(1), [False, False, True, False])
    np.testing.assert_array_equal(dw[1], 0)
    assert np.isfinite(dw[[0, 3]]).all()


# --- independence ---------------------------------------------------------------------------------

SAMPLES, UNIT_STEPS, ELEMENTS = 1024, 32, 32  # 2^20 of each leaf
LEAVES = {"a": jnp.zeros(ELEMENTS), "b": jnp.zeros((4, ELEMENTS // 4))}
UNIT_TIMES = np.arange(UNIT_STEPS + 1, dtype=np.float32)


def draw_leaves(keys):
    """Standard normals: increments over steps of length one, for each key and leaf."""
    return jax.vmap(lambda key: brownian_increments(key, UNIT_TIMES, LEAVES))(keys)


def check_independence(drawn):
    """Every axis along which noise could repeat: samples, steps, elements, leaves.

    About 40 numbers, each of 10^6 pairs of normals but a few of half as many, are compared at five
    standard errors, and the correlations of all pairs of samples at seven: false alarm 3e-5.
    """
    drawn = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), drawn)
    a, b = (drawn[name].reshape(SAMPLES, UNIT_STEPS, ELEMENTS) for name in ("a", "b"))
    pairs = {}
    for axis, name in enumerate(("samples", "steps", "elements")):
        for lag in (1, 2, a.shape[axis] // 2):
            left = np.take(a, np.arange(a.shape[axis] - lag), axis)
            pairs[f"{name} {lag} apart"] = left, np.take(a, np.arange(lag, a.shape[axis]), axis)
        pairs[f"leaves, the next of the {name}"] = a, np.roll(b, 1, axis)
    pairs["leaves"] = a, b
    pairs["leaves, steps and elements exchanged"] = a, np.swapaxes(b, 1, 2)
    caught = []
    for what, pair in pairs.items():
        try:
            assert_uncorrelated(*pair, what)
        except AssertionError as error:
            caught.append(str(error))
    # Any two of the samples: a repeated path would be 32 standard errors away here.
    flat = a.reshape(SAMPLES, -1)
    flat = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    correlation = np.abs(flat @ flat.T)[np.triu_indices(SAMPLES, 1)].max()
    if not correlation < 7 / np.sqrt(flat.shape[1]):
        caught.append(f"two of all samples: their correlation is {correlation:.3f}")
    if caught:
        raise AssertionError("; ".join(caught))


KEYS = {
    "split": lambda: jax.random.split(key_of("independence"), SAMPLES),
    "fold_in": lambda: jax.vmap(lambda i: jax.random.fold_in(key_of("independence"), i))(
        jnp.arange(SAMPLES)
    ),
    "consecutive integers": lambda: jax.vmap(jax.random.key)(jnp.arange(SAMPLES)),
}


@pytest.mark.parametrize("keys", KEYS)
def test_samples_steps_elements_and_leaves_are_independent(keys):
    check_independence(draw_leaves(KEYS[keys]()))


@pytest.fixture(scope="module")
def leaves():
    return jax.tree.map(np.asarray, draw_leaves(keys_of("leaves", SAMPLES)))


def spread(leaf, index):
    """One entry of an array, at all its places."""
    return np.broadcast_to(leaf[index], leaf.shape)


PLANTED = {
    "samples 1 apart": lambda a, b: (spread(a, np.s_[:1]), spread(b, np.s_[:1])),
    "steps 1 apart": lambda a, b: (spread(a, np.s_[:, :1]), spread(b, np.s_[:, :1])),
    "elements 1 apart": lambda a, b: (spread(a, np.s_[:, :, :1]), b),
    "leaves ": lambda a, b: (a, a.reshape(b.shape)),
    "two of all samples": lambda a, b: (a[[*range(SAMPLES - 1), 0]], b),
}


@pytest.mark.parametrize("caught_as", PLANTED)
def test_shared_noise_is_caught(caught_as, leaves):
    """One path for a whole batch, one key for all steps, elements or leaves, a key used twice."""
    a, b = PLANTED[caught_as](leaves["a"], leaves["b"])
    with pytest.raises(AssertionError, match=caught_as):
        check_independence({"a": a, "b": b})


# What a caller may well draw from the key that is then given to `solve`.
STARTS = {
    "normal": jax.random.normal,
    "uniform": lambda key, shape: np.sqrt(12) * (jax.random.uniform(key, shape) - 0.5),
    "normal of a split key": lambda key, shape: jax.random.normal(jax.random.split(key)[0], shape),
    "normal of the other one": lambda key, shape: jax.random.normal(
        jax.random.split(key)[1], shape
    ),
    "normal of a folded key": lambda key, shape: jax.random.normal(
        jax.random.fold_in(key, 1), shape
    ),
}


COUNT = 2**20


@functools.cache
def draw_from_one_key_and_from_many(draw):
    """2^20 elements of one key, and one element of each of 2^20 keys, along the last axis."""
    one = draw(key_of("start"), (COUNT,))
    many = jax.jit(jax.vmap(lambda key: draw(key, (1,))[..., 0], out_axes=-1))
    return tuple(np.asarray(z, np.float64) for z in (one, many(keys_of("start", COUNT))))


def path_of(key, shape):
    return brownian_increments(key, UNIT_TIMES[:3], jnp.zeros(shape))


@pytest.fixture(scope="module")
def noise():
    return draw_from_one_key_and_from_many(path_of)


def check_start_is_independent(start, noise):
    """x0 and the increments drawn from the same keys. 18 numbers: false alarm 1e-5."""
    starts = draw_from_one_key_and_from_many(start)
    for keys, x0, dw in zip(("one key", "many keys"), starts, noise, strict=True):
        for i in range(dw.shape[0]):
            assert_uncorrelated(x0, dw[i], f"start and increment {i} of {keys}")
        assert_uncorrelated(x0[1:], dw[0, :-1], f"start and the next element's increment of {keys}")


@pytest.mark.parametrize("start", STARTS)
def test_the_start_drawn_from_the_key_of_the_path_is_independent_of_the_path(start, noise):
    check_start_is_independent(STARTS[start], noise)


def path_without_a_domain_of_its_own(key, shape):
    """The first step draws what the caller may have drawn from the key, the second from a child."""
    return jnp.stack(
        [jax.random.normal(key, shape), jax.random.normal(jax.random.split(key)[1], shape)]
    )


def test_a_path_that_reuses_the_bits_of_the_start_is_caught():
    planted = draw_from_one_key_and_from_many(path_without_a_domain_of_its_own)
    for start in ("normal", "uniform", "normal of the other one"):
        with pytest.raises(AssertionError, match="start and increment"):
            check_start_is_independent(STARTS[start], planted)


def test_a_path_that_reuses_the_bits_of_another_path_is_caught(noise):
    with pytest.raises(AssertionError, match="start and increment"):
        check_start_is_independent(lambda key, shape: path_of(key, shape)[0], noise)
