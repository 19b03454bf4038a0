from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given

from harness.cases.descriptors import (
    Hidden,
    LossCase,
    Mask,
    MaskKind,
    MaskValues,
    Perturbation,
    PerturbationKind,
    Picture,
    PictureKind,
)
from harness.cases.loss_inputs import MaskedPair
from harness.cases.masks import draw_mask
from harness.cases.random_numbers import RandomNumbers
from harness.cases.strategies import DRAWN_MASKS, loss_cases
from harness.cases.tensors import build_pair, with_mask_values, with_other_values, with_soft_mask


@given(loss_cases())
def test_pairs_are_images_in_range(case: LossCase) -> None:
    pair = build_pair(case)
    shape = (case.images, 3, case.height, case.width)
    assert tuple(pair.rendering.shape) == tuple(pair.target.shape) == shape
    assert tuple(pair.mask.shape) == (case.images, 1, case.height, case.width)
    for image in (pair.rendering, pair.target):
        assert image.dtype == torch.float32
        assert image.is_contiguous()
        beyond = image is pair.rendering and case.perturbation.kind is PerturbationKind.OVERSHOOT
        least, most = (-0.0201, 1.0501) if beyond else (0.0, 1.0)
        assert least <= float(image.min()) <= float(image.max()) <= most
    assert set(pair.mask.unique().tolist()) <= {0.0, 1.0}


# Recorded once: a change here means that saved cases no longer mean what they meant.
DIGESTS = {
    "smooth": "a0a0c650",
    "texture": "1f8449dc",
    "photo": "d9c0bc53",
}


def _digest(case: LossCase) -> str:
    pair = build_pair(case)
    data = b"".join(part.numpy().tobytes() for part in (pair.rendering, pair.target, pair.mask))
    return hashlib.sha256(data).hexdigest()[:8]


def _case(kind: str) -> LossCase:
    picture = Picture(PictureKind(kind), 0, "chelsea.png" if kind == "photo" else "")
    return LossCase(19, 23, 2, 1, 7, picture, Mask(MaskKind.BLOB, 9), Perturbation(PerturbationKind.NOISE, 0.0422))


@pytest.mark.parametrize("kind", DIGESTS)
def test_cases_never_go_stale(kind: str) -> None:
    assert _digest(_case(kind)) == DIGESTS[kind]


def test_another_process_builds_the_same_bits() -> None:
    code = (
        "import hashlib; from harness.cases.tensors import build_pair; from harness.cases.descriptors import *;"
        "p = build_pair(LossCase(19, 23, 2, 1, 7, Picture(PictureKind.TEXTURE), Mask(MaskKind.BLOB, 9),"
        "Perturbation(PerturbationKind.BLUR, 0.0422)));"
        "print(hashlib.sha256(p.rendering.numpy().tobytes()).hexdigest())"
    )
    digests = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(digests) == 1


@pytest.mark.parametrize("kind", DRAWN_MASKS)
@pytest.mark.parametrize("pixels", [1, 5])
def test_masks_have_the_pixels_they_say(kind: MaskKind, pixels: int) -> None:
    for seed in range(20):
        mask = draw_mask(Mask(kind, pixels), 13, 17, RandomNumbers(seed))
        count = int(mask.sum())
        if kind in (MaskKind.DISC, MaskKind.BORDER, MaskKind.BLOB):
            assert count == pixels
        elif kind is MaskKind.EMPTY:
            assert count == 0
        elif kind is MaskKind.FULL:
            assert mask.all()
        else:
            assert 1 <= count <= pixels
        if kind is MaskKind.BORDER:
            rim = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
            assert rim.any()


def test_blobs_are_connected() -> None:
    from scipy.ndimage import label

    for seed in range(20):
        assert label(draw_mask(Mask(MaskKind.BLOB, 12), 16, 16, RandomNumbers(seed)))[1] == 1


@pytest.mark.parametrize("kind", list(PerturbationKind))
def test_perturbations_do_what_they_say(kind: PerturbationKind) -> None:
    case = LossCase(16, 16, picture=Picture(PictureKind.SMOOTH), perturbation=Perturbation(kind, 1e-3))
    pair = build_pair(case)
    change = (pair.rendering - pair.target).abs()
    if kind is PerturbationKind.NONE:
        assert not change.any()
    elif kind in (PerturbationKind.UNRELATED, PerturbationKind.ANTICORRELATED, PerturbationKind.PATCH):
        assert change.max() > 0.1
    elif kind is PerturbationKind.OVERSHOOT:
        assert torch.allclose(pair.rendering, 1.07 * pair.target - 0.02, atol=1e-6)
    else:
        assert 0 < change.max() <= 1.001e-3
    if kind is PerturbationKind.PIXEL:
        assert int(change.sum(1).count_nonzero()) == 1


