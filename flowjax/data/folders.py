"""Samples in files: a folder of images, or of arrays in npy or zarr files, read batch by batch."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowjax import _check
from flowjax.data import _files


@dataclasses.dataclass(frozen=True)
class Folder:
    """The samples of a folder, in the order of their files' names; `folder` makes it.

    Args:
        path: the folder, or the one file.
        files: the files that are read.
        skipped: the files that are not, for their names.
        counts: how many samples each file holds.
        shape: of one sample.
        stacked: whether an array file holds many samples.
    """

    path: Path
    files: tuple[Path, ...]
    skipped: tuple[Path, ...]
    counts: tuple[int, ...]
    shape: tuple[int, ...]
    stacked: bool

    def __len__(self) -> int:
        """How many samples there are."""
        return int(self._ends[-1])

    @functools.cached_property
    def _ends(self) -> np.ndarray:
        """How many samples there are up to each file and with it."""
        return np.cumsum(self.counts)

    def read(self, places: Any) -> np.ndarray:
        """The samples of these numbers, float32 (len(places), *shape).

        Raises:
            TypeError: places are not integers in one row.
            IndexError: a place is not from 0 to below the number of samples.
            ValueError: a file holds a number that is not finite, or is no longer what it was.
        """
        places = np.asarray(places)
        if places.dtype.kind not in "iu" or places.ndim != 1:
            raise TypeError(
                f"places must be integers of shape (n,), got {places.dtype} of shape "
                f"{places.shape}."
            )
        if places.size and not 0 <= places.min() <= places.max() < len(self):
            raise IndexError(f"places must be from 0 to {len(self) - 1}, got {places}.")
        of_file = np.searchsorted(self._ends, places, side="right")
        samples = np.empty((len(places), *self.shape), np.float32)
        for number in np.unique(of_file):
            (here,) = np.nonzero(of_file == number)
            rows = places[here] - (self._ends[number] - self.counts[number])
            file = self.files[number]
            values = _files.read(file, rows, self.stacked)
            if values.shape != (len(rows), *self.shape):
                raise ValueError(f"{file} must hold samples of shape {self.shape} as before.")
            samples[here] = _files.scaled(values, file)
        return samples

    def batch(self, key: Array, k: int, batch_size: int) -> Array:
        """Batch k of a key, float32 (batch_size, *shape): the one that `batches` gives k-th.

        Raises:
            TypeError: key is no key, or k or batch_size is not a static int.
            ValueError: key is a batch of keys, k is below zero, or batch_size is not from one to
                the number of samples.
        """
        return next(self.batches(key, batch_size, first=k))

    def batches(self, key: Array, batch_size: int, *, first: int = 0) -> Iterator[Array]:
        """Batches without end, for `training.fit`; each is a function of the key and its number.

        Each pass visits the samples in a new random order; a last batch that would not be full is
        left out. To go on from a state, begin with the batch ``first=int(state.step)``.

        Raises:
            TypeError: key is no key, or batch_size or first is not a static int.
            ValueError: key is a batch of keys, batch_size is not from one to the number of samples,
                or first is below zero.
        """
        _check.single_key(key)
        size = _check.positive_int(batch_size, "batch_size")
        _check.at_most(size, len(self), "batch_size", "the number of samples")
        if not _check.is_int(first):
            raise TypeError(f"the number of a batch must be a static int, got {first!r}.")
        if first < 0:
            raise ValueError(f"the number of a batch must be 0 or more, got {first}.")
        return self._batches(key, size, int(first))

    def _batches(self, key: Array, size: int, first: int) -> Iterator[Array]:
        in_pass = len(self) // size
        for number in itertools.count(first // in_pass):
            order = np.asarray(jax.random.permutation(jax.random.fold_in(key, number), len(self)))
            for k in range(max(first - number * in_pass, 0), in_pass):
                yield jnp.asarray(self.read(order[k * size : (k + 1) * size]))


def folder(path: Any, *, stacked: bool = True) -> Folder:
    r"""The samples in the files of a folder and its subfolders, read batch by batch.

    $$\mathrm{sample} = \mathrm{byte} / 127.5 - 1$$

    Images (png, jpg, jpeg, bmp, tif, tiff, webp) are one sample each, of shape (H, W), or (H,
    W, C) if they have colours. Arrays (npy, zarr) hold many samples along their leading axis. Bytes
    (uint8) become float32 in [-1, 1]; floating numbers become float32 and keep their values.

    Here each file is looked at but for its numbers: an image's size, an array's shape. These must
    agree, as nothing is cut, scaled or converted to grey. Numbers are read when a batch wants them,
    of npy and zarr files those rows alone, so that a folder may be larger than memory.

    Args:
        path: the path of the files' folder, or of one npy, zarr or image file.
        stacked: whether an npy or zarr file holds many samples along its leading axis; otherwise
            the whole array is one.

    Returns:
        A `Folder`, with ``len(data)``, ``data.shape``, ``data.read(places)``,
        ``data.batch(key, k, size)``, ``data.batches(key, size)`` for `training.fit`, and
        ``data.skipped``, the files with other names and what is hidden, which are not read.

    Raises:
        TypeError: path is no path, or a file holds numbers that are neither bytes nor floating, or
            colours other than grey, RGB or RGBA.
        ValueError: there is no file to read, a file cannot be read, or samples differ in shape or
            in kind (bytes and floating numbers); the file is named.
        NotADirectoryError: there is no such folder or file.
        ImportError: what reads a file is not installed: Pillow for images, zarr.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import flowjax as fj
        >>> np.save("first.npy", np.zeros((60, 4, 4), np.uint8))
        >>> np.save("second.npy", np.ones((40, 4, 4), np.uint8))
        >>> data = fj.data.folder(".")
        >>> len(data), data.shape, data.batch(jax.random.key(0), 0, 8).shape
        (100, (4, 4), (8, 4, 4))

    References:
        Kern, "A simple file format for NumPy arrays", 2007, NumPy enhancement proposal 1; for zarr
        the zarr-specs, versions 2 and 3.
    """
    try:
        path = Path(path)
    except TypeError as error:
        raise TypeError(f"path must be that of a folder, got {path!r}.") from error
    one = _files.is_one(path)
    if not one and not path.is_dir():
        raise NotADirectoryError(
            f"path must be that of a folder, or of one npy, zarr or image file, got {str(path)!r}."
        )
    files, skipped = ([path], []) if one else _files.listed(path)
    if not files:
        raise ValueError(
            f"path must be a folder of images, npy or zarr files, got {str(path)!r} with "
            f"{len(skipped)} other files."
        )
    counts, agreed = [], None
    for file in files:
        shape, dtype = _files.looked_at(file)
        is_array = _files.suffix(file) in _files.ARRAYS
        if is_array and stacked and not shape:
            raise ValueError(f"{file} must have a leading axis of samples, got one number.")
        count, shape = (shape[0], shape[1:]) if is_array and stacked else (1, shape)
        if agreed is None:
            agreed = shape, dtype.kind, file
        if (shape, dtype.kind) != agreed[:2]:
            advice = ""
            if not is_array:
                advice = "; make images alike first, by Pillow's image.resize"
                if shape[:2] == agreed[0][:2]:
                    advice = '; convert images first, by Pillow\'s image.convert("RGB")'
            raise ValueError(
                f"{file} must hold samples like those of {agreed[2].name}, {agreed[0]} of kind "
                f"{agreed[1]!r}, got {shape} of kind {dtype.kind!r}{advice}."
            )
        if 0 in shape:
            raise ValueError(f"{file} must hold samples with numbers, got shape {shape}.")
        counts.append(count)
    if sum(counts) == 0:
        raise ValueError(f"{files[0]} must hold at least one sample, got none.")
    assert agreed is not None
    return Folder(path, tuple(files), tuple(skipped), tuple(counts), agreed[0], stacked)
