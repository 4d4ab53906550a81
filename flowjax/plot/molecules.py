"""Pictures of molecules."""

from typing import Any

import numpy as np

from flowjax import _check
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
    azimuth: float = 30.0,
    elevation: float = 20.0,
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

    centred = positions - (positions.max(0) + positions.min(0)) / 2
    extent = float(np.linalg.norm(centred, axis=1).max()) + 1.0
    right, up, near = _view(azimuth, elevation) @ centred.T
    # How much greater than at the middle something looks, and how much of its colour is left.
    zoom = _EYE * extent / (_EYE * extent - near)
    left = np.clip(0.7 + 0.3 * near / extent, 0.4, 1.0)
    places = np.stack([right * zoom, up * zoom], axis=1)
    sizes = zoom * np.maximum(_SIZE * RADII[kinds - 1], _LEAST)

    figure, ax = axes(ax, (4.4, 4.4))
    colours = [rgb(colour_of(kind)) for kind in kinds]
    for i, j in pairs:
        _draw_bond(ax, places[[i, j]], near[[i, j]], zoom[[i, j]], left[[i, j]], sizes[[i, j]],
                   [colours[i], colours[j]])  # fmt: skip
    for place, size, depth, part, colour in zip(places, sizes, near, left, colours, strict=True):
        _draw_ball(ax, place, size, depth, part, colour)
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


def _pale(colour: np.ndarray, part: float) -> np.ndarray:
    return part * colour + (1 - part) * rgb(palette().paper)


def _draw_ball(ax: Any, place: Any, size: float, depth: float, part: float, colour: Any) -> None:
    """A ball: its outline, its colour, and the light on it."""
    from matplotlib.patches import Circle

    # Later in a list of equal depth is nearer; a ball's parts lie between its and the next depth.
    edge = _pale(0.45 * colour, part)
    ax.add_patch(
        Circle(
            place, size, facecolor=_pale(colour, part), edgecolor=edge, lw=0.8, zorder=depth + 100
        )
    )
    for shift, radius, light in ((0.2, 0.6, 0.12), (0.3, 0.33, 0.3), (0.36, 0.14, 0.5)):
        bright = _pale(colour + light * (1 - colour), part)
        centre = place + size * shift * np.array([-0.7, 0.7])
        ax.add_patch(Circle(centre, size * radius, color=bright, lw=0, zorder=depth + 100))


def _draw_bond(
    ax: Any, ends: Any, depths: Any, zoom: Any, left: Any, sizes: Any, colours: Any
) -> None:
    """A stick, each half in the colour of its atom."""
    from matplotlib.patches import Polygon

    along = ends[1] - ends[0]
    length = np.hypot(*along)
    # Seen along its axis, a bond is behind its atoms.
    if length < 1e-9:
        return
    across = np.array([-along[1], along[0]]) / length * _BOND / 2
    middle, width = ends.mean(0), zoom.mean() * across
    # It begins inside its nearer atom and is drawn before it.
    for end, depth, zoomed, part, colour in zip(ends, depths, zoom, left, colours, strict=True):
        corners = [end + zoomed * across, middle + width, middle - width, end - zoomed * across]
        ax.add_patch(
            Polygon(
                corners, facecolor=_pale(colour, part), edgecolor=_pale(0.45 * colour, part),
                lw=0.6, zorder=(depth + depths.mean()) / 2 + 99.9,
            )
        )  # fmt: skip


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
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="", marker="o", markersize=8, markerfacecolor=colour_of(kind),
               markeredgecolor=palette().faint, label=SYMBOLS[kind - 1])
        for kind in np.unique(kinds)
    ]  # fmt: skip
    legend(ax, handles=handles, loc="lower right", ncols=len(handles), handletextpad=0.1,
           columnspacing=0.8)  # fmt: skip
