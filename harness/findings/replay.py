"""Run a case file's case again: is it fixed?"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from harness.cases.descriptors import LossCase, MaskKind, TrainingCase
from harness.cases.strategies import NEAR_IDENTICAL
from harness.config import Settings
from harness.engine.loss_search import check_loss_case
from harness.engine.ranks_search import check_ranks_case
from harness.engine.run import Session
from harness.engine.step_search import check_step_case
from harness.errors import SubjectError, UsageError
from harness.findings.case_file import CaseFile, read_case_file
from harness.oracle.meanings import meaning_named
from harness.precision import precisions_named
from harness.properties import LOSS_PROPERTIES, RANKS_AGREE, STEP_PROPERTIES, LossProperty, StepProperty
from harness.properties.verdict import Verdict
from harness.protocols import LossSubject
from harness.subjects.step import StepFactory
from harness.subjects.training import TrainingFactory

P = TypeVar("P", LossProperty, StepProperty)


class Answer(str, enum.Enum):
    FIXED = "FIXED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Replayed:
    """The file, and what its case does now."""

    file: CaseFile
    answer: Answer
    message: str


def replay(path: Path, given: Settings) -> Replayed:
    """Run the case again, on the subject, root and pictures given, or on the file's own.

    Raises:
        HarnessError: no answer: the file, subject, property or precision is not to be had here.
    """
    file = read_case_file(path)
    verdict = _verdict(file, Session(settings_for(file, given)))
    if verdict.holds:
        return Replayed(file, Answer.FIXED, "the property holds for this case")
    return Replayed(file, Answer.FAILED, verdict.message)


def settings_for(file: CaseFile, given: Settings) -> Settings:
    """The file's own subject, root and pictures, where none are given instead."""
    settings = file.settings()
    for name in ("loss", "step", "subject_root", "images"):
        if getattr(given, name) is not None and (name not in ("loss", "step") or name == file.task.kind.value):
            settings = replace(settings, **{name: getattr(given, name)})
    return settings


def _verdict(file: CaseFile, session: Session) -> Verdict:
    (precision,) = precisions_named([file.task.precision])
    if isinstance(file.case, LossCase):
        assert session.loss is not None
        loss_property = _named(file, LOSS_PROPERTIES)
        _refuse_outside_the_claim(file.case, loss_property, session.loss)
        with precision.installed():
            return check_loss_case(session.loss, loss_property, precision, file.case, session.folder)
    assert session.step is not None
    _refuse_another_shape(file, session.step)
    if file.task.property == RANKS_AGREE.name:
        _refuse_inapplicable(RANKS_AGREE.name, RANKS_AGREE.inapplicable(session.step))
        assert isinstance(file.case, TrainingCase)
        return check_ranks_case(session.rank_pair, RANKS_AGREE, precision.name, file.case)
    step_property = _named(file, STEP_PROPERTIES)
    _refuse_inapplicable(step_property.name, step_property.inapplicable(session.step))
    with precision.installed():
        return check_step_case(session.step, step_property, precision, file.case)


def _named(file: CaseFile, properties: Sequence[P]) -> P:
    for found in properties:
        if found.name == file.task.property:
            return found
    raise UsageError(f"this version of the harness has no {file.task.kind.value} property {file.task.property!r}.")


def _refuse_inapplicable(name: str, reason: str | None) -> None:
    if reason:
        raise UsageError(f"the property {name!r} does not apply to this subject: {reason}.")


def _refuse_outside_the_claim(case: LossCase, property_: LossProperty, loss: LossSubject) -> None:
    """A file that was written by hand may ask of a loss what nobody claims of it."""
    meaning = meaning_named(loss.name.truth)
    _refuse_inapplicable(property_.name, property_.inapplicable(loss.kind, meaning))
    cases = property_.cases(meaning)
    masks = {*cases["masks"], *((MaskKind.OWN,) if len(cases["masks"]) > 1 else ())}
    near = case.perturbation.kind in NEAR_IDENTICAL  # no other kind uses its magnitude
    magnitudes = cases.get("magnitudes", (0.0, 1.0)) if near else (0.0, 1.0)
    speaks_of = {
        f"a perturbation of kind {case.perturbation.kind.value!r}": case.perturbation.kind in cases["perturbations"],
        f"a perturbation of {case.perturbation.magnitude:g}": min(magnitudes)
        <= case.perturbation.magnitude
        <= max(magnitudes),
        f"a mask of kind {case.mask.kind.value!r}": case.mask.kind in masks,
        f"{case.images} images": case.images >= cases["fewest_images"],
        f"images of {case.height}×{case.width}": min(case.height, case.width) >= cases["smallest_side"],
        f"the flaw {case.flaw.value!r}" if case.flaw else "a case without a flaw": case.flaw in cases["flaws"],
    }
    for what, said in speaks_of.items():
        if not said:
            raise UsageError(f"the property {property_.name!r} says nothing of {what}: this case can't be replayed.")


def _refuse_another_shape(file: CaseFile, step: StepFactory | TrainingFactory) -> None:
    if isinstance(file.case, TrainingCase) == isinstance(step, TrainingFactory):
        return
    needed = "whole training" if isinstance(file.case, TrainingCase) else "step that is fed losses"
    raise SubjectError(f"the case is a fault program of a {needed}, which {step.name.spec} is not.")
