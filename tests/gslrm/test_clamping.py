"""The clamp's values are torch's; its gradient at the bounds is 1 whatever torch's is."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gslrm.clamping import clamp
from gslrm.config import LossesConfig
from gslrm.model.gaussians import CHANNELS, LOG_SCALE_MAX, RAW, SCALE_SHIFT, SH0, activate
from gslrm.model.ssim_textbook import clamped_ssim_loss
from gslrm.training.loss_computer import LossComputer

_VALUES = [-math.inf, -1.0, -1e-9, -0.0, 0.0, 1e-9, 0.5, 1.0, 1.0 + 1e-6, 2.0, math.inf, math.nan]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, None), (None, 1.0), (-0.5, 0.5)])
def test_values_are_torchs(low: float | None, high: float | None, dtype: torch.dtype) -> None:
    x = torch.tensor(_VALUES, dtype=dtype)
    torch.testing.assert_close(clamp(x, low, high), x.clamp(low, high), rtol=0, atol=0, equal_nan=True)
    assert clamp(x, low, high).dtype == dtype


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0]),
        (0.0, None, [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0]),
        (None, 1.0, [1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0]),
    ],
)
def test_the_gradient_is_one_within_and_at_the_bounds_and_zero_beyond(
    low: float | None, high: float | None, expected: list[int]
) -> None:
    x = torch.tensor(_VALUES, requires_grad=True)
    (gradient,) = torch.autograd.grad(clamp(x, low, high), x, torch.full_like(x, 3.0))
    assert gradient.tolist() == [3.0 * one for one in expected]


def test_bounds_may_be_tensors() -> None:
    x = torch.tensor([-1.0, 0.0, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    low, high = torch.tensor(0.0).double(), torch.tensor([1.0, 1.0, 1.0, 1.5]).double()
    clamped = clamp(x, low, high)
    assert clamped.tolist() == [0.0, 0.0, 1.0, 1.5]
    clamped.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 0.0]


def test_its_gradient_can_be_differentiated_again() -> None:
    x = torch.tensor([-1.0, 0.0, 0.25, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(clamp(x, 0.0, 1.0).pow(3).sum(), x, create_graph=True)
    assert gradient.tolist() == [0.0, 0.0, 3 * 0.25**2, 3.0, 0.0]
    (second,) = torch.autograd.grad(gradient.sum(), x)
    assert second.tolist() == [0.0, 0.0, 6 * 0.25, 6.0, 0.0]


def _l2(images: Tensor, target: Tensor) -> Tensor:
    total: Tensor = LossComputer(LossesConfig(l2_loss_weight=1.0))(images, target).total
    return total


def _background(images: Tensor, target: Tensor) -> Tensor:
    settings = LossesConfig(l2_loss_weight=0.0, background_loss_weight=1.0)
    total: Tensor = LossComputer(settings, (0.25, 0.4, 0.75))(images, target).total
    return total


def _ssim(images: Tensor, target: Tensor) -> Tensor:
    settings = LossesConfig(l2_loss_weight=0.0, ssim_loss_weight=1.0)
    total: Tensor = LossComputer(settings)(images, target).total
    return total


@pytest.mark.parametrize("loss", [_l2, _background, _ssim])
def test_black_and_white_pixels_of_a_rendering_keep_their_gradient(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    target = torch.rand(1, 1, 4, 12, 12, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
    target[:, :, 3] = 0.0
    rendering = torch.full((1, 1, 3, 12, 12), 0.5)
    rendering[..., 1], rendering[..., 2], rendering[..., 3], rendering[..., 4] = 0.0, 1.0, -1e-3, 1.001
    rendering.requires_grad_()
    loss(rendering, target).backward()
    assert rendering.grad is not None
    reached = (rendering.grad != 0).flatten(0, 3).all(dim=0)
    assert reached[[0, 1, 2, 5]].all()
    assert not (rendering.grad != 0).flatten(0, 3).any(dim=0)[[3, 4]].any()


def test_activations_keep_their_gradient_at_the_bounds() -> None:
    # In float64 these are the bounds to the bit: IEEE 754 says so.
    at_most = LOG_SCALE_MAX - SCALE_SHIFT
    assert at_most + SCALE_SHIFT == LOG_SCALE_MAX
    raw = torch.zeros(1, 1, RAW, dtype=torch.float64)
    raw[..., 3:6] = -0.5 / SH0
    raw[..., 6:9] = at_most
    raw.requires_grad_()
    made = activate(raw)
    assert made.colour.abs().max() == 0
    (made.colour.sum() + made.scale.sum()).backward()
    assert raw.grad is not None
    _, colour, scale, _, _ = raw.grad.split(CHANNELS, dim=-1)
    assert (colour > 0).all()
    assert (scale > 0).all()


def test_the_clamped_ssim_keeps_the_gradient_of_a_similarity_of_exactly_one() -> None:
    class Recorded(torch.autograd.Function):
        """Passes on, and counts gradients that arrive."""

        arrived: list[float] = []  # noqa: RUF012

        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, upstream):
            Recorded.arrived.append(float(upstream))
            return upstream

    similarity = torch.ones((), requires_grad=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pytorch_msssim.ssim", lambda *_, **__: Recorded.apply(similarity))
        clamped_ssim_loss(torch.zeros(1), torch.zeros(1), data_range=1.0).backward()
    assert Recorded.arrived == [-1.0]
