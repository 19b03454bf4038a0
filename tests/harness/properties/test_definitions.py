"""Each term of the training loss keeps what its definition promises, and what is nearly that is convicted."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cases.descriptors import LossCase, Mask, MaskKind, Perturbation, PerturbationKind, Picture, PictureKind
from harness.cases.points import build_points
from harness.config import Settings
from harness.engine.plan import Task
from harness.engine.result import Status, TaskResult
from harness.engine.run import TaskRunner
from harness.oracle.definitions import DEFINITIONS
from harness.oracle.point_terms import points_distance_truth
from harness.precision import precisions_named
from harness.properties import LOSS_PROPERTIES
from harness.subject_spec import SubjectKind, SubjectSpec
from harness.subjects.adapted_loss import AdaptedLoss
from harness.subjects.loss import load_loss
from harness.trials.loss_trial import LossTrial
from tests.harness.judging import judged_loss
from tests.harness.properties.term_mutants import distance_through_the_target

_MUTANTS = str(Path(__file__).with_name("term_mutants.py"))
_TERMS = "gslrm.testing.single_terms"
_TRIED = "gslrm.model.tried_losses"
_NAMES = [property_.name for property_ in LOSS_PROPERTIES]
PRECISIONS = ("float32", "cpu-autocast-bfloat16", "cuda-policy-float16", "float16-inputs")
TERMS = {
    f"{_TERMS}:L2Term": "mse",
    f"{_TERMS}:MaskedL2Term": "masked-mse",
    f"{_TERMS}:SsimTerm": "ssim",
    f"{_TERMS}:MaskedSsimTerm": "masked-ssim-term",
    f"{_TERMS}:BackgroundTerm": "background",
    f"{_TERMS}:PixelAlignmentTerm": "pixel-alignment",
    f"{_TERMS}:MaskedPixelAlignmentTerm": "masked-pixel-alignment",
    f"{_TERMS}:PointsDistanceTerm": "points-distance",
}
_OTHER_LOSSES = {
    f"{_TRIED}:ForegroundSsimLoss": "foreground",
    f"{_TRIED}:MaskedL1Loss": "l1",
    f"{_TRIED}:MaskedL2Loss": "l2",
    f"{_MUTANTS}:clamped": "clamped",
    f"{_MUTANTS}:zero_padded": "zero-padded-ssim",
}


def _run(spec: str, truth: str, name: str, precision: str, examples: int) -> TaskResult:
    return _session(spec, truth, examples).run(Task(SubjectKind.LOSS, name, precision), lambda _: None)


@functools.lru_cache(maxsize=2)
def _session(spec: str, truth: str, examples: int) -> TaskRunner:
    return TaskRunner(Settings(loss=spec, truth=truth, max_examples=examples))


def _acquitted(spec: str, truth: str, precision: str, examples: int) -> dict[str, TaskResult]:
    results = {name: _run(spec, truth, name, precision, examples) for name in _NAMES}
    wrong = {name: r.message for name, r in results.items() if r.status not in (Status.HELD, Status.NOT_APPLICABLE)}
    assert not wrong
    return results


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("spec", TERMS)
def test_a_term_is_acquitted_by_all_that_applies_to_it(spec: str, precision: str) -> None:
    definition = DEFINITIONS[TERMS[spec]]
    results = _acquitted(spec, definition.name, precision, 20 if precision == "float32" else 5)
    silent = {name: r.message for name, r in results.items() if r.status is Status.NOT_APPLICABLE}
    expected = set()
    if definition.why_mask_says_nothing:
        expected |= {"hidden-pixels", "full-mask", "empty-mask", "soft-mask", "mask-dtype"}
    if definition.asymmetry:
        expected |= {"symmetry", "target-gradient"}
    if definition.on_points:
        expected.add("float32-target")
    if definition.pooling:
        expected.add("batch")
    assert set(silent) == expected
    assert all(silent.values())


@pytest.mark.parametrize("spec", _OTHER_LOSSES)
def test_another_loss_is_what_it_is_held_to(spec: str) -> None:
    _acquitted(spec, _OTHER_LOSSES[spec], "float32", 6)


_CONVICTIONS = [
    ("clamped", "unclamped", "range", "float32"),
    ("foreground", "unclamped", "accuracy", "float32"),
    ("l1", "l1_of_all_pixels", "hidden-pixels", "float32"),
    ("l1", "l1_of_all_pixels", "accuracy", "float32"),
    ("l2", "l2_summed_over_images", "batch", "float32"),
    ("masked-ssim-term", "nan_becomes_a_number", "bad-input", "float32"),
    ("ssim", "unclamped", "accuracy", "float32"),
    ("zero-padded-ssim", "zero_padded_not_at_all", "accuracy", "float32"),
    ("zero-padded-ssim", "zero_padded_too_little", "accuracy", "float32"),
    ("zero-padded-ssim", "zero_padded_with_the_edge", "accuracy", "float32"),
    ("zero-padded-ssim", "zero_padded_renormalised", "accuracy", "float32"),
    ("zero-padded-ssim", "zero_padded_by_convolution", "range", "float32"),
    ("zero-padded-ssim", "zero_padded_by_convolution", "accuracy", "float32"),
    ("mse", "mse_in_autocast", "accuracy", "cpu-autocast-bfloat16"),
    ("mse", "mse_in_autocast", "accuracy", "cuda-policy-float16"),
    ("masked-mse", "masked_mse_over_all_pixels", "accuracy", "float32"),
    ("masked-mse", "masked_mse_from_a_half", "soft-mask", "float32"),
    ("masked-mse", "masked_mse_of_nothing", "empty-mask", "float32"),
    ("masked-mse", "l1_of_all_pixels", "full-mask", "float32"),
    ("background", "background_up_to_a_half", "soft-mask", "float32"),
    ("background", "background_black", "accuracy", "float32"),
    ("background", "background_black", "full-mask", "float32"),
    ("background", "background_from_target", "identity", "float32"),
    ("background", "background_of_everything", "hidden-pixels", "float32"),
    ("background", "background_of_everything", "empty-mask", "float32"),
    ("pixel-alignment", "alignment_squared", "accuracy", "float32"),
    ("pixel-alignment", "alignment_by_square_root", "finite", "float32"),
    ("pixel-alignment", "alignment_from_the_camera", "identity", "float32"),
    ("masked-pixel-alignment", "alignment_over_the_foreground", "accuracy", "float32"),
    ("masked-pixel-alignment", "alignment_through_the_projection", "hidden-pixels", "float32"),
    ("masked-pixel-alignment", "alignment_through_the_projection", "empty-mask", "float32"),
    ("masked-pixel-alignment", "alignment_by_hard_mask", "soft-mask", "float32"),
    ("points-distance", "distance_without_gradient", "gradient-alive", "float32"),
    ("points-distance", "distance_with_population_deviation", "accuracy", "float32"),
    ("points-distance", "distance_normalised_over_the_batch", "batch", "float32"),
]


@pytest.mark.parametrize(("truth", "mutant", "name", "precision"), _CONVICTIONS)
def test_what_is_nearly_the_loss_is_convicted(truth: str, mutant: str, name: str, precision: str) -> None:
    result = _run(f"{_MUTANTS}:{mutant}", truth, name, precision, 30)
    assert result.status is Status.VIOLATED
    assert result.message


def test_that_the_projection_is_held_fixed_makes_no_difference() -> None:
    """So no property could convict its absence."""
    result = _run(f"{_MUTANTS}:alignment_through_the_projection", "pixel-alignment", "gradient-accuracy", "float32", 30)
    assert result.status is Status.HELD, result.message


@pytest.mark.parametrize("seed", range(5))
def test_that_normalised_distances_are_held_fixed_makes_none_where_they_are_spread(seed: int) -> None:
    """Where all are nearly alike float32 can't divide by their spread, and the difference shows."""
    points = build_points(replace(_NEAR, seed=seed))
    given = [tensor.clone() for tensor in points.tensors()]
    given[0].requires_grad_()
    distance_through_the_target(*given).backward()
    truth = points_distance_truth(points).gradient
    assert given[0].grad is not None
    assert float((given[0].grad.double() - truth).norm()) < 1e-4 * float(truth.norm())


