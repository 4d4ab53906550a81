"""What holds of all pictures: their colours, labels and places, and what is left as it was."""

import inspect
import itertools
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from flowjax import plot
from flowjax.plot import _style
from tests.plot.pictures import PANELS, PICTURES

EVERY = {**PICTURES, **{f"{name}, panels": draw for name, draw in PANELS.items()}}
NO_PICTURE = {"animate", "dark", "grid_lines"}


@pytest.fixture(scope="module")
def drawn():
    """Every picture, light and laid out, and dark; and what matplotlib's settings were."""
    before = dict(mpl.rcParams)
    figures = {}
    for on in (False, True):
        with plot.dark(on):
            for name, draw in EVERY.items():
                figures[name, on] = draw(title="a title")
    for name in EVERY:
        figures[name, False].draw_without_rendering()
    return figures, before


def test_every_function_has_its_picture_here():
    assert set(plot.__all__) - NO_PICTURE == set(PICTURES) - {"streamlines"}
    for name in set(plot.__all__) - NO_PICTURE:
        assert {"ax", "title"} <= set(inspect.signature(getattr(plot, name)).parameters)


def test_no_setting_of_matplotlib_is_changed(drawn):
    assert dict(mpl.rcParams) == drawn[1]


def luminance(colour):
    """Relative luminance, as the guidelines for accessible web pages (WCAG 2.2) define it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return np.dot([0.2126, 0.7152, 0.0722], linear)


def contrast(one, other):
    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("on", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", EVERY)
def test_what_is_written_is_read_easily_and_is_not_cut(drawn, name, on):
    figure = drawn[0][name, on]
    paper = figure.get_facecolor()
    assert (luminance(paper) < 0.05) == on
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    assert any("a title" in text.get_text() for text in texts)
    axes = [axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)]
    # Of these, those beyond the limits are not drawn.
    ticks = [label for axis in axes for label in axis.get_ticklabels()]
    for text in texts:
        assert contrast(text.get_color(), paper) > 7, text
        if not on and text not in ticks:
            box, whole = text.get_window_extent(), figure.bbox
            assert whole.x0 - 1 <= box.x0 < box.x1 <= whole.x1 + 1, text
            assert whole.y0 - 1 <= box.y0 < box.y1 <= whole.y1 + 1, text


@pytest.mark.parametrize("name", EVERY)
def test_every_axis_is_named_where_its_places_mean_something(drawn, name):
    figure = drawn[0][name, False]
    for i, ax in enumerate(figure.axes):
        if any(spine.get_visible() for spine in ax.spines.values()):
            assert ax.get_xlabel() or ax.get_ylabel()
            assert i > 0 or (ax.get_xlabel() and ax.get_ylabel())
        else:
            assert name in {"image_grid", "video_strip", "molecule"}


def test_the_title_stands_above_the_names_of_the_panels(drawn):
    for name in PANELS:
        figure = drawn[0][f"{name}, panels", False]
        names = [ax.title.get_window_extent() for ax in figure.axes]
        title = figure._suptitle.get_window_extent()
        assert len(names) == 3
        assert all(title.y0 > box.y1 for box in names)


def seen_by(colour, deficiency):
    """L*a*b* of a colour as someone who lacks one kind of cone sees it."""
    steps = to_rgb(colour)
    linear = np.array([c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in steps])
    linear = np.clip(np.array(deficiency) @ linear, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    white = np.array(to_xyz).sum(1)
    ratio = np.array(to_xyz) @ linear / white
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


# Machado, Oliveira, Fernandes, "A physiologically-based model for simulation of color vision
# deficiency", 2009, IEEE Transactions on Visualization and Computer Graphics 15(6), severity 1.
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


def least_difference(colours, deficiency):
    seen = [seen_by(colour, deficiency) for colour in colours]
    return min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2))


@pytest.mark.parametrize("name", DEFICIENCIES)
def test_the_colour_blind_tell_the_categories_apart(name):
    """A difference of 2.3 is just noticeable; matplotlib's own colours fail."""
    for palette in (_style.LIGHT, _style.DARK):
        assert least_difference(palette.colours, DEFICIENCIES[name]) > 10
    tableau = [f"C{i}" for i in range(6)]
    worst = min(least_difference(tableau, matrix) for matrix in DEFICIENCIES.values())
    assert worst < 10


def test_the_axes_of_the_user_are_drawn_into_and_keep_their_figure():
    for name, draw in PICTURES.items():
        ax = Figure().add_subplot()
        assert draw(ax=ax, title="mine") is ax.figure, name
        assert ax.has_data()
        assert "mine" in ax.get_title()


def test_panels_are_drawn_into_as_many_axes_and_no_others():
    for draw in PANELS.values():
        axes = Figure().subplots(1, 3)
        assert draw(ax=axes, title="mine") is axes[0].figure
        assert [ax.get_title() for ax in axes][1:] == ["t = 0.25", "t = 0.5"] or [
            ax.get_title() for ax in axes
        ][1:] == ["t = 0.5", "t = 1"]
        with pytest.raises(ValueError, match="ax must be 3 axes, one for each time, got 1"):
            draw(ax=axes[0])


def test_what_is_no_axes_is_refused():
    for draw in PICTURES.values():
        for wrong in ("left", Figure()):
            with pytest.raises(TypeError, match="ax must be one of matplotlib's axes, got"):
                draw(ax=wrong)


def test_dark_ends_with_its_context_also_after_an_error():
    with pytest.raises(RuntimeError), plot.dark():
        raise RuntimeError
    assert _style.palette() is _style.LIGHT


def test_pictures_can_be_written(tmp_path):
    plot.image_grid(np.zeros((2, 3, 3))).savefig(tmp_path / "grid.png")
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    for draw in EVERY.values():
        with pytest.raises(ImportError, match=r"pip install 'flowjax-solvers\[examples\]'"):
            draw()


def test_importing_flowjax_imports_none_of_the_extras():
    program = (
        "import sys, flowjax, flowjax.plot;"
        "print({'matplotlib', 'PIL', 'sklearn', 'tqdm'} & set(sys.modules) or 'none')"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout == "none\n", run.stderr
