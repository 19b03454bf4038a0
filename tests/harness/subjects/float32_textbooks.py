"""1 − SSIM of whole images by the textbook, in the dtype that they come in: in float32 it rounds, and no worse."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

_C1, _C2 = 0.01**2, 0.03**2


def _ssim(x: Tensor, y: Tensor, mean: Callable[[Tensor], Tensor]) -> Tensor:
    """The map, of the means over windows, in the wider of the two dtypes."""
    wider = torch.promote_types(x.dtype, y.dtype)
    x, y = x.to(wider), y.to(wider)
    a, b, xx, yy, xy = (mean(image) for image in (x, y, x * x, y * y, x * y))
    structure = (2 * (xy - a * b) + _C2) / (xx - a * a + yy - b * b + _C2)
    return (2 * a * b + _C1) / (a * a + b * b + _C1) * structure


def _gaussian_mean(image: Tensor) -> Tensor:
    taps = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / 4.5)
    taps = taps / taps.sum()
    channels = image.shape[1]
    return F.conv2d(image, torch.outer(taps, taps).to(image).expand(channels, 1, 11, 11), groups=channels)


def gaussian(x: Tensor, y: Tensor) -> Tensor:
    """A dense Gaussian window."""
    return 1.0 - _ssim(x, y, _gaussian_mean).mean()


def _tap_by_tap(image: Tensor) -> Tensor:
    taps = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / 4.5)
    weights = torch.outer(taps, taps) / taps.sum() ** 2
    height, width = (side - 10 for side in image.shape[2:])
    total = torch.zeros_like(image[..., :height, :width])
    for row in range(11):
        for column in range(11):
            total = total + weights[row, column].to(image) * image[..., row : row + height, column : column + width]
    return total


def tap_by_tap(x: Tensor, y: Tensor) -> Tensor:
    """A dense Gaussian window, whose 121 terms are added one after the other, as a plain kernel does."""
    return 1.0 - _ssim(x, y, _tap_by_tap).mean()


def zero_padded(x: Tensor, y: Tensor) -> Tensor:
    """The same, with zeros around the images."""
    return 1.0 - _ssim(F.pad(x, (5,) * 4), F.pad(y, (5,) * 4), _gaussian_mean).mean()


def uniform(x: Tensor, y: Tensor) -> Tensor:
    """A window of 7×7 alike pixels."""
    return 1.0 - _ssim(x, y, lambda image: F.avg_pool2d(image, 7, 1)).mean()


def wide(x: Tensor, y: Tensor) -> Tensor:
    """One of 11×11: of longer sums, which round more."""
    return 1.0 - _ssim(x, y, lambda image: F.avg_pool2d(image, 11, 1)).mean()


def pooled(x: Tensor, y: Tensor) -> Tensor:
    """Half of it, 3×3 pixels pooled, reflected at the edges, each window's value clamped to [0, 1]."""
    x, y = (F.pad(image, (1,) * 4, mode="reflect") for image in (x, y))
    return ((1.0 - _ssim(x, y, lambda image: F.avg_pool2d(image, 3, 1))) / 2).clamp(0.0, 1.0).mean()


def clamped(x: Tensor, y: Tensor) -> Tensor:
    """A dense Gaussian window, whose variances are held at 0 and more, and whose covariance isn't."""
    wider = torch.promote_types(x.dtype, y.dtype)
    x, y = x.to(wider), y.to(wider)
    a, b, xx, yy, xy = (_gaussian_mean(image) for image in (x, y, x * x, y * y, x * y))
    variances = (xx - a * a).clamp(min=0.0) + (yy - b * b).clamp(min=0.0)
    structure = (2 * (xy - a * b) + _C2) / (variances + _C2)
    return 1.0 - ((2 * a * b + _C1) / (a * a + b * b + _C1) * structure).mean()
