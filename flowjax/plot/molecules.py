"""Pictures of molecules."""

from typing import Any, NamedTuple

import numpy as np

from flowjax import _check
from flowjax._optional import optional
from flowjax.plot._elements import RADII, SYMBOLS, atomic_numbers, colour_of
from flowjax.plot._inputs import expect, finite, numbers
from flowjax.plot._style import axes, bare, finished, legend, palette, rgb

# A pair is bonded where its distance is below the sum of the radii and this, in angstroms.
_SLACK = 0.4
# Atoms are drawn with this part of their radius, and hydrogen not smaller than this part of 1.
_SIZE, _LEAST, _BOND = 0.5, 0.25, 0.13
# The eye is so many radii of the molecule away from its middle.
_EYE = 5.0


def molecule(
    positions: Any,
    elements: Any,
    *,
    bonds: Any = None,
    azimuth: Any = 30.0,
    elevation: Any = 20.0,
    ax: Any = None,
    title: str | None = None,
) -> Any:
    r"""Draws a molecule in three dimensions as balls and sticks, seen in perspective.

    $$i, j \text{ bonded} \iff |x_i - x_j| < r_i + r_j + 0.4\,\text{Å}$$

    with covalent radii r, where bonds are not given. What is far away is smaller and paler, and
    behind what is near. The third coordinate points up, and the molecule turns around it with the
    azimuth.

    Args:
        positions: (N, 3) places in angstroms.
        elements: N symbols such as "C", or atomic numbers.
        bonds: (bonds, 2) pairs of atoms, counted from 0. Default: found from covalent radii.
        azimuth: the eye's angle around the third axis, in degrees.
        elevation: the eye's angle above the plane of the first two, in degrees.
        ax: matplotlib axes to draw into, of two dimensions. Default: a new figure.
        title: the title of the axes.

    Returns:
        The matplotlib figure. The scale is that at the middle of the molecule, and the same for
        all angles.

    Raises:
        TypeError: azimuth or elevation is no number, or ax not matplotlib's.
        ValueError: positions or bonds has another shape, an element is unknown, or a bond names an
            atom that does not exist.
        ImportError: matplotlib is not installed.

    Example:
        >>> import numpy as np
        >>> from flowjax import plot
        >>> water = np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])
        >>> figure = plot.molecule(water, ["O", "H", "H"], title="water")
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        ['H', 'O']

    References:
        Cordero et al., "Covalent radii revisited", 2008, Dalton Transactions 2832, table 2.
    """
    positions = numbers(positions, "positions").astype(float)
    fits = positions.ndim == 2 and positions.shape[1] == 3 and finite(positions)
    expect(fits, "positions must be finite and of shape (N, 3)", positions)
    kinds = atomic_numbers(elements, len(positions))
    pairs = _bonded(positions, kinds) if bonds is None else _pairs(bonds, len(positions))
    azimuth = _check.static_number(azimuth, "azimuth")
    elevation = _check.static_number(elevation, "elevation")

    figure, ax = axes(ax, (4.4, 4.4))
    centred = positions - (positions.max(0) + positions.min(0)) / 2
    extent = max(1.0, float(np.linalg.norm(centred, axis=1).max())) + 0.7
    atoms = _Atoms(
        centred @ _view(azimuth, elevation).T,
        np.maximum(_SIZE * RADII[kinds - 1], _LEAST),
        np.stack([rgb(colour_of(kind)) for kind in kinds.tolist()]),
    )
    _draw_by_depth(ax, _balls(atoms, extent) + _sticks(atoms, pairs, extent))
    bare(ax)
    ax.set(aspect="equal", xlim=(-extent, extent), ylim=(-extent, extent))
    _draw_scale(ax, extent)
    _name_elements(ax, kinds)
    return finished(figure, ax, title)


def _bonded(positions: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """The pairs that are near enough to each other, (bonds, 2)."""
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    radii = RADII[kinds - 1]
    return np.argwhere(np.triu(distance < radii[:, None] + radii + _SLACK, 1))


def _pairs(bonds: Any, atoms: int) -> np.ndarray:
    pairs = numbers(bonds, "bonds")
    pairs = pairs.reshape(0, 2) if pairs.size == 0 else pairs
    expect(pairs.ndim == 2 and pairs.shape[1] == 2, "bonds must have shape (bonds, 2)", pairs)
    known = pairs.size == 0 or (
        pairs.dtype.kind in "iu" and 0 <= pairs.min() <= pairs.max() < atoms
    )
    if not known or np.any(pairs[:, 0] == pairs[:, 1]):
        raise ValueError(f"bonds must be pairs of two atoms from 0 to {atoms - 1}.")
    return pairs.astype(int)


def _view(azimuth: float, elevation: float) -> np.ndarray:
    """The directions to the right, upward and toward the eye, one in each row."""
    a, e = np.deg2rad(azimuth), np.deg2rad(elevation)
    right = [-np.sin(a), np.cos(a), 0.0]
    near = [np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)]
    return np.array([right, np.cross(near, right), near])


