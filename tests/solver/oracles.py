"""Problems, and independent NumPy float64 loops over the same increments to hold flowjax against.

The problems are written once for either namespace (`numpy` or `jax.numpy`). The loops are not:
each method is its formula in NumPy, on a grid and increments that are given as numbers.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowjax.solver.sde import SDE


def leafwise(function, *trees):
    return jax.tree.map(function, *trees)


def as_float64(tree):
    return leafwise(lambda leaf: np.asarray(leaf, np.float64), tree)


def cast(tree, dtype):
    return leafwise(lambda leaf: jnp.asarray(leaf, dtype), tree)


class Problem(NamedTuple):
    """An Ito SDE with diagonal noise; `slope` is the diffusion's derivative, by hand."""

    drift: Callable
    diffusion: Callable
    slope: Callable
    x0: Any
    args: Any

    @property
    def sde(self):
        return SDE(self.drift, self.diffusion)


ARRAY_X0 = np.array([0.4, -1.1, 0.8])
TREE_X0 = {
    "position": np.array([[0.4, -1.1], [0.8, 0.1]]),
    "rest": (np.array([0.3, -0.7, 1.2]), np.array(-0.5)),
}
ARGS = {"rate": np.array(0.9), "push": np.array(0.4)}


# The fields are polynomials: they compile several times faster than sines do.


def array_problem(xp):
    """A nonlinear, time-dependent, coupled SDE on R^3."""

    def drift(t, x, args):
        return args["push"] * t * x * x - args["rate"] * x * x * x + 0.3 * x[::-1] + t * t

    def diffusion(t, x, args):
        return args["push"] * (1 + t) * (1 + x * x / 4) / 2

    def slope(t, x, args):
        return args["push"] * (1 + t) * x / 4

    return Problem(drift, diffusion, slope, ARRAY_X0, ARGS)


def tree_problem(xp):
    """The same kind of SDE on a nested pytree whose leaves drive each other."""

    def drift(t, x, args):
        position, (vector, scalar) = x["position"], x["rest"]
        return {
            "position": t * t - args["rate"] * scalar * position,
            "rest": (
                args["push"] * xp.sum(position) - vector * vector * vector,
                t - args["rate"] * scalar + 0.1 * xp.sum(vector),
            ),
        }

    def diffusion(t, x, args):
        return leafwise(lambda leaf: args["push"] * (1 + t) * (1 + leaf * leaf / 4) / 2, x)

    def slope(t, x, args):
        return leafwise(lambda leaf: args["push"] * (1 + t) * leaf / 4, x)

    return Problem(drift, diffusion, slope, TREE_X0, ARGS)


PROBLEMS = {"array": array_problem, "pytree": tree_problem}


def uneven_grid(n, t0=-0.3, t1=0.9, seed=0):
    """n + 1 increasing times whose steps differ up to fourfold, in float64."""
    steps = np.random.default_rng(seed).uniform(0.5, 2.0, n)
    ts = t0 + (t1 - t0) * np.concatenate([[0.0], np.cumsum(steps)]) / np.sum(steps)
    ts[-1] = t1
    return ts


def numpy_increments(ts, like, seed=1):
    """Brownian increments over `ts` from NumPy's generator, in float64."""
    generator = np.random.default_rng(seed)

    def on_leaf(leaf):
        h = np.diff(ts).reshape(-1, *[1] * np.ndim(leaf))
        return generator.standard_normal((len(ts) - 1, *np.shape(leaf))) * np.sqrt(h)

    return leafwise(on_leaf, like)


def _euler(p, t, h, x, args, dw, memory):
    return leafwise(lambda x, f: x + h * f, x, p.drift(t, x, args)), None


def _heun(p, t, h, x, args, dw, memory):
    k1 = p.drift(t, x, args)
    k2 = p.drift(t + h, leafwise(lambda x, k: x + h * k, x, k1), args)
    return leafwise(lambda x, k1, k2: x + h * (k1 + k2) / 2, x, k1, k2), None


