"""Boxes hold what is shown, and no window sees two of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gslrm.model.foreground_boxes import MOST_BOXES, REACH, cell_boxes, foreground_boxes
from tests.gslrm.model.by_path import islands


def test_no_window_sees_two_boxes_and_no_pixel_is_outside() -> None:
    generator = torch.Generator().manual_seed(0)
    for density in (0.0, 0.0005, 0.003, 0.02):
        foreground = torch.rand(3, 1, 170, 210, generator=generator) < density
        boxes = foreground_boxes(foreground)
        covered = torch.zeros_like(foreground, dtype=torch.int64)
        windows = torch.zeros_like(covered)
        for image, top, bottom, left, right in boxes:
            covered[image, 0, top:bottom, left:right] += 1
            windows[image, 0, max(top - REACH, 0) : bottom, max(left - REACH, 0) : right] += 1
        assert bool((covered[foreground] == 1).all())
        assert int(windows.max()) <= 1
    found = foreground_boxes(islands(2, 200, 200) > 0.5)
    # The pixel in the last corner is a box of its own.
    assert found == [
        (0, 0, 2, 0, 3),
        (0, 0, 3, 197, 200),
        (0, 100, 101, 100, 101),
        (0, 196, 200, 0, 2),
        (0, 199, 200, 199, 200),
    ]


@pytest.mark.parametrize("seed", range(4))
def test_of_more_groups_than_boxes_one_box_holds_all(seed: int) -> None:
    # Apart from each other, and the first that is met is neither the leftmost nor the rightmost.
    chosen = np.random.default_rng(seed).random((40, 40)) < 0.8
    occupied = np.zeros((80, 80), dtype=bool)
    occupied[10:70:2, 6:74:2] = chosen[:30, :34]
    occupied[10] = False
    occupied[10, 40] = True
    boxes = np.empty((MOST_BOXES, 4), dtype=np.int64)
    groups = int(occupied.sum())
    assert groups > 2 * MOST_BOXES
    count = cell_boxes(occupied, 1, 80, 80, boxes)
    assert 1 <= count < MOST_BOXES
    rows, columns = np.nonzero(occupied)
    found = boxes[:count]
    inside = [
        any(t <= row < b and left <= column < right for t, b, left, right in found)
        for row, column in zip(rows, columns, strict=True)
    ]
    assert all(inside)
    # No larger than what it holds.
    assert (found[:, 0].min(), found[:, 1].max()) == (rows.min(), rows.max() + 1)
    assert (found[:, 2].min(), found[:, 3].max()) == (columns.min(), columns.max() + 1)
