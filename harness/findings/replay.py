"""Run a case file's case again: is it fixed?"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from pathlib import Path

from harness.cases.descriptors import LossCase, StepCase
from harness.config import Settings
from harness.engine.loss_search import check_loss_case
from harness.engine.plan import SubjectKind
from harness.engine.run import Session
from harness.engine.step_search import check_step_case
from harness.errors import UsageError
from harness.findings.case_file import CaseFile, read_case_file
from harness.precision import precisions_named
from harness.properties import LOSS_PROPERTIES, STEP_PROPERTIES
from harness.properties.verdict import Verdict


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
    properties = LOSS_PROPERTIES if file.task.kind is SubjectKind.LOSS else STEP_PROPERTIES
    found = next((p for p in properties if p.name == file.task.property), None)
    if found is None:
        raise UsageError(f"this version of the harness has no {file.task.kind.value} property {file.task.property!r}.")
    with precision.installed():
        if isinstance(file.case, LossCase):
            assert session.loss is not None
            return check_loss_case(session.loss, found, precision, file.case, session.folder)  # type: ignore[arg-type]
        assert isinstance(file.case, StepCase)
        assert session.step is not None
        return check_step_case(session.step, found, precision, file.case)  # type: ignore[arg-type]
