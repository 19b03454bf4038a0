"""Which boxes masks are cropped to: where they touch, lie near, are more than a picture's boxes may be."""

from __future__ import annotations

from itertools import permutations

import torch
from jaxtyping import Bool
from torch import Tensor

from gslrm.model.foreground_boxes import foreground_boxes

# Of the first 1,500, five in which every mutant of the module shows that shows in any, and in no other mask here.
_TELLING = (220, 352, 760, 1018, 1384)


def boxes() -> list[int]:
    """What is cropped to: image, top, bottom, left and right of each box; no side is a multiple of a cell's."""
    masks = torch.zeros(7, 1, 170, 190, dtype=torch.bool)
    masks[0] = True
    masks[1, 0, [20, 40, 169], [20, 40, 189]] = True  # two in cells that touch, and one far off
    # An island within the box of another, whose cells are met on the way down, to the right and up again.
    masks[2, 0, 3:80, 3:12], masks[2, 0, 70:80, 3:150], masks[2, 0, 3:80, 140:150] = True, True, True
    masks[2, 0, 5:9, 70:75] = True
    masks[3, 0, [5, 45, 100], [45, 5, 130]] = True  # to the left below, and apart
    masks[4, 0, 31:33, 31:33] = True  # where four cells meet
    masks[5, 0, [5, 50, 5], [5, 48, 90]] = True  # down to the right, and up again
    masks[5, 0, 150, [5, 60]] = True  # side by side
    masks[6, 0, [5, 45], [90, 5]] = True  # with a column of cells between them
    many = torch.zeros(2, 1, 1100, 1090, dtype=torch.bool)
    many[1, 0, 7::64, 73::64] = True  # more islands than boxes
    many[1, 0, 7:1050, 9] = True  # the first of them, to the left of all, and further down than most
    all_of_them = (masks, many, _far_reaching(), *(_strokes(seed) for seed in _TELLING))
    return [number for mask in all_of_them for box in foreground_boxes(mask) for number in box]


def _far_reaching() -> Bool[Tensor, "6 1 1500 1500"]:
    """More islands than boxes, of which one reaches furthest to the left, one to the right and one down: the first
    three that are found, in every order, and the last that one box has to hold, by turns to either side.
    """
    masks = torch.zeros(6, 1, 1500, 1500, dtype=torch.bool)
    for image, order in enumerate(permutations(((5, 1), (1480, 1), (70, 1490)))):
        for top, (left, rows) in zip((7, 71, 135), order, strict=True):
            masks[image, 0, top : top + rows, left] = True
        masks[image, 0, 199:960:64, 137:1420:64] = True
        masks[image, 0, 967:970, 1 if image % 2 else 1494] = True
        masks[image, 0, 1031:1300:64, 521:900:64] = True
    return masks


def _strokes(seed: int) -> Bool[Tensor, "1 1 h w"]:
    """Lines, angles and dots, whose boxes hold, cross and pass one another; the same of a seed on every machine."""
    height, width = ((200, 220), (420, 400), (300, 130))[seed % 3]
    mask = torch.zeros(1, 1, height, width, dtype=torch.bool)
    number = seed + 1

    def below(limit: int) -> int:
        nonlocal number
        number = number * 16807 % (2**31 - 1)
        return number % limit

    for _ in range(4 + below(6)):
        top, left = below(height - 5), below(width - 5)
        bottom, right = min(height, top + 1 + below(260)), min(width, left + 1 + below(260))
        kind = below(6)
        if kind in (0, 1, 2):
            mask[0, 0, top:bottom, left] = True
        if kind in (0, 3):
            mask[0, 0, bottom - 1, left:right] = True
        if kind in (1, 4):
            mask[0, 0, top, left:right] = True
        if kind == 2:
            mask[0, 0, top:bottom, right - 1] = True
        if kind == 5:
            mask[0, 0, top : top + 1 + below(5), left : left + 1 + below(5)] = True
    return mask
