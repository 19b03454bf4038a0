"""Run the tasks of a plan one by one on loaded subjects, emitting events."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.cases.descriptors import Case
from harness.config import Settings
from harness.engine.case_search import Asked, search_case
from harness.engine.confirmation import confirmed
from harness.engine.draws import Draws
from harness.engine.events import (
    CaseFailed,
    CaseStarted,
    Confirming,
    Event,
    Listener,
    TaskFinished,
    TaskStarted,
    WorstKept,
)
from harness.engine.judge import evidence_of, judge_calls, judged_call
from harness.engine.plan import Task
from harness.engine.pristine import Pristine
from harness.engine.result import NOWHERE, BrokenRegression, Call, Elsewhere, KnownCase, Status, TaskResult
from harness.engine.session import Session
from harness.errors import HarnessError, PrecisionError, SubjectError, UsageError
from harness.kinds.kind import Judged
from harness.kinds.registry import AnyKind
from harness.oracle.levels import Level
from harness.precision import precisions_named

OUT_OF_TIME = "out of time"
_EVIDENCE_SECONDS = 10.0


class _Remembering:
    """Passes a task's events on, keeping every case that was begun."""

    def __init__(self, calls: list[Call], emit: Listener) -> None:
        self._calls, self._emit = calls, emit

    def __call__(self, event: Event) -> None:
        if isinstance(event, CaseStarted):
            self._calls.append(Call(event.task, event.case))
        self._emit(event)


class TaskRunner:
    """Checks one task after the other.

    Args:
        deadline: on the monotonic clock; no further example is started after it.
        shows: what a report can show of a violation is gathered; its case is run a few dozen times more for that.

    Raises:
        HarnessError: as :class:`harness.engine.session.Session`.
    """

    def __init__(self, settings: Settings, deadline: float | None = None, shows: bool = True) -> None:
        self.session = Session(settings)
        self._settings, self._deadline, self._shows = settings, deadline, shows
        self._pristine: Pristine | None = None
        self._calls: list[Call] = []
        self._draws = Draws()

    def confirm_with(self, pristine: Pristine) -> None:
        """Have each violation confirmed on a subject that nothing was done to."""
        self._pristine = pristine

    def run(
        self,
        task: Task,
        emit: Listener,
        elsewhere: Elsewhere = NOWHERE,
        known: Sequence[KnownCase] = (),
        until: Level | None = None,
    ) -> TaskResult:
        """Check one task.

        Args:
            elsewhere: its cases are tried first: if one violates the property here too, no other needs to be found and
                made smaller.
            known: cases that failed before the run, tried before all others; of a regression case that fails, the
                result says so.
            until: the search ends with the first violation as grave as this; nothing is made smaller, or shown of it.
        """
        emit(TaskStarted(task))
        if self._deadline is not None and time.monotonic() > self._deadline:
            result = TaskResult(task, Status.NOT_RUN, message=OUT_OF_TIME)
        else:
            result = self._checked(task, _Remembering(self._calls, emit), elsewhere, known, until)
        if result.status is Status.VIOLATED and until is None:
            result = self._looked_into(result, emit)
        emit(TaskFinished(task, result))
        return result

    def _looked_into(self, result: TaskResult, emit: Listener) -> TaskResult:
        """Whether it shows by itself, and what there is to be shown of it."""
        task, case = result.task, result.case
        assert case is not None
        kind = self.session.kind(task)
        if self._pristine is not None and kind.confirms:
            emit(Confirming(task))
            alone = result.message
            result = confirmed(result, self._before(task, case), self._pristine.verdict)
            if result.message != alone:
                # What the smallest case needs besides is known; of the worst it isn't.
                result = replace(result, worst_case=None)
            assert result.case is not None
            case = result.case
        evidence = self._evidence(kind, (*result.earlier, Call(task, case)))
        if result.worst_case not in (None, case):
            assert result.worst_case is not None
            shown = self._evidence(kind, (Call(task, result.worst_case),), brief=True)
            emit(WorstKept(task, result.worst_case, result.message, shown))
        emit(CaseFailed(task, case, result.message, shrunk=True, earlier=result.earlier, evidence=evidence))
        return result

    def _evidence(self, kind: AnyKind, calls: Sequence[Call], brief: bool = False) -> Mapping[str, Any] | None:
        """Where the subject may end the process that asks, a fork of it is asked; a kind that can't be, remembers."""
        if not self._shows:
            return None
        if kind.confirms:
            return None if self._pristine is None else self._pristine.evidence(calls, _EVIDENCE_SECONDS, brief)
        try:
            return evidence_of(self.session, calls, brief)
        except HarnessError:
            return None

    def _before(self, task: Task, case: Case) -> list[Call]:
        """What the subject had been through when the case failed."""
        for index in range(len(self._calls) - 1, -1, -1):
            if self._calls[index] == Call(task, case):
                return self._calls[:index]
        return self._calls

    def _checked(
        self, task: Task, emit: Listener, elsewhere: Elsewhere, known: Sequence[KnownCase], until: Level | None
    ) -> TaskResult:
        try:
            return self._search(task, emit, elsewhere, known, until)
        except PrecisionError as error:
            return TaskResult(task, Status.NOT_RUN, message=str(error))

    def _search(
        self, task: Task, emit: Listener, elsewhere: Elsewhere, known: Sequence[KnownCase], until: Level | None
    ) -> TaskResult:
        (precision,) = precisions_named([task.precision])
        kind = self.session.kind(task)
        property_ = kind.property_named(task.property)
        if refusal := kind.refusal(self.session.subject(task.kind)):
            return TaskResult(task, Status.NOT_APPLICABLE, message=refusal)
        bench = self.session.bench(kind)
        if (reason := bench.inapplicable(property_)) is not None:
            return TaskResult(task, Status.NOT_APPLICABLE, message=reason)
        settings = self._settings
        # Each is run as a replay does, before the search: what it needs first may be of another precision.
        tried = [(one, judged) for one in known if (judged := self._tried_again(task, one, emit)) is not None]
        cases = [(one.case, judged) for one, judged in tried]
        number, deadline, draws = settings.max_examples, self._deadline, self._draws
        asked = Asked(task, precision, property_, number, settings.seed, elsewhere, deadline, cases, draws, until)
        with precision.installed():
            result = search_case(bench, asked, emit)
        broken = tuple(
            BrokenRegression(one.regression, judged.verdict.message, judged.verdict.level)
            for one, judged in tried
            if one.regression and not judged.verdict.holds
        )
        return replace(result, known_cases=len(tried), broken_regressions=broken)

    def _tried_again(self, task: Task, known: KnownCase, emit: Listener) -> Judged | None:
        """What a case that failed before does now, after the calls that it needs; ``None`` where it can't be judged
        any more.

        Raises:
            UsageError: likewise, of a regression case: a guard that says nothing would go unnoticed.
        """
        self._calls.extend(known.earlier)
        emit(CaseStarted(task, known.case))
        try:
            judge_calls(self.session, known.earlier)
            return judged_call(self.session, Call(task, known.case))
        except (UsageError, SubjectError) as error:
            if not known.regression:
                return None
            raise UsageError(
                f"the regression case {known.regression} can't be judged any more, so mend or remove it: {error}"
            ) from error
