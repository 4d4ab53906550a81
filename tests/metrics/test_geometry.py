"""Bonds and angles are those of NumPy and of known molecules, and know no direction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from flowjax.metrics import bond_angles, bond_lengths

BONDS = [(0, 1), (1, 2), (3, 1)]
ANGLES = [(0, 1, 2), (2, 1, 3)]


def test_lengths_and_angles_are_those_of_numpy(dtype):
    x = np.random.default_rng().normal(size=(5, 4, 3)).astype(dtype)
    tolerance = 1e-10 if dtype == np.float64 else 1e-4
    lengths = [[np.linalg.norm(one[i] - one[j]) for i, j in BONDS] for one in x]
    np.testing.assert_allclose(bond_lengths(x, BONDS), lengths, rtol=tolerance)

    def angle(a, b):
        return np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    angles = [[angle(one[i] - one[j], one[k] - one[j]) for i, j, k in ANGLES] for one in x]
    found = bond_angles(x, ANGLES)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, angles, atol=10 * tolerance)
    # The first atom is not the one that has the angle.
    assert np.abs(np.asarray(bond_angles(x, [(1, 0, 2), (1, 2, 3)])) - angles).max() > 0.01


def test_methane_has_the_tetrahedral_angle(x64):
    corners = np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    methane = np.concatenate([np.zeros((1, 3)), 1.09 / np.sqrt(3) * corners])
    np.testing.assert_allclose(bond_lengths(methane, [(0, i) for i in range(1, 5)]), 1.09)
    np.testing.assert_allclose(bond_angles(methane, [(1, 0, 2), (3, 0, 4)]), np.arccos(-1 / 3))


def test_a_molecule_that_is_turned_and_moved_has_the_same(x64):
    x = np.random.default_rng().normal(size=(4, 3))
    moved = x @ Rotation.random().as_matrix().T + 5
    np.testing.assert_allclose(bond_lengths(moved, BONDS), bond_lengths(x, BONDS))
    np.testing.assert_allclose(bond_angles(moved, ANGLES), bond_angles(x, ANGLES))


def test_straight_and_folded_angles_are_exact_and_have_finite_gradients():
    x = jnp.array([[1.0, 0, 0], [0, 0, 0], [-2, 0, 0], [3, 0, 0]])
    np.testing.assert_allclose(bond_angles(x, ANGLES), [np.pi, np.pi])
    np.testing.assert_allclose(bond_angles(x, [(0, 1, 3)]), 0)
    assert jnp.all(jnp.isfinite(jax.grad(lambda x: bond_angles(x, ANGLES).sum())(x)))


def test_atoms_at_one_place_have_no_angle():
    assert np.isnan(bond_angles(np.zeros((3, 3), np.float32), [(0, 1, 2)]))


@pytest.mark.parametrize(
    ("positions", "bonds", "error", "words"),
    [
        (np.zeros((4, 3), np.float32), [(0, 4)], ValueError, r"from 0 to 3, got \[0, 4\]"),
        (np.zeros((4, 3), np.float32), [(0, -1)], ValueError, r"from 0 to 3, got \[0, -1\]"),
        (np.zeros((4, 3), np.float32), [(1, 1)], ValueError, "2 different atoms"),
        (np.zeros((4, 3), np.float32), [(0, 1, 2)], ValueError, "places of 2 atoms in each row"),
        (np.zeros((4, 3), np.float32), [], ValueError, "places of 2 atoms in each row"),
        (np.zeros((4, 3), np.float32), [(0.0, 1.0)], TypeError, "bonds must be static integers"),
        (np.zeros((4, 2), np.float32), [(0, 1)], ValueError, r"positions must be an array"),
        (np.zeros((4, 3), int), [(0, 1)], TypeError, "positions must be a real floating array"),
        (np.full((4, 3), np.nan, np.float32), [(0, 1)], ValueError, "positions must be finite"),
    ],
)
def test_bad_molecules_are_refused(positions, bonds, error, words):
    with pytest.raises(error, match=words):
        bond_lengths(positions, bonds)


def test_traced_places_are_refused():
    with pytest.raises(TypeError, match="angles must be static integers, got a traced value"):
        jax.jit(bond_angles)(jnp.zeros((4, 3)), jnp.array(ANGLES))
