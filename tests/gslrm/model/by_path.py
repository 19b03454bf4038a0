"""The SSIM loss by each path, what it must be in float64, and masks to try it with."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gslrm.model.ssim_difference import SsimConstants
from gslrm.model.ssim_fused import why_not_fused
from gslrm.model.ssim_loss import SsimTerms, ssim_loss
from tests.gslrm.model.masked_pairs import disc

NUMBA = pytest.mark.skipif(bool(why_not_fused()), reason=why_not_fused() or "numba is there")
TRITON = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None or os.environ.get("TRITON_INTERPRET") != "1",
    reason="the Triton kernel is tested by nox -s triton: Triton, and TRITON_INTERPRET=1",
)
PATHS = [pytest.param("numba", marks=NUMBA), pytest.param("triton", marks=TRITON), "torch"]
TERMS = SsimConstants.of(1.0, offset=1.0)
Gradients = tuple[float, Tensor, Tensor]


def truth(x: Tensor, y: Tensor, mask: Tensor) -> Gradients:
    """By the formula, with dense windows, in float64."""
    x, y = (image.detach().double().requires_grad_() for image in (x, y))
    shown = mask > 0.5
    d, s = (x - y).where(shown, 0.0), (x + y - 1.0).where(shown, 0.0)
    taps = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
    taps = taps / taps.sum()
    window = torch.outer(taps, taps)[None, None]

    def mean(image: Tensor) -> Tensor:
        return torch.nn.functional.conv2d(image.flatten(0, 1)[:, None], window)

    m, n = mean(d), mean(s)
    v, u = mean(d * d) - m * m, mean(s * s) - n * n
    a = m * m / (((n + 1.0) ** 2 + m * m) / 2 + TERMS.c1)
    b = v / ((u + v) / 2 + TERMS.c2)
    loss = (a + b - a * b).mean()
    return (loss.item(), *torch.autograd.grad(loss, (x, y)))


def of_path(path: str, x: Tensor, y: Tensor, mask: Tensor) -> Gradients:
    x, y = (image.detach().requires_grad_() for image in (x, y))
    loss = ssim_loss(x, y, mask, SsimTerms(TERMS, path))
    assert loss.dtype == x.dtype
    return (loss.item(), *torch.autograd.grad(loss, (x, y)))


def islands(n: int, h: int, w: int) -> Tensor:
    """A few pixels in each corner, one alone in the middle, and none at all in the last image."""
    mask = torch.zeros(n, 1, h, w)
    mask[..., :2, :3] = mask[..., -4:, :2] = mask[..., :3, -3:] = mask[..., -1:, -1:] = mask[..., h // 2, w // 2] = 1
    mask[n - 1] = 0
    return mask


def scattered(n: int, h: int, w: int) -> Tensor:
    return (torch.rand(n, 1, h, w, generator=torch.Generator().manual_seed(4)) < 0.003).float()


MASKS: dict[str, Callable[[int, int, int], Tensor]] = {
    "full": lambda n, h, w: torch.ones(n, 1, h, w),
    "disc": disc,
    "islands": islands,
    "scattered": scattered,
    "booleans": lambda n, h, w: disc(n, h, w) > 0.5,
    "bytes": lambda n, h, w: disc(n, h, w).to(torch.uint8),
    "halves": lambda n, h, w: disc(n, h, w).half(),
    "strided": lambda n, h, w: disc(n, w, h).transpose(2, 3),
    "soft": lambda n, h, w: torch.rand(n, 1, h, w, generator=torch.Generator().manual_seed(5)),
}
