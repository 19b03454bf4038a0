"""Foreground masks from their descriptors, in integer arithmetic."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.cases.descriptors import Mask, MaskKind
from harness.cases.random_numbers import RandomNumbers


def draw_mask(mask: Mask, height: int, width: int, numbers: RandomNumbers) -> NDArray[np.bool_]:
    """A (height, width) mask, true in the foreground; at least one pixel for every kind but ``empty``."""
    foreground = np.zeros((height, width), dtype=bool)
    pixels = max(1, min(mask.pixels, height * width))
    row, column = numbers.below(height), numbers.below(width)
    if mask.kind is MaskKind.FULL:
        foreground[:] = True
    elif mask.kind is MaskKind.PIXEL:
        foreground[row, column] = True
    elif mask.kind is MaskKind.LINE:
        step_row, step_column = ((0, 1), (1, 0), (1, 1))[numbers.below(3)]
        for k in range(pixels):
            foreground[(row + k * step_row) % height, (column + k * step_column) % width] = True
    elif mask.kind is MaskKind.DISC:
        _nearest(foreground, row, column, pixels)
    elif mask.kind is MaskKind.BORDER:
        _nearest(foreground, *((0, column), (row, width - 1), (height - 1, width - 1))[numbers.below(3)], pixels)
    elif mask.kind is MaskKind.BLOB:
        _grow(foreground, row, column, pixels, numbers)
    elif mask.kind is MaskKind.ISLANDS:
        for _ in range(pixels):
            foreground[numbers.below(height), numbers.below(width)] = True
    elif mask.kind is not MaskKind.EMPTY:
        raise ValueError(f"a mask of kind {mask.kind.value!r} comes with its picture and can't be drawn.")
    return foreground


def _nearest(foreground: NDArray[np.bool_], row: int, column: int, pixels: int) -> None:
    height, width = foreground.shape
    rows, columns = np.mgrid[0:height, 0:width]
    distance = (rows - row) ** 2 + (columns - column) ** 2
    foreground.flat[np.argsort(distance, axis=None, kind="stable")[:pixels]] = True


def _grow(foreground: NDArray[np.bool_], row: int, column: int, pixels: int, numbers: RandomNumbers) -> None:
    height, width = foreground.shape
    foreground[row, column] = True
    rim = [(row, column)]
    for _ in range(pixels - 1):
        while rim:
            row, column = rim[numbers.below(len(rim))]
            free = [
                (r, c)
                for r, c in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1))
                if 0 <= r < height and 0 <= c < width and not foreground[r, c]
            ]
            if free:
                grown = free[numbers.below(len(free))]
                foreground[grown] = True
                rim.append(grown)
                break
            rim.remove((row, column))
