"""What came of one task."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from harness.cases.descriptors import Case
from harness.engine.plan import Task
from harness.errors import ExitCode


class Status(str, enum.Enum):
    HELD = "held"
    VIOLATED = "violated"
    NOT_APPLICABLE = "not applicable"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Call:
    """A case run for a task: what a subject has been through."""

    task: Task
    case: Case


@dataclass(frozen=True)
class TaskResult:
    """One property under one precision.

    Attributes:
        examples: cases run, those of the shrinking not counted.
        worst: the worst quantity met, which need not be the shrunk case's, or ``None``.
        message: why violated, not applicable or not run; empty where held.
        case: the shrunk case where violated, the worst where held, or ``None``.
        earlier: calls without which the case doesn't violate the property; empty where it does so by itself.
        cut_short: time ran out before all examples were run.
    """

    task: Task
    status: Status
    examples: int = 0
    seconds: float = 0.0
    worst: float | None = None
    message: str = ""
    case: Case | None = None
    earlier: tuple[Call, ...] = ()
    cut_short: bool = False


class Outcome(str, enum.Enum):
    """All results taken together."""

    HELD = "held"
    VIOLATED = "violated"
    INCOMPLETE = "incomplete"  # nothing is violated, but not all that was asked for was run

    @property
    def exit_code(self) -> ExitCode:
        return ExitCode[self.name]


def outcome(results: Iterable[TaskResult], planned: int) -> Outcome:
    """Violated if any is; incomplete if fewer than planned were run to their end, or nothing applies; else held."""
    results = tuple(results)
    statuses = {result.status for result in results}
    if Status.VIOLATED in statuses:
        return Outcome.VIOLATED
    cut = any(result.cut_short for result in results) or len(results) < planned
    if cut or Status.NOT_RUN in statuses or Status.HELD not in statuses:
        return Outcome.INCOMPLETE
    return Outcome.HELD
