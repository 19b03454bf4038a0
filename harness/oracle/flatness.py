"""How much of a pair of pictures is bright and flat, where SSIM's textbook form rounds worst."""

from __future__ import annotations

import math

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from harness.oracle.masked_ssim import C2, gaussian_taps


def flatness(
    x: Float[Tensor, "n c h w"],
    y: Float[Tensor, "n c h w"],
    window: int,
    uniform: bool = False,
    seen: Bool[Tensor, "n 1 h w"] | None = None,
) -> float:
    """How bright and flat two pictures are, from 0 (black, or full of detail) to 1 (white all over).

    The textbook form makes a variance of E[x²] − E[x]², each off by some units in the last place of E[x]², and divides
    by σx² + σy² + C2. So its error goes with E[x]² over that, whose mean over windows, times C2, this is.
    Of equal pixels every moment comes out alike, error and all, so a window without a difference counts for nothing;
    unless it sees one of those that are asked for, since a form that clamps its variances and not its covariance, as
    torchmetrics' does, gives equal pixels that error too.

    Args:
        x, y: float64.
        window: its side in pixels, where the pictures have them.
        uniform: its pixels all weigh alike; else as in a Gaussian of σ 1.5, which sees little of what lies at a corner.
        seen: pixels whose windows count without a difference as well.
    """
    means = [_mean(image, window, uniform) for image in (x, y)]
    squares = [_mean(image.square(), window, uniform) for image in (x, y)]
    variances = sum(((s - m.square()).clamp(min=0.0) for s, m in zip(squares, means, strict=True)), means[0] * 0.0)
    errors = means[0].square().maximum(means[1].square()) * C2 / (variances + C2)
    counts = x != y if seen is None else (x != y) | seen
    found = float((errors * F.max_pool2d(counts.to(x), [min(window, side) for side in x.shape[2:]], 1)).mean())
    return found if math.isfinite(found) else 0.0


def _mean(image: Float[Tensor, "n c h w"], window: int, uniform: bool) -> Float[Tensor, "n c rows columns"]:
    """Over every window."""
    sides = [min(window, side) for side in image.shape[2:]]
    if uniform or min(sides) < window:
        return F.avg_pool2d(image, sides, 1)
    taps = gaussian_taps(window)
    taps = (taps / taps.sum()).expand(image.shape[1], 1, 1, window)
    across = F.conv2d(image, taps, groups=image.shape[1])
    return F.conv2d(across, taps.transpose(2, 3), groups=image.shape[1])
