"""One call of a session's subject: a case for a task, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from harness.cases.descriptors import LossCase, MaskKind, TrainingCase
from harness.cases.strategies import NEAR_IDENTICAL
from harness.engine.loss_search import check_loss_case
from harness.engine.plan import SubjectKind, Task
from harness.engine.ranks_search import check_ranks_case
from harness.engine.result import Call
from harness.engine.run import Session
from harness.engine.step_search import check_step_case
from harness.errors import SubjectError, UsageError
from harness.oracle.meanings import meaning_named
from harness.precision import precisions_named
from harness.properties import LOSS_PROPERTIES, RANKS_AGREE, STEP_PROPERTIES, LossProperty, StepProperty
from harness.properties.verdict import Verdict
from harness.protocols import LossSubject
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
        UsageError: there is no such property or precision, or the property says nothing of the case or the subject.
        SubjectError: the subject is of another shape than the case.
        PrecisionError: the precision can't be had.
    """
    task, case = call.task, call.case
    (precision,) = precisions_named([task.precision])
    if isinstance(case, LossCase):
        assert session.loss is not None
        loss_property = _named(task, LOSS_PROPERTIES)
        _refuse_outside_the_claim(case, loss_property, session.loss)
        with precision.installed():
            return check_loss_case(session.loss, loss_property, precision, case, session.folder)
    assert session.step is not None
    if isinstance(case, TrainingCase) != isinstance(session.step, TrainingFactory):
        needed = "whole training" if isinstance(case, TrainingCase) else "step that is fed losses"
        raise SubjectError(f"the case is a fault program of a {needed}, which {session.step.name.spec} is not.")
    if task.property == RANKS_AGREE.name:
        if not isinstance(case, TrainingCase):
            raise UsageError(f"{RANKS_AGREE.name} is a property of whole trainings, and the case isn't of one.")
        _refuse_inapplicable(RANKS_AGREE.name, RANKS_AGREE.inapplicable(session.step))
        return check_ranks_case(session.rank_pair, RANKS_AGREE, precision.name, case)
    step_property = _named(task, STEP_PROPERTIES)
    _refuse_inapplicable(step_property.name, step_property.inapplicable(session.step))
    with precision.installed():
        return check_step_case(session.step, step_property, precision, case)


def _named(task: Task, properties: Sequence[P]) -> P:
    for found in properties:
        if found.name == task.property:
            return found
    kind = SubjectKind(task.kind).value
    raise UsageError(f"this version of the harness has no {kind} property {task.property!r}.")


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
            raise UsageError(f"the property {property_.name!r} says nothing of {what}: this case can't be judged.")
