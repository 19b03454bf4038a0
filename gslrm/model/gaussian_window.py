"""SSIM's Gaussian window mean (11 taps, σ 1.5, valid windows) and its adjoint.

By shifted additions, except for float32 on the CPU. Not by ``conv2d`` on CUDA: there a float32 convolution may run in
TF32 (``torch.backends.cudnn.allow_tf32`` is on by default), whose ten mantissa bits are not enough here. On the CPU a
depthwise convolution takes a fifth to a half of the additions' time where each plane is laid out as a column of pixels
with as many channels as it has columns, channels last (one thread of an AVX-512 CPU, 64² to 512²). For small planes a
product with a banded matrix is faster still: 24 of 26² take a third of the convolution's time, of 46² a half, of 64²
nine tenths, of 80² more (two threads, both passes).
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
_SMALL_SIDE = 64


@functools.cache
def window_taps(size: int = WINDOW_SIZE, sigma: float = WINDOW_SIGMA) -> tuple[float, ...]:
    """The normalised taps, in double precision: ``exp(-k²/2σ²) / Σ`` for k = -(size//2) … size//2."""
    raw = [math.exp(-((k - size // 2) ** 2) / (2.0 * sigma**2)) for k in range(size)]
    total = math.fsum(raw)
    return tuple(tap / total for tap in raw)


def window_mean(planes: Float[Tensor, "p h w"]) -> Float[Tensor, "p h-10 w-10"]:
    """The weighted mean of every window that lies wholly inside the plane. Sides must be at least 11."""
    along_rows = _filter(planes, max(planes.shape[1:]))
    return along_rows(along_rows(planes, 0).transpose(1, 2), 0).transpose(1, 2)


def window_mean_adjoint(maps: Float[Tensor, "p h-10 w-10"]) -> Float[Tensor, "p h w"]:
    """The transpose of :func:`window_mean`: each window's value spread over its pixels by their weights."""
    pad = WINDOW_SIZE - 1
    along_rows = _filter(maps, max(maps.shape[1:]) + pad)
    # In the other order, which is that of the memory of what window_mean returned.
    return along_rows(along_rows(maps.transpose(1, 2), pad).transpose(1, 2), pad)


def _filter(planes: Tensor, longest_side: int) -> Callable[[Tensor, int], Tensor]:
    """The 1-D filter along axis 1 of (p, h, w), padded; the window is symmetric, so its adjoint is itself, padded.

    ``longest_side`` is that of what windows are means of, padding included.
    """
    if planes.device.type != "cpu" or planes.dtype != torch.float32:
        return _added_along_rows
    # Neither autocast nor a user's choice of a faster convolution or product may round what is filtered.
    banded = longest_side <= _SMALL_SIDE
    precision = getattr(getattr(mkldnn, "matmul" if banded else "conv", None), "fp32_precision", None)
    if precision is None:  # torch before 2.9; newer ones may refuse to say it so
        precision = "ieee" if torch.get_float32_matmul_precision() == "highest" else "less"
    rounds = precision not in ("ieee", "none") or any(torch.is_autocast_enabled(device) for device in ("cpu", "cuda"))
    if rounds:
        return _added_along_rows
    return _multiplied_along_rows if banded else _convolved_along_rows


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


def _multiplied_along_rows(planes: Tensor, padding: int) -> Tensor:
    p, h, _ = planes.shape
    # Padded, it is the transpose of what makes as many windows as there are rows.
    windows = h if padding else h - WINDOW_SIZE + 1
    band = planes.new_zeros((windows, windows + WINDOW_SIZE - 1))
    band.as_strided((windows, WINDOW_SIZE), (windows + WINDOW_SIZE, 1)).copy_(planes.new_tensor(window_taps()))
    return torch.bmm((band.T if padding else band).expand(p, -1, -1), planes)
