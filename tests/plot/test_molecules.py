"""Molecules: bonds are those of chemistry, and what is near hides what is far."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from flowjax import plot
from flowjax.plot import _style
from flowjax.plot._elements import RADII, SYMBOLS, colour_of

WATER = np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])
ANGLES = np.pi / 3 * np.arange(6)
RING = np.stack([np.cos(ANGLES), np.sin(ANGLES), 0 * ANGLES], axis=1)
# Bonds of 1.39 between carbons and of 1.09 to hydrogen.
BENZENE, BENZENE_ATOMS = np.concatenate([1.39 * RING, 2.48 * RING]), ["C"] * 6 + ["H"] * 6


def drawn(positions, elements, **options):
    """The discs and the sticks, in the order in which they are painted: (kind, corners, colour)."""
    (ax,) = plot.molecule(positions, elements, **options).axes
    (collection,) = ax.collections
    shapes = zip(collection.get_paths(), collection.get_facecolors(), strict=True)
    # The outline of a circle has 26 points, that of a stick 5.
    return [
        ("stick" if len(path.vertices) == 5 else "disc", path, np.array(colour[:3]))
        for path, colour in shapes
    ]


def discs(shapes):
    """Centre, radius and colour of each atom: of each disc, then three lights."""
    found = [(path, colour) for kind, path, colour in shapes if kind == "disc"]
    boxes = [path.get_extents() for path, _ in found]
    circles = [
        (np.mean([box.p0, box.p1], axis=0), box.width / 2, colour)
        for box, (_, colour) in zip(boxes, found, strict=True)
    ]
    return circles[::4]


def test_the_radii_are_the_published_ones():
    """Cordero et al. 2008, table 2; all 86 were compared with those of ASE when written."""
    published = {"H": 0.31, "C": 0.76, "O": 0.66, "S": 1.05, "Fe": 1.32, "I": 1.39, "Au": 1.36}
    assert {name: RADII[SYMBOLS.index(name)] for name in published} == published
    numbers = {"H": 1, "Ne": 10, "Ar": 18, "Kr": 36, "Xe": 54, "Rn": 86}
    assert {name: SYMBOLS.index(name) + 1 for name in numbers} == numbers


@pytest.mark.parametrize(
    ("positions", "elements", "bonds"),
    [(WATER, "OHH", 2), (BENZENE, BENZENE_ATOMS, 12), (3 * WATER, "OHH", 0), (WATER[:1], "O", 0)],
    ids=["water", "benzene", "apart", "one atom"],
)
def test_the_bonds_are_found(positions, elements, bonds):
    kinds = [kind for kind, *_ in drawn(positions, elements)]
    assert kinds.count("stick") == 2 * bonds
    assert kinds.count("disc") == 4 * len(positions)


def test_each_half_of_a_bond_has_the_colour_of_its_atom_and_they_meet_in_the_middle():
    # Both atoms are as far from the eye, so that nothing is paler.
    pair = np.array([[0.0, -0.6, 0.0], [0.0, 0.6, 0.0]])
    shapes = drawn(pair, ["C", "O"], azimuth=0, elevation=0)
    sticks = [(path.vertices, colour) for kind, path, colour in shapes if kind == "stick"]
    for (corners, colour), element, side in zip(sticks, (6, 8), (-1, 1), strict=True):
        expected = 0.7 * np.array(to_rgb(colour_of(element))) + 0.3
        np.testing.assert_allclose(colour, expected, atol=1e-6)
        assert np.abs(corners[:, 0]).min() < 1e-9
        assert np.all(side * corners[:, 0] > -1e-9)


def test_bonds_that_are_given_are_the_ones_drawn():
    assert len(drawn(WATER, [8, 1, 1], bonds=[])) == 12
    given = [kind for kind, *_ in drawn(WATER, [8, 1, 1], bonds=np.array([[1, 2]]))]
    assert given.count("stick") == 2


@pytest.mark.parametrize(
    ("azimuth", "elevation", "right", "up"),
    [(0, 0, 1, 2), (-90, 0, 0, 2), (-90, 90, 0, 1)],
    ids=["from the first axis", "from the side", "from above"],
)
def test_the_eye_is_where_it_is_said(azimuth, elevation, right, up):
    """Two axes lie in the picture, their positive ends to the right and up."""
    axes, elements = np.concatenate([np.eye(3), -np.eye(3)]), ["S", "N", "O", "C", "C", "C"]
    shapes = drawn(axes, elements, bonds=[], azimuth=azimuth, elevation=elevation)
    for axis, wanted in ((right, [1.0, 0.0]), (up, [0.0, 1.0])):
        # What is as far as the middle keeps seven tenths of its colour.
        shown = 0.7 * np.array(to_rgb(colour_of((16, 7, 8)[axis]))) + 0.3
        (centre,) = (c for c, _, colour in discs(shapes) if np.abs(colour - shown).max() < 1e-6)
        np.testing.assert_allclose(centre, wanted, atol=1e-9)


def test_what_is_near_is_greater_stronger_and_in_front():
    # The eye is on the first axis; oxygen is nearer than carbon.
    pair = np.array([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    for on, paper in ((False, _style.LIGHT.paper), (True, _style.DARK.paper)):
        with plot.dark(on):
            far, near = discs(drawn(pair, ["C", "C"], azimuth=0, elevation=0))
        # Perspective: an eye at five times the extent of 1.7.
        np.testing.assert_allclose(near[1], 0.38 * 8.5 / 7.5, rtol=1e-3)
        np.testing.assert_allclose(far[1], 0.38 * 8.5 / 9.5, rtol=1e-3)
        apart = [np.linalg.norm(colour - to_rgb(paper)) for _, _, colour in (far, near)]
        assert apart[0] < apart[1]
    around = drawn(BENZENE, BENZENE_ATOMS, azimuth=20, elevation=10)
    sizes = [radius for _, radius, colour in discs(around)]
    assert len(sizes) == 12


def test_turning_the_molecule_is_turning_the_eye():
    angle = np.deg2rad(40)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = np.concatenate([BENZENE[:, :2] @ turn.T, BENZENE[:, 2:]], axis=1)
    # By symmetry the box around benzene is centred at its middle in both.
    one = discs(drawn(BENZENE, BENZENE_ATOMS, azimuth=10))
    other = discs(drawn(turned, BENZENE_ATOMS, azimuth=50))
    for (centre, radius, _), (centre_too, radius_too, _) in zip(one, other, strict=True):
        np.testing.assert_allclose(centre, centre_too, atol=1e-6)
        np.testing.assert_allclose(radius, radius_too)


def test_scale_and_elements_are_named():
    (ax,) = plot.molecule(WATER, [8, 1, 1]).axes
    (bar,) = ax.lines
    assert np.ptp(bar.get_xdata()) == pytest.approx(1)
    assert ax.texts[0].get_text() == "1 Å"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["H", "O"]


def refused(positions=WATER, elements="OHH", **options):
    return lambda: plot.molecule(positions, elements, **options)


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (refused(WATER[:, :2]), r"positions must be finite and of shape \(N, 3\), got shape .3, 2"),
        (refused(WATER * np.nan), "positions must be finite"),
        (refused(np.zeros((0, 3)), ""), "positions must be finite"),
        (refused(elements="OH"), "elements must be 3 symbols or atomic numbers .*position, got 2"),
        (refused(elements=["O", "H", "Hx"]), "from 1 to 86, got 'Hx'"),
        (refused(elements=[8, 1, 0]), "from 1 to 86, got 0"),
        (refused(elements=[8, 1, 87]), "from 1 to 86, got 87"),
        (refused(elements=[8.0, 1.0, 1.0]), "from 1 to 86, got 8.0"),
        (refused(elements=8), "elements must be 3 symbols"),
        (refused(bonds=[0, 1]), r"bonds must have shape \(bonds, 2\), got shape \(2,\)"),
        (refused(bonds=[[0, 3]]), "bonds must be pairs of two atoms from 0 to 2"),
        (refused(bonds=[[-1, 1]]), "bonds must be pairs of two atoms from 0 to 2"),
        (refused(bonds=[[1, 1]]), "bonds must be pairs of two atoms from 0 to 2"),
        (refused(bonds=[[0.0, 1.0]]), "bonds must be pairs of two atoms from 0 to 2"),
        (refused(azimuth="left"), "azimuth must be a static number"),
        (refused(elevation=None), "elevation must be a static number"),
    ],
)
def test_what_is_no_molecule_is_refused(unchecked, draw, words):
    with pytest.raises((TypeError, ValueError), match=words):
        draw()
