"""Images and videos: each pixel stands in its place, with its value."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from flowjax import plot
from flowjax.plot import _style

THREE = np.ones((3, 8, 8))
RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_each_image_stands_in_its_place(channels):
    images = RANDOM.uniform(-1, 1, size=(7, 4, 6, *channels))
    figure = plot.image_grid(images, columns=3, column_names="abc", title="seven")
    (ax,) = figure.axes
    sheet = np.asarray(ax.images[0].get_array())
    assert sheet.shape[:2] == (3 * 5 + 1, 3 * 7 + 1)
    for i, image in enumerate(images):
        top, left = 1 + 5 * (i // 3), 1 + 7 * (i % 3)
        drawn = sheet[top : top + 4, left : left + 6].reshape(image.shape)
        np.testing.assert_allclose(drawn, (image + 1) / 2)
    paper = np.ones(sheet.shape[:2], bool)
    for i in range(7):
        paper[1 + 5 * (i // 3) :, 1 + 7 * (i % 3) :][:4, :6] = False
    np.testing.assert_array_equal(sheet[paper], 1.0 if channels == (3,) else 0.0)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b", "c"]
    np.testing.assert_allclose(ax.get_xticks(), [3.5, 10.5, 17.5])


@pytest.mark.parametrize("on", [False, True], ids=["light", "dark"])
def test_the_background_of_an_image_is_the_paper(on):
    with plot.dark(on):
        (ax,) = plot.image_grid(-THREE).axes
        colour = plot.image_grid(np.zeros((1, 8, 8, 3))).axes[0].images[0]
    paper = to_rgb((_style.DARK if on else _style.LIGHT).paper)
    image = ax.images[0]
    shown = image.cmap(image.norm(np.asarray(image.get_array())))[..., :3]
    np.testing.assert_allclose(shown, np.broadcast_to(paper, shown.shape), atol=0.01)
    np.testing.assert_allclose(colour.get_array()[0, 0], paper)


@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_a_video_is_a_row_of_frames_from_the_first_to_the_last(channels):
    videos = RANDOM.uniform(0, 2, size=(2, 7, 4, 6, *channels))
    figure = plot.video_strip(videos, np.linspace(0, 3, 7), frames=3, low=0, high=2)
    (ax,) = figure.axes
    sheet = np.asarray(ax.images[0].get_array())
    for i, video in enumerate(videos):
        for j, k in enumerate([0, 3, 6]):
            drawn = sheet[1 + 5 * i :, 1 + 7 * j :][:4, :6].reshape(video[k].shape)
            np.testing.assert_allclose(drawn, video[k] / 2)
    names = [label.get_text() for label in ax.get_xticklabels()]
    assert names == ["t = 0", "t = 1.5", "t = 3"]
    # The edges are around the pixels, whose middles are at whole numbers.
    corners = [(*patch.get_xy(), patch.get_width(), patch.get_height()) for patch in ax.patches]
    assert corners == [(0.5 + 7 * j, 0.5 + 5 * i, 6, 4) for i in range(2) for j in range(3)]


def sheet_of(figure):
    return np.asarray(figure.axes[0].images[0].get_array())


@pytest.mark.parametrize("channels", [(), (3,)])
def test_integers_are_drawn_from_0_to_255(channels):
    images = RANDOM.integers(0, 256, size=(1, 8, 8, *channels), dtype=np.uint8)
    want = images[0] / 255
    np.testing.assert_allclose(sheet_of(plot.image_grid(images))[1:9, 1:9], want)
    np.testing.assert_allclose(sheet_of(plot.video_strip(images[:, None]))[1:9, 1:9], want)
    halves = sheet_of(plot.image_grid(images // 16, high=30))
    np.testing.assert_allclose(halves[1:9, 1:9], (images[0] // 16) / 30)
    (corners,) = sheet_of(plot.image_grid(np.array([[[-1, 1]] * 2]), low=-1, high=1))[1:2, 1:3]
    assert corners.tolist() == [0, 1]


def test_narrow_grey_images_and_videos_are_drawn():
    images = RANDOM.uniform(-1, 1, size=(2, 8, 4))
    want = (images[0] + 1) / 2
    for figure in (plot.image_grid(images[..., None]), plot.video_strip(images[None])):
        np.testing.assert_allclose(sheet_of(figure)[1:9, 1:5], want)
    # Square ones are not taken for one in colour.
    np.testing.assert_allclose(sheet_of(plot.image_grid(images[:, :4]))[1:5, 1:5], want[:4])


def test_frames_are_counted_where_no_times_are_given():
    (ax,) = plot.video_strip(np.zeros((1, 2, 4, 4)), frames=9).axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["frame 0", "frame 1"]


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: plot.image_grid(np.zeros((8, 8))), "images must have shape .*got shape .8, 8."),
        (lambda: plot.image_grid(np.zeros((0, 8, 8))), "images must have shape"),
        (lambda: plot.image_grid(np.zeros((2, 8, 8, 2))), r"images must .*\(video_strip draws vid"),
        (lambda: plot.image_grid(np.zeros((2, 5, 8, 8, 3))), r"\(video_strip draws videos\), got"),
        (lambda: plot.image_grid((np.zeros((2, 8)), [1])), "images must hold real numbers, got"),
        (
            lambda: plot.image_grid(np.zeros((32, 24, 3))),
            r"image is image\[None, ..., :3\]",
        ),
        (lambda: plot.image_grid(np.zeros((32, 24, 4))), r"as this are images\[..., None\]"),
        (lambda: plot.image_grid(np.full((1, 8, 8), -1)), "low and high must be given for .*-1 to"),
        (lambda: plot.image_grid(np.full((1, 8, 8), 256)), "not from 0 to 255, got 256 to 256"),
        (lambda: plot.image_grid(THREE, 0), "columns must be a static positive int, got 0"),
        (lambda: plot.image_grid(THREE, 1.5), "columns must be a static positive int, got 1.5"),
        (lambda: plot.image_grid(THREE, low=1, high=1), "low and high must differ.* got 1"),
        (lambda: plot.image_grid(THREE, low="0"), "low must be a real number, got '0'"),
        (lambda: plot.image_grid(THREE, 2, column_names="abc"), "column_names must be 2, one each"),
        (lambda: plot.video_strip(THREE), r"videos must have shape \(N, T, .*\(image_grid draws"),
        (lambda: plot.video_strip(np.zeros((2, 8, 8, 3))), "image_grid draws images"),
        (lambda: plot.video_strip(np.zeros((2, 5, 8, 8, 2))), r"got shape \(2, 5, 8, 8, 2\)"),
        (lambda: plot.video_strip(np.zeros((0, 5, 8, 8))), "videos must have shape"),
        (lambda: plot.video_strip(np.zeros((2, 5, 8, 8)), [0, 1]), r"ts must have shape \(T,\), o"),
        (lambda: plot.video_strip(np.zeros((2, 5, 8, 8)), frames=0), "frames must be a static pos"),
    ],
)
def test_what_is_no_image_or_video_is_refused(unchecked, draw, words):
    with pytest.raises((TypeError, ValueError), match=words):
        draw()
