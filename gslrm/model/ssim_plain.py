"""1 − SSIM and its gradients by torch's own operations, on any device, with what only background sees left out.

On the CPU the pictures are cropped to the boxes that hold the mask's foreground, which is exact
(:mod:`gslrm.model.foreground_boxes`). On a GPU they are not: to find the boxes is to wait for it.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gslrm.model.foreground_boxes import REACH, foreground_boxes
from gslrm.model.ssim_difference import CHUNK_PIXELS, SsimConstants, planes_loss


def plain_ssim_loss(
    x: Float[Tensor, "n c h w"],
    y: Float[Tensor, "n c h w"],
    foreground: Bool[Tensor, "n 1 h w"] | None,
    constants: SsimConstants,
    *,
    wants_x: bool,
    wants_y: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The mean over windows, channels and images of 1 − SSIM, in [0, 2], and its gradients by x and y where wanted.

    Args:
        x, y: float32 or float64, both.
        foreground: what counts; elsewhere both images are half of ``constants.offset``. ``None``: everything.
    """
    x, y = x.detach(), y.detach()
    n, c, h, w = x.shape
    weight = 1.0 / (n * c * (h - REACH) * (w - REACH))
    by_x = torch.zeros_like(x) if wants_x else None
    by_y = torch.zeros_like(y) if wants_y else None
    sums = []
    for images, channels, rows, columns in _crops(foreground, n, c, h, w):
        part = (images, channels, rows, columns)
        shown = None if foreground is None else foreground[images, :, rows, columns]
        difference, total = x[part] - y[part], x[part] + y[part] - constants.offset
        if shown is not None:
            difference, total = difference.where(shown, 0.0), total.where(shown, 0.0)
        planes = difference.flatten(0, 1), total.flatten(0, 1)
        value, *found = planes_loss(*planes, constants, weight, wants_x, wants_y)
        sums.append(value)
        for gradient, of_part in zip((by_x, by_y), found, strict=True):
            if gradient is not None and of_part is not None:
                of_part = of_part.view_as(difference)
                # Bands of windows share pixels.
                gradient[part].add_(of_part if shown is None else of_part.where(shown, 0.0))
    # The upper end is reached only through rounding, where C1 and C2 vanish beside the images' values.
    value = torch.stack(sums).sum().clamp(max=2.0) if sums else x.new_zeros(())
    return value, by_x, by_y


def _crops(foreground: Tensor | None, n: int, c: int, h: int, w: int) -> list[tuple[slice, slice, slice, slice]]:
    """Images, channels, rows and columns of what is worked on at once: whole windows, everything that counts once."""
    boxes = [(image, 0, h, 0, w) for image in range(n)]
    if foreground is not None and foreground.device.type == "cpu":
        # The same box in image after image is one crop.
        boxes = sorted(foreground_boxes(foreground), key=lambda box: (box[1:], box[0]))
    crops: list[tuple[slice, slice, slice, slice]] = []
    for image, top, bottom, left, right in boxes:
        # The windows that see the box, and all their pixels.
        rows = slice(max(top - REACH, 0), min(bottom, h - REACH) + REACH)
        columns = slice(max(left - REACH, 0), min(right, w - REACH) + REACH)
        room = CHUNK_PIXELS // ((rows.stop - rows.start) * (columns.stop - columns.start))
        images, _, *before = crops[-1] if crops else (slice(0, 0), None, None, None)
        if before == [rows, columns] and images.stop == image and c * (image + 1 - images.start) <= room:
            crops[-1] = (slice(images.start, image + 1), slice(c), rows, columns)
            continue
        # The channels of a large image are worked on one after the other, and of a larger one bands of its windows.
        at_once = c if c <= room else max(1, room)
        windows = rows.stop - rows.start - REACH
        band = windows if room else max(REACH, CHUNK_PIXELS // (columns.stop - columns.start) - REACH)
        for first in range(0, c, at_once):
            for start in range(rows.start, rows.start + windows, band):
                of_band = slice(start, min(start + band, rows.start + windows) + REACH)
                crops.append((slice(image, image + 1), slice(first, first + at_once), of_band, columns))
    return crops
