"""The frames of a GIF are the figures that were drawn, read back from the file."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from flowjax import plot

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]


def frames_of(gif):
    image = Image.open(io.BytesIO(gif))
    for k in range(image.n_frames):
        image.seek(k)
        yield np.asarray(image.convert("RGB")), image.info["duration"]


def block(k):
    """A figure of one colour, with a black square that moves from left to right."""
    figure = Figure(figsize=(1.0, 0.5), facecolor=np.array(COLOURS[k]) / 255)
    figure.add_axes((0.25 * k, 0.0, 0.25, 0.5), facecolor="black", xticks=[], yticks=[])
    return figure


def test_each_frame_is_its_figure(tmp_path):
    gif = plot.animate(block, 4, tmp_path / "a.gif", fps=10, hold=2, dpi=80)
    assert (tmp_path / "a.gif").read_bytes() == gif
    assert Image.open(io.BytesIO(gif)).info["loop"] == 0
    frames = list(frames_of(gif))
    assert [duration for _, duration in frames] == [100, 100, 100, 2000]
    for k, (pixels, _) in enumerate(frames):
        assert pixels.shape == (40, 80, 3)
        assert np.abs(pixels[5, 5].astype(int) - COLOURS[k]).max() <= 8
        assert pixels[30, 20 * k + 10].max() <= 8
        outside = np.abs(np.arange(80) - 20 * k - 9.5) > 12
        assert np.abs(pixels[30, outside].astype(int) - COLOURS[k]).max() <= 8


def test_the_paper_is_exact_and_what_stands_still_does_not_move():
    """The names of the ticks grow from frame to frame; the axes stay where they are."""

    def draw(k):
        return plot.trajectories(np.arange(3.0), 10.0 ** (2 * k) * np.arange(3.0))

    for on, paper in ((False, (255, 255, 255)), (True, (13, 17, 23))):
        with plot.dark(on):
            frames = [pixels.astype(int) for pixels, _ in frames_of(plot.animate(draw, 3))]
        for pixels in frames:
            assert tuple(pixels[0, 0]) == paper
        # The left spine: the column with the most ink.
        ink = [np.abs(pixels - paper).max(2) > 100 for pixels in frames]
        spines = [int(np.argmax(marks.sum(0))) for marks in ink]
        assert len(set(spines)) == 1
        # Each by itself would have it elsewhere.
    alone = [next(frames_of(plot.animate(lambda _, k=k: draw(k), 1)))[0] for k in (0, 2)]
    columns = [int(np.argmax((pixels < 100).all(2).sum(0))) for pixels in alone]
    assert columns[0] != columns[1]


def test_bars_beside_axes_keep_their_place_too():
    def draw(k):
        return plot.vector_field(lambda t, x, args: (k + 1) * x, num=3)

    first, second = (pixels for pixels, _ in frames_of(plot.animate(draw, 2)))
    assert first.shape == second.shape
    assert 0 < np.mean(np.any(first != second, axis=2)) < 0.03


@pytest.mark.parametrize(
    ("draw", "options", "words"),
    [
        (None, {"num": 2}, "draw must be a function k -> figure, got None"),
        (lambda: block(0), {"num": 2}, "draw must be a function k -> figure, got one of"),
        (lambda k: None, {"num": 2}, "draw must return a matplotlib figure, got None for frame 0"),
        (lambda k: block(k) if k < 1 else 3, {"num": 2}, "got 3 for frame 1"),
        (block, {"num": 0}, "num must be a static positive int, got 0"),
        (block, {"num": 2.0}, "num must be a static positive int, got 2.0"),
        (block, {"num": 2, "fps": 0}, "fps must be positive, got 0"),
        (block, {"num": 2, "hold": -1}, "hold must be positive, got -1"),
        (block, {"num": 2, "dpi": float("inf")}, "dpi must be positive, got inf"),
        (block, {"num": 2, "fps": "fast"}, "fps must be a static number"),
        (
            lambda k: Figure(figsize=(1 + k, 1)),
            {"num": 2, "dpi": 10},
            r"draw must return figures of one size, got \[\(10, 10\), \(20, 10\)\] in dots",
        ),
    ],
)
def test_what_cannot_be_animated_is_refused(unchecked, draw, options, words):
    with pytest.raises((TypeError, ValueError), match=words):
        plot.animate(draw, **options)
