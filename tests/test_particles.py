"""Resampling: what systematic resampling promises, for any weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowjax.particles import systematic


@pytest.mark.parametrize("seed", range(3))
def test_each_particle_has_as_many_children_as_its_weight_says_but_for_one(x64, seed):
    random = np.random.default_rng(seed)
    logs = 3 * random.normal(size=50)
    logs[[0, 7, 49]] = -np.inf
    weights = np.exp(logs) / np.exp(logs).sum()
    uniforms = np.append((np.arange(4000) + 0.5) / 4000, [1e-300, 1.0])
    found = jax.vmap(systematic, (0, None))(jnp.asarray(uniforms), jnp.asarray(logs))
    children = np.array([np.bincount(one, minlength=50) for one in np.asarray(found)])
    assert np.all(np.abs(children - 50 * weights) < 1)
    assert np.all(children[:, [0, 7, 49]] == 0)
    # Unbiased: of all uniform numbers, by the midpoint rule, each has its share on average.
    np.testing.assert_allclose(children[:-2].mean(axis=0), 50 * weights, atol=50 / 4000)


def test_the_sum_of_the_weights_does_not_matter_even_if_it_overflows():
    logs = jnp.log(jnp.array([1.0, 2.0, 5.0]))
    half = jnp.array(0.5)
    np.testing.assert_array_equal(systematic(half, logs), systematic(half, logs + 1000))
