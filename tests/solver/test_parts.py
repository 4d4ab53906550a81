"""A path in parts: solves that go on, refinements, and the states at some of the times.

Random checks are at five standard errors on each number: a false alarm in 1.7 million.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import flowjax as fj
from tests.solver.oracles import leafwise
from tests.solver.random_checks import assert_near, keys_of

KEY = jax.random.key(11)


def drift(t, x, args):
    return leafwise(lambda leaf: jnp.sin(3 * leaf) - t, x)


def diffusion(t, x, args):
    return leafwise(lambda leaf: 0.2 + 0.1 * leaf, x)


SDE = fj.SDE(drift, diffusion)


def equation(noise):
    def matrix(t, x, args):
        return leafwise(lambda leaf: jnp.ones(leaf.shape + noise), x)

    return SDE if noise is None else fj.SDE(drift, matrix, noise)


# --- a solve that goes on -------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [None, (), (3,), (2, 5)], ids=str)
@pytest.mark.parametrize("cut", [1, 6, 7, 36])
@pytest.mark.parametrize("x0", [jnp.array(0.3), jnp.linspace(-1, 1, 5)], ids=["scalar", "vector"])
@pytest.mark.thin(7)
def test_two_halves_are_the_whole_bit_for_bit(noise, cut, x0):
    sde = equation(noise)
    ts = fj.uniform_grid(37)
    whole = fj.solve(sde, x0, ts, key=KEY)
    middle = fj.solve(sde, x0, ts[: cut + 1], key=KEY)
    end = fj.solve(sde, middle, ts[cut:], key=KEY, first_step=cut)
    np.testing.assert_array_equal(end, whole)
    forgotten = fj.solve(sde, middle, ts[cut:], key=KEY)
    assert not np.array_equal(forgotten, whole)


def test_halves_are_the_whole_under_jit_and_vmap_in_all_views():
    ts, x0s, keys = fj.uniform_grid(20), jnp.linspace(-1, 1, 6).reshape(3, 2), keys_of("parts", 3)

    @jax.jit
    def in_parts(x0s, keys):
        def one(x0, key):
            first = fj.trajectory(SDE, x0, ts[:8], key=key)
            second = fj.trajectory(SDE, first[-1], ts[7:], key=key, first_step=7)
            return jnp.concatenate([first, second[1:]])

        return jax.vmap(one)(x0s, keys)

    whole = jax.jit(jax.vmap(lambda x0, key: fj.trajectory(SDE, x0, ts, key=key)))(x0s, keys)
    np.testing.assert_array_equal(in_parts(x0s, keys), whole)

    def noise(value, t0, t1, x0, x1, dw):
        return value.at[value[0].astype(int)].set(dw[0]).at[0].add(1)

    start = jnp.zeros(21).at[0].set(1)
    x7, value = fj.fold(SDE, x0s[0], ts[:8], init=start, update=noise, key=keys[0])
    x1, value = fj.fold(SDE, x7, ts[7:], init=value, update=noise, key=keys[0], first_step=7)
    dw = fj.brownian_increments(keys[0], ts, x0s[0])
    np.testing.assert_array_equal(value[1:], dw[:, 0])
    np.testing.assert_array_equal(x1, whole[0, -1])


@pytest.mark.parametrize("first", [1, 2, 9, 2**20 + 1, 2**31 - 1])
def test_increments_from_a_step_on_are_those_of_the_path(first):
    """Against the increments of the whole path, or, far on, of another part of it."""
    ts, like = fj.uniform_grid(6), {"a": jnp.zeros(3), "b": jnp.zeros(())}
    part = fj.brownian_increments(KEY, ts, like, first_step=first)
    if first < 100:
        whole = fj.brownian_increments(KEY, fj.uniform_grid(6 + first, 0, (6 + first) / 6), like)
        expected = leafwise(lambda leaf: leaf[first:], whole)
    else:
        before = fj.brownian_increments(
            KEY, fj.uniform_grid(7, 0, 7 / 6), like, first_step=first - 1
        )
        expected = leafwise(lambda leaf: leaf[1:], before)
    leafwise(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), part, expected)


def test_a_first_step_may_be_an_index_of_numpy():
    ts, indices = fj.grid_through([0.0, 0.5, 1.0], 0.1)
    whole = fj.solve(SDE, 0.1, ts, key=KEY)
    middle = fj.solve(SDE, 0.1, ts[: indices[1] + 1], key=KEY)
    end = fj.solve(SDE, middle, ts[indices[1] :], key=KEY, first_step=indices[1])
    np.testing.assert_array_equal(end, whole)
    path = fj.brownian_path(KEY, ts, jnp.zeros(()))
    late = fj.brownian_path(KEY, ts[indices[1] :], jnp.zeros(()), first_step=indices[1])
    np.testing.assert_allclose(late, path[indices[1] :] - path[indices[1]], atol=1e-6)


@pytest.mark.parametrize("first", [-1, 2**31, 1.0, True, None, "1"])
def test_a_first_step_that_is_none_is_refused(unchecked, first):
    ts = fj.uniform_grid(3)
    for call in (
        lambda: fj.solve(SDE, 0.1, ts, key=KEY, first_step=first),
        lambda: fj.trajectory(SDE, 0.1, ts, key=KEY, first_step=first),
        lambda: fj.brownian_increments(KEY, ts, jnp.zeros(()), first),
    ):
        with pytest.raises(ValueError, match=r"first_step must be a static int from 0 to 2\*\*31"):
            call()


def test_a_first_step_without_a_key_is_refused(unchecked):
    for how in ({"increments": jnp.zeros(3)}, {}):
        with pytest.raises(ValueError, match="first_step is the number of a step in the path that"):
            fj.solve(SDE if how else drift, 0.1, fj.uniform_grid(3), first_step=3, **how)


def test_another_first_step_of_the_same_parity_compiles_nothing():
    traces = []

    def counted(t, x, args):
        traces.append(t)
        return -x

    sde, ts = fj.SDE(counted, lambda t, x, args: 1.0), fj.uniform_grid(4)
    for first in (1, 3, 5):
        fj.solve(sde, 0.1, ts, key=KEY, first_step=first)
    assert len(traces) > 0
    before = len(traces)
    fj.solve(sde, 0.1, ts, key=KEY, first_step=77)
    assert len(traces) == before


# --- refinement -----------------------------------------------------------------------------------

COARSE = np.array([0.0, 0.3, 0.4, 1.0])


def halved(ts):
    return np.sort(np.concatenate([ts, (ts[1:] + ts[:-1]) / 2]))


def refined(key, levels=3):
    """By one key at all levels."""
    ts, dw = COARSE, fj.brownian_increments(key, jnp.asarray(COARSE), jnp.zeros(2))
    for _ in range(levels):
        dw, ts = fj.refine(dw, jnp.asarray(ts), key), halved(ts)
    return dw


def test_refined_increments_are_those_of_a_brownian_motion(x64):
    """All covariances of all increments, of two elements, three levels deep."""
    ts = halved(halved(halved(COARSE)))
    n = 20_000
    dw = np.asarray(jax.jit(jax.vmap(refined))(keys_of("refine", n))).reshape(n, -1)
    expected = np.diag(np.repeat(np.diff(ts), 2))
    variance = np.outer(np.diag(expected), np.diag(expected)) + expected**2
    assert_near(dw.T @ dw / n, expected, np.sqrt(variance / n), "covariance of the increments")


def test_a_wrong_bridge_is_caught(x64):
    """One that has the variance of a step, not of a bridge over it."""
    n, ts = 20_000, np.array([0.0, 1.0])

    def wrong(key):
        keys = jax.random.split(key)
        dw = fj.brownian_increments(keys[0], jnp.asarray(ts), jnp.zeros(()))
        bridge = fj.brownian_increments(keys[1], jnp.asarray(ts), jnp.zeros(()))
        return jnp.stack([dw / 2 + bridge, dw / 2 - bridge], 1).reshape(-1)

    dw = np.asarray(jax.vmap(wrong)(keys_of("refine", n)))
    expected = np.eye(2) / 2
    variance = np.outer(np.diag(expected), np.diag(expected)) + expected**2
    with pytest.raises(AssertionError, match="covariance"):
        assert_near(dw.T @ dw / n, expected, np.sqrt(variance / n), "covariance")


def test_coarsened_refinements_are_what_they_began_with(x64):
    ts, like = jnp.asarray(COARSE), {"a": jnp.zeros(3), "b": jnp.zeros(())}
    dw = fj.brownian_increments(KEY, ts, like)
    finer = fj.refine(dw, ts, jax.random.key(1))
    finest = fj.refine(finer, jnp.asarray(halved(COARSE)), jax.random.key(2))
    for back in (fj.coarsen(finer, 2), fj.coarsen(finest, 4)):
        leafwise(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-14, atol=1e-15), back, dw)


def test_increments_over_some_of_the_times_are_sums_of_those_between(x64):
    dw = fj.brownian_increments(KEY, fj.uniform_grid(9), {"a": jnp.zeros(3), "b": jnp.zeros(())})
    places = [1, 2, 5, 9]
    for name, leaf in fj.coarsen(dw, np.array(places)).items():
        whole = np.cumsum(np.concatenate([np.zeros_like(dw[name][:1]), dw[name]]), axis=0)
        np.testing.assert_allclose(leaf, np.diff(whole[places], axis=0), rtol=1e-12, atol=1e-14)
    every = fj.coarsen(dw, 3), fj.coarsen(dw, range(0, 10, 3))
    leafwise(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13), *every)


@pytest.mark.parametrize(
    ("k", "error", "words"),
    [
        ([1], ValueError, "k must be at least two indices"),
        ([2, 1], ValueError, "k must be static ints from 0 to the number of steps, 9, that"),
        ([0, 10], ValueError, "that increase, got"),
        ([0.0, 1.0], TypeError, "k must be static ints"),
        (2, ValueError, "that k = 2 divides"),
    ],
)
def test_indices_that_are_not_those_of_a_path_are_refused(unchecked, k, error, words):
    with pytest.raises(error, match=words):
        fj.coarsen(jnp.zeros((9, 2)), k)


def test_a_refinement_is_differentiable_in_its_times_and_increments(x64):
    dw = fj.brownian_increments(KEY, jnp.asarray(COARSE), jnp.zeros(2))

    def loss(ts, dw):
        return jnp.sum(fj.refine(dw, ts, jax.random.key(1)) ** 3)

    check_grads(loss, (jnp.asarray(COARSE), dw), order=1, modes=["rev"])


@pytest.mark.parametrize(
    ("dw", "words"),
    [
        (jnp.zeros((2, 2)), "must have a leading axis of the 3 steps of ts"),
        (jnp.zeros(()), "must have a leading axis of the 3 steps of ts"),
        (None, "increments must hold at least one array"),
    ],
)
def test_what_cannot_be_refined_is_refused(unchecked, dw, words):
    with pytest.raises(ValueError, match=words):
        fj.refine(dw, jnp.asarray(COARSE, jnp.float32), KEY)


# --- the states at some of the times --------------------------------------------------------------

INDICES = {
    "even": [0, 5, 10, 15],
    "uneven": [1, 2, 3, 11, 30, 31],
    "with the start": [0, 1, 29, 36],
    "the start alone": [0],
    "the end alone": [37],
    "all": list(range(38)),
}
ADJOINTS = [fj.Checkpointed(), fj.Checkpointed(3), fj.Direct(), fj.Reversible()]


@pytest.mark.parametrize(
    ("step", "adjoint"),
    [
        *((fj.heun, adjoint) for adjoint in ADJOINTS),
        *((fj.reversible_heun, adjoint) for adjoint in (ADJOINTS[0], ADJOINTS[-1])),
    ],
)
@pytest.mark.thin(2)
def test_the_states_at_indices_are_those_of_the_whole_path(step, adjoint, x64):
    field = SDE if step is fj.reversible_heun else drift
    how = {"key": KEY} if field is SDE else {}
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(38, 3)))
    x0, ts = jnp.linspace(-1, 1, 3), fj.uniform_grid(37)

    def path(x0, **at):
        return fj.trajectory(field, x0, ts, step=step, adjoint=adjoint, **how, **at)

    whole = path(x0)
    slopes = jax.jit(jax.jacrev(lambda x0: jnp.sum(weights * path(x0), axis=1)))(x0)
    default = adjoint == fj.Checkpointed() and step is fj.heun
    for name in INDICES if default else ("uneven", "with the start"):
        at = np.array(INDICES[name])

        def reward(x0, at=at):
            states = path(x0, at=at)
            return jnp.sum(weights[at] * states), states

        gradient, states = jax.jit(jax.grad(reward, has_aux=True))(x0)
        np.testing.assert_allclose(states, whole[at], rtol=1e-12, err_msg=name)
        wanted = slopes[at].sum(axis=0)
        np.testing.assert_allclose(gradient, wanted, rtol=1e-9, atol=1e-11, err_msg=name)


def test_observed_times_are_all_that_is_stored():
    """The path's bytes are those of the observations, not of the steps between them."""
    ts, at = fj.grid_through([0.0, 0.1, 0.35, 1.0], max_step=1e-3)
    x0 = jnp.zeros(1000)

    def bytes_of(function):
        return jax.jit(function).lower(x0).compile().memory_analysis()

    of_path = bytes_of(lambda x0: fj.trajectory(fj.linear_field, x0, ts, args=1.0, at=at))
    assert of_path.output_size_in_bytes < 5 * 4000
    assert of_path.temp_size_in_bytes < 100 * 4000


@pytest.mark.parametrize(
    ("at", "error", "words"),
    [
        ([0, 0, 1], ValueError, "that increase"),
        ([2, 1], ValueError, "that increase"),
        ([0, 38], ValueError, "from 0 to the number of steps, 37"),
        ([-1, 3], ValueError, "from 0 to the number of steps, 37"),
        ([], (TypeError, ValueError), "at must be static ints"),
        ([0.5], TypeError, "at must be static ints"),
        (3, TypeError, "at must be static ints"),
        ("a", TypeError, "at must be static ints"),
    ],
)
def test_indices_that_are_none_are_refused(unchecked, at, error, words):
    with pytest.raises(error, match=words):
        fj.trajectory(drift, jnp.zeros(2), fj.uniform_grid(37), at=at)


def test_indices_and_every_are_not_both_given(unchecked):
    with pytest.raises(ValueError, match="at and every = 2 were both given"):
        fj.trajectory(drift, jnp.zeros(2), fj.uniform_grid(37), at=[1, 2], every=2)
