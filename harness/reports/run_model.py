"""One run as reports need it, built from its events. Every report is a rendering of this."""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.cases.descriptors import Case
from harness.config import Settings
from harness.engine import events
from harness.engine.plan import Task
from harness.engine.result import Outcome, Status, TaskResult, outcome
from harness.findings.baseline import Accepted, Baseline, Standing
from harness.findings.case_file import replay_command
from harness.findings.recorder import case_path
from harness.kinds.registry import claim_of, describe
from harness.subject_spec import SubjectKind, SubjectSpec


@dataclass(frozen=True)
class Cell:
    """One property under one precision, with what a report says of it.

    Attributes:
        evidence: of the case that violates it, as plain values; ``None`` for none.
        standing: of a violation, against the baseline.
        accepted: the baseline's entry, or ``None``.
        worst_evidence: likewise of the worst case, where that is another.
        last_words: the last lines that the subject printed, where it took its process with it.
    """

    result: TaskResult
    settings: Settings
    evidence: Mapping[str, Any] | None = None
    standing: Standing | None = None
    accepted: Accepted | None = None
    worst_evidence: Mapping[str, Any] | None = None
    last_words: str = ""

    @property
    def task(self) -> Task:
        return self.result.task

    @property
    def counts(self) -> bool:
        """Whether the run fails for it."""
        return self.result.counts(self.settings.strict) and self.standing is not Standing.ACCEPTED

    @property
    def claim(self) -> str:
        """What the property claims."""
        return claim_of(self.task.kind, self.task.property)

    @property
    def case_words(self) -> str:
        """The case in one line, or empty."""
        return "" if self.result.case is None else describe(self.result.case, self.task.property)

    @property
    def case_file(self) -> str | None:
        """Where the violating case is kept, or ``None``."""
        if self.result.status is not Status.VIOLATED or self.result.case is None:
            return None
        return str(case_path(self.settings, self.task, self.result.case))

    @property
    def worst_case(self) -> Case | None:
        """The case of the worst violation, where it is another than the smallest."""
        worst = self.result.worst_case
        return None if worst == self.result.case else worst

    @property
    def worst_words(self) -> str:
        """That case in one line, or empty."""
        return "" if self.worst_case is None else describe(self.worst_case, self.task.property)

    @property
    def worst_replay(self) -> str | None:
        """The command that runs that case again, or ``None``."""
        if self.worst_case is None:
            return None
        return replay_command(case_path(self.settings, self.task, self.worst_case))

    @property
    def replay(self) -> str | None:
        """The command that runs it again, or ``None``."""
        if self.result.status is not Status.VIOLATED or self.result.case is None:
            return None
        return replay_command(case_path(self.settings, self.task, self.result.case))


@dataclass(frozen=True)
class SubjectWarnings:
    """One warning of the subject, and how many times it was raised."""

    warning: events.SubjectWarning
    times: int


