"""Float64 truths of the losses that have been tried besides 1 − SSIM, each by its textbook definition."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from harness.cases.loss_inputs import MaskedPair
from harness.oracle.masked_ssim import gaussian_window, holds_images_alone, masked_ssim_truth, window_terms
from harness.oracle.truth import Truth, differentiated

# Wang, Simoncelli and Bovik 2003.
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def clamped_truth(pair: MaskedPair) -> Truth:
    """1 − clamp(SSIM, 0, 1): the truth of 1 − SSIM, flat where SSIM is negative."""
    truth = masked_ssim_truth(pair)
    return truth if truth.value <= 1.0 else Truth(1.0, torch.zeros(pair.rendering.shape, dtype=torch.float64))


def foreground_truth(pair: MaskedPair) -> Truth:
    """1 − SSIM averaged over windows by their Gaussian share of foreground, image by image; 0 for an empty mask."""

    def loss(x: Tensor, y: Tensor, shown: Bool[Tensor, "n 1 h w"]) -> Tensor:
        weight = (gaussian_window() * F.unfold(shown.double(), 11)).sum(1)
        total = weight.sum(1, keepdim=True)
        share = weight / torch.where(total > 0, total, torch.ones_like(total))
        one_minus_l, one_minus_cs = window_terms(x, y)
        losses = one_minus_l + one_minus_cs - one_minus_l * one_minus_cs
        return (losses * share[:, None]).sum(2).mean()

    return _differentiated(pair, loss, waits=holds_images_alone(pair.rendering.shape))


def l1_truth(pair: MaskedPair) -> Truth:
    """Mean absolute error over the foreground's pixels and channels, image by image; 0 for an empty mask."""
    return _differentiated(pair, lambda x, y, shown: _foreground_mean((x - y).abs(), shown))


def l2_truth(pair: MaskedPair) -> Truth:
    """Mean squared error over the foreground's pixels and channels, image by image; 0 for an empty mask."""
    return _differentiated(pair, lambda x, y, shown: _foreground_mean((x - y) ** 2, shown))


def ms_ssim_truth(pair: MaskedPair) -> Truth:
    """1 − MS-SSIM over five scales, each half the last by a 2×2 mean (odd sides padded by zeros, counted in)."""

    def loss(x: Tensor, y: Tensor, shown: Tensor) -> Tensor:
        factors = []
        for scale, weight in enumerate(_SCALE_WEIGHTS):
            one_minus_l, one_minus_cs = window_terms(x, y)
            contrast = 1.0 - one_minus_cs
            last = scale == len(_SCALE_WEIGHTS) - 1
            mean = ((1.0 - one_minus_l) * contrast if last else contrast).mean(2)
            factors.append(mean.clamp(min=0.0) ** weight)
            padding = [side % 2 for side in x.shape[2:]]
            x, y = (F.avg_pool2d(image, 2, padding=padding) for image in (x, y))
        return 1.0 - torch.stack(factors).prod(0).mean()

    return _differentiated(pair, loss)


def _foreground_mean(error: Float[Tensor, "n c h w"], shown: Bool[Tensor, "n 1 h w"]) -> Float[Tensor, ""]:
    counts = shown.sum(dim=(1, 2, 3)).clamp(min=1) * error.shape[1]
    return (torch.where(shown, error, 0.0).sum(dim=(1, 2, 3)) / counts).mean()


def _differentiated(pair: MaskedPair, loss: Callable[[Tensor, Tensor, Tensor], Tensor], waits: bool = False) -> Truth:
    """Value and gradient of ``loss(composited rendering, composited target, foreground)`` at exact values."""

    def composited(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        shown = mask > 0.5
        return loss(torch.where(shown, rendering, 0.5), torch.where(shown, target, 0.5), shown)

    return differentiated(pair, composited, waits)
