"""Whether samples are what was asked for: their labels, and how they move."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowjax import _check
from flowjax._numerics import computing_dtype
from flowjax.metrics.sets import refuse_not_finite


def label_accuracy(predicted: Any, asked: Any, samples: Any = None) -> Array:
    r"""The share of conditional samples that a classifier gives the label that was asked for.

    $$\frac1N \sum_{i=1}^N 1[c(x_i) = y_i]$$

    A classifier knows nothing of other than real data: train it on real data alone, print its
    accuracy on held-out real data beside this, and a distance too, since one good sample of each
    label, drawn N times, has an accuracy of one.

    Args:
        predicted: the classifier's labels, integers (N, ...); or a function ``samples -> labels``
            of all samples at once, such as the `predict` of scikit-learn.
        asked: the labels that were asked for, integers of the same shape; with more axes, such as
            one of frames, the mean is over these too.
        samples: what the function is given; none with labels.

    Returns:
        The share, a float32 scalar.

    Raises:
        TypeError: predicted or asked, or what the function returns, is not an array of integers.
        ValueError: their shapes differ, there are none, or samples are given without a function or
            a function without samples.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> asked = jnp.array([0, 1, 2, 2])
        >>> print(fj.metrics.label_accuracy(jnp.array([0, 1, 2, 0]), asked))
        0.75
        >>> print(fj.metrics.label_accuracy(lambda x: x.argmax(axis=1), asked, jnp.eye(4)))
        0.75

    References:
        Ravuri, Vinyals, "Classification accuracy score for conditional generative models", 2019,
        arXiv 1905.10887, which trains on samples instead.
    """
    if callable(predicted) == (samples is None):
        got = "none" if samples is None else type(samples).__name__
        raise ValueError(
            f"samples must be given with a function that predicts their labels, and only then, got "
            f"{got}."
        )
    name = "predicted"
    if callable(predicted):
        predicted, name = predicted(samples), "what predicted returns"
    predicted, asked = _labels(predicted, name), _labels(asked, "asked")
    if predicted.shape != asked.shape or asked.size == 0:
        raise ValueError(
            f"{name} must be labels of the shape of asked, at least one, got shapes "
            f"{predicted.shape} and {asked.shape}."
        )
    return jnp.mean(predicted == asked, dtype=jnp.float32)


def _labels(labels: Any, name: str) -> Array:
    if not isinstance(labels, (jax.Array, np.ndarray, list, tuple, np.generic)):
        raise TypeError(f"{name} must be an array of integer labels, got {labels!r}.")
    array = jnp.asarray(labels)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        advice = "; of scores take the argmax" if jnp.issubdtype(array.dtype, jnp.floating) else ""
        raise TypeError(f"{name} must be integer labels, got dtype {array.dtype}{advice}.")
    return array.astype(int)


def displacements(videos: Any, *, threshold: float = 0.0) -> Array:
    r"""How far the bright part of each frame of a video moves until the next.

    $$d_t = c_{t+1} - c_t, \qquad c_t = \frac{\sum_p p\,w_t(p)}{\sum_p w_t(p)}, \qquad
    w_t(p) = \max(v_t(p) - \tau, 0)$$

    where p are places of pixels and v their values. It is exact for a thing that keeps its form, as
    in `data.moving_digits`, and does not see a background below the threshold.

    Args:
        videos: floating, (..., T, H, W), of at least two frames.
        threshold: tau, the brightness from which a pixel counts.

    Returns:
        Displacements in pixels, down and to the right, of shape (..., T - 1, 2) and of videos'
        dtype, at least float32. NaN beside a frame without a pixel above the threshold.

    Raises:
        TypeError: videos is not real floating, or threshold is not a static number.
        ValueError: videos has fewer than three axes or than two frames, no pixels, or numbers that
            are not finite; values are looked at only where they are not traced.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> video = -jnp.ones((3, 8, 8))
        >>> video = video.at[0, 1:3, 2].set(1).at[1, 2:4, 4].set(1).at[2, 2:4, 3].set(1)
        >>> fj.metrics.displacements(video).tolist()
        [[1.0, 2.0], [0.0, -1.0]]

    References:
        Srivastava, Mansimov, Salakhutdinov, "Unsupervised learning of video representations using
        LSTMs", 2015, arXiv 1502.04681, section 3.1 (digits that move in a frame).
    """
    threshold = _check.static_number(threshold, "threshold")
    videos = _check.state(videos, "videos")
    if not isinstance(videos, jax.Array) or videos.ndim < 3 or videos.shape[-3] < 2:
        shape = getattr(videos, "shape", type(videos).__name__)
        raise ValueError(
            f"videos must be an array (..., T, H, W) of two frames or more, got {shape}."
        )
    _check.elements(videos, "videos")
    refuse_not_finite(videos, "videos")
    return _moves(videos, threshold)


@jax.jit
def _moves(videos: Array, threshold: Any) -> Array:
    dtype = computing_dtype(videos.dtype)
    light = jnp.maximum(videos.astype(dtype) - threshold, 0)
    height, width = (jnp.arange(size, dtype=dtype) for size in videos.shape[-2:])
    weight = jnp.sum(light, axis=(-2, -1))
    total = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    down = total(jnp.sum(light, axis=-1), height) / weight
    right = total(jnp.sum(light, axis=-2), width) / weight
    return jnp.diff(jnp.stack([down, right], axis=-1), axis=-2)
