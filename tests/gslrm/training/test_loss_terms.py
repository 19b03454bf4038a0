"""Each term against a float64 oracle written pixel by pixel."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gslrm.training import loss_terms


def _images(n: int = 2, h: int = 6, w: int = 5, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.rand(n, 3, h, w, dtype=torch.float64, generator=generator) for _ in range(2))
    mask = torch.rand(n, 1, h, w, dtype=torch.float64, generator=generator)
    mask[0, 0, 0, 0] = 0.5
    return x, y, mask


def _pixels(mask: Tensor):
    n, _, h, w = mask.shape
    return [(i, r, c) for i in range(n) for r in range(h) for c in range(w)]


def test_masked_l2_sums_over_the_foreground_of_all_images() -> None:
    x, y, mask = _images()
    total, count = 0.0, 0
    for i, r, c in _pixels(mask):
        if mask[i, 0, r, c] > 0.5:
            count += 1
            total += sum(float(x[i, k, r, c] - y[i, k, r, c]) ** 2 for k in range(3))
    assert loss_terms.masked_l2(x, y, mask).item() == pytest.approx(total / (3 * count), rel=1e-12)
    assert loss_terms.masked_l2(x, y, torch.zeros_like(mask)).item() == 0.0
    assert loss_terms.masked_l2(x, y, torch.ones_like(mask)).item() == pytest.approx(loss_terms.l2(x, y).item())


def test_background_looks_where_the_mask_is_below_a_half() -> None:
    x, _, mask = _images()
    colour = torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64)
    total, count = 0.0, 0
    for i, r, c in _pixels(mask):
        if mask[i, 0, r, c] < 0.5:
            count += 1
            total += sum((float(x[i, k, r, c]) - float(colour[k])) ** 2 for k in range(3))
    assert loss_terms.background(x, colour, mask).item() == pytest.approx(total / (3 * count), rel=1e-12)
    assert loss_terms.background(x, colour, torch.ones_like(mask)).item() == 0.0


def _points(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    xyz = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=generator)
    origin = torch.randn(2, 3, 1, 1, dtype=torch.float64, generator=generator).expand(2, 3, 4, 5)
    direction = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=generator)
    mask = (torch.rand(2, 1, 4, 5, generator=generator) > 0.5).double()
    return xyz, origin, direction / direction.norm(dim=1, keepdim=True), mask


@pytest.mark.parametrize("masked", [False, True])
def test_pixel_alignment_is_the_distance_from_the_ray(masked: bool) -> None:
    xyz, origin, direction, mask = _points()
    total = 0.0
    for i, r, c in _pixels(mask):
        v = (xyz - origin)[i, :, r, c]
        distance = torch.linalg.cross(v, direction[i, :, r, c]).norm().item()
        total += distance * (mask[i, 0, r, c].item() if masked else 1.0)
    value = loss_terms.pixel_alignment(xyz, origin, direction, mask if masked else None)
    assert value.item() == pytest.approx(total / 40, rel=1e-12)


def test_pixel_alignment_pulls_across_the_ray_only_and_rests_on_it() -> None:
    xyz, origin, direction, _ = _points()
    xyz.requires_grad_()
    loss_terms.pixel_alignment(xyz, origin, direction).backward()
    assert (xyz.grad * direction).sum(1).abs().max() < 1e-12
    on_ray = (origin + 2.0 * direction).requires_grad_()
    value = loss_terms.pixel_alignment(on_ray, origin, direction)
    value.backward()
    assert value.item() < 1e-13
    assert bool(torch.isfinite(on_ray.grad).all())


def test_points_distance_normalises_each_view() -> None:
    generator = torch.Generator().manual_seed(3)
    xyz = torch.randn(5, 3, 4, 4, dtype=torch.float64, generator=generator)
    origin = torch.randn(5, 3, 4, 4, dtype=torch.float64, generator=generator)
    total = 0.0
    for view in range(5):
        pixels = [(r, c) for r in range(4) for c in range(4)]
        distances = [(xyz - origin)[view, :, r, c].norm().item() for r, c in pixels]
        centres = [origin[view, :, r, c].norm().item() for r, c in pixels]
        mean = sum(distances) / 16
        std = math.sqrt(sum((d - mean) ** 2 for d in distances) / 15)  # Bessel's
        wanted = [(d - mean) / (std + 1e-8) * 0.5 + centre for d, centre in zip(distances, centres, strict=True)]
        total += sum((d - w) ** 2 for d, w in zip(distances, wanted, strict=True)) / 16
    assert loss_terms.points_distance(xyz, origin).item() == pytest.approx(total / 5, rel=1e-12)


def test_points_at_one_distance_are_finite() -> None:
    xyz = torch.ones(1, 3, 2, 2, requires_grad=True)
    value = loss_terms.points_distance(xyz, torch.zeros(1, 3, 2, 2))
    value.backward()
    assert math.isfinite(value.item())
    assert bool(torch.isfinite(xyz.grad).all())


def test_what_the_mask_hides_does_not_count_not_even_nan() -> None:
    x, y, mask = _images()
    spoilt = x.masked_fill((mask <= 0.5).expand_as(x), math.nan).requires_grad_()
    value = loss_terms.masked_l2(spoilt, y, mask)
    value.backward()
    assert value.item() == loss_terms.masked_l2(x, y, mask).item()
    assert bool(torch.isfinite(spoilt.grad).all())


def test_a_point_that_the_mask_hides_does_not_count_not_even_nan() -> None:
    xyz, origin, direction = torch.rand(3, 2, 3, 4, 4).unbind(0)
    direction = direction / direction.norm(dim=1, keepdim=True)
    mask = torch.ones(2, 1, 4, 4)
    mask[:, :, 1] = 0.0
    values, gradients = [], []
    for hidden in (0.0, math.nan, math.inf):
        points = xyz.where(mask > 0, hidden).requires_grad_()
        value = loss_terms.pixel_alignment(points, origin, direction, mask)
        values.append(value.item())
        gradients.append(torch.autograd.grad(value, points)[0])
    assert values[0] == values[1] == values[2] > 0.0
    assert torch.equal(gradients[0], gradients[1])
    assert torch.equal(gradients[0], gradients[2])
