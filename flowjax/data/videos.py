"""Videos of digits that move."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from flowjax import _check
from flowjax.data.images import LabelledImages, digits


class LabelledVideos(NamedTuple):
    """Videos, their labels and how far their content moves, along one leading axis."""

    video: Array
    label: Array
    displacement: Array


def moving_digits(
    key: Array,
    num: int,
    *,
    images: LabelledImages | None = None,
    frames: int = 16,
    size: int = 20,
    speed: int = 2,
) -> LabelledVideos:
    r"""Videos of handwritten digits that move in a larger frame and bounce off its edges.

    $$p_t = r(p_0 + v t), \qquad r(q) = R - \big|(q \bmod 2R) - R\big|$$

    where p is the place of the digit's corner, down and to the right, between 0 and R, the size of
    the frame less that of the digit; the place of the start is uniform, and so is the velocity v
    among the pairs of whole numbers from -speed to speed but (0, 0). Moves are by whole pixels, so
    that every frame shows the digit as it is.

    It may be called inside `jit` if the images are given, and a function
    ``lambda key, i: moving_digits(key, 64, images=digits.train)`` is data for `training.fit`.

    Args:
        key: one JAX key; it names the digits and how they move.
        num: how many videos.
        images: the images that move, of shape (M, h, w), with labels; each video takes one at
            random. Default: those of `digits` to train on. For held-out videos hand over
            ``digits().test``.
        frames: T, how many frames.
        size: H and W, above the size of the images.
        speed: the greatest velocity, in pixels a frame.

    Returns:
        ``LabelledVideos(video, label, displacement)``, videos float32 (those of the digits in
        [-1, 1]) of shape (num, T, H, W), background -1; labels (num,) as in the images; the true
        displacement from each frame to the next, down and to the right, int32 of shape
        (num, T - 1, 2), which `metrics.displacements` finds in a video.

    Raises:
        TypeError: key is no key, an argument that is a number is not a static int, or images are
            not ``LabelledImages``, floating, with integer labels.
        ValueError: key is a batch of keys, a number is below one, images have another number of
            axes or labels than stated, or do not fit into the frame.
        ImportError: images are not given and scikit-learn is not installed.

    Example:
        >>> import jax
        >>> import flowjax as fj
        >>> videos = fj.data.moving_digits(jax.random.key(0), 5)
        >>> videos.video.shape, videos.label.shape, videos.displacement.shape
        ((5, 16, 20, 20), (5,), (5, 15, 2))

    References:
        Srivastava, Mansimov, Salakhutdinov, "Unsupervised learning of video representations using
        LSTMs", 2015, arXiv 1502.04681, section 3.1, with two digits of 28 x 28 pixels.
    """
    _check.single_key(key)
    num, frames = _check.positive_int(num, "num"), _check.positive_int(frames, "frames")
    size, speed = _check.positive_int(size, "size"), _check.positive_int(speed, "speed")
    images = digits().train if images is None else _checked(images)
    height, width = images.image.shape[1:]
    if size <= max(height, width):
        raise ValueError(f"size must be above that of the images, {(height, width)}, got {size}.")
    return _moved(key, images, num, frames, size, speed)


@partial(jax.jit, static_argnums=(2, 3, 4, 5))
def _moved(
    key: Array, images: LabelledImages, num: int, frames: int, size: int, speed: int
) -> LabelledVideos:
    which_key, place_key, velocity_key = jax.random.split(key, 3)
    which = jax.random.randint(which_key, (num,), 0, images.image.shape[0])
    height, width = images.image.shape[1:]
    room = size - jnp.array([height, width], jnp.int32)
    place = jax.random.randint(place_key, (num, 2), 0, room[None] + 1, jnp.int32)
    side = 2 * speed + 1
    pair = jax.random.randint(velocity_key, (num,), 0, side**2 - 1, jnp.int32)
    pair = jnp.where(pair < side**2 // 2, pair, pair + 1)  # (0, 0) is in the middle
    velocity = jnp.stack([pair // side, pair % side], axis=1) - speed

    times = jnp.arange(frames, dtype=jnp.int32)[None, :, None]
    straight = place[:, None] + times * velocity[:, None]
    room = room[None, None]
    places = room - jnp.abs(straight % (2 * room) - room)

    def frame(image: Array, place: Array) -> Array:
        empty = jnp.full((size, size), -1, jnp.float32)
        return jax.lax.dynamic_update_slice(empty, image, (place[0], place[1]))

    in_video = jax.vmap(jax.vmap(frame, in_axes=(None, 0)))
    video = in_video(images.image[which].astype(jnp.float32), places)
    return LabelledVideos(video, images.label[which], jnp.diff(places, axis=1))


def _checked(images: Any) -> LabelledImages:
    if not isinstance(images, LabelledImages):
        raise TypeError(
            f"images must be LabelledImages(image, label), such as fj.data.digits().train, got "
            f"{type(images).__name__}."
        )
    image, label = _check.state(images.image, "images.image"), jnp.asarray(images.label)
    if not jnp.issubdtype(label.dtype, jnp.integer):
        raise TypeError(f"images.label must be integers, got dtype {label.dtype}.")
    if image.ndim != 3 or label.shape != image.shape[:1] or image.size == 0:
        raise ValueError(
            f"images must be of shape (M, h, w), with labels (M,), got {image.shape} and "
            f"{label.shape}."
        )
    return LabelledImages(image, label)
