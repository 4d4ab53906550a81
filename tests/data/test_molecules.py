"""Conformers have the bonds, angles and handedness of the molecule, and know no direction."""

import sys
from importlib.util import find_spec

import jax
import numpy as np
import pytest

import flowjax as fj
from flowjax.data import conformers

needs_rdkit = pytest.mark.skipif(find_spec("rdkit") is None, reason="RDKit is not installed")


def a_key():
    return jax.random.key(int(np.random.default_rng().integers(2**31)))


def test_without_rdkit_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(ImportError, match=r"pip install 'flowjax-solvers\[molecules\]'"):
        conformers(jax.random.key(0), "ethanol", 2)


@needs_rdkit
def test_ethanol_is_ethanol():
    made = conformers(a_key(), "ethanol", 20)
    assert made.positions.shape == (20, 9, 3)
    assert made.positions.dtype == np.float32
    assert sorted(made.atomic_numbers.tolist()) == [1] * 6 + [6, 6, 8]
    numbers, kinds = np.asarray(made.atomic_numbers), {}
    for bond, lengths in zip(
        made.bonds, fj.metrics.bond_lengths(made.positions, made.bonds).T, strict=True
    ):
        kinds.setdefault(tuple(sorted(numbers[bond].tolist())), []).append(lengths.mean())
    assert {kind: len(found) for kind, found in kinds.items()} == {
        (6, 6): 1, (1, 6): 5, (6, 8): 1, (1, 8): 1,
    }  # fmt: skip
    # Tables of bond lengths, in angstrom.
    for kind, length in {(6, 6): 1.52, (1, 6): 1.10, (6, 8): 1.42, (1, 8): 0.97}.items():
        assert np.mean(kinds[kind]) == pytest.approx(length, abs=0.04)
    # Two carbons of four bonds and an oxygen of two: 6 + 6 + 1 angles, near the tetrahedral.
    angles = np.degrees(fj.metrics.bond_angles(made.positions, made.angles))
    assert angles.shape == (20, 13)
    assert np.all(np.abs(angles.mean(axis=0) - 109) < 8)


@needs_rdkit
def test_bonds_and_angles_are_those_that_rdkit_measures():
    from rdkit import Chem
    from rdkit.Chem import rdMolTransforms
    from rdkit.Geometry import Point3D

    made = conformers(a_key(), "aspirin", 1, hydrogens=False)
    molecule = Chem.MolFromSmiles("CC(=O)Oc1ccccc1C(=O)O")
    conformer = Chem.Conformer(molecule.GetNumAtoms())
    for atom, place in enumerate(np.asarray(made.positions[0], float)):
        conformer.SetAtomPosition(atom, Point3D(*place))
    lengths = [rdMolTransforms.GetBondLength(conformer, *b) for b in made.bonds.tolist()]
    angles = [rdMolTransforms.GetAngleRad(conformer, *a) for a in made.angles.tolist()]
    metrics = fj.metrics
    np.testing.assert_allclose(
        metrics.bond_lengths(made.positions, made.bonds)[0], lengths, rtol=1e-5
    )
    np.testing.assert_allclose(
        metrics.bond_angles(made.positions, made.angles)[0], angles, rtol=1e-4
    )
    assert made.atomic_numbers.tolist() == [a.GetAtomicNum() for a in molecule.GetAtoms()]


@needs_rdkit
def test_conformers_are_centred_and_turned_every_way():
    x = np.asarray(conformers(a_key(), "CO", 400).positions)
    np.testing.assert_allclose(x.mean(axis=1), 0, atol=1e-5)
    # The direction of one bond: uniform on the sphere has mean 0 and covariance 1/3.
    along = x[:, 1] - x[:, 0]
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    products = along[:, :, None] * along[:, None, :]
    # Five standard errors of 400: fails by chance once in a million runs.
    assert np.all(np.abs(along.mean(axis=0)) < 5 * np.sqrt(1 / 3 / 400))
    error = products.std(axis=0) / np.sqrt(400)
    assert np.all(np.abs(products.mean(axis=0) - np.eye(3) / 3) < 5 * error)


@needs_rdkit
def test_turning_keeps_the_handedness():
    made = conformers(a_key(), "alanine dipeptide", 20)
    numbers = np.asarray(made.atomic_numbers)
    (centre,) = (
        j
        for j in range(len(numbers))
        if sorted(numbers[others(made.bonds, j)].tolist()) == [1, 6, 6, 7]
    )
    x = np.asarray(made.positions)
    # In the order of their places, the same for all conformers.
    a, b, c = (x[:, i] - x[:, centre] for i in others(made.bonds, centre)[:3])
    sides = np.sign(np.sum(np.cross(a, b) * c, axis=1))
    assert abs(sides.sum()) == 20


@needs_rdkit
def test_a_conformer_is_the_same_however_many_are_made():
    key = a_key()
    few, more = (conformers(key, "ethanol", num).positions for num in (2, 5))
    np.testing.assert_allclose(few, more[:2], atol=1e-6)
    other = conformers(jax.random.fold_in(key, 1), "ethanol", 2).positions
    assert np.abs(few - other).max() > 0.1


@needs_rdkit
def test_the_minima_of_the_force_field_vary_less():
    key = a_key()
    spreads = [
        fj.metrics.bond_lengths(made.positions, made.bonds).std(axis=0).mean()
        for made in (conformers(key, "butane", 20, optimize=o) for o in (False, True))
    ]
    assert spreads[1] < spreads[0] / 2


@needs_rdkit
@pytest.mark.parametrize(
    ("molecule", "options", "error", "words"),
    [
        ("ethanole", {}, ValueError, "molecule must be one of butane, ethanol.*'ethanole'"),
        ("", {}, ValueError, "molecule must be one of"),
        (3, {}, TypeError, "molecule must be a name or a SMILES"),
        ("[Na+].[Cl-]", {"optimize": True}, None, ""),
        ("[Fe]", {"optimize": True}, ValueError, "optimize must be False"),
    ],
)
def test_bad_molecules_are_refused(molecule, options, error, words, unchecked):
    if error is None:
        assert conformers(jax.random.key(0), molecule, 1, **options).bonds.shape == (0, 2)
        return
    with pytest.raises(error, match=words):
        conformers(jax.random.key(0), molecule, 1, **options)


def others(bonds, j):
    return [int(b[1 - list(b).index(j)]) for b in bonds if j in b]
