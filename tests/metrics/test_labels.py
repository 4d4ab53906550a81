"""Accuracies are counted by hand, and things that move are seen to move as far as they did."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowjax.metrics import displacements, label_accuracy, marginal_wasserstein

X = np.arange(6.0, dtype=np.float32).reshape(3, 2)


def test_the_accuracy_is_the_share_of_equal_labels():
    assert label_accuracy(np.array([3, 1, 2, 2]), jnp.array([3, 1, 0, 2])) == 0.75
    assert label_accuracy([0, 1], [1, 0]) == 0
    frames = np.array([[1, 1, 2], [0, 0, 0]])
    asked = np.array([[1, 1, 1], [0, 0, 0]])
    assert float(label_accuracy(frames, asked)) == pytest.approx(5 / 6)


def test_labels_of_other_dtypes_are_compared_by_value():
    assert label_accuracy(np.array([255, 1], np.uint8), np.array([-1, 1], np.int8)) == 0.5


def test_a_classifier_sees_the_samples():
    samples = np.random.default_rng().normal(size=(20, 3))
    labels = samples.argmax(axis=1)
    assert label_accuracy(lambda x: np.argmax(x, axis=1), labels, samples) == 1
    assert label_accuracy(lambda x: np.argmax(x, axis=1), (labels + 1) % 3, samples) == 0


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (([0.0, 1.0], [0, 1]), TypeError, "predicted must be integer labels.*take the argmax"),
        (([0, 1], [True, False]), TypeError, "asked must be integer labels, got dtype bool"),
        ((None, [0, 1]), TypeError, "predicted must be an array of integer labels"),
        (([0, 1], [0, 1, 2]), ValueError, r"shapes \(2,\) and \(3,\)"),
        (
            (np.zeros((0,), int), np.zeros((0,), int)),
            ValueError,
            "at least one",
        ),
        (([0], [0], [0]), ValueError, "samples must be given with a function"),
        ((np.argmax, [0]), ValueError, "samples must be given with a function.*got none"),
        ((lambda x: x, [0], np.ones(1)), TypeError, "what predicted returns must be integer"),
    ],
)
def test_bad_labels_are_refused(arguments, error, words, unchecked):
    with pytest.raises(error, match=words):
        label_accuracy(*arguments)


def test_a_thing_that_moves_is_seen_to_move_so_far(dtype):
    rng = np.random.default_rng()
    thing, places = rng.random((4, 3)), rng.integers(0, 8, (6, 2))
    videos = np.full((2, 6, 12, 12), -1.0)
    for t, (row, column) in enumerate(places):
        videos[:, t, row : row + 4, column : column + 3] = thing
    found = displacements(jnp.asarray(videos, dtype))
    assert found.dtype == dtype
    tolerance = 1e-12 if dtype == np.float64 else 1e-4
    np.testing.assert_allclose(found[0], np.diff(places, axis=0), atol=tolerance)
    np.testing.assert_allclose(found[0], found[1], atol=tolerance)
    # Down comes first: the other order is another one.
    assert np.abs(np.asarray(found[0]) - np.diff(places, axis=0)[:, ::-1]).max() > 0.5
    darker = displacements(jnp.asarray(videos - 2, dtype), threshold=-2.0)
    np.testing.assert_allclose(darker, found, atol=tolerance)


def test_a_frame_without_light_has_no_place():
    video = np.full((3, 4, 4), -1, np.float32)
    video[0, 1, 1] = 1
    assert np.all(np.isnan(displacements(video)))


@pytest.mark.parametrize(
    ("videos", "error", "words"),
    [
        (np.zeros((1, 4, 4), np.float32), ValueError, "two frames or more"),
        (np.zeros((4, 4), np.float32), ValueError, r"got \(4, 4\)"),
        (np.zeros((2, 4, 4), np.uint8), TypeError, "videos must be a real floating array"),
        (np.full((2, 4, 4), np.inf, np.float32), ValueError, "videos must be finite"),
        (np.zeros((2, 0, 4), np.float32), ValueError, "at least one number"),
        ({"a": np.zeros((2, 4, 4), np.float32)}, ValueError, "videos must be an array"),
    ],
)
def test_bad_videos_are_refused(videos, error, words):
    with pytest.raises(error, match=words):
        displacements(videos)


def test_places_and_costs_are_summed_in_full_precision():
    # On accelerators a product of float32 arrays is else one of 8 or 11 bits.
    for metric, shape in ((displacements, (2, 8, 8)), (partial(marginal_wasserstein, X), (4, 2))):
        program = str(jax.make_jaxpr(metric)(jnp.zeros(shape)))
        products = program.count("dot_general[")
        assert products > 0
        assert program.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") == products
