"""What came of one task."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from harness.cases.descriptors import Case
from harness.engine.plan import Task


class Status(str, enum.Enum):
    HELD = "held"
    VIOLATED = "violated"
    NOT_APPLICABLE = "not applicable"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class TaskResult:
    """One property under one precision.

    Attributes:
        examples: cases run, those of the shrinking not counted.
        worst: the worst measure met, which need not be the shrunk case's, or ``None``.
        message: why violated, not applicable or not run; empty where held.
        case: the shrunk case where violated, the worst where held, or ``None``.
    """

    task: Task
    status: Status
    examples: int = 0
    seconds: float = 0.0
    worst: float | None = None
    message: str = ""
    case: Case | None = None


def verdict(results: Iterable[TaskResult]) -> Status:
    """All taken together: violated if any is; else held if any is; else not run."""
    statuses = {result.status for result in results}
    for status in (Status.VIOLATED, Status.HELD):
        if status in statuses:
            return status
    return Status.NOT_RUN
