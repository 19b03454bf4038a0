"""Maps of points: on their rays as far as float32 allows, off them as the case says, the same bits everywhere."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
import torch
from hypothesis import given

from harness.cases.descriptors import LossCase, Mask, MaskKind, Perturbation, PerturbationKind, Picture, PictureKind
from harness.cases.points import build_points
from harness.cases.strategies import loss_cases

_CASE = LossCase(
    19, 23, 2, 1, 7, Picture(PictureKind.TEXTURE), Mask(MaskKind.BLOB, 9), Perturbation(PerturbationKind.NOISE, 0.0422)
)


@given(loss_cases())
def test_maps_have_unit_rays_and_points_before_the_camera(case: LossCase) -> None:
    points = build_points(case)
    for part in (points.xyz, points.origin, points.direction):
        assert tuple(part.shape) == (case.images, 3, case.height, case.width)
        assert part.dtype == torch.float32
        assert part.is_contiguous()
    assert tuple(points.mask.shape) == (case.images, 1, case.height, case.width)
    lengths = points.direction.double().norm(dim=1)
    assert float((lengths - 1.0).abs().max()) < 1e-7
    along = ((points.xyz - points.origin).double() * points.direction.double()).sum(1)
    assert float(along.min()) > 1.0


@pytest.mark.parametrize("kind", list(PictureKind)[:4])
def test_unperturbed_points_lie_on_their_rays_at_many_distances(kind: PictureKind) -> None:
    name = "coffee.png" if kind is PictureKind.PHOTO else ""
    points = build_points(LossCase(16, 12, seed=3, picture=Picture(kind, 90, name)))
    offset, direction = (points.xyz - points.origin).double(), points.direction.double()
    beside = torch.linalg.cross(offset, direction, dim=1).norm(dim=1)
    assert float(beside.max()) < 5e-7
    distance = offset.norm(dim=1)
    assert 1.49 < float(distance.min()) < float(distance.max()) < 2.51
    assert float(distance.std()) > 0.1


@pytest.mark.parametrize("kind", [k for k in PerturbationKind if k is not PerturbationKind.NONE])
def test_perturbations_take_points_off_their_rays(kind: PerturbationKind) -> None:
    case = LossCase(16, 16, picture=Picture(PictureKind.SMOOTH), perturbation=Perturbation(kind, 0.1))
    points, plain = build_points(case), build_points(replace(case, perturbation=Perturbation()))
    assert torch.equal(points.direction, plain.direction)
    offset = (points.xyz - points.origin).double()
    beside = torch.linalg.cross(offset, points.direction.double(), dim=1).norm(dim=1)
    moved = int((beside > 1e-5).sum())
    assert moved == 1 if kind is PerturbationKind.PIXEL else moved > 200


# Recorded once: a change here means that saved cases no longer mean what they meant.
def test_cases_never_go_stale() -> None:
    points = build_points(_CASE)
    data = b"".join(part.numpy().tobytes() for part in points.tensors())
    assert hashlib.sha256(data).hexdigest()[:8] == "2fc10ccc"


def test_a_batch_can_be_taken_apart() -> None:
    case = replace(_CASE, views=2)
    whole = build_points(case)
    for index in range(case.images):
        alone = build_points(replace(case, batch=1, views=1, seed=case.seed + index))
        for one, all_ in zip(alone.tensors(), whole.tensors(), strict=True):
            assert torch.equal(one[0], all_[index])


def test_half_inputs_leave_the_rays_in_float32() -> None:
    cast = build_points(_CASE).cast("cpu", torch.float16)
    assert (cast.xyz.dtype, cast.mask.dtype) == (torch.float16, torch.float16)
    assert (cast.origin.dtype, cast.direction.dtype) == (torch.float32, torch.float32)
