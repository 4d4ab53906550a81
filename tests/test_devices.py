"""Eight devices do what one does: on meshes, automatic and explicit, and in shard_map.

JAX makes its devices when it starts, so the checks run in a process of their own, which this file
is the program of too.
"""

import contextlib
import os
import subprocess
import sys
import traceback

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import flowjax as fj

# Before, no mesh has explicit axes and shard_map is an experiment.
NEW = hasattr(jax, "set_mesh")
RATE, KEY = 0.7, jax.random.key(3)
X0S = np.linspace(-1, 1, 16, dtype=np.float32).reshape(8, 2)
INCREMENTS = np.float32(0.4 * np.random.default_rng(0).standard_normal((8, 6, 2)))
CONSTANT = np.array([0.3, -0.5], np.float32)
BATCH = PartitionSpec("samples")


def meshes():
    """Name, mesh, and the context of it; by day of one kind, as every mesh compiles all anew."""
    devices = np.array(jax.devices())
    assert len(devices) == 8
    if not NEW or "EVERY_MESH" in os.environ:
        yield "automatic", Mesh(devices, ("samples",)), contextlib.nullcontext()
    if NEW:
        explicit = jax.make_mesh((8,), ("samples",), (jax.sharding.AxisType.Explicit,))
        yield "explicit", explicit, jax.set_mesh(explicit)


def check_close(got, expected, name):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6, err_msg=name),
        *(got, expected),
    )


def drift(t, x, rate):
    return x * (1 - rate * x * x) + t


SDE = fj.SDE(drift, lambda t, x, rate: rate * (1 + x / 4))


def ends(x0, dw, rate):
    """Solves by the adjoints, with noise from a start that is a constant."""
    ts = fj.uniform_grid(6)
    for adjoint in (fj.Checkpointed(2), fj.Truncated(3)):
        yield fj.solve(drift, x0, ts, rate, adjoint=adjoint)
    yield fj.trajectory(drift, x0, ts, rate, step=fj.heun, adjoint=fj.Reversible(), every=2)[-1]
    yield fj.solve(SDE, CONSTANT, ts, rate, increments=dw)
    heun = {"step": fj.reversible_heun, "adjoint": fj.Reversible()}
    yield fj.solve(SDE, CONSTANT, ts, rate, increments=dw, **heun)


def values_and_gradients(function):
    """Of one sample; of all of them: their values, and the gradients of the sum."""

    def loss(x0s, dws, rate):
        values = jax.vmap(function, in_axes=(0, 0, None))(x0s, dws, rate)
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(values)), values

    return jax.grad(loss, (0, 2), has_aux=True)


def check_on_meshes_and_in_shard_map(function):
    differentiated = values_and_gradients(function)
    expected = jax.jit(differentiated)(X0S, INCREMENTS, RATE)
    for name, mesh, context in meshes():
        with context:
            x0s, dws = jax.device_put((X0S, INCREMENTS), NamedSharding(mesh, BATCH))
            check_close(jax.jit(differentiated)(x0s, dws, RATE), expected, name)
    if NEW:
        mesh = Mesh(np.array(jax.devices()), ("samples",))
        specs = {"in_specs": (BATCH, BATCH, None), "out_specs": ((BATCH, PartitionSpec()), BATCH)}
        mapped = jax.shard_map(differentiated, mesh=mesh, **specs)
        check_close(jax.jit(mapped)(X0S, INCREMENTS, RATE), expected, "shard_map")


def check_solves():
    check_on_meshes_and_in_shard_map(lambda x0, dw, rate: [*ends(x0, dw, rate)])


def normal_log_prob(x):
    return -jnp.sum(x * x) / 2


def check_likelihoods():
    ts = fj.uniform_grid(4)

    def density(x, _, rate):
        return fj.log_likelihood(x, drift, normal_log_prob, ts, args=rate, step=fj.heun)

    check_on_meshes_and_in_shard_map(density)


def check_samples_that_interact():
    """Each is drawn to the mean over all devices, by its name."""
    if not NEW:
        return
    ts, settings = fj.uniform_grid(6), {"step": fj.midpoint, "adjoint": fj.Reversible()}

    def solved(mean, x0s, rate):
        field = lambda t, x, rate: rate * (mean(x) - x) * x  # noqa: E731
        return fj.solve(field, x0s, ts, rate, **settings)

    def on_all(x0s, rate):
        return solved(lambda x: jnp.mean(x), x0s, rate)

    def by_name(x0s, rate):
        mean = lambda x: jax.lax.pmean(jnp.mean(x), "samples")  # noqa: E731
        mesh = Mesh(np.array(jax.devices()), ("samples",))
        mapped = jax.shard_map(
            lambda *a: solved(mean, *a), mesh=mesh, in_specs=(BATCH, None), out_specs=BATCH
        )
        return mapped(x0s, rate)

    def gradient(end):
        return jax.jit(jax.grad(lambda x0s, rate: jnp.sum(end(x0s, rate) ** 3), (0, 1)))(X0S, RATE)

    check_close(gradient(by_name), gradient(on_all), "shard_map")


