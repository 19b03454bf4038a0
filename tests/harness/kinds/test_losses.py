"""What a loss makes of values beyond [0, 1] is told once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gslrm.model.utils_losses import MaskedSsimLoss
from harness.cases.descriptors import LossCase, Mask, MaskKind, Perturbation, PerturbationKind, Picture, PictureKind
from harness.oracle.definitions import definition_named
from harness.oracle.levels import Level
from harness.precision import precisions_named
from harness.properties import LOSS_PROPERTIES
from harness.properties.verdict import Verdict
from harness.protocols import LossKind
from harness.subject_spec import SubjectSpec
from harness.subjects.adapted_loss import AdaptedLoss, Origin
from harness.subjects.witness import HeldTo
from tests.harness.judging import judged_loss
from tests.harness.subjects.float32_textbooks import clamped

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
BEYOND = LossCase(
    16, 16, picture=Picture(PictureKind.FLAT, 255), mask=Mask(MaskKind.DISC, 80),
    perturbation=Perturbation(PerturbationKind.OVERSHOOT),
)  # fmt: skip
WITHIN = replace(BEYOND, perturbation=Perturbation(PerturbationKind.NOISE, 0.1))
_right = MaskedSsimLoss()


def _verdict(name: str, loss: Loss, case: LossCase, precision_name: str = "float32") -> Verdict:
    (property_,) = (p for p in LOSS_PROPERTIES if p.name == name)
    (precision,) = precisions_named([precision_name])
    held_to, spec = HeldTo(definition_named("masked-ssim")), SubjectSpec("beyond", truth="masked-ssim")
    subject = AdaptedLoss(spec, LossKind.MASKED, loss, held_to=held_to, origin=Origin())
    with precision.installed():
        return judged_loss(subject, property_, precision, case)


def refuses(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    assert rendering.max() <= 1.0, f"lower or equal to 1, got {float(rendering.max().detach()):g}"
    return _right(rendering, target, mask)


def raises(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    raise ValueError("no")


def differs(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    loss: Tensor = _right(rendering, target, mask)
    return loss if rendering.max() <= 1.0 else loss + 7.0


@pytest.mark.parametrize("name", ["range", "accuracy", "symmetry", "repeatable", "upstream-gradient", "batch"])
def test_a_refusal_is_a_matter_of_one_property(name: str) -> None:
    case = replace(BEYOND, batch=2) if name == "batch" else BEYOND
    assert _verdict(name, refuses, case).holds
    assert _verdict(name, raises, case).message == "raises ValueError: no"


def test_the_property_that_it_is_a_matter_of() -> None:
    verdict = _verdict("finite", refuses, BEYOND)
    assert verdict.raised
    assert verdict.message == "raises AssertionError: lower or equal to 1, got 1.05"
    assert _verdict("finite", refuses, WITHIN).holds


def test_another_value_beyond_is_none() -> None:
    verdict = _verdict("range", differs, BEYOND)
    assert not verdict.holds
    assert not verdict.raised
    assert _verdict("range", differs, WITHIN).holds


def test_what_raises_within_too_is_no_refusal_of_what_is_beyond() -> None:
    assert not _verdict("range", raises, BEYOND).holds
    assert _verdict("range", raises, WITHIN).raised


def in_float32(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Clamped as torchmetrics clamps, which gives equal, flat pictures a loss of 2e-3."""
    shown = mask > 0.5
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        return clamped(*(image.float().where(shown, 0.5) for image in (rendering, target)))


def in_half(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    shown = mask > 0.5
    return clamped(*(image.where(shown, 0.5) for image in (rendering, target)))


@pytest.mark.parametrize("precision", ["float32", "float16-inputs", "cpu-autocast-bfloat16", "cuda-policy-float16"])
def test_what_float32_rounds_is_rounding_under_whatever_the_loss_leaves(precision: str) -> None:
    flat = LossCase(11, 11, seed=2694, picture=Picture(PictureKind.FLAT, 252))
    verdict = _verdict("identity", in_float32, flat, precision)
    assert verdict.holds or verdict.level is Level.ROUNDING, verdict


def test_what_half_precision_does_is_a_fault_still() -> None:
    flat = LossCase(11, 11, seed=2694, picture=Picture(PictureKind.FLAT, 252))
    verdict = _verdict("identity", in_half, flat, "cuda-policy-bfloat16")
    assert (verdict.holds, verdict.level) == (False, Level.FAULT)


_SPECK = LossCase(
    12, 11, seed=351, picture=Picture(PictureKind.FLAT, 19),
    mask=Mask(MaskKind.FULL), perturbation=Perturbation(PerturbationKind.PIXEL, 3.16e-4),
)  # fmt: skip
"""Of a dark, flat picture with one pixel changed, the loss is 3.7e-6, and its variances are below their rounding."""


def clamped_as_a_whole(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Less than rounding, and no gradient where that leaves nothing."""
    return (_right(rendering, target, mask) - 1e-5).clamp(0.0, 2.0)


def test_variances_held_at_zero_leave_a_gradient_by_the_means() -> None:
    verdict = _verdict("gradient-alive", in_float32, _SPECK)
    # On another processor the sums may come out so that none is held.
    assert verdict.holds or verdict.level is Level.ROUNDING, verdict


def test_a_loss_that_is_clamped_as_a_whole_leaves_none_and_that_is_a_fault() -> None:
    verdict = _verdict("gradient-alive", clamped_as_a_whole, _SPECK)
    assert (verdict.holds, verdict.level) == (False, Level.FAULT), verdict
    assert verdict.quantity == 0.0


def test_a_sixtieth_of_a_gradient_is_a_fault_where_float32_is_not_all() -> None:
    def a_sixtieth(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        loss = _right(rendering, target, mask)
        return loss.detach() + (loss - loss.detach()) / 60

    assert _verdict("gradient-alive", a_sixtieth, WITHIN).level is Level.FAULT
    by_autocast = _verdict(
        "gradient-alive", lambda *inputs: in_half(*inputs) / 60 + 0.5, _SPECK, "cpu-autocast-bfloat16"
    )
    assert (by_autocast.holds, by_autocast.level) == (False, Level.FAULT), by_autocast
