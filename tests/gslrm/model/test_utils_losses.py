from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gslrm.model.utils_losses import MaskedSsimLoss, SsimLoss
from tests.gslrm.model.masked_pairs import disc, msssim_float64, pair


def test_plain_loss_is_pytorch_msssims() -> None:
    x, y = pair(2, 3, 40, 29)
    assert SsimLoss()(x, y).item() == pytest.approx(msssim_float64(x, y), rel=1e-6)


def test_data_range_scales_the_images() -> None:
    x, y = pair(1, 3, 20, 20)
    assert SsimLoss(data_range=255.0)(255 * x, 255 * y).item() == pytest.approx(SsimLoss()(x, y).item(), rel=1e-5)


@pytest.mark.parametrize("neutral", [0.0, 0.5, 1.0])
def test_the_masked_loss_is_ssim_of_the_composited_images(neutral: float) -> None:
    x, y = pair(2, 3, 24, 31)
    mask = disc(2, 24, 31)
    filled = [image * mask + neutral * (1 - mask) for image in (x, y)]
    loss = MaskedSsimLoss(neutral_value=neutral)(x, y, mask)
    assert loss.item() == pytest.approx(msssim_float64(*filled), rel=1e-5)


def test_a_mask_of_one_half_is_background() -> None:
    x, y = pair(1, 3, 16, 16)
    assert MaskedSsimLoss()(x, y, torch.full((1, 1, 16, 16), 0.5)).item() == 0.0


def test_nan_behind_the_mask_has_no_influence() -> None:
    x, y = pair(1, 3, 16, 16)
    mask = disc(1, 16, 16)
    spoilt = x.masked_fill(mask.expand_as(x) <= 0.5, math.nan).requires_grad_()
    value = MaskedSsimLoss()(spoilt, y, mask)
    value.backward()
    assert value.item() == MaskedSsimLoss()(x, y, mask).item()
    assert spoilt.grad is not None
    assert bool(torch.isfinite(spoilt.grad).all())


def test_nan_passes_where_values_are_not_checked() -> None:
    x, y = pair(1, 3, 16, 16)
    x[0, 0, 8, 8] = math.nan
    assert math.isnan(MaskedSsimLoss(check_values=False)(x, y, torch.ones(1, 1, 16, 16)).item())
    assert math.isnan(SsimLoss(check_values=False)(x, y).item())


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_no_values_leave_the_range(scale: float) -> None:
    x, y = pair(1, 3, 12, 12)
    for first, second in ((x, -x), (scale * x, -scale * y), (x, 1 - x)):
        assert 0 <= SsimLoss(check_values=False)(first, second).item() <= 2


def test_no_gradient_is_computed_without_need() -> None:
    x, y = pair(1, 3, 16, 16)
    x.requires_grad_()
    with torch.no_grad():
        assert not SsimLoss()(x, y).requires_grad


IMAGE = torch.rand(1, 3, 16, 16)
MASK = torch.ones(1, 1, 16, 16)


@pytest.mark.parametrize(
    ("x", "y", "mask", "error", "words"),
    [
        (IMAGE, IMAGE[..., :-1], MASK, ValueError, "same shape"),
        (IMAGE[0], IMAGE[0], MASK, ValueError, r"\(N, C, H, W\)"),
        ((IMAGE * 255).to(torch.uint8), IMAGE, MASK, TypeError, "uint8"),
        (IMAGE * math.nan, IMAGE, MASK, ValueError, "rendering holds NaN"),
        (IMAGE, IMAGE * math.inf, MASK, ValueError, "target holds NaN or inf"),
        (IMAGE * 255, IMAGE, MASK, ValueError, "far outside"),
        (IMAGE[..., :10], IMAGE[..., :10], MASK[..., :10], ValueError, "at least 11"),
        (IMAGE, IMAGE, MASK[..., :-1], ValueError, "mask must have shape"),
        (IMAGE, IMAGE, MASK[:, 0], ValueError, "mask must have shape"),
        (IMAGE, IMAGE, MASK * math.nan, ValueError, "mask holds NaN"),
        (IMAGE[:0], IMAGE[:0], MASK[:0], ValueError, "no pixel"),
        ([0.5], IMAGE, MASK, TypeError, "torch.Tensor"),
    ],
)
def test_bad_input_is_named(x: Tensor, y: Tensor, mask: Tensor, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        MaskedSsimLoss()(x, y, mask)


@pytest.mark.parametrize("arguments", [{"data_range": 0.0}, {"neutral_value": math.nan}])
def test_bad_settings_are_named(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        MaskedSsimLoss(**arguments)  # type: ignore[arg-type]
