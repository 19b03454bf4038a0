"""Export a case: write its script, run it, and say in its header what it printed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.cases.descriptors import LossCase, StepCase
from harness.engine.session import Session
from harness.errors import SubjectError, UsageError
from harness.files import one_line
from harness.findings.case_file import read_case_file
from harness.findings.export.loss_script import LossScript
from harness.findings.export.script import Exported, run_script, with_header
from harness.findings.export.step_script import StepScript
from harness.findings.replay import Given, settings_for
from harness.kinds.registry import default_kind, kind_of_case
from harness.precision import precisions_named


def export(path: Path, given: Given) -> Exported:
    """The case as a script that needs torch and the subject alone.

    Args:
        given: by their names, the settings that stand against the file's, as :func:`settings_for` takes them.

    Raises:
        HarnessError: the file, its subject or precision is not to be had here, or such a case can't be exported.
    """
    file = read_case_file(path)
    case, task = file.case, file.task
    kind = kind_of_case(case, task.property)
    if kind is not default_kind(task.kind):
        raise UsageError(
            f"{one_line(str(path))} holds {kind.words}: only a loss, or a step that is fed losses, can be exported."
        )
    settings = settings_for(file, given)
    subject = settings.subject(task.kind)
    assert subject is not None
    file = replace(file, subject=subject)
    (precision,) = precisions_named([task.precision])
    session = Session(settings)
    if session.kind(task) is not kind or kind.refusal(session.subject(task.kind)):
        raise SubjectError(f"the case is {kind.words}, which {one_line(session.spec(task.kind))} is not.")
    session.bench(kind).refuse(kind.property_named(task.property), case)
    if isinstance(case, LossCase):
        writer: LossScript | StepScript = LossScript(session, task, precision, case)
    else:
        assert isinstance(case, StepCase)
        writer = StepScript(session, task, precision, case)
    # The first that shows the failure; where none does, the nearest.
    best: Exported | None = None
    for draft in writer.drafts():
        printed = run_script(draft.body, settings.case_timeout)
        shown = writer.is_shown(printed)
        exported = Exported(with_header(file, draft, printed, shown), printed, shown)
        best = exported if best is None or shown else best
        if shown:
            break
    assert best is not None
    return best
