"""Float64 truths of squared errors and of SSIM over the whole image, each by its textbook definition."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harness.cases.loss_inputs import MaskedPair
from harness.oracle.masked_ssim import holds_images_alone, ssim_loss
from harness.oracle.truth import Truth, differentiated


def ssim_truth(pair: MaskedPair) -> Truth:
    """1 − SSIM of the whole images: the mean over windows, channels and images, whatever the mask."""
    return differentiated(pair, lambda x, y, mask: ssim_loss(x, y), waits=holds_images_alone(pair.rendering.shape))


def mse_truth(pair: MaskedPair) -> Truth:
    """Mean squared error of the whole images, whatever the mask."""
    return differentiated(pair, lambda x, y, mask: (x - y).pow(2).sum() / x.numel())


def masked_mse_truth(pair: MaskedPair) -> Truth:
    """Squared error summed over the foreground (mask > 0.5) of all images, over 3·max(1, pixels summed over)."""
    return differentiated(pair, lambda x, y, mask: _pooled_mean((x - y).pow(2), mask > 0.5))


def background_truth(pair: MaskedPair) -> Truth:
    """Squared distance to white summed over the background (mask < 0.5) of all images, over 3·max(1, its pixels)."""
    return differentiated(pair, lambda x, y, mask: _pooled_mean((x - 1.0).pow(2), mask < 0.5))


def _pooled_mean(error: Float[Tensor, "n 3 h w"], counted: Bool[Tensor, "n 1 h w"]) -> Float[Tensor, ""]:
    pixels = max(1, int(counted.sum()))
    return torch.where(counted, error, torch.zeros_like(error)).sum() / (3 * pixels)
