from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.cases.descriptors import LossCase, Mask, MaskKind, Perturbation, PerturbationKind, Picture, PictureKind
from harness.cases.pictures import PHOTOGRAPHS
from harness.cases.strategies import MAGNITUDES
from harness.config import Settings
from harness.engine.plan import Task
from harness.engine.session import Session
from harness.kinds.worse_losses import losses_beside
from harness.oracle.definitions import LossDefinition, definition_named
from harness.properties import LOSS_PROPERTIES
from harness.subject_spec import SubjectKind

_CASES: dict[str, Any] = {
    "smallest_side": 11,
    "fewest_images": 1,
    "perturbations": (PerturbationKind.NOISE, PerturbationKind.OFFSET),
    "masks": (MaskKind.DISC, MaskKind.FULL),
}
_NOISE = Perturbation(PerturbationKind.NOISE, 0.01)
_SPECK = Mask(MaskKind.DISC, 5)


def _beside(case: LossCase, name: str = "masked-ssim", **changes: Any) -> list[LossCase]:
    definition = definition_named(name)
    assert isinstance(definition, LossDefinition)
    return list(losses_beside({**_CASES, **changes}, definition)(case))


def test_first_of_all_are_large_crops_of_photographs_beside_others() -> None:
    kinds = (PerturbationKind.NOISE, PerturbationKind.UNRELATED)
    case = LossCase(12, 13, picture=Picture(PictureKind.FLAT, 7), mask=_SPECK, perturbation=_NOISE)
    found = _beside(case, perturbations=kinds)
    crops = [one for one in found if one.perturbation.kind is PerturbationKind.UNRELATED]
    assert crops == found[:12]
    assert {(one.picture.name, one.seed) for one in crops} == {(name, i) for name in PHOTOGRAPHS for i in range(3)}
    assert {(one.height, one.width, one.images, one.mask.kind) for one in crops} == {(192, 192, 1, MaskKind.FULL)}


def test_beside_a_grey_is_every_other_and_every_magnitude() -> None:
    case = LossCase(12, 13, picture=Picture(PictureKind.FLAT, 7), mask=_SPECK, perturbation=_NOISE, seed=3)
    found = _beside(case)
    alike = [one for one in found if one.mask == _SPECK]
    greys, others = alike[:256], alike[256:]
    assert [one.picture.level for one in greys] == list(range(256))
    assert {(one.height, one.width, one.perturbation, one.seed) for one in greys} == {(12, 13, _NOISE, 3)}
    assert [one.perturbation.magnitude for one in others] == list(MAGNITUDES)
    assert {(one.picture, one.perturbation.kind) for one in others} == {(case.picture, PerturbationKind.NOISE)}
    _assert_greys_beside_others([one for one in found if one.mask != _SPECK], 11)


def _assert_greys_beside_others(found: list[LossCase], side: int) -> None:
    assert [(one.perturbation.magnitude, one.picture.level) for one in found] == [
        (offset, level) for offset in (1e-3, 1e-2) for level in range(256)
    ]
    assert {(one.height, one.width, one.images, one.mask.kind, one.perturbation.kind) for one in found} == {
        (side, side, 1, MaskKind.FULL, PerturbationKind.OFFSET)
    }


@pytest.mark.parametrize(("name", "side"), [("masked-ssim", 11), ("zero-padded-ssim", 33)])
@pytest.mark.parametrize("large", [False, True])
def test_a_picture_or_a_large_case_gives_way_to_greys_beside_others(name: str, side: int, large: bool) -> None:
    picture = Picture(PictureKind.FLAT, 7) if large else Picture(PictureKind.TEXTURE)
    case = LossCase(512 if large else 40, 20, 2, 2, picture=picture, mask=_SPECK, perturbation=_NOISE, seed=3)
    _assert_greys_beside_others(_beside(case, name), side)


def test_where_images_are_to_be_equal_the_greys_are() -> None:
    for picture in (Picture(PictureKind.TEXTURE), Picture(PictureKind.FLAT, 7)):
        found = _beside(LossCase(11, 11, picture=picture, mask=_SPECK), perturbations=(PerturbationKind.NONE,))
        assert [one.picture.level for one in found] == list(range(256))
        assert {(one.mask, one.perturbation.kind) for one in found} == {(_SPECK, PerturbationKind.NONE)}


def test_every_grey_is_tried_of_accuracy_alone_and_of_no_loss_whose_truth_takes_long() -> None:
    tried = {}
    task = Task(SubjectKind.LOSS, "accuracy", "float32")
    for truth in ("ssim", "ms-ssim"):
        session = Session(Settings(loss="gslrm.model.utils_losses:SsimLoss", truth=truth))
        bench = session.bench(session.kind(task))
        plans = {property_.name: bench.plan(property_, 10) for property_ in LOSS_PROPERTIES}
        tried[truth] = {name for name, plan in plans.items() if plan.beside is not None}
    assert tried == {"ssim": {"accuracy"}, "ms-ssim": set()}


def test_where_a_mask_may_hide_all_one_that_does_is_always_run() -> None:
    session = Session(Settings(loss="gslrm.model.utils_losses:MaskedSsimLoss"))
    bench = session.bench(session.kind(Task(SubjectKind.LOSS, "finite", "float32")))
    run = {
        property_.name
        for property_ in LOSS_PROPERTIES
        if any(case.mask.kind is MaskKind.EMPTY for case in bench.plan(property_, 10).first)
    }
    assert "finite" in run
    assert "accuracy" not in run


def test_a_users_own_picture_stays() -> None:
    case = LossCase(12, 12, picture=Picture(PictureKind.FILE, name="own.png"), perturbation=_NOISE)
    assert _beside(replace(case, height=40)) == []
    found = _beside(case)
    assert len(found) == len(MAGNITUDES)
    assert {one.picture for one in found} == {case.picture}