def check_samples():
    """They are the same bits: what is made of the noise has one product and one sum."""
    ts, sde = fj.uniform_grid(8), fj.ornstein_uhlenbeck(RATE, 0.5)

    def drawn(num=24, **how):
        return fj.sample(KEY, sde, init, ts, num, **how)

    def init(key):
        return {"a": jax.random.normal(key, (2, 3)), "b": jax.random.normal(key, (1, 1))}

    def check(sharding, **how):
        got = drawn(sharding=sharding, **how)
        for name in expected:
            np.testing.assert_array_equal(got[name], expected[name], err_msg=f"{sharding}, {how}")
            assert got[name].sharding.is_equivalent_to(sharding, got[name].ndim)
            shards = got[name].addressable_shards
            assert {shard.device for shard in shards} == set(jax.devices())
            assert all(len(shard.data) == 3 for shard in shards)

    expected = drawn()
    for name, mesh, context in meshes():
        shardings = [NamedSharding(mesh, BATCH)]
        two = Mesh(np.array(jax.devices()).reshape(4, 2), ("a", "b"))
        if name == "automatic":
            shardings += [NamedSharding(two, PartitionSpec(("a", "b")))]
        for sharding in shardings:
            check(sharding)  # also out of its context
            with context if sharding.mesh is mesh else contextlib.nullcontext():
                for how in ({}, {"progress": True}):
                    check(sharding, batch_size=8, **how)
        check(shardings[0], batch_size=16)  # which the devices divide, but not the chunks
    pairs = lambda key: jax.random.normal(key, (2,))  # noqa: E731
    by_two = NamedSharding(two, PartitionSpec("a", "b"))
    for size in (24, 8):
        got = fj.sample(KEY, sde, pairs, ts, 24, sharding=by_two, batch_size=size)
        np.testing.assert_array_equal(got, fj.sample(KEY, sde, pairs, ts, 24))
        assert got.sharding.is_equivalent_to(by_two, 2)
        assert got.addressable_shards[0].data.shape == (6, 1)
    by_args = [
        fj.sample(KEY, SDE, pairs, ts, 8, args=RATE, sharding=sharding)
        for sharding in (None, by_two, shardings[0])
    ]
    check_close(by_args[1:], [by_args[0]] * 2, "args")
    rates = jnp.linspace(0.1, 1.0, 16)
    by_each = [
        fj.sample(KEY, SDE, pairs, ts, 16, args=rates, args_axes=0, sharding=sharding, **how)
        for sharding in (None, by_two, shardings[0])
        for how in ({}, {"batch_size": 8})
    ]
    keys = [jax.random.split(jax.random.fold_in(KEY, i)) for i in range(16)]
    alone = jnp.stack(
        [fj.solve(SDE, pairs(k[0]), ts, r, key=k[1]) for k, r in zip(keys, rates, strict=True)]
    )
    check_close(by_each, [alone] * 6, "args of each sample")
    for how in ({"num": 22}, {"batch_size": 6}):
        with pytest.raises(ValueError, match="must divide evenly over the devices"):
            drawn(sharding=shardings[0], **how)


def check_estimates():
    """They are those of one device, to rounding, and lie on all devices."""
    ts, estimators = fj.uniform_grid(4), fj.estimators

    def start(key):
        return jax.random.normal(key, (2,))

    def square(x):
        return jnp.sum(x**2)

    def estimate(**how):
        what = (square, KEY, SDE, start, ts, 32)
        paired = {"antithetic": True, "control": (lambda x: x, np.zeros(2, np.float32))}
        return estimators.expectation(*what, args=RATE, **paired, **how)[:2]

    def several(**how):
        what = (square, KEY, SDE, start, fj.uniform_grid(2), 5.0)
        settings = {"args": RATE, "batch_size": 16, "max_levels": 2}
        estimate = estimators.multilevel(*what, **settings, **how)
        return estimate.mean, estimate.standard_error, estimate.levels.variance

    expected, levels = estimate(), several()
    for name, mesh, context in meshes():
        sharding = NamedSharding(mesh, BATCH)
        with context:
            got = estimate(sharding=sharding, batch_size=8)
            check_close(got, expected, name)
            assert len(got[0].sharding.device_set) == 8
            check_close(several(sharding=sharding), levels, name)


def check_training():
    x = np.linspace(-1, 1, 16, dtype=np.float32)

    def loss(line, sample, key):
        x, y = sample
        return (line[0] * x + line[1] - y) ** 2

    def trained(data):
        settings = {"optimizer": optax.adam(0.1), "steps": 3, "batch_size": 8}
        state, losses = fj.training.fit(jnp.zeros(2), loss, data, KEY, ema=0.9, **settings)
        return state.model, state.ema, losses

    expected = trained((x, 3 * x))
    for name, mesh, context in meshes():
        with context:
            data = jax.device_put((x, 3 * x), NamedSharding(mesh, BATCH))
            check_close(trained(data), expected, name)


CHECKS = {
    "solves": check_solves,
    "likelihoods": check_likelihoods,
    "samples that interact": check_samples_that_interact,
    "samples": check_samples,
    "estimates": check_estimates,
    "training": check_training,
}


@pytest.fixture(scope="module")
def reports(request):
    """What the program says of each check: nothing, or how it failed."""
    from tests.conftest import is_nightly  # not found by the program

    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    environment = os.environ | {"XLA_FLAGS": flags}
    if is_nightly(request.config):
        environment["EVERY_MESH"] = ""
    command = [sys.executable, __file__]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    parts = (part.partition("\n") for part in run.stdout.split("=== ")[1:])
    return {name: report for name, _, report in parts}


@pytest.mark.parametrize("name", CHECKS)
def test_eight_devices_do_what_one_does(name, reports):
    assert reports[name] == ""


if __name__ == "__main__":
    for name, check in CHECKS.items():
        print("===", name)
        try:
            check()
        except Exception:
            print(traceback.format_exc())