def test_a_batch_can_be_taken_apart() -> None:
    case = replace(_case("texture"), views=2)
    whole = build_pair(case)
    for index in range(case.images):
        alone = build_pair(replace(case, batch=1, views=1, seed=case.seed + index))
        assert torch.equal(alone.rendering[0], whole.rendering[index])
        assert torch.equal(alone.mask[0], whole.mask[index])


def test_other_values_come_where_they_are_asked_for_alone() -> None:
    case = LossCase(16, 16, mask=Mask(MaskKind.DISC, 9))
    pair = build_pair(case)
    other = with_other_values(case, pair, pair.mask <= 0.5)
    assert isinstance(other, MaskedPair)
    shown = pair.mask.expand_as(pair.rendering) > 0.5
    assert torch.equal(other.rendering[shown], pair.rendering[shown])
    assert not torch.equal(other.rendering[~shown], pair.rendering[~shown])


def test_a_soft_mask_hides_what_the_hard_one_hides() -> None:
    case = LossCase(16, 16, mask=Mask(MaskKind.DISC, 90))
    pair = build_pair(case)
    soft = with_soft_mask(case, pair).mask
    assert torch.equal(soft > 0.5, pair.mask > 0.5)
    assert set(soft[pair.mask == 0].tolist()) == {0.0, 0.25, 0.5}
    assert set(soft[pair.mask == 1].tolist()) == {0.75, 1.0}


def test_a_soft_mask_of_any_values_hides_what_the_hard_one_hides_in_half_precision_too() -> None:
    case = LossCase(16, 16, mask=Mask(MaskKind.DISC, 90, MaskValues.ANY))
    pair = build_pair(case)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        soft = with_soft_mask(case, pair.cast("cpu", dtype)).mask
        assert soft.dtype == dtype
        assert torch.equal(soft > 0.5, pair.mask > 0.5)
        assert 0.0 <= float(soft.min()) < 0.1
        assert 0.9 < float(soft.max()) <= 1.0
    found = set(with_soft_mask(case, pair).mask.double().flatten().tolist())
    assert {float(torch.tensor(value)) for value in (0.4999, 0.51)} < found
    assert len(found) > 100


@pytest.mark.parametrize("values", [MaskValues.BOOLEANS, MaskValues.WHOLE, MaskValues.BYTES])
def test_a_mask_is_handed_over_as_the_case_says(values: MaskValues) -> None:
    case = LossCase(16, 16, mask=Mask(MaskKind.DISC, 9, values))
    pair = build_pair(case)
    mask = with_mask_values(case, pair).mask
    dtype, largest = {"booleans": (torch.bool, 1), "whole numbers": (torch.uint8, 1), "bytes": (torch.uint8, 255)}[
        values.value
    ]
    assert mask.dtype == dtype
    assert torch.equal(mask.float(), pair.mask * largest)


@pytest.mark.parametrize("hidden", list(Hidden)[1:])
def test_nan_and_infinity_stand_where_they_are_asked_for_alone(hidden: Hidden) -> None:
    case = LossCase(16, 16, mask=Mask(MaskKind.DISC, 9), hidden=hidden)
    pair = build_pair(case)
    other = with_other_values(case, pair, pair.mask <= 0.5)
    assert isinstance(other, MaskedPair)
    spoilt, whole = (other.target, other.rendering) if "target" in hidden.value else (other.rendering, other.target)
    assert torch.equal(~spoilt.isfinite(), (pair.mask <= 0.5).expand_as(spoilt))
    assert bool(spoilt.isnan().any()) is ("NaN" in hidden.value)
    assert bool(whole.isfinite().all())


def test_a_patch_is_equal_beyond_the_foreground() -> None:
    perturbation = Perturbation(PerturbationKind.PATCH)
    case = LossCase(
        16, 16, picture=Picture(PictureKind.TEXTURE), mask=Mask(MaskKind.DISC, 9), perturbation=perturbation
    )
    pair = build_pair(case)
    expected = torch.where(pair.mask > 0.5, 1.0 - pair.target, pair.target)
    assert torch.allclose(pair.rendering, expected, rtol=0.0, atol=1e-7)


def test_random_numbers_differ_by_every_key() -> None:
    seen = {tuple(RandomNumbers(*keys).uniform(3)) for keys in ((0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0))}
    assert len(seen) == 6
