"""One call of a session's subject: a case for a task, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from harness.cases.descriptors import LossCase, TrainingCase
from harness.engine.loss_search import check_loss_case
from harness.engine.plan import SubjectKind, Task
from harness.engine.ranks_search import check_ranks_case
from harness.engine.result import Call
from harness.engine.run import Session
from harness.engine.step_search import check_step_case
from harness.errors import SubjectError, UsageError
from harness.precision import precisions_named
from harness.properties import LOSS_PROPERTIES, RANKS_AGREE, STEP_PROPERTIES, LossProperty, StepProperty
from harness.properties.verdict import Verdict
from harness.subjects.training import TrainingFactory

P = TypeVar("P", LossProperty, StepProperty)


def judge_calls(session: Session, calls: Sequence[Call]) -> Verdict:
    """Run all of them in their order; the verdict on the last."""
    for call in calls:
        verdict = judge(session, call)
    return verdict


def judge(session: Session, call: Call) -> Verdict:
    """Run one case.

    Raises:
        UsageError: there is no such property or precision.
        SubjectError: the subject is of another shape than the case.
        PrecisionError: the precision can't be had.
    """
    task, case = call.task, call.case
    (precision,) = precisions_named([task.precision])
    if isinstance(case, LossCase):
        assert session.loss is not None
        loss_property = _named(task, LOSS_PROPERTIES)
        with precision.installed():
            return check_loss_case(session.loss, loss_property, precision, case, session.folder)
    assert session.step is not None
    if isinstance(case, TrainingCase) != isinstance(session.step, TrainingFactory):
        needed = "whole training" if isinstance(case, TrainingCase) else "step that is fed losses"
        raise SubjectError(f"the case is a fault program of a {needed}, which {session.step.name.spec} is not.")
    if task.property == RANKS_AGREE.name:
        if not isinstance(case, TrainingCase):
            raise UsageError(f"{RANKS_AGREE.name} is a property of whole trainings, and the case isn't of one.")
        return check_ranks_case(session.rank_pair, RANKS_AGREE, precision.name, case)
    step_property = _named(task, STEP_PROPERTIES)
    with precision.installed():
        return check_step_case(session.step, step_property, precision, case)


def _named(task: Task, properties: Sequence[P]) -> P:
    for found in properties:
        if found.name == task.property:
            return found
    kind = SubjectKind(task.kind).value
    raise UsageError(f"this version of the harness has no {kind} property {task.property!r}.")
