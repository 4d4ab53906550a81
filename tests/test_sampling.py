"""Samples against their definition, exact moments, and independence of how they are drawn.

Random checks allow five standard errors: a false alarm in 1.7 million for each number checked.
Each is shown to catch a planted bug.
"""

import functools
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from flowjax.grids.uniform import uniform_grid
from flowjax.sampling.views import sample
from flowjax.solver.brownian import brownian_increments
from flowjax.solver.ode_steps import heun
from flowjax.solver.sde import SDE
from flowjax.solver.views import solve
from flowjax.targets.diffusions import ornstein_uhlenbeck
from flowjax.targets.gaussian import Gaussian
from flowjax.targets.linear import linear_field

KEY = jax.random.key(0)
TS = uniform_grid(8)


def normal_pair(key):
    return jax.random.normal(key, (2,))


def zero_pair(key):
    return jnp.zeros(2)


def still(t, x, args):
    return jnp.zeros_like(x)


def one(t, x, args):
    return jnp.ones_like(t)


BROWNIAN = SDE(still, one)


def keys_of(key, i):
    return jax.random.split(jax.random.fold_in(key, i))


# --- what a sample is -----------------------------------------------------------------------------


@pytest.mark.thin(1)
def test_sample_i_is_the_solve_of_the_keys_folded_from_i(dtype):
    def init(key):
        return jax.random.normal(key, (2,), dtype)

    ts = uniform_grid(8)
    tolerance = 1e-13 if dtype == jnp.float64 else 1e-6
    sde = ornstein_uhlenbeck(1.5, 0.5)
    noisy = sample(KEY, sde, init, ts, 5)
    quiet = sample(KEY, linear_field, init, ts, 5, args=1.5, step=heun)
    assert noisy.dtype == quiet.dtype == dtype
    for i in range(5):
        init_key, path_key = keys_of(KEY, i)
        x0 = init(init_key)
        want = solve(sde, x0, ts, key=path_key)
        np.testing.assert_allclose(noisy[i], want, rtol=tolerance, atol=tolerance)
        want = solve(linear_field, x0, ts, args=1.5, step=heun)
        np.testing.assert_allclose(quiet[i], want, rtol=tolerance, atol=tolerance)


def test_a_step_that_asks_for_noise_has_it_on_a_plain_field():
    def noisy_euler(field, t0, t1, x, args, dw):
        return x + (t1 - t0) * field(t0, x, args) + dw

    got = sample(KEY, still, zero_pair, TS, 4, step=noisy_euler)
    for i in range(4):
        increments = brownian_increments(keys_of(KEY, i)[1], TS, jnp.zeros(2))
        np.testing.assert_allclose(got[i], np.sum(increments, axis=0), rtol=1e-5, atol=1e-6)


def test_a_state_may_be_a_pytree():
    def init(key):
        return {"a": jax.random.normal(key, (2, 3)), "b": (2.0,)}

    rates = {"a": 1.0, "b": (2.0,)}
    got = sample(KEY, linear_field, init, TS, 3, args=rates)
    decay = (1 - 1 / 8) ** 8, (1 - 2 / 8) ** 8
    np.testing.assert_allclose(got["b"][0], np.full(3, 2 * decay[1]), rtol=1e-6)
    for i in range(3):
        x0 = np.asarray(jax.random.normal(keys_of(KEY, i)[0], (2, 3)))
        np.testing.assert_allclose(got["a"][i], x0 * decay[0], rtol=1e-5)


def test_a_state_may_have_empty_leaves_scalars_and_none():
    def init(key):
        return {"empty": jnp.zeros((2, 0)), "scalar": jax.random.normal(key), "none": None}

    sde = ornstein_uhlenbeck(1.0, 0.5)
    want = sample(KEY, sde, init, TS, 5)
    for how in ({"batch_size": 2}, {"batch_size": 2, "progress": True}):
        got = sample(KEY, sde, init, TS, 5, **how)
        assert got["empty"].shape == want["empty"].shape == (5, 2, 0)
        assert got["none"] is None
        np.testing.assert_array_equal(got["scalar"], want["scalar"])
    x0 = init(keys_of(KEY, 4)[0])
    last = solve(sde, x0, TS, key=keys_of(KEY, 4)[1])
    np.testing.assert_allclose(want["scalar"][4], last["scalar"], rtol=1e-5)


