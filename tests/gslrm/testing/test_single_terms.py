"""Terms by themselves: the same numbers as in the whole loss."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import Tensor

from gslrm.model.lpips_loss import LpipsError
from gslrm.model.utils_losses import MaskedSsimLoss, SsimLoss
from gslrm.testing import single_terms
from gslrm.training import loss_terms


def _images() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(2, 3, 16, 17, generator=generator) for _ in range(2))
    return x, y, (torch.rand(2, 1, 16, 17, generator=generator) > 0.6).float()


def test_image_terms_are_their_functions() -> None:
    x, y, mask = _images()
    for term, expected in (
        (single_terms.L2Term, loss_terms.l2(x, y)),
        (single_terms.MaskedL2Term, loss_terms.masked_l2(x, y, mask)),
        (single_terms.SsimTerm, SsimLoss()(x, y)),
        (single_terms.MaskedSsimTerm, MaskedSsimLoss()(x, y, mask)),
        (single_terms.BackgroundTerm, loss_terms.background(x, torch.ones(3), mask)),
    ):
        torch.testing.assert_close(term()(x, y, mask), expected)


def test_point_terms_are_their_functions() -> None:
    generator = torch.Generator().manual_seed(0)
    xyz, origin, direction = (torch.randn(2, 3, 5, 6, generator=generator) for _ in range(3))
    mask = torch.rand(2, 1, 5, 6, generator=generator)
    for term, expected in (
        (single_terms.PixelAlignmentTerm, loss_terms.pixel_alignment(xyz, origin, direction)),
        (single_terms.MaskedPixelAlignmentTerm, loss_terms.pixel_alignment(xyz, origin, direction, mask)),
        (single_terms.PointsDistanceTerm, loss_terms.points_distance(xyz, origin)),
    ):
        torch.testing.assert_close(term()(xyz, origin, direction, mask), expected)


def test_the_perceptual_terms_convolutions_are_its_own() -> None:
    term = single_terms.PerceptualTerm()
    assert len(term.convolutions) == 14
    inner = term.computer.perceptual
    assert inner is not None
    for i, (kernel, bias) in enumerate(term.convolutions, start=1):
        assert torch.equal(inner.get_buffer(f"kernel{i}"), kernel)
        assert torch.equal(inner.get_buffer(f"bias{i}"), bias)


def test_the_clamp_lets_the_gradient_through_at_zero_and_one_and_stops_it_beyond() -> None:
    rendering = torch.full((1, 3, 16, 16), 0.5)
    rendering[..., 0], rendering[..., 1], rendering[..., 2], rendering[..., 3] = 0.0, 1.0, -0.1, 1.1
    rendering.requires_grad_()
    single_terms.L2Term()(rendering, torch.full_like(rendering, 0.25), torch.ones(1, 1, 16, 16)).backward()
    assert rendering.grad is not None
    reached = (rendering.grad[0] != 0).flatten(0, 1).all(dim=0)
    assert reached[[0, 1, 4, 5]].all()
    assert not reached[[2, 3]].any()


def test_masks_that_do_not_fit_are_named() -> None:
    x, y, mask = _images()
    with pytest.raises(ValueError, match="mask must have shape"):
        single_terms.L2Term()(x, y, mask[..., :-1])


def test_lpips_is_a_clear_error_where_its_package_is_absent() -> None:
    try:
        importlib.import_module("lpips")
    except ImportError:
        with pytest.raises(LpipsError, match=r"pip install lpips.*weight to 0"):
            single_terms.LpipsTerm()
    else:
        pytest.skip("the lpips package is installed")


def test_lpips_is_zero_for_equal_images_and_not_negative() -> None:
    pytest.importorskip("lpips", reason="the lpips package, which needs torchvision, is not installed")
    term = single_terms.LpipsTerm()
    x, y, mask = (torch.nn.functional.interpolate(part, (64, 64)) for part in _images())
    x.requires_grad_()
    value = term(x, y, mask)
    value.backward()
    assert float(value.detach()) > 0
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())
    assert float(term(y, y, mask)) == 0
