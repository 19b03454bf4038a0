from __future__ import annotations

import math

import pytest
import pytorch_msssim
import torch
from torch import Tensor

from gslrm.model.gaussian_window import window_taps
from gslrm.model.tried_losses import ForegroundSsimLoss, MaskedMsSsimLoss, masked_loss
from gslrm.model.utils_losses import MaskedSsimLoss, SsimLoss

VARIANTS = ("stable", "clamp", "foreground", "ms_ssim", "l1", "l2")


def _pair(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(shape, generator=generator)
    return x, (x + 0.1 * torch.rand(shape, generator=generator)).clamp(0, 1)


def _disc(n: int, h: int, w: int, radius: int = 4) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    disc = ((rows - h // 2) ** 2 + (columns - w // 2) ** 2) <= radius**2
    return disc.float().expand(n, 1, h, w).contiguous()


def _msssim_float64(x: Tensor, y: Tensor) -> float:
    window = torch.tensor(window_taps(), dtype=torch.float64).expand(x.shape[1], 1, 1, -1)
    return 1.0 - pytorch_msssim.ssim(x.double(), y.double(), data_range=1.0, win=window).item()


def test_plain_loss_is_pytorch_msssims() -> None:
    x, y = _pair(2, 3, 40, 29)
    assert SsimLoss()(x, y).item() == pytest.approx(_msssim_float64(x, y), rel=1e-6)


def test_data_range_scales_the_images() -> None:
    x, y = _pair(1, 3, 20, 20)
    assert SsimLoss(data_range=255.0)(255 * x, 255 * y).item() == pytest.approx(SsimLoss()(x, y).item(), rel=1e-5)


@pytest.mark.parametrize("neutral", [0.0, 0.5, 1.0])
def test_stable_is_ssim_of_the_composited_images(neutral: float) -> None:
    x, y = _pair(2, 3, 24, 31)
    mask = _disc(2, 24, 31)
    filled = [image * mask + neutral * (1 - mask) for image in (x, y)]
    loss = MaskedSsimLoss(neutral_value=neutral)(x, y, mask)
    assert loss.item() == pytest.approx(_msssim_float64(*filled), rel=1e-5)


@pytest.mark.parametrize("variant", ["stable", "foreground", "l1", "l2"])
def test_gradients_by_both_images(variant: str) -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.rand(2, 2, 14, 13, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2))
    mask = _disc(2, 14, 13)
    mask[1] = 0
    mask[1, 0, 0, 0] = 1
    loss = masked_loss(variant)  # type: ignore[arg-type]
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, mask), (x, y))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("autocast", [None, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("variant", ["stable", "foreground", "ms_ssim", "l1", "l2"])
def test_float32_whatever_surrounds_it(variant: str, autocast: torch.dtype | None, dtype: torch.dtype) -> None:
    side = 170 if variant == "ms_ssim" else 20
    x, y = (image.to(dtype) for image in _pair(1, 3, side, side))
    mask = _disc(1, side, side)
    loss = masked_loss(variant)  # type: ignore[arg-type]
    with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
        value = loss(x, y, mask)
    assert value.dtype == torch.float32
    assert value.item() == loss(x.float(), y.float(), mask).item()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_trains(variant: str) -> None:
    side = 161 if variant == "ms_ssim" else 16
    x, y = _pair(2, 3, side, side)
    x.requires_grad_()
    value = masked_loss(variant)(x, y, _disc(2, side, side))  # type: ignore[arg-type]
    value.backward()
    assert 0 < value.item() <= 2
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())
    assert bool(x.grad.any())


@pytest.mark.parametrize("variant", ["stable", "foreground", "l1", "l2", "ms_ssim"])
def test_equal_images_and_empty_masks_cost_nothing(variant: str) -> None:
    side = 161 if variant == "ms_ssim" else 16
    x, y = _pair(1, 3, side, side)
    loss = masked_loss(variant)  # type: ignore[arg-type]
    # The powers in MS-SSIM of 1 may leave it by a last bit; all others are exact.
    nothing = pytest.approx(0.0, abs=1e-13) if variant == "ms_ssim" else 0.0
    assert loss(x, x.clone(), _disc(1, side, side)).item() == nothing
    assert loss(x, y, torch.zeros(1, 1, side, side)).item() == nothing


@pytest.mark.parametrize(("row", "column"), [(0, 0), (7, 7), (15, 0)])
def test_foreground_variant_sees_a_single_pixel(row: int, column: int) -> None:
    x, y = _pair(1, 3, 16, 16)
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., row, column] = 1
    assert ForegroundSsimLoss()(x, y, mask).item() > 0


