"""What came of a catalogue: killed or survived, acquitted or not, and the figures of it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import ExitCode
from harness.oracle.levels import Level
from harness.selfcheck.catalogue import Fault, Right


@dataclass(frozen=True)
class Attempt:
    """A fault, searched for at one seed.

    Attributes:
        killed: the expected property was violated, at the expected level or a graver one.
        level: of the violation; ``None`` where there is none.
        examples: cases run until then; of a script, faults put into it; where it survived, all that were run.
        seconds: it took until then.
        message: of the violation, or why there is none.
        case: that violates it, as ``words``, ``size`` and ``unit``; ``None`` where there is none.
        elsewhere: another property that a survivor violates.
        smallest: the case that it was made smaller to, where that was asked for.
    """

    seed: int
    killed: bool
    level: Level | None
    examples: int
    seconds: float
    message: str = ""
    case: dict[str, Any] | None = None
    elsewhere: str = ""
    smallest: dict[str, Any] | None = None


@dataclass(frozen=True)
class FaultResult:
    """What came of a fault.

    Attributes:
        seeds: at how many it was to be searched for; of a script one, since a rehearsal draws nothing.
        left: why it could not be at some, or empty.
    """

    fault: Fault
    attempts: Sequence[Attempt]
    seeds: int
    left: str = ""

    @property
    def kills(self) -> list[Attempt]:
        """The attempts that killed it."""
        return [attempt for attempt in self.attempts if attempt.killed]

    @property
    def survived(self) -> list[Attempt]:
        """Those that didn't."""
        return [attempt for attempt in self.attempts if not attempt.killed]

    @property
    def not_run(self) -> bool:
        """Not at every seed."""
        return len(self.attempts) < self.seeds

    @property
    def level(self) -> Level | None:
        """At which it was killed: the gravest."""
        return min((a.level for a in self.kills if a.level is not None), key=lambda level: level.rank, default=None)

    @property
    def examples(self) -> float | None:
        """The median of those that killed it."""
        return statistics.median(a.examples for a in self.kills) if self.kills else None

    @property
    def seconds(self) -> float | None:
        """Likewise."""
        return statistics.median(a.seconds for a in self.kills) if self.kills else None


@dataclass(frozen=True)
class Alarm:
    """A violation that was found in what is right; a false alarm where it is a fault."""

    property: str
    precision: str
    seed: int
    level: Level
    message: str


@dataclass(frozen=True)
class RightResult:
    """What came of a right implementation.

    Attributes:
        seeds: at which it was to be judged.
        done: at how many it was.
        judged: properties under a precision that were, at all seeds together; of a script, faults.
        violations: that were found, of any level.
        left: why some were not judged, or empty.
    """

    right: Right
    seeds: int
    done: int
    judged: int
    violations: Sequence[Alarm]
    seconds: float
    left: str = ""

    @property
    def alarms(self) -> list[Alarm]:
        """The false alarms."""
        return [one for one in self.violations if one.level is Level.FAULT]

    @property
    def not_run(self) -> bool:
        """Not at every seed, or not all of it."""
        return self.done < self.seeds or bool(self.left) or not self.judged

    def count(self, level: Level) -> int:
        """Violations of this level."""
        return sum(one.level is level for one in self.violations)


@dataclass(frozen=True)
class Selfcheck:
    """What came of all.

    Attributes:
        first_seed, seeds: the seeds, from the first on.
        seconds: it took.
        command: that does it again.
        day: on which it was done, in ISO's form.
    """

    faults: Sequence[FaultResult]
    rights: Sequence[RightResult]
    first_seed: int
    seeds: int
    seconds: float
    command: str = ""
    day: str = ""

    @property
    def survivors(self) -> list[FaultResult]:
        """Faults that survived at one seed or more."""
        return [result for result in self.faults if result.survived]

    @property
    def alarmed(self) -> list[RightResult]:
        """Right implementations in which a fault was found."""
        return [result for result in self.rights if result.alarms]

    @property
    def left(self) -> list[FaultResult | RightResult]:
        """What was not run, or not at every seed."""
        every: list[FaultResult | RightResult] = [*self.faults, *self.rights]
        return [result for result in every if result.not_run]

    @property
    def seconds_to_kill(self) -> float | None:
        """The median over the faults of their medians."""
        found = [result.seconds for result in self.faults if result.seconds is not None]
        return statistics.median(found) if found else None

    @property
    def exit_code(self) -> ExitCode:
        """A survivor or a false alarm is a violation."""
        if self.survivors or self.alarmed:
            return ExitCode.VIOLATED
        return ExitCode.INCOMPLETE if self.left else ExitCode.HELD