def _midpoint(p, t, h, x, args, dw, memory):
    half = leafwise(lambda x, k: x + h / 2 * k, x, p.drift(t, x, args))
    return leafwise(lambda x, k: x + h * k, x, p.drift(t + h / 2, half, args)), None


def _rk4(p, t, h, x, args, dw, memory):
    k1 = p.drift(t, x, args)
    k2 = p.drift(t + h / 2, leafwise(lambda x, k: x + h / 2 * k, x, k1), args)
    k3 = p.drift(t + h / 2, leafwise(lambda x, k: x + h / 2 * k, x, k2), args)
    k4 = p.drift(t + h, leafwise(lambda x, k: x + h * k, x, k3), args)
    return leafwise(
        lambda x, k1, k2, k3, k4: x + h * (k1 / 6 + k2 / 3 + k3 / 3 + k4 / 6), x, k1, k2, k3, k4
    ), None


def _adams_bashforth(p, t, h, x, args, dw, memory):
    now = p.drift(t, x, args)
    before = now if memory is None else memory
    return leafwise(lambda x, n, b: x + h * (1.5 * n - 0.5 * b), x, now, before), now


def _euler_maruyama(p, t, h, x, args, dw, memory):
    f, g = p.drift(t, x, args), p.diffusion(t, x, args)
    return leafwise(lambda x, f, g, dw: x + f * h + g * dw, x, f, g, dw), None


def _milstein(p, t, h, x, args, dw, memory):
    f, g, slope = (field(t, x, args) for field in (p.drift, p.diffusion, p.slope))
    return leafwise(
        lambda x, f, g, s, dw: x + f * h + g * dw + 0.5 * g * s * (dw**2 - h), x, f, g, slope, dw
    ), None


def _stochastic_heun(p, t, h, x, args, dw, memory):
    f0, g0 = p.drift(t, x, args), p.diffusion(t, x, args)
    guess = leafwise(lambda x, f, g, dw: x + f * h + g * dw, x, f0, g0, dw)
    f1, g1 = p.drift(t + h, guess, args), p.diffusion(t + h, guess, args)
    return leafwise(
        lambda x, f0, f1, g0, g1, dw: x + (f0 + f1) * h / 2 + (g0 + g1) * dw / 2,
        *(x, f0, f1, g0, g1, dw),
    ), None


NUMPY_STEPS = {
    "euler": _euler,
    "heun": _heun,
    "midpoint": _midpoint,
    "rk4": _rk4,
    "adams_bashforth": _adams_bashforth,
    "euler_maruyama": _euler_maruyama,
    "milstein": _milstein,
    "stochastic_heun": _stochastic_heun,
}


def numpy_trajectory(method, problem, x0, ts, args, increments=None):
    """All n + 1 states of the method, in float64, stacked along a leading axis."""
    ts, x0, args = as_float64(ts), as_float64(x0), as_float64(args)
    increments = as_float64(increments)
    step = NUMPY_STEPS[method]
    x, memory, path = x0, None, [x0]
    for i in range(len(ts) - 1):
        dw = leafwise(lambda leaf: leaf[i], increments)  # noqa: B023
        x, memory = step(problem, ts[i], ts[i + 1] - ts[i], x, args, dw, memory)
        path.append(x)
    return leafwise(lambda *leaves: np.stack(leaves), *path)


def assert_close(got, expected, tolerance, **note):
    """Every leaf within `tolerance` of the expected numbers, relative to the largest of them."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for actual, desired in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        desired = np.asarray(desired, np.float64)
        scale = float(np.max(np.abs(desired), initial=1.0))
        np.testing.assert_allclose(
            np.asarray(actual, np.float64), desired, rtol=0, atol=tolerance * scale, **note
        )


def assert_same_bits(got, expected):
    """Every leaf has the same dtype, shape and numbers."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for actual, desired in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert actual.dtype == desired.dtype
        np.testing.assert_array_equal(np.asarray(actual), np.asarray(desired))