@pytest.mark.parametrize(
    ("field", "how"),
    [
        ("brownian", {"num": 5}),
        ("brownian", {"num": 50}),
        ("brownian", {"batch_size": 1}),
        ("brownian", {"batch_size": 20}),
        ("brownian", {"batch_size": 1000}),
        ("brownian", {"progress": True}),
        ("brownian", {"batch_size": 7, "progress": True}),
        ("ornstein_uhlenbeck", {"num": 5}),
        ("ornstein_uhlenbeck", {"batch_size": 7}),
        ("ornstein_uhlenbeck", {"batch_size": 7, "progress": True}),
    ],
    ids=str,
)
@pytest.mark.thin(2)
def test_sample_i_has_the_same_bits_however_it_is_drawn(field, how):
    field = {"brownian": BROWNIAN, "ornstein_uhlenbeck": ornstein_uhlenbeck(1.0, 0.5)}[field]
    want = sample(KEY, field, normal_pair, TS, 20)
    got = sample(KEY, field, normal_pair, TS, **({"num": 20} | how))
    assert got.shape == (how.get("num", 20), 2)
    both = min(20, len(got))
    np.testing.assert_array_equal(got[:both], want[:both])


def test_a_network_gives_the_same_sample_to_rounding_however_it_is_drawn():
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16)) / 4, jnp.float32)

    def network(t, x, args):
        return args[1] @ jnp.tanh(args[0] @ x)

    def init(key):
        return jax.random.normal(key, (16,))

    want = sample(KEY, network, init, TS, 20, args=weights)
    got = sample(KEY, network, init, TS, 20, args=weights, batch_size=3)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_typed_and_old_keys_give_the_same_samples():
    want = sample(KEY, BROWNIAN, normal_pair, TS, 3)
    np.testing.assert_array_equal(sample(jax.random.PRNGKey(0), BROWNIAN, normal_pair, TS, 3), want)


def test_rbg_keys_keep_the_promise_too():
    """Their own bits under vmap would depend on the batch."""
    key = jax.random.key(7, impl="rbg")
    want = sample(key, BROWNIAN, normal_pair, TS, 20)
    np.testing.assert_array_equal(sample(key, BROWNIAN, normal_pair, TS, 20, batch_size=7), want)
    assert len(np.unique(want)) == want.size
    other = sample(jax.random.key(8, impl="rbg"), BROWNIAN, normal_pair, TS, 20)
    assert not np.any(np.isclose(want, other, rtol=1e-6))


def test_an_ode_runs_backward():
    got = sample(KEY, linear_field, zero_pair_plus_one, uniform_grid(8, 1.0, 0.0), 2, args=1.0)
    np.testing.assert_allclose(got, np.full((2, 2), (1 + 1 / 8) ** 8), rtol=1e-6)


def zero_pair_plus_one(key):
    return jnp.ones(2)


# --- the law of the samples -----------------------------------------------------------------------


def exact_moments(theta, sigma, n, mean, variance):
    """Those of Euler-Maruyama for the Ornstein-Uhlenbeck process over [0, 1]."""
    for _ in range(n):
        mean, variance = (1 - theta / n) * mean, (1 - theta / n) ** 2 * variance + sigma**2 / n
    return mean, variance


def moments_off(samples, mean, variance):
    """The largest distance from the exact moments and from independence, in standard errors.

    The mean, the variance, the correlation of the two elements, and of each sample with the next.
    """
    samples = (np.asarray(samples, float) - mean) / np.sqrt(variance)
    num = len(samples)
    distances = [
        samples.mean(axis=0) * np.sqrt(num),
        (np.mean(samples**2, axis=0) - 1) * np.sqrt(num / 2),
        np.mean(samples[:, 0] * samples[:, 1]) * np.sqrt(num),
        np.mean(samples[1:] * samples[:-1], axis=0) * np.sqrt(num - 1),
    ]
    return np.nan_to_num(np.abs(np.hstack(distances)), nan=np.inf).max()


