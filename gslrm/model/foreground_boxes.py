"""Boxes that hold a mask's foreground, so far apart that no SSIM window sees two of them.

A window that sees no foreground sees two equal constants and adds nothing to 1 − SSIM or to its gradient. Windows that
see a box see nothing outside it but background. So each box is a picture of its own, and leaving out the rest is exact.

Boxes are found by cells of some pixels: islands in cells that touch share a box, though no window may see both.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Tensor

from gslrm.model.gaussian_window import WINDOW_SIZE

REACH = WINDOW_SIZE - 1
"""How many pixels above and to the left of a box windows begin that still see it."""
MOST_BOXES = 256
"""Of an image; where there would be more, one box holds them all."""
_CELL = 32


def foreground_boxes(foreground: Bool[Tensor, "n 1 h w"]) -> list[tuple[int, int, int, int, int]]:
    """(image, top, bottom, left, right) of each box, ends exclusive, image by image. No box for an empty mask.

    For tensors on the CPU: it looks at their values.
    """
    n, _, height, width = foreground.shape
    rows, columns = -(-height // _CELL), -(-width // _CELL)
    pixels = foreground[:, 0].numpy()
    padded = np.zeros((n, rows * _CELL, columns * _CELL), dtype=bool)
    padded[:, :height, :width] = pixels
    occupied: NDArray[np.bool_] = padded.reshape(n, rows, _CELL, columns, _CELL).max(axis=2).max(axis=-1)
    found: list[tuple[int, int, int, int, int]] = []
    boxes = np.empty((MOST_BOXES, 4), dtype=np.int64)
    for image in range(n):
        if occupied[image].all():
            count, boxes[0] = 1, (0, height, 0, width)
        else:
            count = cell_boxes(occupied[image], _CELL, height, width, boxes)
        for box in boxes[:count]:
            _tighten(pixels[image], box)
        count = merge_boxes(boxes, count)
        for top, bottom, left, right in boxes[:count].tolist():
            found.append((image, top, bottom, left, right))
    return found


def _tighten(pixels: NDArray[np.bool_], box: NDArray[np.int64]) -> None:
    top, bottom, left, right = box
    inside = pixels[top:bottom, left:right]
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    box[:] = top + rows[0], top + rows[-1] + 1, left + columns[0], left + columns[-1] + 1


# The two below are plain loops over arrays, so that Numba can compile them as they are.


def cell_boxes(occupied: NDArray[np.bool_], cell: int, height: int, width: int, boxes: NDArray[np.int64]) -> int:
    """The bounding box of each 8-connected group of occupied cells into ``boxes``, in pixels; returns their number.

    Args:
        occupied: (rows, columns) of cells.
        cell: a cell's side in pixels; those at the right and at the bottom may stick out.
        height, width: of the image in pixels.
        boxes: (MOST_BOXES, 4) to write to: top, bottom, left, right, ends exclusive.
    """
    rows, columns = occupied.shape
    waiting = occupied.copy()
    stack = np.empty((rows * columns, 2), dtype=np.int64)
    count = 0
    for i in range(rows):
        for j in range(columns):
            if not waiting[i, j]:
                continue
            waiting[i, j] = False
            stack[0, 0], stack[0, 1] = i, j
            depth, top, bottom, left, right = 1, i, i, j, j
            while depth > 0:
                depth -= 1
                a, b = stack[depth, 0], stack[depth, 1]
                top, bottom, left, right = min(top, a), max(bottom, a), min(left, b), max(right, b)
                for y in range(max(a - 1, 0), min(a + 2, rows)):
                    for x in range(max(b - 1, 0), min(b + 2, columns)):
                        if waiting[y, x]:
                            waiting[y, x] = False
                            stack[depth, 0], stack[depth, 1] = y, x
                            depth += 1
            if count == MOST_BOXES:
                for other in range(1, MOST_BOXES):
                    boxes[0, 0], boxes[0, 1] = min(boxes[0, 0], boxes[other, 0]), max(boxes[0, 1], boxes[other, 1])
                    boxes[0, 2], boxes[0, 3] = min(boxes[0, 2], boxes[other, 2]), max(boxes[0, 3], boxes[other, 3])
                count = 1
            boxes[count, 0], boxes[count, 1] = top * cell, min((bottom + 1) * cell, height)
            boxes[count, 2], boxes[count, 3] = left * cell, min((right + 1) * cell, width)
            count += 1
    return count


def merge_boxes(boxes: NDArray[np.int64], count: int) -> int:
    """Join boxes that one window can see, until none is left; returns how many there are then."""
    i = 0
    while i < count:
        j = i + 1
        joined = False
        while j < count:
            if (
                boxes[i, 0] - REACH < boxes[j, 1]
                and boxes[j, 0] - REACH < boxes[i, 1]
                and boxes[i, 2] - REACH < boxes[j, 3]
                and boxes[j, 2] - REACH < boxes[i, 3]
            ):
                boxes[i, 0], boxes[i, 1] = min(boxes[i, 0], boxes[j, 0]), max(boxes[i, 1], boxes[j, 1])
                boxes[i, 2], boxes[i, 3] = min(boxes[i, 2], boxes[j, 2]), max(boxes[i, 3], boxes[j, 3])
                count -= 1
                for side in range(4):
                    boxes[j, side] = boxes[count, side]
                joined = True
            else:
                j += 1
        # What has grown may now reach boxes that it has passed, and those before it.
        i = 0 if joined else i + 1
    return count
