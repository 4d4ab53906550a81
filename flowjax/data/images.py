"""Images that come with a package one has anyway."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from flowjax._optional import optional


class LabelledImages(NamedTuple):
    """Images and their labels, along one leading axis; an element of it is one such pair."""

    image: Array
    label: Array


class Digits(NamedTuple):
    """The handwritten digits, apart in those to train on and those held out."""

    train: LabelledImages
    test: LabelledImages


def digits() -> Digits:
    r"""The 1797 handwritten digits of 8 x 8 pixels that are part of scikit-learn.

    $$\mathrm{image} = \mathrm{pixel} / 8 - 1, \qquad \mathrm{pixel} \in \{0, \dots, 16\}$$

    The split is the same on every machine and in every run, and has all classes in it alike: of
    each class, in the file's order, every fifth image is held out. The same people wrote the
    digits of both parts.

    Returns:
        ``Digits(train, test)`` with 1442 and 355 images, each part a record
        ``LabelledImages(image, label)``. The images are float32 in [-1, 1] of shape (N, 8, 8),
        background -1, and the labels int32 in 0..9 of shape (N,).

    Raises:
        ImportError: scikit-learn is not installed.

    Example:
        >>> import flowjax as fj
        >>> digits = fj.data.digits()
        >>> digits.train.image.shape, digits.test.label.shape
        ((1442, 8, 8), (355,))

    References:
        Alpaydin, Kaynak, "Optical recognition of handwritten digits", 1998, UCI Machine Learning
        Repository, doi 10.24432/C50P49.
    """
    raw = optional("sklearn.datasets", "flowjax.data.digits", "examples").load_digits()
    image = (raw.images / 8 - 1).astype(np.float32)
    label = raw.target.astype(np.int32)
    rank_in_class = np.zeros_like(label)
    for digit in range(10):
        is_digit = label == digit
        rank_in_class[is_digit] = np.arange(np.sum(is_digit))
    held_out = rank_in_class % 5 == 4

    def part(mask: np.ndarray) -> LabelledImages:
        return LabelledImages(jnp.asarray(image[mask]), jnp.asarray(label[mask]))

    return Digits(train=part(~held_out), test=part(held_out))
