"""What the engine tells whoever listens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.cases.descriptors import Case
from harness.engine.plan import Task
from harness.engine.result import TaskResult


@dataclass(frozen=True)
class RunStarted:
    """The tasks that will be run."""

    tasks: tuple[Task, ...]


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
    """A case violates the property: the first found, or (``shrunk``) the smallest that the search came to."""

    task: Task
    case: Case
    message: str
    shrunk: bool


@dataclass(frozen=True)
class TaskFinished:
    task: Task
    result: TaskResult


@dataclass(frozen=True)
class RunFinished:
    results: tuple[TaskResult, ...]


Event = RunStarted | TaskStarted | CaseStarted | Progress | CaseFailed | TaskFinished | RunFinished
Listener = Callable[[Event], None]
