"""SSIM's Gaussian window mean (11 taps, σ 1.5, valid windows) and its adjoint.

Two evaluations of the same filter:

- CPU: a depthwise convolution along one axis, then the other, on planes viewed so that the other axis is the
  channel of a channels-last image.  No data moves for the first pass and it vectorises over the row.
- Elsewhere: shifted additions.  A CUDA ``conv2d`` of float32 data may run in TF32 (the default of
  ``torch.backends.cudnn.allow_tf32``), whose ten mantissa bits are not enough here; additions never do.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

WINDOW_SIZE = 11
WINDOW_SIGMA = 1.5


@functools.cache
def window_taps(size: int = WINDOW_SIZE, sigma: float = WINDOW_SIGMA) -> tuple[float, ...]:
    """The normalised taps, in double precision: ``exp(-k²/2σ²) / Σ`` for k = -(size//2) … size//2."""
    raw = [math.exp(-((k - size // 2) ** 2) / (2.0 * sigma**2)) for k in range(size)]
    total = math.fsum(raw)
    return tuple(tap / total for tap in raw)


def window_mean(planes: Float[Tensor, "p h w"]) -> Float[Tensor, "p h-10 w-10"]:
    """The weighted mean of every window that lies wholly inside the plane. Sides must be at least 11."""
    return _along_rows(_along_rows(planes, 0).transpose(1, 2), 0).transpose(1, 2)


def window_mean_adjoint(maps: Float[Tensor, "p h-10 w-10"]) -> Float[Tensor, "p h w"]:
    """The transpose of :func:`window_mean`: each window's value spread over its pixels by their weights."""
    pad = WINDOW_SIZE - 1
    return _along_rows(_along_rows(maps, pad).transpose(1, 2), pad).transpose(1, 2)


def _along_rows(planes: Tensor, padding: int) -> Tensor:
    """The 1-D filter along axis 1 of (p, h, w); the window is symmetric, so its adjoint is itself, padded."""
    if planes.device.type == "cpu":
        return _convolve_rows(planes.contiguous(), padding)
    return _shift_and_add_rows(planes, padding)


def _convolve_rows(planes: Tensor, padding: int) -> Tensor:
    width = planes.shape[2]
    kernel = torch.tensor(window_taps(), dtype=planes.dtype, device=planes.device)
    weight = kernel.reshape(1, 1, -1, 1).expand(width, 1, -1, 1)
    # (p, h, w) contiguous is a channels-last image of w channels and h×1 pixels: a view, not a copy.
    image = planes.permute(0, 2, 1).unsqueeze(-1)
    return F.conv2d(image, weight, padding=(padding, 0), groups=width).squeeze(-1).permute(0, 2, 1)


def _shift_and_add_rows(planes: Tensor, padding: int) -> Tensor:
    if padding:
        planes = F.pad(planes, (0, 0, padding, padding))
    rows = planes.shape[1] - WINDOW_SIZE + 1
    total = torch.zeros_like(planes[:, :rows])
    for offset, tap in enumerate(window_taps()):
        total.add_(planes[:, offset : offset + rows], alpha=tap)
    return total
