"""Pairs of images, masks, and SSIM as pytorch-msssim has it in float64."""

from __future__ import annotations

import pytorch_msssim
import torch
from torch import Tensor

from gslrm.model.gaussian_window import window_taps


def pair(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two images in [0, 1], the second up to 0.1 brighter, pixel by pixel."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(shape, generator=generator)
    return x, (x + 0.1 * torch.rand(shape, generator=generator)).clamp(0, 1)


def disc(n: int, h: int, w: int, radius: int = 4) -> Tensor:
    """Masks (n, 1, h, w) of a disc in the middle, ``radius`` in pixels."""
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    disc = ((rows - h // 2) ** 2 + (columns - w // 2) ** 2) <= radius**2
    return disc.float().expand(n, 1, h, w).contiguous()


def msssim_float64(x: Tensor, y: Tensor) -> float:
    """1 − SSIM of images in [0, 1]."""
    window = torch.tensor(window_taps(), dtype=torch.float64).expand(x.shape[1], 1, 1, -1)
    return 1.0 - pytorch_msssim.ssim(x.double(), y.double(), data_range=1.0, win=window).item()
