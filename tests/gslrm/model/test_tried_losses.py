from __future__ import annotations

import math

import pytest
import torch

from gslrm.model.gaussian_window import window_taps
from gslrm.model.masked_loss import MaskedLoss, NeutralBackgroundLoss
from gslrm.model.tried_losses import MASKED_LOSSES, ForegroundSsimLoss, MaskedMsSsimLoss, masked_loss
from tests.gslrm.model.masked_pairs import disc, msssim_float64, pair


@pytest.mark.parametrize("name", ["stable", "foreground", "l1", "l2"])
def test_gradients_by_both_images(name: str) -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.rand(2, 2, 14, 13, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2))
    mask = disc(2, 14, 13)
    mask[1] = 0
    mask[1, 0, 0, 0] = 1
    loss = MASKED_LOSSES[name]()
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, mask), (x, y))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("autocast", [None, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["stable", "foreground", "ms_ssim", "l1", "l2"])
def test_float32_whatever_surrounds_it(name: str, autocast: torch.dtype | None, dtype: torch.dtype) -> None:
    side = 170 if name == "ms_ssim" else 20
    x, y = (image.to(dtype) for image in pair(1, 3, side, side))
    mask = disc(1, side, side)
    loss = MASKED_LOSSES[name]()
    with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
        value = loss(x, y, mask)
    assert value.dtype == torch.float32
    assert value.item() == loss(x.float(), y.float(), mask).item()


@pytest.mark.parametrize("name", MASKED_LOSSES)
def test_every_masked_loss_trains(name: str) -> None:
    side = 161 if name == "ms_ssim" else 16
    x, y = pair(2, 3, side, side)
    x.requires_grad_()
    value = MASKED_LOSSES[name]()(x, y, disc(2, side, side))
    value.backward()
    assert 0 < value.item() <= 2
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())
    assert bool(x.grad.any())


@pytest.mark.parametrize("name", ["stable", "foreground", "l1", "l2", "ms_ssim"])
def test_equal_images_and_empty_masks_cost_nothing(name: str) -> None:
    side = 161 if name == "ms_ssim" else 16
    x, y = pair(1, 3, side, side)
    loss = MASKED_LOSSES[name]()
    # The powers in MS-SSIM of 1 may leave it by a last bit; all others are exact.
    nothing = pytest.approx(0.0, abs=1e-13) if name == "ms_ssim" else 0.0
    assert loss(x, x.clone(), disc(1, side, side)).item() == nothing
    assert loss(x, y, torch.zeros(1, 1, side, side)).item() == nothing


@pytest.mark.parametrize(("row", "column"), [(0, 0), (7, 7), (15, 0)])
def test_foreground_ssim_sees_a_single_pixel(row: int, column: int) -> None:
    x, y = pair(1, 3, 16, 16)
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., row, column] = 1
    assert ForegroundSsimLoss()(x, y, mask).item() > 0


def test_foreground_ssim_weighs_windows_by_their_share_of_foreground() -> None:
    x, y = pair(1, 1, 13, 12, seed=3)
    mask = disc(1, 13, 12, radius=2)
    filled = [image.double() * mask + 0.5 * (1 - mask) for image in (x, y)]
    taps = torch.tensor(window_taps(), dtype=torch.float64)
    total, weights = 0.0, 0.0
    for top in range(3):
        for left in range(2):
            window = (slice(None), slice(None), slice(top, top + 11), slice(left, left + 11))
            share = (torch.outer(taps, taps) * mask[window][0, 0]).sum().item()
            total += share * msssim_float64(filled[0][window], filled[1][window])
            weights += share
    value = ForegroundSsimLoss()(x, y, mask).item()
    assert value == pytest.approx(total / weights, rel=1e-5)


def test_a_batch_of_unequal_foregrounds_is_the_mean_of_its_images() -> None:
    x, y = pair(2, 3, 16, 16)
    mask = torch.cat([disc(1, 16, 16, 6), disc(1, 16, 16, 1)])
    for name in ("stable", "foreground", "l1", "l2"):
        loss = MASKED_LOSSES[name]()
        singles = [loss(x[i : i + 1], y[i : i + 1], mask[i : i + 1]).item() for i in range(2)]
        assert loss(x, y, mask).item() == pytest.approx(sum(singles) / 2, rel=1e-5)


def test_ms_ssim_names_its_size_limit() -> None:
    with pytest.raises(ValueError, match="at least 161"):
        MaskedMsSsimLoss()(*pair(1, 3, 160, 200), torch.ones(1, 1, 160, 200))


@pytest.mark.parametrize("name", MASKED_LOSSES)
def test_training_gets_the_loss_that_the_configuration_names(name: str) -> None:
    loss = masked_loss(name, 0.25)
    assert type(loss) is MASKED_LOSSES[name]
    assert not loss.check_values
    assert not isinstance(loss, NeutralBackgroundLoss) or loss.neutral_value == 0.25


def test_a_name_that_no_loss_has_is_named() -> None:
    with pytest.raises(ValueError, match="'huber'; there are stable, clamp"):
        masked_loss("huber")


@pytest.mark.parametrize("name", sorted(set(MASKED_LOSSES) - {"l1", "l2"}))
def test_a_neutral_value_that_is_no_number_is_named(name: str) -> None:
    with pytest.raises(ValueError, match="neutral_value"):
        masked_loss(name, math.nan)


def test_what_has_no_formula_is_no_loss() -> None:
    with pytest.raises(TypeError, match="abstract"):
        MaskedLoss()  # type: ignore[abstract]