def law_of_ornstein_uhlenbeck(draw):
    num, theta, sigma = 20_000, 1.0, 0.8
    samples = draw(KEY, ornstein_uhlenbeck(theta, sigma), normal_pair, uniform_grid(10), num)
    return moments_off(samples, *exact_moments(theta, sigma, 10, 0.0, 1.0))


def planted(path_keys=None, init_keys=None, shift=None):
    """`sample` written again, with one thing wrong."""

    def draw(key, sde, init, ts, num):
        starts, paths = folded(key, num)
        starts = init_keys(starts) if init_keys else starts
        paths = path_keys(paths) if path_keys else paths
        samples = ends(sde, init, ts, starts, paths)
        return samples + jax.jit(jax.vmap(shift))(starts) if shift else samples

    return draw


@functools.partial(jax.jit, static_argnums=1)
def folded(key, num):
    keys = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(key, i)))(jnp.arange(num))
    return keys[:, 0], keys[:, 1]


@eqx.filter_jit
def ends(sde, init, ts, starts, paths):
    """One program for all that is planted in the keys."""
    return jax.vmap(lambda start, path: solve(sde, init(start), ts, key=path))(starts, paths)


def test_samples_have_the_exact_moments_and_are_independent():
    assert law_of_ornstein_uhlenbeck(sample) < 5


def test_the_sampler_written_again_without_a_bug_passes():
    assert law_of_ornstein_uhlenbeck(planted()) < 5


