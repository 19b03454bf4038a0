"""The table: public subjects, what was found of each, and what is expected to be found."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.engine.plan import Task
from harness.engine.result import Status
from harness.errors import ExitCode, UsageError
from harness.files import one_line, shown
from harness.oracle.levels import Level
from harness.subject_spec import SubjectKind, SubjectSpec


@dataclass(frozen=True)
class Listed:
    """A subject of the table.

    Attributes:
        name: of its own, fit to name a folder.
        about: what it is, in a sentence.
        role: a loss or a step.
        spec: as settings have it.
        packages: distributions whose versions are told; where one is not installed, neither is the subject.
        needs: modules that must be there besides.
        cuda: it runs on a CUDA GPU alone.
    """

    name: str
    about: str
    role: SubjectKind
    spec: SubjectSpec
    packages: tuple[str, ...]
    needs: tuple[str, ...] = ()
    cuda: bool = False


@dataclass(frozen=True)
class Expected:
    """A violation that is known.

    Attributes:
        subject: its name in the table.
        level: how grave it is known to be.
        reason: why it is there, in a sentence.
        link: where one can read about it.
        not_everywhere: it hangs on the processor, and isn't gone where it isn't found.
    """

    subject: str
    property: str
    precision: str
    level: Level
    reason: str
    link: str
    not_everywhere: bool = False


class Standing(str, enum.Enum):
    """How a violation stands against what is expected."""

    EXPECTED = "expected"
    UNEXPECTED = "unexpected"
    GRAVER = "graver"  # than is expected


@dataclass(frozen=True)
class Cell:
    """A property of a subject under a precision.

    Attributes:
        name: the property's.
        level: of the violation; ``None`` where there is none.
        examples: cases that were run.
        message: of the violation, or why it was not judged.
        case: the violating case in words, or empty.
        case_file: where that is kept, or ``None``.
        alone: the case violates the property by itself; ``False``: only after those that were run before it; ``None``
            where there is no case, or that wasn't found out.
        expected: what is expected here, or ``None``.
        strict: every violation is to be expected, not faults alone.
    """

    name: str
    precision: str
    status: Status
    level: Level | None = None
    examples: int = 0
    seconds: float = 0.0
    message: str = ""
    case: str = ""
    case_file: Path | None = None
    alone: bool | None = None
    expected: Expected | None = None
    strict: bool = False

    @property
    def standing(self) -> Standing | None:
        """Of a violation; ``None`` where there is none, or it is one that needs no expectation."""
        if self.status is not Status.VIOLATED:
            return None
        level = self.level or Level.FAULT
        if self.expected is None:
            return Standing.UNEXPECTED if self.strict or level is Level.FAULT else None
        return Standing.GRAVER if level.rank < self.expected.level.rank else Standing.EXPECTED

    @property
    def is_gone(self) -> bool:
        """What is expected here was looked for and not found, or only a lesser violation."""
        if self.expected is None or self.expected.not_everywhere or self.status is Status.NOT_RUN:
            return False
        return self.status is not Status.VIOLATED or (self.level or Level.FAULT).rank > self.expected.level.rank


class State(str, enum.Enum):
    """What became of a subject."""

    RUN = "run"
    NOT_INSTALLED = "not installed"
    NO_CUDA = "needs CUDA"
    NOT_IMPORTED = "can't be imported"
    DOES_NOT_FIT = "does not fit"


@dataclass(frozen=True)
class Found:
    """What came of a subject.

    Attributes:
        why: it was not run; empty where it was.
        versions: of its packages.
        held_to: the definition that a loss is held to, by name; empty for a step.
        held_to_words: what there is to be said of that.
        does: what a step does, question by question.
    """

    listed: Listed
    state: State
    why: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    held_to: str = ""
    held_to_words: str = ""
    does: Mapping[str, str] = field(default_factory=dict)
    cells: Sequence[Cell] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Table:
    """All of them.

    Attributes:
        examples, seed: for each property under a precision.
        command: that makes it again.
        day: on which it was made, in ISO's form.
        environment: where, as reports have it.
    """

    found: Sequence[Found]
    examples: int
    seed: int
    seconds: float
    command: str = ""
    day: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)

    def having(self, standing: Standing) -> list[tuple[Found, Cell]]:
        """The violations that stand so."""
        return [(found, cell) for found in self.found for cell in found.cells if cell.standing is standing]

    @property
    def gone(self) -> list[tuple[Found, Cell]]:
        """What is expected and occurs no longer."""
        return [(found, cell) for found in self.found for cell in found.cells if cell.is_gone]

    @property
    def left(self) -> list[tuple[Found, Cell]]:
        """What was not run to its end."""
        return [(found, cell) for found in self.found for cell in found.cells if cell.status is Status.NOT_RUN]

    @property
    def exit_code(self) -> ExitCode:
        """Not what was expected is a violation; what isn't installed is none; and nothing judged is incomplete."""
        if self.having(Standing.UNEXPECTED) or self.having(Standing.GRAVER) or self.gone:
            return ExitCode.VIOLATED
        if any(found.state is State.DOES_NOT_FIT for found in self.found):
            return ExitCode.SUBJECT
        judged = any(found.cells for found in self.found)
        return ExitCode.INCOMPLETE if self.left or not judged else ExitCode.HELD


def only(listed: Sequence[Listed], word: str) -> tuple[Listed, ...]:
    """Those with the word in their names.

    Raises:
        UsageError: none has it.
    """
    kept = tuple(one for one in listed if word in one.name)
    if not kept:
        raise UsageError(
            f"no subject has {shown(word)} in its name; there are {', '.join(one.name for one in listed)}."
        )
    return kept


def expected_of(listed: Listed, task: Task, expected: Sequence[Expected]) -> Expected | None:
    """What is expected of the subject's task; ``None`` for nothing."""
    key = (listed.name, task.property, task.precision)
    return next((one for one in expected if (one.subject, one.property, one.precision) == key), None)


def alarms(found: Found) -> list[str]:
    """What is not as expected of a subject, a sentence each."""
    told = []
    for cell in found.cells:
        where = f"{found.listed.name}: {cell.name} under {cell.precision}"
        if cell.standing is Standing.UNEXPECTED:
            told.append(f"UNEXPECTED {where}: {one_line(cell.message, 300)}")
        elif cell.standing is Standing.GRAVER and cell.expected is not None:
            level = cell.expected.level.value
            told.append(f"GRAVER {where}: expected at level {level}, but {one_line(cell.message, 300)}")
        if cell.is_gone and cell.expected is not None:
            now = "held" if cell.level is None else f"{cell.level.value} alone"
            told.append(
                f"GONE {where}: expected at level {cell.expected.level.value}, now {now}: take it out of the file of "
                f"expected violations ({cell.expected.reason})"
            )
    if found.state is State.DOES_NOT_FIT:
        told.append(f"DOES NOT FIT {found.listed.name}: {one_line(found.why, 300)}")
    return told
