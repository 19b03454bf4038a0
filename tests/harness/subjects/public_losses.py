"""Losses in the shapes that public code has, for the tests: written anew, each by its definition."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_C1, _C2 = 0.01**2, 0.03**2


def _gaussian(size: int, dtype: torch.dtype) -> Tensor:
    taps = torch.exp(-((torch.arange(size, dtype=torch.float32) - size // 2) ** 2) / 4.5)
    window = torch.outer(taps / taps.sum(), taps / taps.sum())
    return window.to(dtype).expand(3, 1, size, size).contiguous()


def _ssim_map(x: Tensor, y: Tensor, size: int = 11, padding: int = 5) -> Tensor:
    window = _gaussian(size, x.dtype)

    def mean(image: Tensor) -> Tensor:
        return F.conv2d(image, window, padding=padding, groups=3)

    a, b = mean(x), mean(y)
    s_a, s_b, s_ab = mean(x * x) - a * a, mean(y * y) - b * b, mean(x * y) - a * b
    return (2 * a * b + _C1) * (2 * s_ab + _C2) / ((a * a + b * b + _C1) * (s_a + s_b + _C2))


def zero_padded(x: Tensor, y: Tensor) -> Tensor:
    """As the code of 3D Gaussian Splatting has it: a similarity."""
    return _ssim_map(x, y).mean()


def splatting(x: Tensor, y: Tensor) -> Tensor:
    """Its loss: 0.8·L1 + 0.2·(1 − SSIM)."""
    return 0.8 * (x - y).abs().mean() + 0.2 * (1.0 - zero_padded(x, y))


def similarity_map(x: Tensor, y: Tensor, size: int, reduction: str = "mean") -> Tensor:
    """One value for each pixel, unless it is told to take the mean."""
    found = _ssim_map(x, y, size, size // 2)
    return found if reduction == "none" else found.mean()


def on_black(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Both images times the mask."""
    return 1.0 - _ssim_map(rendering * mask, target * mask, padding=0).mean()


def times_mask(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """1 − SSIM and |x − y| of the whole images, each times the mask, over all pixels."""
    return (0.2 * (1.0 - _ssim_map(rendering, target)) * mask + 0.8 * (rendering - target).abs() * mask).mean()


def shown_windows(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """1 − SSIM of the windows whose centre is shown, summed over the batch and divided by their number."""
    return ((1.0 - _ssim_map(rendering, target)) * mask).sum() / (3.0 * mask.sum()).clamp(min=1.0)


def shown_windows_by_image(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """The same, each image divided by its own."""
    sums = ((1.0 - _ssim_map(rendering, target)) * mask).sum((1, 2, 3))
    return (sums / (3.0 * mask.sum((1, 2, 3))).clamp(min=1.0)).mean()


def shown_l1(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """|x − y| where the mask shows it, summed over the batch and divided by the number of these pixels."""
    return ((rendering - target).abs() * mask).sum() / (3.0 * mask.sum()).clamp(min=1.0)


def shown_l1_by_image(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """The same, each image divided by its own."""
    sums = ((rendering - target).abs() * mask).sum((1, 2, 3))
    return (sums / (3.0 * mask.sum((1, 2, 3))).clamp(min=1.0)).mean()


def one_at_a_time(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Of one image, as of a loop over views that never makes a batch."""
    if len(mask) > 1:
        raise ValueError("one image, please")
    return shown_l1(rendering, target, mask)


class PooledHalf(nn.Module):
    """As self-supervised depth has it: 3×3 means of reflect-padded images, (1 − SSIM) / 2 clamped, pixel by pixel."""

    def forward(self, *images: Tensor) -> Tensor:
        x, y = (F.pad(image, (1, 1, 1, 1), mode="reflect") for image in images)

        def mean(image: Tensor) -> Tensor:
            return F.avg_pool2d(image, 3, 1)

        a, b = mean(x), mean(y)
        s_a, s_b, s_ab = mean(x * x) - a * a, mean(y * y) - b * b, mean(x * y) - a * b
        ssim = (2 * a * b + _C1) * (2 * s_ab + _C2) / ((a * a + b * b + _C1) * (s_a + s_b + _C2))
        return torch.clamp((1.0 - ssim) / 2.0, 0.0, 1.0)


class NeedsWindow:
    """Can't be constructed without an argument."""

    def __init__(self, window_size: int) -> None:
        self._size = window_size

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return (1.0 - _ssim_map(x, y, self._size, self._size // 2).mean()) / 2.0


def one_channel(x: Tensor, y: Tensor) -> Tensor:
    """What no definition is, and which forgets two channels."""
    return (x[:, :1] - y[:, :1]).abs().pow(1.5).mean()


def one_unheard_of(x: Tensor, y: Tensor) -> Tensor:
    """A loss of no family, and of no batch."""
    if len(x) > 1:
        raise RuntimeError("one image, please")
    return unheard_of(x, y)


def unheard_of(x: Tensor, y: Tensor) -> Tensor:
    """A loss of no family."""
    return ((x - y).abs() + 1e-3).pow(1.5).mean()


def only_float32(x: Tensor, y: Tensor) -> Tensor:
    """Refuses any other dtype."""
    if x.dtype != torch.float32:
        raise TypeError("float32 only")
    return 1.0 - _ssim_map(x, y, padding=0).mean()


def as_a_dict(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """What a trainer logs, and no loss."""
    return {"loss": (x - y).square().mean()}
