"""What came of one task."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from harness.cases.descriptors import Case
from harness.engine.plan import Task
from harness.errors import ExitCode
from harness.oracle.levels import Level


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
class KnownCase:
    """A case that failed before, tried before any other.

    Attributes:
        earlier: calls that are made before it, without which it didn't fail.
        regression: the file that keeps it as a regression case; empty for one that an earlier run left.
    """

    case: Case
    earlier: tuple[Call, ...] = ()
    regression: str = ""


@dataclass(frozen=True)
class Elsewhere:
    """What is known of a property from other precisions.

    Attributes:
        cases: that violated it there.
        badness: of the worst fault there; 0 for none.
    """

    cases: tuple[Case, ...] = ()
    badness: float = 0.0


NOWHERE = Elsewhere()
"""Nothing is known from other precisions."""


@dataclass(frozen=True)
class BrokenRegression:
    """A regression case that fails again: its file, what is wrong, and how grave that is."""

    file: str
    message: str
    level: Level


@dataclass(frozen=True)
class TaskResult:
    """One property under one precision.

    Attributes:
        examples: cases run, those of the shrinking not counted.
        worst: the quantity of the worst verdict met, which need not be the shrunk case's, or ``None``.
        message: why violated (of the worst case), not applicable or not run; empty where held.
        case: the shrunk case where violated, the worst where held, or ``None``.
        earlier: calls without which the case doesn't violate the property; empty where it does so by itself.
        cut_short: time ran out before all examples were run.
        badness: of the worst verdict met: 1 at its bound, more outside.
        level: how grave the worst violation is; ``None`` where there is none.
        worst_case: the case of the worst violation; ``None`` where none is known.
        known_cases: cases that failed before and were tried first, which ``examples`` doesn't count.
        broken_regressions: those among them that are kept as regression cases and fail again.
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
    level: Level | None = None
    worst_case: Case | None = None
    badness: float = 0.0
    known_cases: int = 0
    broken_regressions: tuple[BrokenRegression, ...] = ()

    def counts(self, strict: bool) -> bool:
        """Whether it is a violation for which a run fails: a fault, or any where all levels count."""
        return self.status is Status.VIOLATED and (strict or self.level in (None, Level.FAULT))


class Outcome(str, enum.Enum):
    """All results taken together."""

    HELD = "held"
    VIOLATED = "violated"
    INCOMPLETE = "incomplete"  # nothing is violated, but not all that was asked for was run

    @property
    def exit_code(self) -> ExitCode:
        return ExitCode[self.name]


def outcome(
    results: Iterable[TaskResult], planned: int, strict: bool = False, accepted: Collection[Task] = ()
) -> Outcome:
    """Violated if any result counts; incomplete if fewer than planned were run to their end, or nothing applies; else
    held.

    Args:
        strict: every level of violation counts, not faults alone.
        accepted: tasks whose violation doesn't count, since a baseline accepts it.
    """
    results = tuple(results)
    statuses = {result.status for result in results}
    if any(result.counts(strict) and result.task not in accepted for result in results):
        return Outcome.VIOLATED
    cut = any(result.cut_short for result in results) or len(results) < planned
    if cut or Status.NOT_RUN in statuses or not statuses & {Status.HELD, Status.VIOLATED}:
        return Outcome.INCOMPLETE
    return Outcome.HELD
