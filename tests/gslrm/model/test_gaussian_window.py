from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

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
