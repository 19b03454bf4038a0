"""What every search for a counterexample has in common: Hypothesis' settings, bookkeeping, and a bound on shrinking."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.errors import Flaky

from harness.cases.descriptors import Case
from harness.engine.events import CaseFailed, CaseStarted, Listener, Progress
from harness.engine.plan import Task
from harness.engine.result import Status, TaskResult
from harness.errors import printable
from harness.kinds.kind import SHRINKS
from harness.properties.verdict import Verdict

_PROGRESS_SECONDS = 0.1


class ViolationFound(Exception):
    """Raised inside Hypothesis' test function where the property is violated."""


def hypothesis_settings(examples: int, phases: Sequence[Phase], **more: Any) -> settings:
    """Settings that depend on no profile: what Hypothesis finds in a CI's environment changes nothing."""
    return settings(
        max_examples=examples,
        phases=tuple(phases),
        deadline=None,
        database=None,
        derandomize=False,
        print_blob=False,
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        **more,
    )


def keep_hypothesis_in(folder: Path) -> None:
    """Have what Hypothesis caches written into this folder, and not into the working directory."""
    set_hypothesis_home_dir(folder / ".hypothesis")


class Search:
    """Bookkeeping of one task: the first failing case, the last (the smallest), the worst, and the counts."""

    def __init__(self, task: Task, emit: Listener, deadline: float | None) -> None:
        self.task = task
        self.examples = 0
        self.first_failing: Case | None = None
        self._failing: dict[Case, tuple[Case, Verdict]] = {}
        self._smallest: Case | None = None
        self._worst_held: tuple[Case, Verdict] | None = None
        self._worst_quantity: Verdict | None = None
        self._shrinks_left = SHRINKS
        self._cut_short = False
        self._emit, self._deadline = emit, deadline
        self._started = time.monotonic()
        self._next_progress = 0.0

    @property
    def out_of_time(self) -> bool:
        return self._deadline is not None and time.monotonic() > self._deadline

    @property
    def has_failed(self) -> bool:
        return self.first_failing is not None

    def may_run(self) -> bool:
        """Whether another case may be run: there is time, or budget for shrinking."""
        if self.has_failed:
            return self._shrinks_left > 0
        self._cut_short |= self.out_of_time
        return not self._cut_short

    @property
    def smallest(self) -> Case | None:
        """The smallest failing case so far."""
        return self._smallest

    def restore_smallest(self, case: Case) -> None:
        """Go back to a case that failed before."""
        assert case in self._failing
        self._smallest = case

    def allow_shrinking(self, cases: int) -> None:
        """Let so many more cases be run in search of a smaller one."""
        self._shrinks_left = cases

    def fail_again(self, case: Case) -> None:
        """Fail at once if the case has failed before: it is then the smallest so far, which Hypothesis runs last.

        Raises:
            ViolationFound: it has.
        """
        if case in self._failing:
            self._violated(case)

    def starting(self, case: Case) -> None:
        """A case is about to run."""
        self._emit(CaseStarted(self.task, case))

    def ran(self, case: Case, run: Case, verdict: Verdict) -> None:
        """Record a case's verdict, once for each case, with the subject's own words cut to what a screen takes.

        Args:
            run: as much of the case as was run; where it violates the property, that is the case to keep.

        Raises:
            ViolationFound: it is violated.
        """
        verdict = replace(verdict, message=printable(verdict.message))
        if self.has_failed:
            self._shrinks_left -= 1
        else:
            self.examples += 1
        now = time.monotonic()
        if now >= self._next_progress:
            self._next_progress = now + _PROGRESS_SECONDS
            self._emit(Progress(self.task, self.examples, self.has_failed))
        if self._worst_quantity is None or verdict.badness > self._worst_quantity.badness:
            self._worst_quantity = verdict
        if verdict.holds:
            if self._worst_held is None or verdict.badness > self._worst_held[1].badness:
                self._worst_held = (case, verdict)
            return
        if not self.has_failed:
            self.first_failing = run
            self._emit(CaseFailed(self.task, run, verdict.message, shrunk=False))
        for known in (case, run):
            self._failing.setdefault(known, (run, verdict))
        self._violated(case)

    def _violated(self, case: Case) -> NoReturn:
        # Hypothesis tells failures apart by the line that raises: there must be one only.
        self._smallest = self._failing[case][0]
        raise ViolationFound

    def result(self) -> TaskResult:
        """What came of it."""
        seconds = time.monotonic() - self._started
        if self._smallest is not None:
            verdict = self._failing[self._smallest][1]
            return TaskResult(
                self.task,
                Status.VIOLATED,
                self.examples,
                seconds,
                self._quantity(),
                verdict.message,
                self._smallest,
            )
        if self.examples == 0:
            return TaskResult(self.task, Status.NOT_RUN, seconds=seconds, message="out of time")
        assert self._worst_held is not None
        message = f"out of time after {self.examples} examples" if self._cut_short else ""
        return TaskResult(
            self.task,
            Status.HELD,
            self.examples,
            seconds,
            self._quantity(),
            message,
            self._worst_held[0],
            cut_short=self._cut_short,
        )

    def _quantity(self) -> float | None:
        """The worst quantity met anywhere; a violated claim's smallest case need not be its worst."""
        assert self._worst_quantity is not None
        return self._worst_quantity.quantity


def climbing_score(verdict: Verdict) -> float:
    """The badness as ``hypothesis.target`` wants it: finite, and by orders of magnitude."""
    return math.log10(min(max(verdict.badness, 1e-12), 1e12))


def run_quietly(test: Callable[[], None]) -> None:
    """Run a Hypothesis test whose failure is on record already.

    Hypothesis also ends where the same choices led elsewhere: a subject whose runs differ failed in one and not in
    another. That it failed is on record too.
    """
    with contextlib.suppress(ViolationFound, Flaky):
        test()
