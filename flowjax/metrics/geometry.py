"""Bond lengths and bond angles of molecules."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from flowjax import _check
from flowjax._numerics import computing_dtype, root
from flowjax.metrics.sets import refuse_not_finite


def bond_lengths(positions: Any, bonds: Any) -> Array:
    r"""The lengths of a molecule's bonds.

    $$\ell_{ij} = |x_i - x_j|$$

    They do not change if the molecule is turned or moved. Two sets of samples are compared by
    `marginal_wasserstein`.

    Args:
        positions: floating, (..., n, 3): conformers of n atoms.
        bonds: static integers (B, 2), the places of the two atoms of each bond.

    Returns:
        Lengths in the unit of the positions, of shape (..., B) and of their dtype, at least
        float32.

    Raises:
        TypeError: positions is not real floating, or bonds are not static integers.
        ValueError: a shape is another, there is no bond, an atom is none of the n or is bonded to
            itself, or a position is not finite (looked at only where it is not traced).

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> water = jnp.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
        >>> [round(x, 2) for x in fj.metrics.bond_lengths(water, [(0, 1), (0, 2)]).tolist()]
        [0.96, 0.96]

    References:
        Xu, Yu, Song, Shi, Ermon, Tang, "GeoDiff: a geometric diffusion model for molecular
        conformation generation", 2022, arXiv 2203.02923, whose samples are compared so.
    """
    positions, places = _atoms(positions, bonds, "bonds", 2)
    return _lengths(positions, places)


@jax.jit
def _lengths(positions: Array, places: Array) -> Array:
    i, j = places
    return _length(positions[..., i, :] - positions[..., j, :])


def bond_angles(positions: Any, angles: Any) -> Array:
    r"""The angles between bonds of one atom.

    $$\varphi_{ijk} = \mathrm{atan2}\big(|a \times b|,\; a \cdot b\big), \qquad
    a = x_i - x_j, \quad b = x_k - x_j$$

    They do not change if the molecule is turned, moved or scaled. Two sets of samples are compared
    by `marginal_wasserstein`.

    Args:
        positions: floating, (..., n, 3): conformers of n atoms.
        angles: static integers (A, 3), the places of three atoms, of which the second has the
            angle.

    Returns:
        Angles in radians, from 0 to pi, of shape (..., A) and of the positions' dtype, at least
        float32. NaN where two of the atoms are at one place.

    Raises:
        TypeError: positions is not real floating, or angles are not static integers.
        ValueError: a shape is another, there is no angle, an atom is none of the n or is in an
            angle twice, or a position is not finite (looked at only where it is not traced).

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> water = jnp.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
        >>> print(f"{jnp.degrees(fj.metrics.bond_angles(water, [(1, 0, 2)])[0]):.1f}")
        104.5

    References:
        Xu, Yu, Song, Shi, Ermon, Tang, "GeoDiff: a geometric diffusion model for molecular
        conformation generation", 2022, arXiv 2203.02923, whose samples are compared so.
    """
    positions, places = _atoms(positions, angles, "angles", 3)
    return _angles(positions, places)


@jax.jit
def _angles(positions: Array, places: Array) -> Array:
    i, j, k = places
    a = positions[..., i, :] - positions[..., j, :]
    b = positions[..., k, :] - positions[..., j, :]
    cosine, sine = jnp.sum(a * b, axis=-1), _length(jnp.cross(a, b))
    exists = (_length(a) > 0) & (_length(b) > 0)
    return jnp.where(exists, jnp.arctan2(sine, jnp.where(exists, cosine, 1)), jnp.nan)


def _length(x: Array) -> Array:
    return root(jnp.sum(x**2, axis=-1))


def _atoms(positions: Any, places: Any, name: str, count: int) -> tuple[Array, np.ndarray]:
    """The positions in the dtype to compute in, and the places by columns."""
    positions = _check.state(positions, "positions")
    if not isinstance(positions, jax.Array) or positions.ndim < 2 or positions.shape[-1] != 3:
        shape = getattr(positions, "shape", type(positions).__name__)
        raise ValueError(f"positions must be an array (..., n, 3), got {shape}.")
    _check.elements(positions, "positions")
    refuse_not_finite(positions, "positions")
    if isinstance(places, Tracer):
        raise TypeError(f"{name} must be static integers, got a traced value.")
    places = np.asarray(places)
    if places.dtype.kind not in "iu" and places.size:
        raise TypeError(f"{name} must be static integers, got dtype {places.dtype}.")
    if places.ndim != 2 or places.shape[1] != count or places.shape[0] == 0:
        raise ValueError(
            f"{name} must be the places of {count} atoms in each row, (1 or more, {count}), got "
            f"shape {places.shape}."
        )
    atoms = positions.shape[-2]
    for row in places.tolist():
        if not all(0 <= place < atoms for place in row) or len(set(row)) < count:
            raise ValueError(
                f"{name} must be of {count} different atoms from 0 to {atoms - 1}, got {row}."
            )
    return positions.astype(computing_dtype(positions.dtype)), places.T
