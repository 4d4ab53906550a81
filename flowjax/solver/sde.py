"""A stochastic differential equation, and how its diffusion meets the noise."""

import sys
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from flowjax import _check
from flowjax._numerics import widest
from flowjax._types import Field, Scalar, State, StateLike


class Shapes(NamedTuple):
    """The shapes of a Brownian motion, in a form that may be part of a compiled program."""

    structure: Any
    shapes: tuple[tuple[int, ...], ...]


def _as_shapes(noise: Any) -> Shapes | None:
    if noise is None or isinstance(noise, Shapes):
        return noise
    leaves, structure = jax.tree.flatten(noise, is_leaf=_is_shape)
    if not leaves or not all(map(_is_shape, leaves)):
        raise TypeError(
            f"noise must be the shape of the Brownian motion, a tuple of ints from 0 on such as "
            f"(3,) or (), or a pytree of those, got {noise!r}."
        )
    return Shapes(structure, tuple(tuple(map(int, shape)) for shape in leaves))


def _is_shape(value: Any) -> bool:
    is_tuple = isinstance(value, tuple) and not hasattr(value, "_fields")
    return is_tuple and all(_check.is_int(n) and n >= 0 for n in value)


class SDE(eqx.Module):
    r"""A stochastic differential equation: its two fields, and the shape of its noise.

    $$dX_t = f(t, X_t)\,dt + g(t, X_t)\,dW_t$$

    Whether it is read as Ito's or Stratonovich's is the step's affair (`euler_maruyama` and
    `milstein` are Ito, `stochastic_heun` is Stratonovich); for a diffusion that does not depend
    on x the two are the same.

    Without `noise`, W has the state's structure and shapes, and g multiplies dW elementwise. With
    `noise`, W has those shapes, and g is a matrix, or a linear operator of lineax.

    Args:
        drift: field f, ``(t, x, args) -> dx`` with the state's structure, shapes and dtypes.
        diffusion: field g, ``(t, x, args) -> g``. Without `noise`: a scalar for all elements, or
            the state's structure with leaves that are scalars or have the state's shapes. With
            it: the state's structure, with an array of shape ``(*x.shape, *w.shape)`` in the place
            of each leaf x, or the structure of `noise` with one such array for each of its leaves
            w; None in the place of an array of zeros; or an operator from the noise to the state.
        noise: the shape of W, such as ``(3,)``, or ``()`` for one motion that all elements share;
            or a pytree of shapes. Its increments have the widest dtype of the state.

    Raises:
        TypeError: noise is no pytree of shapes.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> brownian_motion = fj.SDE(lambda t, x, args: 0 * x, lambda t, x, args: 1.0)
        >>> root = jnp.array([[1.0, 0.0], [0.6, 0.8]])  # of a covariance with 0.6 beside ones
        >>> correlated = fj.SDE(lambda t, x, args: 0 * x, lambda t, x, args: root, noise=(2,))
        >>> ts, keys = fj.uniform_grid(8), jax.random.split(jax.random.key(0), 1000)
        >>> x1 = jax.vmap(lambda key: fj.solve(correlated, jnp.zeros(2), ts, key=key))(keys)
        >>> bool(abs(jnp.cov(x1.T)[0, 1] - 0.6) < 0.1)
        True

    References:
        Holderrieth, Erives, "An introduction to flow matching and diffusion models" (MIT
        6.S184), 2025, arXiv 2506.02070, section 2.2.
        Kloeden, Platen (1992), "Numerical Solution of SDEs", section 4.8, for a matrix.
    """

    drift: Field
    diffusion: Field
    noise: Any = eqx.field(default=None, static=True, converter=_as_shapes)

    def contract(self, t: Scalar, x: State, args: Any, dw: State) -> State:
        """What the noise adds, `g(t, x) dW`, for any diffusion: what a step of one's own calls.

        Args:
            t: time.
            x: the state, as a step is given it.
            args: passed on to the diffusion.
            dw: a Brownian increment, as a step is given it.

        Returns:
            The product, like x.
        """
        return product(diffusion_of(self, t, x, args), dw, x)


class _Matrix(NamedTuple):
    """For each leaf of the state, a matrix for each leaf of the noise; None where it is zero."""

    rows: list[list[Array | None]]


def fields_of(sde: Any, step: str) -> SDE:
    """The SDE itself, refused if it is none."""
    if not isinstance(sde, SDE):
        raise TypeError(
            f"{step} is a step for an SDE: it needs an SDE(drift, diffusion), got a plain field."
        )
    return sde


def noise_like(sde: Any, x: State) -> StateLike:
    """The shapes and dtypes of the noise of a state."""
    noise = sde.noise if isinstance(sde, SDE) else None
    if noise is None:
        return x
    dtype = widest(x)
    shapes = [jax.ShapeDtypeStruct(shape, dtype) for shape in noise.shapes]
    return jax.tree.unflatten(noise.structure, shapes)


def diffusion_of(sde: SDE, t: Scalar, x: State, args: Any) -> Any:
    """The diffusion at x: like the state if it is elementwise, else a matrix or an operator."""
    g = sde.diffusion(t, x, args)
    if is_operator(g):
        return g
    leaves, structure = jax.tree.flatten(x)
    if sde.noise is None:
        if jax.tree.structure(g) != structure:
            g = jax.tree.map(lambda _: g, x)
        return jax.tree.map(
            lambda leaf, value: jnp.broadcast_to(jnp.asarray(value, leaf.dtype), leaf.shape), x, g
        )
    rows = []
    for leaf, row in zip(leaves, structure.flatten_up_to(g), strict=True):
        row = (
            [None] * len(sde.noise.shapes)
            if row is None
            else sde.noise.structure.flatten_up_to(row)
        )
        rows.append([None if part is None else jnp.asarray(part, leaf.dtype) for part in row])
    return _Matrix(rows)


def is_operator(g: Any) -> bool:
    """Whether a diffusion is an operator of lineax, which is imported by whoever makes one."""
    lineax: Any = sys.modules.get("lineax")
    return lineax is not None and isinstance(g, lineax.AbstractLinearOperator)


def product(g: Any, dw: State, x: State) -> State:
    r"""The product of a diffusion and an increment, like the state.

    $$(g\,dW)_i = \sum_j g_{ij}\,dW_j$$

    or $g_i\,dW_i$ where the diffusion is elementwise.
    """
    if is_operator(g):
        dw = jax.tree.map(lambda part, like: part.astype(like.dtype), dw, g.in_structure())
        return jax.tree.map(lambda part, like: part.astype(like.dtype), g.mv(dw), x)
    if not isinstance(g, _Matrix):
        return jax.tree.map(jnp.multiply, g, dw)
    leaves, structure = jax.tree.flatten(x)
    parts = jax.tree.leaves(dw)

    def row_product(leaf: Array, row: list[Array | None]) -> Array:
        total = jnp.zeros_like(leaf)
        for matrix, part in zip(row, parts, strict=True):
            if matrix is not None:
                # Without the precision, an accelerator rounds the factors.
                part = part.astype(leaf.dtype)
                precision = jax.lax.Precision.HIGHEST
                total = total + jnp.tensordot(matrix, part, part.ndim, precision=precision)
        return total

    return jax.tree.unflatten(structure, list(map(row_product, leaves, g.rows)))
