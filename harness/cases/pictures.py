"""Pictures from their descriptors: float64 arrays (h, w, 3) in [0, 1], by +, −, ×, ÷ alone, so the same everywhere."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from harness.cases.descriptors import Picture, PictureKind
from harness.cases.image_folder import ImageFolder
from harness.cases.random_numbers import RandomNumbers
from harness.errors import UsageError

# Photographs in scikit-image's wheel itself (others of its pictures are fetched on first use).
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "camera.png")


def draw_picture(
    picture: Picture, height: int, width: int, numbers: RandomNumbers, folder: ImageFolder | None
) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
    """The picture, and the mask that comes with it if it is one of the user's own."""
    if picture.kind is PictureKind.FLAT:
        return np.full((height, width, 3), picture.level / 255.0), None
    if picture.kind is PictureKind.SMOOTH:
        return _smooth(height, width, numbers), None
    if picture.kind is PictureKind.TEXTURE:
        return 0.5 * _smooth(height, width, numbers) + 0.5 * numbers.uniform(height, width, 3), None
    if picture.kind is PictureKind.PHOTO:
        return _region(load_photograph(picture.name), height, width, numbers), None
    if folder is None:
        raise UsageError(f"the case uses the picture {picture.name!r}: name its folder with --images.")
    pixels, mask = folder.load(picture.name)
    return area_mean(pixels, height, width) / 255.0, area_mean(mask[..., None] * 1.0, height, width)[..., 0] > 0.5


@functools.lru_cache(maxsize=8)
def load_photograph(name: str) -> NDArray[np.uint8]:
    """One of :data:`PHOTOGRAPHS` as (h, w, 3) bytes."""
    import skimage.data
    from skimage.io import imread

    if name not in PHOTOGRAPHS:
        raise UsageError(f"there is no photograph {name!r}; known are {', '.join(PHOTOGRAPHS)}.")
    path = f"{skimage.data.__path__[0]}/{name}"
    pixels = np.asarray(imread(path), dtype=np.uint8)
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels[..., :3]


def area_mean(pixels: NDArray[np.generic], height: int, width: int) -> NDArray[np.float64]:
    """Resize (H, W, c) by averaging the pixels of each cell; a cell holds at least one."""
    rows = [(i * pixels.shape[0]) // height for i in range(height)]
    columns = [(j * pixels.shape[1]) // width for j in range(width)]
    if height > pixels.shape[0] or width > pixels.shape[1]:
        return pixels[np.ix_(rows, columns)].astype(np.float64)
    # Summed as float64 without a copy of the whole as float64.
    sums = np.add.reduceat(np.add.reduceat(pixels, rows, axis=0, dtype=np.float64), columns, axis=1)
    counts = np.diff([*rows, pixels.shape[0]])[:, None] * np.diff([*columns, pixels.shape[1]])[None, :]
    return np.asarray(sums / counts[..., None])


def _smooth(height: int, width: int, numbers: RandomNumbers) -> NDArray[np.float64]:
    grid = numbers.uniform(3, 3, 3)
    for axis, side in ((0, height), (1, width)):
        position = 2.0 * np.arange(side) / max(1, side - 1)
        low = np.minimum(position.astype(np.int64), 1)
        share = (position - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        grid = np.take(grid, low, axis) * (1.0 - share) + np.take(grid, low + 1, axis) * share
    return grid


def _region(pixels: NDArray[np.uint8], height: int, width: int, numbers: RandomNumbers) -> NDArray[np.float64]:
    """A region of the photograph, at one of three zooms, averaged down to the size asked for."""
    zoom = (1, 2, 4)[numbers.below(3)]
    tall, wide = min(zoom * height, pixels.shape[0]), min(zoom * width, pixels.shape[1])
    top, left = numbers.below(pixels.shape[0] - tall + 1), numbers.below(pixels.shape[1] - wide + 1)
    return area_mean(pixels[top : top + tall, left : left + wide], height, width) / 255.0
