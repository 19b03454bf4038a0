"""Activations against their formulas, and in their ranges whatever the raw numbers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from gslrm.model.gaussians import RAW, activate


def test_activations_are_their_formulas() -> None:
    raw = torch.randn(2, 50, RAW, generator=torch.Generator().manual_seed(0)).double() * 3
    g = activate(raw)
    assert torch.equal(g.xyz, raw[..., :3])
    torch.testing.assert_close(g.colour, (0.5 + 0.28209479 * raw[..., 3:6]).clamp(min=0))
    torch.testing.assert_close(g.scale, (raw[..., 6:9] - 2.3).clamp(max=-1.2).exp())
    q = raw[..., 9:13]
    torch.testing.assert_close(g.quaternion, q / q.square().sum(-1, keepdim=True).sqrt())
    torch.testing.assert_close(g.opacity, 1 / (1 + (2 - raw[..., 13:]).exp()))
    assert g.colour.min() == 0  # the clamp was met
    assert g.scale.max().item() == pytest.approx(math.exp(-1.2), rel=1e-14)  # exponentials differ by a last bit


@example([1e-22] * RAW)
@example([0.0] * RAW)
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=RAW, max_size=RAW))
def test_ranges_hold_and_gradients_are_finite(numbers: list[float]) -> None:
    raw = torch.tensor(numbers).view(1, 1, RAW).requires_grad_()
    g = activate(raw)
    assert g.colour.min() >= 0
    assert g.scale.min() >= 0
    assert g.scale.max() <= math.exp(-1.2) * (1 + 1e-6)
    assert (g.quaternion.norm() - 1).abs() < 1e-5
    assert g.opacity.min() >= 0
    assert g.opacity.max() <= 1
    torch.stack([x.sum() for x in vars(g).values()]).sum().backward()
    assert raw.grad is not None
    assert torch.isfinite(raw.grad).all()


def test_a_quaternion_of_zero_is_the_identity_without_gradient() -> None:
    raw = torch.zeros(1, 2, RAW)
    raw[0, 1, 9:13] = torch.tensor([0.0, 2.0, 0.0, 0.0])
    raw.requires_grad_()
    q = activate(raw).quaternion
    assert q[0].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0]]
    (q * torch.arange(1.0, 5.0)).sum().backward()
    assert raw.grad is not None
    assert raw.grad[0, 0].abs().sum() == 0
    assert raw.grad[0, 1, 9:13].tolist() == [0.5, 0, 1.5, 2.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_first(dtype: torch.dtype) -> None:
    raw = torch.randn(1, 20, RAW, generator=torch.Generator().manual_seed(0)).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = activate(raw)
    for name, value in vars(activate(raw.float())).items():
        assert getattr(half, name).dtype == torch.float32
        assert torch.equal(getattr(half, name), value), name


def test_a_nan_stays_a_nan() -> None:
    g = activate(torch.full((1, 1, RAW), torch.nan))
    for name, value in vars(g).items():
        assert value.isnan().all(), name
