"""What the tests of the densities share: problems, and one way to call all three densities."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from tests.solver.random_checks import key_of

every_density = pytest.mark.parametrize("kind", ["exact", "hutchinson", "euler"])

# Uneven, with a repeated time.
GRID = np.array([0.0, 0.1, 0.35, 0.35, 0.6, 1.3])
H = np.diff(GRID)
A = np.array([[0.9, -0.7, 0.2], [0.4, -0.3, 0.5], [-0.6, 0.1, 0.2]])
B = np.array([0.3, -0.8, 0.5])
X = np.array([0.7, -1.1, 0.4])


def normal_log_prob(x):
    """N(0, I), for any pytree of JAX or NumPy arrays."""
    parts = jax.tree.leaves(x)
    return sum(-(leaf**2).sum() / 2 - leaf.size * math.log(2 * math.pi) / 2 for leaf in parts)


def linear(t, x, matrix):
    return matrix @ x


class Coupled(eqx.Module):
    """Elements that act on each other, in time: `tanh(W x + t args)`."""

    weight: jax.Array

    def __call__(self, t, x, args):
        return jnp.tanh(self.weight @ x + t * args)


def density_of(kind, v, ts, init_log_prob=normal_log_prob, key=None, probes=1, **options):
    """`(x, args) -> log density` of one kind, by a key where it takes one."""
    if kind == "euler":
        return lambda x, args=None: fj.euler_log_likelihood(x, v, init_log_prob, ts, args=args)
    if kind == "hutchinson":
        options["divergence"] = fj.Hutchinson(key_of("probes") if key is None else key, probes)
    return lambda x, args=None: fj.log_likelihood(x, v, init_log_prob, ts, args=args, **options)


def euler_map():
    """Of the linear field A on the grid."""
    matrix = np.eye(3)
    for h in H:
        matrix = (np.eye(3) + h * A) @ matrix
    return matrix


# --- a mixture ------------------------------------------------------------------------------------

WEIGHTS, MEANS, STD = np.array([0.3, 0.7]), np.array([-2.0, 2.0]), 0.5
LINE = np.linspace(-6, 6, 401)


def mixture():
    """In the precision of the moment."""
    return fj.GaussianMixture(WEIGHTS, MEANS, np.full(2, STD))


def numpy_velocity(t, x):
    """The mixture's velocity under CondOT, of real or complex x (n,)."""
    variance = (t * STD) ** 2 + (1 - t) ** 2
    shifted = x[:, None] - t * MEANS
    responsibility = WEIGHTS * np.exp(-(shifted**2) / (2 * variance))
    responsibility = responsibility / responsibility.sum(1, keepdims=True)
    return (responsibility * (MEANS + (t * STD**2 - (1 - t)) / variance * shifted)).sum(1)


def log_densities(kind, n, points, **options):
    density = density_of(kind, mixture().velocity(fj.CondOT()), fj.uniform_grid(n), **options)
    return np.asarray(jax.jit(jax.vmap(density))(jnp.asarray(points)), np.float64)
