"""Each frame shows the digit at its place, and places are those of a loop that bounces."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from flowjax.data import LabelledImages, digits, moving_digits


@pytest.fixture(scope="module")
def real():
    return digits().test


@pytest.fixture(scope="module")
def key():
    return jax.random.key(int(np.random.default_rng().integers(2**31)))


@pytest.fixture(scope="module")
def videos(key, real):
    return moving_digits(key, 400, images=real)


def places_of(image, frame):
    """Where in a frame the image is, if there is nothing else."""
    h, w = image.shape
    found = []
    for row in range(frame.shape[0] - h + 1):
        for column in range(frame.shape[1] - w + 1):
            empty = np.full_like(frame, -1)
            empty[row : row + h, column : column + w] = image
            if np.array_equal(empty, frame):
                found.append((row, column))
    return found


def bounced(place, velocity, room):
    """One step after the other, turning round at the edges."""
    for axis in range(2):
        place[axis] += velocity[axis]
        if place[axis] < 0:
            place[axis], velocity[axis] = -place[axis], -velocity[axis]
        if place[axis] > room:
            place[axis], velocity[axis] = 2 * room - place[axis], -velocity[axis]


def test_every_frame_shows_a_real_digit_of_its_label_that_moves_and_bounces(videos, real):
    images, labels = np.asarray(real.image), np.asarray(real.label)
    for i in range(6):
        video, moves = np.asarray(videos.video[i]), np.asarray(videos.displacement[i])
        # A digit whose border is empty fits at two places, of which the motion rules out one.
        fits = [
            (image, start)
            for image in images[labels == int(videos.label[i])]
            for start in places_of(image, video[0])
        ]
        shown = []
        for image, start in fits:
            # The first move may be after a bounce: all velocities are tried.
            for first in [(a, b) for a in range(-2, 3) for b in range(-2, 3) if (a, b) != (0, 0)]:
                place, velocity, drawn = list(start), list(first), []
                for _ in video:
                    frame = np.full((20, 20), -1, np.float32)
                    frame[place[0] : place[0] + 8, place[1] : place[1] + 8] = image
                    drawn.append((frame, tuple(place)))
                    bounced(place, velocity, 12)
                if all(np.array_equal(a, b) for (a, _), b in zip(drawn, video, strict=True)):
                    shown.append(np.diff([place for _, place in drawn], axis=0))
        assert any(np.array_equal(found, moves) for found in shown)


def test_the_true_displacement_is_found_in_the_video(videos):
    found = fj.metrics.displacements(videos.video)
    np.testing.assert_allclose(found, videos.displacement, atol=1e-4)
    assert np.abs(np.asarray(found)[..., ::-1] - np.asarray(videos.displacement)).max() > 1


def test_images_are_float32_from_minus_one_to_one_and_labels_those_asked_for(videos):
    assert videos.video.shape == (400, 16, 20, 20)
    assert videos.video.dtype == jnp.float32
    assert (videos.video.min(), videos.video.max()) == (-1, 1)
    assert videos.label.dtype == videos.displacement.dtype == jnp.int32


def test_directions_are_all_alike(videos):
    # Of the first moves, which are those of v but for a bounce: none is favoured by its sign.
    first = np.asarray(videos.displacement[:, 0])
    assert np.all(np.abs(first) <= 2)
    error = first.std(axis=0) / np.sqrt(len(first))
    # Five standard errors: fails by chance once in a million runs.
    assert np.all(np.abs(first.mean(axis=0)) < 5 * error)
    assert np.any(first[:, 0] != first[:, 1]), "each axis has a velocity of its own"
    shares = np.bincount(np.asarray(videos.label), minlength=10) / 400
    assert np.all(np.abs(shares - 0.1) < 5 * np.sqrt(0.09 / 400) + 0.002)


def test_the_key_names_the_videos_inside_jit_too(key, videos, real):
    jitted = jax.jit(lambda key: moving_digits(key, 400, images=real))
    for one, other in zip(videos, jitted(key), strict=True):
        np.testing.assert_array_equal(one, other)
    others = jitted(jax.random.fold_in(key, 1))
    assert np.any(np.asarray(videos.video) != np.asarray(others.video))


def test_no_video_stands_still(videos):
    assert np.all(np.any(np.asarray(videos.displacement) != 0, axis=(1, 2)))


IMAGES = LabelledImages(jnp.zeros((2, 8, 8)), jnp.zeros(2, jnp.int32))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"size": 8}, ValueError, r"size must be above that of the images, \(8, 8\), got 8"),
        ({"frames": 0}, ValueError, "frames must be"),
        ({"speed": 1.5}, TypeError, "speed must be"),
        ({"images": jnp.zeros((2, 8, 8))}, TypeError, "images must be LabelledImages"),
        ({"images": IMAGES._replace(label=jnp.zeros(3, int))}, ValueError, "with labels"),
        ({"images": IMAGES._replace(label=jnp.zeros(2))}, TypeError, "must be integers"),
        ({"images": IMAGES._replace(image=jnp.zeros((2, 8, 8, 3)))}, ValueError, "shape"),
        ({"images": IMAGES._replace(image=np.zeros((2, 8, 8), np.uint8))}, TypeError, "image must"),
    ],
)
def test_bad_input_is_refused(options, error, words, unchecked):
    with pytest.raises(error, match=words):
        moving_digits(jax.random.key(0), 2, **{"images": IMAGES, **options})


def test_without_scikit_learn_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'flowjax-solvers\[examples\]'"):
        moving_digits(jax.random.key(0), 2)