def test_foreground_variant_weighs_windows_by_their_share_of_foreground() -> None:
    x, y = _pair(1, 1, 13, 12, seed=3)
    mask = _disc(1, 13, 12, radius=2)
    filled = [image.double() * mask + 0.5 * (1 - mask) for image in (x, y)]
    taps = torch.tensor(window_taps(), dtype=torch.float64)
    total, weights = 0.0, 0.0
    for top in range(3):
        for left in range(2):
            window = (slice(None), slice(None), slice(top, top + 11), slice(left, left + 11))
            share = (torch.outer(taps, taps) * mask[window][0, 0]).sum().item()
            total += share * _msssim_float64(filled[0][window], filled[1][window])
            weights += share
    value = ForegroundSsimLoss()(x, y, mask).item()
    assert value == pytest.approx(total / weights, rel=1e-5)


def test_a_batch_of_unequal_foregrounds_is_the_mean_of_its_images() -> None:
    x, y = _pair(2, 3, 16, 16)
    mask = torch.cat([_disc(1, 16, 16, 6), _disc(1, 16, 16, 1)])
    for variant in ("stable", "foreground", "l1", "l2"):
        loss = masked_loss(variant)  # type: ignore[arg-type]
        singles = [loss(x[i : i + 1], y[i : i + 1], mask[i : i + 1]).item() for i in range(2)]
        assert loss(x, y, mask).item() == pytest.approx(sum(singles) / 2, rel=1e-5)


def test_a_mask_of_one_half_is_background() -> None:
    x, y = _pair(1, 3, 16, 16)
    assert MaskedSsimLoss()(x, y, torch.full((1, 1, 16, 16), 0.5)).item() == 0.0


def test_nan_behind_the_mask_has_no_influence() -> None:
    x, y = _pair(1, 3, 16, 16)
    mask = _disc(1, 16, 16)
    spoilt = x.masked_fill(mask.expand_as(x) <= 0.5, math.nan).requires_grad_()
    value = MaskedSsimLoss()(spoilt, y, mask)
    value.backward()
    assert value.item() == MaskedSsimLoss()(x, y, mask).item()
    assert spoilt.grad is not None
    assert bool(torch.isfinite(spoilt.grad).all())


def test_nan_passes_where_values_are_not_checked() -> None:
    x, y = _pair(1, 3, 16, 16)
    x[0, 0, 8, 8] = math.nan
    assert math.isnan(MaskedSsimLoss(check_values=False)(x, y, torch.ones(1, 1, 16, 16)).item())
    assert math.isnan(SsimLoss(check_values=False)(x, y).item())


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_no_values_leave_the_range(scale: float) -> None:
    x, y = _pair(1, 3, 12, 12)
    for first, second in ((x, -x), (scale * x, -scale * y), (x, 1 - x)):
        assert 0 <= SsimLoss(check_values=False)(first, second).item() <= 2


def test_no_gradient_is_computed_without_need() -> None:
    x, y = _pair(1, 3, 16, 16)
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


def test_ms_ssim_names_its_size_limit() -> None:
    with pytest.raises(ValueError, match="at least 161"):
        MaskedMsSsimLoss()(*_pair(1, 3, 160, 200), torch.ones(1, 1, 160, 200))


@pytest.mark.parametrize("arguments", [{"data_range": 0.0}, {"neutral_value": math.nan}])
def test_bad_settings_are_named(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        MaskedSsimLoss(**arguments)  # type: ignore[arg-type]
