"""Conformers of molecules, made by RDKit."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowjax import _check
from flowjax._optional import optional

_SMILES = {
    "butane": "CCCC",
    "ethanol": "CCO",
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "alanine dipeptide": "CC(=O)N[C@@H](C)C(=O)NC",
}

# Of the force field's minimiser.
_ITERATIONS = 2000


class Conformers(NamedTuple):
    """Shapes of one molecule, along the leading axis of positions, and what it consists of.

    Args:
        positions: of the atoms, in angstrom, float32 (num, n, 3); the mean of each is zero.
        atomic_numbers: int32 (n,).
        bonds: the places of two atoms in each row, int32 (B, 2), of NumPy: they are static.
        angles: of three atoms, the second bonded to both others, int32 (A, 3), of NumPy.
    """

    positions: Array
    atomic_numbers: Array
    bonds: np.ndarray
    angles: np.ndarray


def conformers(
    key: Array, molecule: str, num: int, *, optimize: bool = False, hydrogens: bool = True
) -> Conformers:
    r"""Random conformers of a real molecule: its atoms in space, as RDKit embeds them.

    $$x = Q\,(z - \bar z), \qquad z \sim \mathrm{ETKDG}(\mathrm{molecule}), \quad
    Q \text{ uniform on } SO(3)$$

    Each is moved to mean zero and turned at random, so that the law knows no direction. Conformer i
    of a key is the same for every num. They are distance geometry with preferred torsions; other
    versions of RDKit give other ones. A centre whose handedness the SMILES leaves open takes
    either one.

    Args:
        key: one JAX key; it names the conformers and how they are turned.
        molecule: "butane", "ethanol", "aspirin" or "alanine dipeptide", or a SMILES string.
        num: how many.
        optimize: move each into the next minimum of the force field MMFF94. Bond lengths then
            hardly vary any more.
        hydrogens: keep the hydrogen atoms.

    Returns:
        ``Conformers(positions, atomic_numbers, bonds, angles)``.

    Raises:
        TypeError: key is no key, molecule is not a string, or num is not a static int.
        ValueError: key is a batch of keys, num is below one, molecule is neither one of the names
            nor a SMILES string, RDKit finds no shape of it, or MMFF94 has no parameters for it or
            does not converge.
        ImportError: RDKit is not installed.

    Example:
        >>> import jax
        >>> import flowjax as fj
        >>> ethanol = fj.data.conformers(jax.random.key(0), "ethanol", 10)  # doctest: +SKIP
        >>> ethanol.positions.shape, ethanol.bonds.shape  # doctest: +SKIP
        ((10, 9, 3), (8, 2))

    References:
        Riniker, Landrum, "Better informed distance geometry: using what we know to improve
        conformation generation", 2015, Journal of Chemical Information and Modeling 55, doi
        10.1021/acs.jcim.5b00654 (ETKDG); Halgren, "Merck molecular force field I", 1996, Journal of
        Computational Chemistry 17.
    """
    from scipy.spatial.transform import Rotation  # takes a fifth of a second

    _check.single_key(key)
    num = _check.positive_int(num, "num")
    if not isinstance(molecule, str):
        raise TypeError(f"molecule must be a name or a SMILES string, got {molecule!r}.")
    words = np.asarray(jax.random.bits(key, (5,), jnp.uint32))
    z, atomic_numbers, bonds = _embedded(molecule, num, int(words[0] >> 1), optimize, hydrogens)
    # A normal quaternion has a uniform direction, and is thus a uniform rotation.
    turns = Rotation.from_quat(np.random.default_rng(words[1:]).normal(size=(num, 4)))
    x = np.einsum("kij,kaj->kai", turns.as_matrix(), z - z.mean(axis=1, keepdims=True))
    return Conformers(
        jnp.asarray(x, jnp.float32),
        jnp.asarray(atomic_numbers, jnp.int32),
        bonds,
        _angles(bonds, len(atomic_numbers)),
    )


def _embedded(
    molecule: str, num: int, seed: int, optimize: bool, hydrogens: bool
) -> tuple[np.ndarray, list[int], np.ndarray]:
    optional("rdkit", "flowjax.data.conformers", "molecules")
    from rdkit import Chem, rdBase  # pyright: ignore
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers  # pyright: ignore

    with rdBase.BlockLogs():  # what goes wrong is said below
        made: Any = Chem.MolFromSmiles(_SMILES.get(molecule, molecule))
        if made is None or made.GetNumAtoms() == 0:
            raise ValueError(
                f"molecule must be one of {', '.join(_SMILES)}, or a SMILES string, got "
                f"{molecule!r}."
            )
        made = Chem.AddHs(made)
        how = rdDistGeom.ETKDGv3()
        how.randomSeed, how.numThreads = seed, 1
        found = list(rdDistGeom.EmbedMultipleConfs(made, num, how))
        if len(found) < num:
            raise ValueError(
                f"molecule must be one that RDKit can embed: it found {len(found)} of {num} "
                f"conformers of {molecule!r}."
            )
        if optimize:
            if not rdForceFieldHelpers.MMFFHasAllMoleculeParams(made):
                raise ValueError(f"optimize must be False of {molecule!r}: MMFF94 lacks an atom.")
            ends = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(made, maxIters=_ITERATIONS)
            left = sum(end != 0 for end, _ in ends)
            if left:
                raise ValueError(
                    f"optimize must be False of {molecule!r}: MMFF94 did not converge for {left} "
                    f"conformers."
                )
        if not hydrogens:
            made = Chem.RemoveHs(made)
    positions = np.stack([made.GetConformer(i).GetPositions() for i in found])
    bonds = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in made.GetBonds()]
    atomic_numbers = [atom.GetAtomicNum() for atom in made.GetAtoms()]
    return positions, atomic_numbers, np.array(bonds, np.int32).reshape(-1, 2)


def _angles(bonds: np.ndarray, atoms: int) -> np.ndarray:
    """All triples of which the second atom is bonded to both others."""
    beside: list[list[int]] = [[] for _ in range(atoms)]
    for i, j in bonds.tolist():
        beside[i].append(j)
        beside[j].append(i)
    triples = [
        (i, j, k)
        for j, others in enumerate(beside)
        for at, i in enumerate(sorted(others))
        for k in sorted(others)[at + 1 :]
    ]
    return np.array(triples, np.int32).reshape(-1, 3)