def test_every_definition_convicts_something() -> None:
    elsewhere = {"masked-ssim", "ms-ssim", "perceptual"}
    assert {truth for truth, *_ in _CONVICTIONS} | elsewhere == set(DEFINITIONS)


# VGG19 and MS-SSIM take long: cases of their own instead of a search.
_NEAR = LossCase(
    16,
    18,
    batch=2,
    seed=3,
    picture=Picture(PictureKind.PHOTO, name="chelsea.png"),
    mask=Mask(MaskKind.DISC, 40),
    perturbation=Perturbation(PerturbationKind.NOISE, 0.01),
)
_FAR = replace(_NEAR, picture=Picture(PictureKind.SMOOTH), perturbation=Perturbation(PerturbationKind.UNRELATED))
_SAME = replace(_NEAR, perturbation=Perturbation(PerturbationKind.NONE))


@pytest.fixture(scope="module")
def perceptual() -> AdaptedLoss:
    return load_loss(SubjectSpec(f"{_TERMS}:PerceptualTerm", truth="perceptual"))


@pytest.mark.parametrize("name", PRECISIONS)
@pytest.mark.parametrize("case", [_NEAR, _FAR, _SAME], ids=["near", "far", "same"])
def test_the_perceptual_term_is_acquitted_on_cases_of_its_own(
    perceptual: AdaptedLoss, name: str, case: LossCase
) -> None:
    (precision,) = precisions_named([name])
    with precision.installed():
        trial = LossTrial(perceptual, precision, case)
        for property_ in LOSS_PROPERTIES:
            speaks = case.perturbation.kind in property_.perturbations and property_.flaws == (None,)
            if speaks and property_.inapplicable(perceptual.kind, trial.definition) is None:
                verdict = property_.check(trial)
                assert verdict.holds, f"{property_.name}: {verdict.message}"


