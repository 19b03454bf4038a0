"""What every search for a counterexample has in common: Hypothesis' settings, bookkeeping, and a bound on shrinking."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.errors import Flaky

from harness.cases.descriptors import Case
from harness.engine.code_constants import no_code_constants
from harness.engine.events import CaseFailed, CaseStarted, Listener, Progress, ViolationMet
from harness.engine.plan import Task
from harness.engine.result import Status, TaskResult
from harness.errors import printable
from harness.kinds.kind import Judged
from harness.oracle.levels import Level
from harness.properties.verdict import Verdict

_PROGRESS_SECONDS = 0.1
KNOWN = "known"
"""In place of a stream of draws: of cases that failed before the run."""


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
    """Bookkeeping of one task: every verdict, the first failing case, the smallest, the worst, and the counts.

    First it surveys: cases are run whether or not one has failed, so that the worst violation is known; after a fault,
    or what is as grave as the property knows (``gravest``), only so many more (``after_fault``).  Then it shrinks:
    among those that fail as gravely as the worst.
    """

    def __init__(
        self,
        task: Task,
        emit: Listener,
        deadline: float | None,
        after_fault: int,
        gravest: Level = Level.FAULT,
    ) -> None:
        self.task = task
        self.examples = 0
        self.first_failing: Case | None = None
        self.slow = False
        self._verdicts: dict[Case, tuple[Case, Verdict, str]] = {}
        self._before: list[tuple[Case, Verdict]] = []
        self._smallest: Case | None = None
        self._worst: tuple[Case, Verdict] | None = None
        self._left: int | None = None
        self._after_fault, self._gravest = after_fault, gravest
        self._shrinking = False
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

    @property
    def worst_level(self) -> Level | None:
        """Of the worst violation so far; ``None`` for none."""
        return self._worst[1].level if self.has_failed and self._worst is not None else None

    @property
    def has_gravest(self) -> bool:
        """Nothing graver can be found: a fault, or what else is the gravest that the property speaks of."""
        return self.worst_level is not None and self.worst_level.rank <= self._gravest.rank

    @property
    def found_in(self) -> str | None:
        """The stream of draws in which the first that fails as gravely as the worst came up; ``None`` for none."""
        streams = (stream for case, (_, _, stream) in self._verdicts.items() if self._fails_gravely(case))
        return next((stream for stream in streams if stream != KNOWN), None)

    def may_survey(self) -> bool:
        """Whether another case may be run before anything is made smaller."""
        if self._left is not None and self._left <= 0:
            return False
        self._cut_short |= self.out_of_time and not self.has_failed
        return not (self._cut_short or self.out_of_time)

    def may_run(self) -> bool:
        """Likewise, or while shrinking: whether there is budget for that."""
        return (self._left or 0) > 0 if self._shrinking else self.may_survey()

    @property
    def furthest(self) -> Case | None:
        """The case that came furthest towards the bound, or past it; ``None`` before any was run."""
        return self._worst[0] if self._worst is not None else None

    @property
    def furthest_badness(self) -> float:
        """Its badness; 0 before any case was run."""
        return self._worst[1].badness if self._worst is not None else 0.0

    @property
    def smallest(self) -> Case | None:
        """The smallest so far of those that fail as gravely as the worst."""
        return self._smallest

    def restore_smallest(self, case: Case) -> None:
        """Go back to a case that failed before, unless something graver was found since."""
        if self._fails_gravely(case):
            self._smallest = case

    def shorten(self, times: int) -> None:
        """The survey goes on after a fault for so many times fewer cases."""
        self._left = None if self._left is None else self._left // times

    def begin_walk(self, cases: int) -> bool:
        """Whether the survey goes on towards what is worse; after a fault, by so many more cases."""
        if self._worst is None:
            return False
        if self._left is not None:
            self._left = 0 if self.slow or self._worst[1].badness == math.inf else cases
        return self.may_survey()

    def begin_shrinking(self, cases: int) -> None:
        """Fail from now on; so many more cases may be run in search of a smaller one."""
        self._shrinking, self._left = True, cases
        if self._smallest is None or not self._fails_gravely(self._smallest):
            graves = [case for case in self._verdicts if self._fails_gravely(case)]
            self._smallest = graves[0]

    def known(self, case: Case) -> Verdict | None:
        """The verdict on a case that was run before."""
        return self._verdicts[case][1] if case in self._verdicts else None

    def fail_if_shrinking(self, case: Case) -> None:
        """While shrinking, let Hypothesis see a failure: the last that it is shown is the smallest.

        Raises:
            ViolationFound: the case fails as gravely as the worst.
        """
        if self._shrinking and self._fails_gravely(case):
            self._smallest = self._verdicts[case][0]
            # Hypothesis tells failures apart by the line that raises: there must be one only.
            raise ViolationFound

    def starting(self, case: Case) -> None:
        """A case is about to run."""
        self._emit(CaseStarted(self.task, case))

    def tried_before(self, judged: Judged) -> None:
        """A case that failed before the run, and what came of it now.

        It counts in the end, and leads the search nowhere: else another run would go on from where this one ended, and
        find worse each time.
        """
        verdict = replace(judged.verdict, message=printable(judged.verdict.message))
        if not verdict.holds and all(before.holds for _, before in self._before):
            self._emit(CaseFailed(self.task, judged.case, verdict.message, shrunk=False))
        self._before.append((judged.case, verdict))

    def count_what_was_tried_before(self) -> Level | None:
        """Have it count; the gravest level among it."""
        violated = [(case, verdict) for case, verdict in self._before if not verdict.holds]
        for case, verdict in self._before:
            self._verdicts.setdefault(case, (case, verdict, KNOWN))
            if self._worst is None or verdict.gravity > self._worst[1].gravity:
                self._worst = (case, verdict)
        if violated:
            self.first_failing = violated[0][0]
            graves = [case for case, _ in violated if self._fails_gravely(case)]
            self._smallest = graves[0] if graves else self._smallest
        self._before = []
        return max((verdict for _, verdict in violated), key=lambda v: v.gravity).level if violated else None

    def ran(self, case: Case, judged: Judged, stream: str) -> Verdict:
        """Record a case's verdict, once for each case, with the subject's own words cut to what a screen takes.

        Args:
            judged: with as much of the case as was run; where it violates the property, that is the case to keep.
            stream: of draws, in which it came up.
        """
        verdict = replace(judged.verdict, message=printable(judged.verdict.message))
        if self._left is not None:
            self._left -= 1
        if not self._shrinking:
            self.examples += 1
        now = time.monotonic()
        if now >= self._next_progress:
            self._next_progress = now + _PROGRESS_SECONDS
            self._emit(Progress(self.task, self.examples, self._shrinking))
        self._verdicts.setdefault(case, (judged.case, verdict, stream))
        self._verdicts.setdefault(judged.case, (judged.case, verdict, stream))
        had_gravest, worst_before = self.has_gravest, self.worst_level
        if not verdict.holds and not self.has_failed:
            self.first_failing = judged.case
            self._emit(CaseFailed(self.task, judged.case, verdict.message, shrunk=False))
        if not verdict.holds and (worst_before is None or verdict.level.rank < worst_before.rank):
            self._emit(ViolationMet(self.task, verdict.level, verdict.message))
        if self._worst is None or verdict.gravity > self._worst[1].gravity:
            self._worst = (judged.case, verdict)
            if not verdict.holds and (self._smallest is None or not self._fails_gravely(self._smallest)):
                self._smallest, self.slow = judged.case, judged.slow
        if self.has_gravest and not had_gravest and not self._shrinking:
            # Of a plain no there is no worse.
            self._left = 0 if judged.slow or verdict.badness == math.inf else self._after_fault
        return verdict

    def _fails_gravely(self, case: Case) -> bool:
        """Whether the case violates the property at the level of the worst."""
        assert self._worst is not None
        verdict = self._verdicts[case][1]
        return not verdict.holds and verdict.level is self._worst[1].level

    def ended_early(self, why: str) -> TaskResult:
        """What came of it until it could not go on; a violation, at its level, of a search that wasn't finished."""
        found = self.result()
        return replace(found, cut_short=True, message=f"{found.message} (then the search ended: {why})")

    def result(self) -> TaskResult:
        """What came of it."""
        seconds = time.monotonic() - self._started
        if self._worst is None:
            return TaskResult(self.task, Status.NOT_RUN, seconds=seconds, message="out of time")
        case, verdict = self._worst
        if self._smallest is not None and self.has_failed:
            smallest = self._verdicts[self._smallest][1]
            if smallest.gravity >= verdict.gravity:
                # No worse than the smallest, as of a plain no none is.
                case, verdict = self._smallest, smallest
            return TaskResult(
                self.task,
                Status.VIOLATED,
                self.examples,
                seconds,
                verdict.quantity,
                verdict.message,
                self._smallest,
                level=verdict.level,
                worst_case=case,
                badness=verdict.badness,
            )
        message = f"out of time after {self.examples} examples" if self._cut_short else ""
        return TaskResult(
            self.task,
            Status.HELD,
            self.examples,
            seconds,
            verdict.quantity,
            message,
            case,
            cut_short=self._cut_short,
            badness=verdict.badness,
        )


def run_quietly(test: Callable[[], None]) -> None:
    """Run a Hypothesis test whose failure is on record already.

    Hypothesis also ends where the same choices led elsewhere: a subject whose runs differ failed in one and not in
    another. That it failed is on record too.
    """
    with contextlib.suppress(ViolationFound, Flaky), no_code_constants():
        test()
