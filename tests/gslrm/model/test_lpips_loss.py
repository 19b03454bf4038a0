"""The optional LPIPS term, with a stand-in for the package so that nothing is fetched."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from gslrm.model.lpips_loss import LpipsError, LpipsLoss


class StandIn(nn.Module):
    """Takes the package's arguments, and measures a distance that shows scale and precision."""

    def __init__(self, net: str, verbose: bool) -> None:
        super().__init__()
        assert net == "vgg"
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        assert a.dtype == b.dtype == torch.float32
        assert float(a.min()) >= -1
        assert float(a.min()) < -0.9
        features = [self.layer(x) for x in (a, b)]
        assert features[0].dtype == torch.float32
        return (features[0] - features[1]).square().mean((1, 2, 3), keepdim=True)


@pytest.fixture
def loss(monkeypatch: pytest.MonkeyPatch) -> LpipsLoss:
    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=StandIn))
    return LpipsLoss()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_pictures_go_in_as_float32_from_minus_one_to_one(loss: LpipsLoss, dtype: torch.dtype) -> None:
    a, b = torch.rand(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = loss(a, b)
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(loss(a, b), expected)
    assert expected.shape == ()
    assert float(expected) > 0
    assert float(loss(a, a)) == 0


def test_the_network_is_fixed(loss: LpipsLoss) -> None:
    assert not any(parameter.requires_grad for parameter in loss.parameters())
    assert not loss.network.training


def test_wrong_shapes_are_named(loss: LpipsLoss) -> None:
    with pytest.raises(ValueError, match="expected the same"):
        loss(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 9))


def test_an_absent_package_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)  # what an import of an absent package finds
    with pytest.raises(LpipsError, match=r"pip install lpips.*weight to 0"):
        LpipsLoss()
