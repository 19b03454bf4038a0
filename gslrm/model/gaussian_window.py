"""SSIM's Gaussian window mean (11 taps, σ 1.5, valid windows) and its adjoint.

By shifted additions, except for float32 on the CPU. Not by ``conv2d`` on CUDA: there a float32 convolution may run in
TF32 (``torch.backends.cudnn.allow_tf32`` is on by default), whose ten mantissa bits are not enough here. On the CPU a
depthwise convolution takes a fifth to a half of the additions' time where each plane is laid out as a column of pixels
with as many channels as it has columns, channels last (one thread of an AVX-512 CPU, 64² to 512²).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.backends import mkldnn

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
    along_rows = _filter(planes)
    return along_rows(along_rows(planes, 0).transpose(1, 2), 0).transpose(1, 2)


def window_mean_adjoint(maps: Float[Tensor, "p h-10 w-10"]) -> Float[Tensor, "p h w"]:
    """The transpose of :func:`window_mean`: each window's value spread over its pixels by their weights."""
    pad, along_rows = WINDOW_SIZE - 1, _filter(maps)
    # In the other order, which is that of the memory of what window_mean returned.
    return along_rows(along_rows(maps.transpose(1, 2), pad).transpose(1, 2), pad)


def _filter(planes: Tensor) -> Callable[[Tensor, int], Tensor]:
    """The 1-D filter along axis 1 of (p, h, w), padded; the window is symmetric, so its adjoint is itself, padded."""
    if planes.device.type != "cpu" or planes.dtype != torch.float32:
        return _added_along_rows
    # Neither autocast nor a user's choice of a faster convolution may round what is convolved.
    rounds = any(torch.is_autocast_enabled(device) for device in ("cpu", "cuda"))
    rounds = rounds or getattr(getattr(mkldnn, "conv", None), "fp32_precision", "ieee") not in ("ieee", "none")
    return _added_along_rows if rounds else _convolved_along_rows


def _added_along_rows(planes: Tensor, padding: int) -> Tensor:
    if padding:
        planes = F.pad(planes, (0, 0, padding, padding))
    rows = planes.shape[1] - WINDOW_SIZE + 1
    total = planes.new_zeros((planes.shape[0], rows, planes.shape[2]))
    for offset, tap in enumerate(window_taps()):
        total.add_(planes[:, offset : offset + rows], alpha=tap)
    return total


def _convolved_along_rows(planes: Tensor, padding: int) -> Tensor:
    p, _, w = planes.shape
    taps = torch.tensor(window_taps(), dtype=planes.dtype).expand(w, 1, 1, -1).reshape(w, 1, WINDOW_SIZE, 1)
    pixels = planes.contiguous().unsqueeze(2).permute(0, 3, 1, 2)
    return F.conv2d(pixels, taps, padding=(padding, 0), groups=w).permute(0, 2, 3, 1).reshape(p, -1, w)
