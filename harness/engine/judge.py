"""Calls of a session's subject: a case for a task, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.cases.descriptors import Case
from harness.engine.result import Call
from harness.engine.session import Session
from harness.errors import SubjectError, UsageError
from harness.files import one_line
from harness.kinds.kind import Bench, Judged
from harness.kinds.registry import AnyKind, kind_of_case, kinds_with
from harness.precision import Precision, precisions_named
from harness.properties.verdict import Verdict


def judge_calls(session: Session, calls: Sequence[Call]) -> Verdict:
    """Run all of them in their order; the verdict on the last.

    Raises:
        UsageError: there is no such property or precision, or the property says nothing of the case or the subject.
        SubjectError: the subject is of another kind than the case.
        PrecisionError: the precision can't be had.
    """
    verdict = Verdict(True, None, 0.0)
    for call in calls:
        verdict = judged_call(session, call).verdict
    return verdict


def judged_call(session: Session, call: Call) -> Judged:
    """Run one; the verdict, and as much of the case as was run.

    Raises:
        HarnessError: as :func:`judge_calls`.
    """
    bench, property_, precision = _opened(session, call)
    with precision.installed():
        return bench.judge(property_, precision, call.case, _nothing)


def evidence_of(session: Session, calls: Sequence[Call], brief: bool = False) -> Mapping[str, Any] | None:
    """Run all but the last; what a report can show of the last, with ``brief`` what needs no other cases.

    Raises:
        HarnessError: as :func:`judge_calls`.
    """
    *earlier, last = calls
    judge_calls(session, earlier)
    bench, property_, precision = _opened(session, last)
    return bench.evidence(property_, precision, last.case, brief)


def _opened(session: Session, call: Call) -> tuple[Bench[Any, Any], Any, Precision]:
    """What is needed to run it, once it is clear that it can be judged."""
    task, case = call.task, call.case
    (precision,) = precisions_named([task.precision])
    kind = session.kind(task)
    _refuse_another_kinds(kind, session, call)
    bench, property_ = session.bench(kind), kind.property_named(task.property)
    if reason := bench.inapplicable(property_):
        raise UsageError(f"the property {task.property!r} does not apply to this subject: {reason}.")
    bench.refuse(property_, case)
    return bench, property_, precision


def _refuse_another_kinds(kind: AnyKind, session: Session, call: Call) -> None:
    """A file that was written by hand may hold another kind's case."""
    task, case = call.task, call.case
    fitting = [other for other in kinds_with(task.kind, task.property) if isinstance(case, other.cases)]
    if not fitting:
        words = kind_of_case(case, task.property).words
        raise UsageError(f"{task.property} is judged on {kind.words}, but the case is {words}.")
    if kind not in fitting or kind.refusal(session.subject(task.kind)):
        meant = kind if kind in fitting else fitting[0]
        raise SubjectError(f"the case is {meant.words}, which {one_line(session.spec(task.kind))} is not.")


_nothing: Callable[[Case], None] = lambda case: None  # noqa: E731
