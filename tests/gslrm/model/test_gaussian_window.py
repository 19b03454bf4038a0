from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from gslrm.model import gaussian_window
from gslrm.model.gaussian_window import window_mean, window_mean_adjoint, window_taps


def test_taps_are_a_normalised_symmetric_gaussian() -> None:
    taps = window_taps()
    assert len(taps) == 11
    assert sum(taps) == pytest.approx(1.0, abs=1e-15)
    assert taps == taps[::-1]
    assert taps[4] / taps[5] == pytest.approx(2.718281828459045 ** (-1 / (2 * 1.5**2)), rel=1e-12)


def test_window_mean_is_the_two_dimensional_convolution() -> None:
    planes = torch.rand(3, 17, 23, dtype=torch.float64)
    taps = torch.tensor(window_taps(), dtype=torch.float64)
    expected = F.conv2d(planes[:, None], torch.outer(taps, taps)[None, None])[:, 0]
    torch.testing.assert_close(window_mean(planes), expected, rtol=1e-13, atol=1e-14)


def test_adjoint_is_the_transpose() -> None:
    image, maps = torch.rand(2, 15, 20, dtype=torch.float64), torch.rand(2, 5, 10, dtype=torch.float64)
    assert (window_mean(image) * maps).sum().item() == pytest.approx((image * window_mean_adjoint(maps)).sum().item())


@pytest.mark.parametrize("sides", [(11, 11), (11, 64), (40, 27), (64, 64), (65, 12), (12, 90), (80, 80)])
def test_in_float32_it_is_the_same_by_product_and_by_convolution(sides: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    planes, maps = torch.rand(3, *sides, generator=generator), torch.rand(3, sides[0] - 10, sides[1] - 10)
    for function, argument in ((window_mean, planes), (window_mean_adjoint, maps)):
        torch.testing.assert_close(function(argument), function(argument.double()).float(), rtol=1e-5, atol=1e-6)
        transposed = argument.transpose(1, 2).contiguous().transpose(1, 2)
        torch.testing.assert_close(function(transposed), function(argument), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("side", "filtered"), [(64, "_multiplied_along_rows"), (65, "_convolved_along_rows")])
def test_small_planes_are_multiplied_and_nothing_may_round_them(side: int, filtered: str) -> None:
    def taken() -> str:
        return gaussian_window._filter(torch.rand(2, side, 20), side).__name__

    assert taken() == filtered
    with torch.autocast("cpu"):
        assert taken() == "_added_along_rows"
    assert gaussian_window._filter(torch.rand(2, side, 20).double(), side).__name__ == "_added_along_rows"
    if filtered == "_multiplied_along_rows":
        torch.set_float32_matmul_precision("high")
        try:
            assert taken() == "_added_along_rows"
        finally:
            torch.set_float32_matmul_precision("highest")
        assert taken() == filtered


@pytest.mark.parametrize("precision", ["highest", "high"])
def test_torch_before_2_9_tells_its_precision_otherwise(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussian_window, "mkldnn", object())
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: precision)
    found = {gaussian_window._filter(torch.rand(2, side, 20), side).__name__ for side in (20, 80)}
    right = {"_multiplied_along_rows", "_convolved_along_rows"} if precision == "highest" else {"_added_along_rows"}
    assert found == right