class _Atoms(NamedTuple):
    """The atoms, one in each row: places as the eye has them (to the right, up, nearer), radii."""

    places: np.ndarray
    radii: np.ndarray
    colours: np.ndarray


def _seen(place: np.ndarray, extent: float) -> tuple[np.ndarray, float]:
    """Where a point is in the picture, and how much greater it looks than one in the middle."""
    zoom = _EYE * extent / (_EYE * extent - place[2])
    return place[:2] * zoom, float(zoom)


def _pale(colour: np.ndarray, near: float, extent: float) -> np.ndarray:
    """A colour that goes over into the paper with the distance."""
    left = np.clip(0.7 + 0.3 * near / extent, 0.4, 1.0)
    return left * colour + (1 - left) * rgb(palette().paper)


def _edge(colour: np.ndarray) -> np.ndarray:
    return (colour + rgb(palette().ink)) / 2


def _balls(atoms: _Atoms, extent: float) -> list[tuple]:
    """Each atom as a disc with an edge, and the light on it: (depth, shape, colour, edge)."""
    patches = optional("matplotlib.patches", "flowjax.plot", "examples")
    shapes = []
    for place, radius, colour in zip(*atoms, strict=True):
        near, (centre, zoom) = place[2], _seen(place, extent)
        edge = _pale(_edge(colour), near, extent)
        disc = patches.Circle(tuple(centre), radius * zoom)
        shapes.append((near, disc, _pale(colour, near, extent), edge))
        for shift, part, light in ((0.2, 0.6, 0.12), (0.3, 0.33, 0.3), (0.36, 0.14, 0.5)):
            bright = _pale(colour + light * (1 - colour), near, extent)
            corner = centre + radius * zoom * shift * np.array([-0.7, 0.7])
            spot = patches.Circle(tuple(corner), radius * zoom * part)
            shapes.append((near, spot, bright, bright))
    return shapes


def _sticks(atoms: _Atoms, pairs: np.ndarray, extent: float) -> list[tuple]:
    """Each bond as two halves, in the colours of its atoms: (depth, shape, colour, edge)."""
    patches = optional("matplotlib.patches", "flowjax.plot", "examples")
    shapes = []
    for pair in pairs:
        middle = atoms.places[pair].mean(0)
        for i in pair:
            place, colour, near = atoms.places[i], atoms.colours[i], atoms.places[i, 2]
            along = (middle - place) / max(float(np.linalg.norm(middle - place)), 1e-9)
            (start, zoom), (end, end_zoom) = (
                _seen(point, extent) for point in (place + 0.9 * atoms.radii[i] * along, middle)
            )
            across = np.array([along[1], -along[0]]) / max(float(np.hypot(*along[:2])), 1e-9)
            wide, end_wide = (_BOND / 2 * across * size for size in (zoom, end_zoom))
            shape = patches.Polygon([start + wide, end + end_wide, end - end_wide, start - wide])
            edge = _pale(_edge(colour), near, extent)
            # The half of the nearer atom is behind that atom, the other in front of its own.
            shapes.append(((near + middle[2]) / 2, shape, _pale(colour, near, extent), edge))
    return shapes


def _draw_by_depth(ax: Any, shapes: list[tuple]) -> None:
    """What is near is drawn after what is far, all as one collection."""
    collections = optional("matplotlib.collections", "flowjax.plot", "examples")
    _, drawn, colours, edges = zip(*sorted(shapes, key=lambda shape: shape[0]), strict=True)
    ax.add_collection(
        collections.PatchCollection(drawn, facecolors=colours, edgecolors=edges, linewidths=0.7)
    )


def _draw_scale(ax: Any, extent: float) -> None:
    """A bar of one angstrom, in the lower left corner."""
    start, height = -0.95 * extent, -0.95 * extent
    ax.plot([start, start + 1], [height, height], color=palette().ink, linewidth=2)
    ax.annotate(
        "1 Å", (start + 0.5, height), (0, 4), textcoords="offset points", ha="center",
        fontsize="small", color=palette().ink,
    )  # fmt: skip


def _name_elements(ax: Any, kinds: np.ndarray) -> None:
    """Each element that is there beside its colour."""
    lines = optional("matplotlib.lines", "flowjax.plot", "examples")
    handles = [
        lines.Line2D(
            [], [], linestyle="", marker="o", markersize=8, markerfacecolor=colour_of(kind),
            markeredgecolor=palette().faint, label=SYMBOLS[kind - 1],
        )
        for kind in np.unique(kinds).tolist()
    ]  # fmt: skip
    legend(ax, handles=handles, loc="lower right", ncols=len(handles), handletextpad=0.1,
           columnspacing=0.8)  # fmt: skip