class RunModel:
    """A listener that keeps what it hears.

    Args:
        baseline: the violations that are accepted.
        today: the day that their dates are held to; the day it is, where none is given.

    Attributes:
        settings, tasks, environment, left_out: as the run began; without a task before it has.
        loaded: what the subjects are held to.
        ended: ``finished``, ``interrupted`` or ``failed``; until it is told, the run counts as failed.
    """

    def __init__(self, baseline: Baseline | None = None, today: datetime.date | None = None) -> None:
        self._baseline, self._today = baseline or Baseline(), today or datetime.date.today()
        self.settings = Settings()
        self.tasks: tuple[Task, ...] = ()
        self.environment: Mapping[str, Any] = {}
        self.left_out: str | None = None
        self.ended = "failed"
        self.loaded: dict[SubjectKind, events.SubjectLoaded] = {}
        self._results: dict[Task, TaskResult] = {}
        self._evidence: dict[Task, Mapping[str, Any]] = {}
        self._worst: dict[Task, events.WorstKept] = {}
        self._last_words: dict[Task, str] = {}
        self._warnings: Counter[events.SubjectWarning] = Counter()
        self._began = self._last = time.monotonic()

    def __call__(self, event: events.Event) -> None:
        self._last = time.monotonic()
        if isinstance(event, events.RunStarted):
            self.settings, self.tasks = event.settings, event.tasks
            self.environment, self.left_out = event.environment, event.left_out
            self._began = self._last
        elif isinstance(event, events.SubjectLoaded):
            self.loaded[event.kind] = event
        elif isinstance(event, events.CaseFailed) and event.shrunk:
            # Of another case, if its process was lost after it had told of this one.
            self._evidence.pop(event.task, None)
            if event.evidence is not None:
                self._evidence[event.task] = event.evidence
        elif isinstance(event, events.WorstKept):
            self._worst[event.task] = event
        elif isinstance(event, events.TaskFinished):
            self._results[event.task] = event.result
        elif isinstance(event, events.SubjectWarned):
            for warning, times in event.warnings:
                self._warnings[warning] += times
        elif isinstance(event, events.ProcessLost) and event.task is not None:
            self._last_words[event.task] = event.last_words
        elif isinstance(event, events.RunFinished):
            self.ended = "finished"

    @property
    def seconds(self) -> float:
        """From the first event to the last."""
        return self._last - self._began

    @property
    def cells(self) -> tuple[Cell, ...]:
        """What has come so far, in the plan's order."""
        return tuple(self._cell(self._results[task]) for task in self.tasks if task in self._results)

    def _cell(self, result: TaskResult) -> Cell:
        cell = Cell(
            result,
            self.settings,
            self._evidence.get(result.task),
            worst_evidence=self._worst_evidence(result.task),
            last_words=self._last_words.get(result.task, ""),
        )
        if result.status is not Status.VIOLATED:
            return cell
        standing = self._baseline.standing(result, self.settings, self._today)
        return replace(cell, standing=standing, accepted=self._baseline.entry(result.task, self.settings))

    def accepts(self, task: Task) -> bool:
        """Whether the baseline accepts a violation of the task, be it one that isn't as grave as what was met."""
        return self._baseline.entry(task, self.settings) is not None

    def cell_of(self, task: Task) -> Cell:
        """The task's, which has finished."""
        return self._cell(self._results[task])

    @property
    def warnings(self) -> tuple[SubjectWarnings, ...]:
        """The warnings that the subject has raised, the most frequent first."""
        found: dict[tuple[str, str, str], SubjectWarnings] = {}
        for warning, times in sorted(self._warnings.items(), key=lambda item: dataclasses.astuple(item[0])):
            one = found.setdefault(warning.key, SubjectWarnings(warning, 0))
            found[warning.key] = replace(one, times=one.times + times)
        return tuple(sorted(found.values(), key=lambda one: -one.times))

    @property
    def gone(self) -> tuple[Accepted, ...]:
        """What the baseline accepts and is violated no more."""
        return self._baseline.gone(self._results.values(), self.settings)

    @property
    def known_cases(self) -> int:
        """Cases that failed before the run, and were tried first."""
        return sum(cell.result.known_cases for cell in self.cells)

    def _worst_evidence(self, task: Task) -> Mapping[str, Any] | None:
        worst = self._worst.get(task)
        return None if worst is None or worst.case != self._results[task].worst_case else worst.evidence

    @property
    def violated(self) -> tuple[Cell, ...]:
        """Those that are violated."""
        return tuple(cell for cell in self.cells if cell.result.status is Status.VIOLATED)

    @property
    def outcome(self) -> Outcome:
        """All results taken together."""
        accepted = {cell.task for cell in self.cells if cell.standing is Standing.ACCEPTED}
        found = outcome((cell.result for cell in self.cells), len(self.tasks), self.settings.strict, accepted)
        another = any(loaded.another for loaded in self.loaded.values())
        return Outcome.VIOLATED if another and self.settings.strict else found

    @property
    def counts(self) -> Counter[Status]:
        """How many cells have each status."""
        return Counter(cell.result.status for cell in self.cells)

    @property
    def examples(self) -> int:
        """Cases run."""
        return sum(cell.result.examples for cell in self.cells)

    def subject(self, kind: SubjectKind) -> SubjectSpec | None:
        """The subject of this kind, or ``None``."""
        return self.settings.subject(kind)