@pytest.mark.parametrize("name", ["range", "identity", "accuracy", "strides", "bad-input"])
def test_the_perceptual_term_is_acquitted_by_a_short_search(name: str) -> None:
    result = _run(f"{_TERMS}:PerceptualTerm", "perceptual", name, "float32", 2)
    assert result.status is Status.HELD, result.message


def _verdict(spec: str, truth: str, name: str, precision: str, case: LossCase) -> str:
    (chosen,) = precisions_named([precision])
    property_ = next(p for p in LOSS_PROPERTIES if p.name == name)
    return judged_loss(load_loss(SubjectSpec(spec, truth=truth)), property_, chosen, case).message


@pytest.mark.parametrize("name", ["accuracy", "gradient-accuracy"])
@pytest.mark.parametrize(
    ("mutant", "convicted"),
    [
        ("Perceptual", False),
        ("PerceptualWithMaxima", True),
        ("PerceptualUndivided", True),
        ("PerceptualOfUnitRange", True),
        ("PerceptualInHalf", True),
    ],
)
def test_what_is_nearly_the_perceptual_loss_is_convicted(mutant: str, convicted: bool, name: str) -> None:
    message = _verdict(f"{_MUTANTS}:{mutant}", "perceptual", name, "float32", replace(_NEAR, batch=1))
    assert bool(message) is convicted, message


def test_four_scales_are_not_ms_ssim() -> None:
    case = LossCase(
        161, 161, picture=Picture(PictureKind.TEXTURE), perturbation=Perturbation(PerturbationKind.NOISE, 0.1)
    )
    assert not _verdict(f"{_TRIED}:MaskedMsSsimLoss", "ms-ssim", "accuracy", "float32", case)
    assert _verdict(f"{_MUTANTS}:ms_ssim_of_four_scales", "ms-ssim", "accuracy", "float32", case)
