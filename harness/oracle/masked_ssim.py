"""The truth: 1 − SSIM and its gradient in float64, by windows cut out and centred one by one.

Each window's means and central moments are weighted sums over its own 121 pixels, so no variance is a difference of
large numbers, and 1 − SSIM is assembled from the moments of x − y:

    1 − l = (μx − μy)² / (μx² + μy² + C1)
    1 − cs = Σ w ((x − y) − (μx − μy))² / (σx² + σy² + C2)
    1 − l·cs = (1 − l) + (1 − cs) − (1 − l)(1 − cs)

SSIM as in Wang et al. 2004 with their 11×11 Gaussian window of σ 1.5, C1 = 0.01², C2 = 0.03² for images in [0, 1],
windows wholly inside the image.  Shares no code with any subject.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from harness.cases.loss_inputs import MaskedPair
from harness.oracle.truth import Truth

C1, C2 = 0.01**2, 0.03**2
_SIZE, _SIGMA = 11, 1.5


def masked_ssim_truth(pair: MaskedPair, neutral_value: float = 0.5) -> Truth:
    """1 − SSIM of the pair with its hidden pixels set to ``neutral_value``: the mean over windows, channels, images.

    The pair's tensors may have any floating dtype and are taken at their exact values.
    """
    shown = pair.mask > 0.5
    rendering = pair.rendering.detach().cpu().double().requires_grad_()
    target = pair.target.detach().cpu().double()
    neutral = torch.full_like(target, neutral_value)
    composited = [torch.where(shown.cpu(), image, neutral) for image in (rendering, target)]
    loss = ssim_loss(composited[0], composited[1])
    (gradient,) = torch.autograd.grad(loss, rendering)
    return Truth(loss.item(), gradient)


def ssim_loss(x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
    """1 − SSIM of two float64 batches, differentiable."""
    one_minus_l, one_minus_cs = window_terms(x, y)
    return (one_minus_l + one_minus_cs - one_minus_l * one_minus_cs).mean()


def window_terms(
    x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"]
) -> tuple[Float[Tensor, "n c windows"], Float[Tensor, "n c windows"]]:
    """1 − l and 1 − cs of every window of two float64 batches, differentiable; windows row by row."""
    window = gaussian_window()
    planes = x.shape[0] * x.shape[1]
    # (planes, 121, windows): every window's pixels.
    a, b = (F.unfold(image.reshape(planes, 1, *image.shape[2:]), _SIZE) for image in (x, y))
    d = a - b
    mean_a, mean_b, mean_d = ((window * part).sum(1, keepdim=True) for part in (a, b, d))
    variance_a, variance_b, variance_d = (
        (window * (part - mean).square()).sum(1, keepdim=True) for part, mean in ((a, mean_a), (b, mean_b), (d, mean_d))
    )
    one_minus_l = mean_d.square() / (mean_a.square() + mean_b.square() + C1)
    one_minus_cs = variance_d / (variance_a + variance_b + C2)
    return one_minus_l.reshape(*x.shape[:2], -1), one_minus_cs.reshape(*x.shape[:2], -1)


def gaussian_window() -> Float[Tensor, "121 1"]:
    """The window's weights, row by row, float64, of sum 1."""
    taps = torch.exp(-((torch.arange(_SIZE, dtype=torch.float64) - _SIZE // 2) ** 2) / (2 * _SIGMA**2))
    window = torch.outer(taps, taps).flatten()[:, None]
    return window / window.sum()
