"""The digits are scikit-learn's own, each of them once."""

import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from flowjax.data import digits


@pytest.fixture(scope="module")
def loaded():
    return digits()


def test_every_digit_is_in_one_part_with_its_own_label(loaded):
    raw = load_digits()
    truth = sorted((*pixels, label) for pixels, label in zip(raw.data, raw.target, strict=True))
    found = []
    for part in loaded:
        pixels = (np.asarray(part.image, float).reshape(-1, 64) + 1) * 8
        found += [(*row, label) for row, label in zip(pixels, part.label.tolist(), strict=True)]
    assert sorted(found) == truth


def test_images_are_float32_from_minus_one_to_one(loaded):
    for part in loaded:
        assert part.image.dtype == np.float32
        assert part.label.dtype == np.int32
        assert part.image.min() == -1
        assert part.image.max() == 1
        assert np.median(part.image[:, :, 0]) == -1, "the border is background"


def test_a_fifth_of_each_class_is_held_out(loaded):
    train, test = (np.bincount(np.asarray(part.label), minlength=10) for part in loaded)
    np.testing.assert_array_equal(test, (train + test) // 5)


def test_the_split_is_the_same_every_time(loaded):
    for part, again in zip(loaded, digits(), strict=True):
        np.testing.assert_array_equal(part.image, again.image)
        np.testing.assert_array_equal(part.label, again.label)


def test_without_scikit_learn_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'flowjax-solvers\[examples\]'"):
        digits()
