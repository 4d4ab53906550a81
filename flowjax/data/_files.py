"""What is in one file: an image, or an array in npy or zarr form."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from flowjax._optional import optional

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
ARRAYS = {".npy", ".zarr"}

# Pillow's names of those whose channels are bytes.
_CHANNELS = {"L": (), "RGB": (3,), "RGBA": (4,)}


def listed(path: Path) -> tuple[list[Path], list[Path]]:
    """The files that can be read, by their names, and those that cannot; a zarr is a folder.

    What is hidden cannot, nor what is in a hidden folder, such as previews and checkpoints.
    """
    files, skipped = [], []
    for where, folders, names in os.walk(path):
        whole = [name for name in folders if name.startswith(".") or suffix(name) == ".zarr"]
        folders[:] = [name for name in folders if name not in whole]
        for name in (*whole, *names):
            known = suffix(name) in IMAGES | ARRAYS and not name.startswith(".")
            (files if known else skipped).append(Path(where) / name)
    return sorted(files), sorted(skipped)


def suffix(path: str | Path) -> str:
    return Path(path).suffix.lower()


def is_one(path: Path) -> bool:
    """Whether a path is that of one file to read, which a zarr array is though it is a folder."""
    if path.is_dir():
        return suffix(path) == ".zarr"
    return path.is_file() and suffix(path) in IMAGES | ARRAYS


def looked_at(file: Path) -> tuple[tuple[int, ...], np.dtype]:
    """The shape and dtype of a file, without its numbers."""
    if suffix(file) in IMAGES:
        with _image(file) as image:
            return (image.height, image.width, *_CHANNELS[image.mode]), np.dtype(np.uint8)
    array = _array(file)
    dtype = np.dtype(array.dtype)
    if dtype != np.uint8 and dtype.kind != "f":
        raise TypeError(f"{file} must hold bytes (uint8) or floating numbers, got dtype {dtype}.")
    return tuple(array.shape), dtype


def read(file: Path, rows: np.ndarray, stacked: bool) -> np.ndarray:
    """These samples of a file, as they are."""
    if suffix(file) in IMAGES:
        with _image(file) as image:
            try:
                return np.asarray(image)[None]
            except OSError as error:
                raise ValueError(f"{file} cannot be read as an image: {error}.") from error
    array = _array(file)
    if not stacked:
        return np.asarray(array[...])[None]
    if suffix(file) == ".zarr":
        return np.asarray(array.oindex[rows])
    return np.asarray(array[rows])


def scaled(values: np.ndarray, file: Path) -> np.ndarray:
    """Bytes in [-1, 1], and floating numbers as they are, refused unless they are finite."""
    if values.dtype == np.uint8:
        return values.astype(np.float32) / np.float32(127.5) - 1
    values = values.astype(np.float32)
    if not np.all(np.isfinite(values)):
        bad = int(np.sum(~np.isfinite(values)))
        raise ValueError(f"{file} must hold finite float32 numbers, got {bad} that are not.")
    return values


def _array(file: Path) -> Any:
    """The array of a file, of which nothing is read yet."""
    if suffix(file) == ".npy":
        try:
            return np.load(file, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise ValueError(f"{file} cannot be read as an npy file: {error}.") from error
    zarr = optional("zarr", str(file), "files")
    try:
        return zarr.open_array(str(file), mode="r")
    except Exception as error:  # of many kinds, which differ from version to version
        raise ValueError(f"{file} cannot be read as a zarr array: {error}.") from error


def _image(file: Path) -> Any:
    pillow = optional("PIL.Image", str(file), "files")
    try:
        image = pillow.open(file)
    except (OSError, pillow.DecompressionBombError) as error:
        raise ValueError(f"{file} cannot be read as an image: {error}.") from error
    if image.mode not in _CHANNELS or getattr(image, "n_frames", 1) != 1:
        frames, mode = getattr(image, "n_frames", 1), image.mode
        advice = "save each as a file of its own"
        if frames == 1:
            advice = 'convert it first, by Pillow\'s image.convert("RGB") or image.convert("L")'
        image.close()
        raise TypeError(
            f"{file} must be one image in grey, RGB or RGBA, of 8 bits a channel, got {frames} "
            f"in Pillow's mode {mode!r}: {advice}."
        )
    return image
