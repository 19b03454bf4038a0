"""The oracle against a closed form for one pixel, and against the textbook form by convolutions in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from torch.nn import functional as F

from harness.cases.descriptors import LossCase
from harness.cases.loss_inputs import MaskedPair
from harness.cases.strategies import DIFFERENT, loss_cases
from harness.cases.tensors import build_pair
from harness.oracle.padded_ssim import zero_padded_ssim_truth


def test_one_pixel_has_one_window_with_120_black_pixels() -> None:
    weight = 1 / sum(math.exp(-(k**2) / 4.5) for k in range(-5, 6)) ** 2
    x, y = 0.3, 0.8
    mx, my = weight * x, weight * y
    # E[xy] − E[x]·E[y] of a pixel of weight w among zeros is w(1 − w)xy.
    left = weight * (1 - weight)
    luminance = (2 * mx * my + 1e-4) / (mx**2 + my**2 + 1e-4)
    contrast = (2 * left * x * y + 9e-4) / (left * x**2 + left * y**2 + 9e-4)
    images = (torch.full((1, 3, 1, 1), level, dtype=torch.float64) for level in (x, y))
    truth = zero_padded_ssim_truth(MaskedPair(*images, torch.zeros(1, 1, 1, 1)))
    assert truth.value == pytest.approx(1 - luminance * contrast, rel=1e-12)


def _by_convolution(x: Tensor, y: Tensor) -> Tensor:
    """As in the code of 3D Gaussian Splatting, in the images' dtype."""
    taps = torch.tensor([math.exp(-(k**2) / 4.5) for k in range(-5, 6)], dtype=x.dtype)
    taps = taps / taps.sum()
    window = (taps[:, None] * taps).expand(3, 1, 11, 11)

    def mean(image: Tensor) -> Tensor:
        return F.conv2d(image, window, padding=5, groups=3)

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    similarity = (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx * mx + my * my + 1e-4) * (vx + vy + 9e-4))
    return 1 - similarity.mean()


@settings(max_examples=60)
@given(loss_cases(perturbations=DIFFERENT, smallest_side=1))
def test_agrees_with_convolutions_in_float64(case: LossCase) -> None:
    pair = build_pair(case)
    truth = zero_padded_ssim_truth(pair)
    x, y = pair.rendering.double().requires_grad_(), pair.target.double()
    value = _by_convolution(x, y)
    (gradient,) = torch.autograd.grad(value, x)
    # The textbook form loses 1 − SSIM's digits below about 1e-10, in float64 too.
    assert truth.value == pytest.approx(value.item(), rel=1e-6, abs=1e-12)
    assert float((truth.gradient - gradient).norm()) <= 1e-6 * float(gradient.norm()) + 1e-12
