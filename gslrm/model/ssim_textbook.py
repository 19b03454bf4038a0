"""SSIM through pytorch-msssim, in the textbook form: the clamp that was once applied, and MS-SSIM."""

from __future__ import annotations

import pytorch_msssim
import torch
from jaxtyping import Float
from torch import Tensor

from gslrm.clamping import clamp
from gslrm.model.gaussian_window import WINDOW_SIZE, window_taps

# pytorch-msssim halves the image four times and needs an 11-pixel window at the last scale.
MS_SSIM_SMALLEST_SIDE = (WINDOW_SIZE - 1) * 2**4 + 1


def clamped_ssim_loss(
    x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"], *, data_range: float
) -> Float[Tensor, ""]:
    """1 − clamp(SSIM, 0, 1), in [0, 1], under the autocast that surrounds the call."""
    similarity: Tensor = pytorch_msssim.ssim(x, y, data_range=data_range)
    return 1.0 - clamp(similarity, 0.0, 1.0)


def ms_ssim_loss(x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"], *, data_range: float) -> Float[Tensor, ""]:
    """1 − MS-SSIM (five scales), in [0, 1], in the images' dtype; sides over 160 pixels.

    Evaluated in float64 with a float64 window: in float32 the variances of nearly equal images are rounding, and the
    fractional powers of MS-SSIM make the most of it.
    """
    window = torch.tensor(window_taps(), dtype=torch.float64, device=x.device).expand(x.shape[1], 1, 1, -1)
    similarity: Tensor = pytorch_msssim.ms_ssim(x.double(), y.double(), data_range=data_range, win=window)
    # At equal images the powers and products of five scales leave 1 by some units in the last place.
    return clamp(1.0 - similarity, low=0.0).to(x.dtype)
