"""The pictures of foregrounds in pieces are what they are recorded for, and their loss is the public package's."""

from __future__ import annotations

import pytest
from pytorch_msssim import ssim

from gslrm.model.foreground_boxes import MOST_BOXES, foreground_boxes
from gslrm.model.utils_losses import MaskedSsimLoss
from gslrm.testing.recorded_values import islands_pictures


def test_islands_are_joined_where_a_window_sees_both() -> None:
    boxes = [box[1:] for box in foreground_boxes(islands_pictures("islands")[2])]
    joined = [(10, 223, 10, 226), (289, 501, 289, 501)]
    alone = [(2, 6, 560, 565), (560, 566, 30, 120), (599, 600, 619, 620), (278, 279, 300, 301)]
    assert sorted(boxes) == sorted(joined + alone)


def test_there_are_more_dots_than_boxes_kept_apart() -> None:
    mask = islands_pictures("dots")[2]
    assert int(mask.sum()) > MOST_BOXES
    assert len(foreground_boxes(mask)) < 40


def test_the_loss_is_the_public_package_s() -> None:
    rendering, target, mask = islands_pictures("islands")
    x, y = (image.where(mask, 0.5) for image in (rendering, target))
    loss = float(MaskedSsimLoss(path="torch")(rendering, target, mask))
    # Its window's taps are float32 whatever the images are.
    assert loss == pytest.approx(1 - float(ssim(x, y, data_range=1.0)), abs=2e-7)