@pytest.mark.parametrize(
    "bug",
    [
        {"path_keys": lambda keys: jnp.broadcast_to(keys[:1], keys.shape)},
        {"init_keys": lambda keys: jnp.broadcast_to(keys[:1], keys.shape)},
        {"init_keys": lambda keys: keys[jnp.arange(len(keys)) // 2]},
        # The start leaks into the end, as where the noise is drawn from the key of the start.
        {"shift": lambda start: 0.1 * jax.random.normal(start, (2,))},
    ],
    ids=["one path for all", "one start for all", "starts in pairs", "start and noise dependent"],
)
def test_a_planted_bug_is_caught(bug):
    assert law_of_ornstein_uhlenbeck(planted(**bug)) > 5


# --- under the transformations --------------------------------------------------------------------


def test_the_gradient_through_the_samples_is_exact(x64):
    """X_n = x_0 (1 - theta h)^n, so d/dtheta of the mean is -n h (1 - theta h)^(n - 1) mean x_0."""

    def mean_end(theta, batch_size=None):
        samples = sample(
            KEY, linear_field, normal_pair, uniform_grid(8), 6, args=theta, batch_size=batch_size
        )
        return jnp.mean(samples)

    mean_start = np.mean([normal_pair(keys_of(KEY, i)[0]) for i in range(6)])
    want = -((1 - 1.5 / 8) ** 7) * mean_start
    np.testing.assert_allclose(jax.grad(mean_end)(1.5), want, rtol=1e-10)
    np.testing.assert_allclose(jax.grad(lambda theta: mean_end(theta, 4))(1.5), want, rtol=1e-10)


def test_a_second_call_and_new_values_trace_nothing():
    traces = []

    class Field(eqx.Module):
        rate: jax.Array

        def __call__(self, t, x, args):
            traces.append(None)
            return -self.rate * args * x

    def draw(seed, rate, args, **how):
        return sample(
            jax.random.key(seed), Field(jnp.asarray(rate)), normal_pair, TS, 6, args=args, **how
        )

    for how in ({}, {"batch_size": 2}, {"batch_size": 2, "progress": True}):
        draw(0, 1.0, 1.0, **how)
        before = len(traces)
        assert before > 0
        np.testing.assert_allclose(draw(1, 2.0, 0.5, **how), draw(1, 0.5, 2.0, **how), rtol=1e-6)
        assert len(traces) == before


def test_sample_runs_inside_jit_and_vmap():
    def draw(theta):
        return sample(KEY, linear_field, normal_pair, TS, 3, args=theta)

    thetas = jnp.array([0.5, 2.0])
    got = jax.jit(jax.vmap(draw))(thetas)
    np.testing.assert_allclose(got, jnp.stack([draw(theta) for theta in thetas]), rtol=1e-6)


# --- progress -------------------------------------------------------------------------------------


def test_the_bar_counts_the_samples(capsys):
    sample(KEY, BROWNIAN, zero_pair, TS, 20, batch_size=7)
    assert capsys.readouterr().err == ""
    sample(KEY, BROWNIAN, zero_pair, TS, 20, batch_size=7, progress=True)
    jax.effects_barrier()
    assert "20/20" in capsys.readouterr().err


def test_the_bar_moves_inside_of_jit(capsys):
    draw = jax.jit(
        lambda key: sample(key, BROWNIAN, zero_pair, TS, 20, batch_size=7, progress=True)
    )
    for _ in range(2):
        jax.block_until_ready(draw(KEY))
        jax.effects_barrier()
        drawn = capsys.readouterr().err
        assert "sampling:   0%" in drawn
        assert "20/20" in drawn


def test_without_tqdm_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match=r"pip install 'flowjax-solvers\[examples\]'"):
        sample(KEY, BROWNIAN, zero_pair, TS, 2, progress=True)


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"num": 0}, ValueError, "num"),
        ({"num": -3}, ValueError, "num"),
        ({"num": 2.5}, TypeError, "num"),
        ({"num": True}, TypeError, "num"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"batch_size": 2.0}, TypeError, "batch_size"),
        ({"key": 0}, TypeError, "key must be one JAX key"),
        ({"key": jax.random.split(KEY, 4)}, ValueError, "batch of keys"),
        ({"key": jnp.zeros(2)}, TypeError, "key must be one JAX key"),
        ({"init": jnp.zeros(2)}, TypeError, "init must be a function key -> x0"),
        ({"init": Gaussian(0.0, 1.0)}, TypeError, r"such as fj.Gaussian\(...\).sample, got Gaus"),
        ({"init": lambda key: jnp.zeros(2, int)}, TypeError, "init\\(key\\)"),
        ({"field_or_sde": 3}, TypeError, "field"),
        ({"field_or_sde": lambda t, x, args: x[:1]}, ValueError, "field"),
        ({"ts": jnp.zeros(1)}, ValueError, "ts"),
        ({"ts": jnp.arange(3)}, ValueError, "ts"),
        ({"field_or_sde": BROWNIAN, "ts": TS[::-1]}, ValueError, "ts must not decrease"),
        ({"field_or_sde": BROWNIAN, "step": heun}, TypeError, "heun is for an ODE"),
        ({"step": 3}, TypeError, "step"),
        ({"sharding": "samples"}, TypeError, "sharding must be a jax.sharding.Sharding"),
        ({"temperature": 1.0}, TypeError, "temperature"),
    ],
)
def test_bad_input_is_refused(unchecked, change, error, words):
    settings = {"key": KEY, "field_or_sde": still, "init": zero_pair, "ts": TS, "num": 2}
    with pytest.raises(error, match=words):
        sample(**(settings | change))


def test_a_grid_in_halves_that_decreases_is_refused_under_jit_too():
    ts = TS[::-1].astype(jnp.bfloat16)
    with pytest.raises(ValueError, match="ts must not decrease"):
        jax.jit(lambda key: sample(key, BROWNIAN, zero_pair, ts, 2))(KEY)


def test_a_traced_number_of_samples_is_refused(unchecked):
    with pytest.raises(TypeError, match="num must be a static positive int, got a traced"):
        jax.jit(lambda num: sample(KEY, still, zero_pair, TS, num))(3)


# --- args of each sample, paths and pairs ---------------------------------------------------------


def pulled(t, x, args):
    return args["to"] * args["rate"] - x


PULLED = fj.SDE(pulled, lambda t, x, args: 0.1)
ARGS = {"to": jnp.arange(12.0).reshape(2, 6), "rate": 0.5}
AXES = {"to": 1, "rate": None}


def two(key):
    return jax.random.normal(key, (2,))


