"""What the engine tells whoever listens."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.cases.descriptors import Case
from harness.config import Settings
from harness.engine.plan import Task
from harness.engine.result import Call, TaskResult
from harness.oracle.levels import Level
from harness.subject_spec import SubjectKind

_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class RunStarted:
    """The tasks that will be run, of which subjects, and where.

    Attributes:
        settings: of the run; they name the subjects, the seed and where cases are kept.
        environment: versions, machine and so on, as plain values.
        left_out: which precisions can't be had here though nobody asked for them, and why; ``None`` for none.
    """

    tasks: tuple[Task, ...]
    settings: Settings
    environment: Mapping[str, Any] = field(default_factory=dict)
    left_out: str | None = None


@dataclass(frozen=True)
class TaskStarted:
    task: Task


@dataclass(frozen=True)
class CaseStarted:
    """A case is about to be run; comes before the run, so that a crash leaves it on record."""

    task: Task
    case: Case


@dataclass(frozen=True)
class Progress:
    """So many cases of the task have been run; comes a few times a second at most."""

    task: Task
    examples: int
    shrinking: bool


@dataclass(frozen=True)
class CaseFailed:
    """A case violates the property: the first found, or (``shrunk``) the smallest that the search came to.

    Attributes:
        earlier: calls that it needs before it, where it does.
        evidence: what a report can show of it, as plain values; ``None`` for nothing.
    """

    task: Task
    case: Case
    message: str
    shrunk: bool
    earlier: tuple[Call, ...] = ()
    evidence: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class ViolationMet:
    """A case violates the property, graver than any of the task before; the search for a worse and for a smaller one
    goes on, and the case is still to be confirmed.
    """

    task: Task
    level: Level
    message: str


@dataclass(frozen=True)
class WorstKept:
    """Of the cases that violate the property, the one that does so worst, where that isn't the smallest.

    Attributes:
        evidence: as :class:`CaseFailed` has it.
    """

    task: Task
    case: Case
    message: str
    evidence: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class SubjectLoaded:
    """What a subject was found to be.

    Attributes:
        held_to: the name of a loss's definition; empty for a step.
        sentence: what there is to be said of it; empty where it is what was expected.
        another: it is another definition than was expected.
        table: what a step does, as questions and answers.
        source: the file and the line where the subject begins; ``None`` where it can't be told.
        data_range: of the images that a loss is written for; ``None`` where it isn't told.
        data_range_words: the same with where that is known from; empty likewise.
    """

    kind: SubjectKind
    held_to: str = ""
    sentence: str = ""
    another: bool = False
    table: tuple[tuple[str, str], ...] = ()
    source: tuple[str, int] | None = None
    data_range: Any = None
    data_range_words: str = ""


@dataclass(frozen=True)
class Confirming:
    """The search is over: whether the case fails by itself is being found out. No case of the task is running."""

    task: Task


@dataclass(frozen=True)
class TaskFinished:
    task: Task
    result: TaskResult


@dataclass(frozen=True)
class SubjectPrinted:
    """The subject, in this worker process, has printed something; told as it comes, in pieces of any size."""

    process: int
    text: str


@dataclass(frozen=True)
class SubjectWarning:
    """A Python warning: its class' name, its words, and the file and line that it is said to come from."""

    category: str
    message: str
    where: str

    @property
    def key(self) -> tuple[str, str, str]:
        """Those of one place that differ in numbers alone are one."""
        return self.category, self.where, _NUMBER.sub("#", self.message)


@dataclass(frozen=True)
class SubjectWarned:
    """The subject has raised these warnings, each so many times, since this was told last of its process."""

    warnings: tuple[tuple[SubjectWarning, int], ...]


@dataclass(frozen=True)
class ProcessLost:
    """A worker process is gone; what it was at has been reported.

    Attributes:
        task: what it was at, or ``None``.
        last_words: the last lines that its subject printed since it was given the task.
    """

    process: int
    task: Task | None = None
    last_words: str = ""


@dataclass(frozen=True)
class RunFinished:
    results: tuple[TaskResult, ...]


OfTask = TaskStarted | CaseStarted | Progress | CaseFailed | ViolationMet | WorstKept | Confirming | TaskFinished
OfSubject = SubjectLoaded | SubjectPrinted | SubjectWarned
Event = RunStarted | OfSubject | OfTask | ProcessLost | RunFinished
Listener = Callable[[Event], None]


def unheard(event: object) -> None:
    """A listener for whoever needs none, of any kind of event."""
