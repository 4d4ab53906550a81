"""Densities of a batch that lies on four devices are those of one device."""

import os
import subprocess
import sys

import jax
import pytest

ON_FOUR_DEVICES = """
import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tests.densities.problems import GRID, A, density_of, linear

KINDS = ("exact", "hutchinson", "euler")
densities = [density_of(kind, linear, GRID[:3].astype(np.float32)) for kind in KINDS]


def of_batch(xs):
    def one(x):
        return [jax.value_and_grad(density)(x, A.astype(np.float32)) for density in densities]

    return jax.vmap(one)(xs)


xs = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
want = jax.jit(of_batch)(xs)
split = PartitionSpec("samples")
by_hand = jax.shard_map(of_batch, in_specs=split, out_specs=split)
for axis_type, call in ((AxisType.Explicit, of_batch), (AxisType.Auto, by_hand)):
    mesh = jax.make_mesh((4,), ("samples",), axis_types=(axis_type,))
    with jax.set_mesh(mesh):
        got = jax.jit(call)(jax.device_put(xs, NamedSharding(mesh, split)))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        # All numbers are of order one: a few roundings.
        np.testing.assert_allclose(np.asarray(a), b, rtol=2e-6, atol=2e-6)
print("done")
"""


@pytest.mark.skipif(not hasattr(jax, "set_mesh"), reason="this JAX has no meshes of explicit axes")
@pytest.mark.nightly
def test_the_densities_of_a_batch_on_four_devices_are_those_of_one():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    run = subprocess.run(
        [sys.executable, "-c", ON_FOUR_DEVICES], capture_output=True, text=True, env=environment
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "done\n"