@pytest.mark.parametrize("how", [{}, {"batch_size": 4}, {"batch_size": 5, "progress": True}])
@pytest.mark.thin(1)
def test_args_of_each_sample_are_those_of_one_solve_each(how):
    xs = sample(KEY, PULLED, two, TS, 6, args=ARGS, args_axes=AXES, **how)
    for i in range(6):
        one = {"to": ARGS["to"][:, i], "rate": 0.5}
        init_key, path_key = jax.random.split(jax.random.fold_in(KEY, i))
        alone = solve(PULLED, two(init_key), TS, one, key=path_key)
        np.testing.assert_allclose(xs[i], alone, rtol=1e-6, atol=1e-6)


def test_an_axis_may_be_an_int_of_numpy_and_negative():
    axes = {"to": np.int64(-1), "rate": None}
    xs = sample(KEY, PULLED, two, TS, 6, args=ARGS, args_axes=axes)
    expected = sample(KEY, PULLED, two, TS, 6, args=ARGS, args_axes=AXES)
    np.testing.assert_array_equal(xs, expected)


def test_one_axis_stands_for_all_that_is_below_it():
    args = (jnp.ones((6, 2)), {"a": jnp.arange(6.0), "b": jnp.zeros((6, 2))})

    def field(t, x, args):
        return args[0] * args[1]["a"] + args[1]["b"]

    xs = sample(KEY, field, zero_pair, TS, 6, args=args, args_axes=0)
    np.testing.assert_allclose(xs[:, 0], jnp.arange(6.0), rtol=1e-6)


def test_starts_of_ones_own_come_by_the_args():
    """Such as images: what `init` is given with the key."""
    images = jnp.arange(12.0).reshape(6, 2)
    xs = sample(KEY, still, lambda key, image: image, TS, 6, args=images, args_axes=0)
    np.testing.assert_array_equal(xs, images)


def test_paths_and_pairs_are_those_of_the_samples():
    init = two
    ends = sample(KEY, PULLED, init, TS, 5, args={"to": 1.0, "rate": 0.5})
    how = {"args": {"to": 1.0, "rate": 0.5}, "batch_size": 2}
    paths = fj.sample_paths(KEY, PULLED, init, TS, 5, every=2, **how)
    n = (len(TS) - 1) // 2
    assert paths.shape == (5, n + 1, 2)
    at = fj.sample_paths(KEY, PULLED, init, TS, 5, at=[0, len(TS) - 1], **how)
    starts, stops = fj.sample_pairs(KEY, PULLED, init, TS, 5, **how)
    for i in range(5):
        init_key, _ = jax.random.split(jax.random.fold_in(KEY, i))
        np.testing.assert_array_equal(starts[i], init(init_key))
    np.testing.assert_array_equal(paths[:, 0], starts)
    np.testing.assert_allclose(at, jnp.stack([starts, ends], axis=1), rtol=1e-6)
    np.testing.assert_allclose(stops, ends, rtol=1e-6)


def test_the_adjoint_of_a_sample_is_that_of_its_solve():
    """The gradient of a truncated solve is biased: that of its last step alone."""

    def mean(rate, adjoint):
        field = lambda t, x, rate: rate + 0 * x  # noqa: E731
        return jnp.mean(sample(KEY, field, zero_pair, TS, 3, args=rate, adjoint=adjoint))

    n = len(TS) - 1
    whole, last = (jax.grad(mean)(1.0, adjoint) for adjoint in (fj.Direct(), fj.Truncated(1)))
    np.testing.assert_allclose(last, whole / n, rtol=1e-5)


@pytest.mark.parametrize(
    ("axes", "error", "words"),
    [
        ({"to": 0, "rate": None}, ValueError, r"args\['to'\] must have num = 6 entries along its"),
        ({"to": 1, "rate": 0}, ValueError, r"args\['rate'\] must have num = 6 entries"),
        ({"to": 1}, ValueError, "args_axes must be None, an int or a pytree of those"),
        ({"to": 5, "rate": None}, ValueError, "along its axis 5"),
        ("a", TypeError, "args_axes must be None, an int"),
        ({"to": True, "rate": None}, TypeError, "args_axes must be None, an int"),
        (1.0, TypeError, "args_axes must be None, an int"),
    ],
)
def test_axes_that_do_not_fit_are_refused(unchecked, axes, error, words):
    with pytest.raises(error, match=words):
        sample(KEY, PULLED, two, TS, 6, args=ARGS, args_axes=axes)
