"""A baseline: violations that are accepted for a reason, perhaps until a date. A check fails on what is new or worse.

The file is JSON, made to be committed: one entry for each property and precision of a subject.
"""

from __future__ import annotations

import datetime
import enum
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.config import Settings
from harness.engine.plan import Task
from harness.engine.result import Status, TaskResult
from harness.errors import UsageError
from harness.files import is_name, json_value, one_line, read_json, shown, write_atomically
from harness.oracle.levels import Level
from harness.subject_spec import SubjectKind

SCHEMA = "harness-baseline/1"
WORSE = 4.0
"""A violation is worse than the accepted one where its level is graver, or its badness more than this times as large.
Searches on two processors don't come upon the same worst case; four times is beyond what that makes of it."""
MOST_ENTRIES = 10_000


class Standing(str, enum.Enum):
    """How a violation stands against the baseline."""

    NEW = "new"
    ACCEPTED = "accepted"
    WORSE = "worse"
    EXPIRED = "expired"


@dataclass(frozen=True)
class Accepted:
    """One accepted violation.

    Attributes:
        subject: its import path, as the settings named it.
        badness: of the worst case then: 1 at the property's bound, more outside; inf of a plain no.
        message: what was wrong then.
        until: the last day on which it is accepted; ``None`` for no end.
        regressions: names of the regression cases that fail with it.
    """

    task: Task
    subject: str
    level: Level
    badness: float
    message: str
    reason: str
    until: datetime.date | None = None
    regressions: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The reason, and until when."""
        return self.reason if self.until is None else f"{self.reason} (until {self.until.isoformat()})"

    def as_json(self) -> dict[str, Any]:
        return {
            "kind": self.task.kind.value,
            "subject": self.subject,
            "property": self.task.property,
            "precision": self.task.precision,
            "level": self.level.value,
            "badness": json_value(self.badness),
            "message": self.message,
            "reason": self.reason,
            "until": None if self.until is None else self.until.isoformat(),
            "regressions": list(self.regressions),
        }


@dataclass(frozen=True)
class Baseline:
    """What is accepted, by task and subject."""

    entries: Mapping[tuple[Task, str], Accepted] = field(default_factory=dict)

    def entry(self, task: Task, settings: Settings) -> Accepted | None:
        """What is accepted of the settings' subject; ``None`` for nothing."""
        subject = settings.subject(task.kind)
        return None if subject is None else self.entries.get((task, subject.spec))

    def standing(self, result: TaskResult, settings: Settings, today: datetime.date) -> Standing:
        """How a violation stands."""
        entry = self.entry(result.task, settings)
        if entry is None:
            return Standing.NEW
        if entry.until is not None and today > entry.until:
            return Standing.EXPIRED
        graver = (result.level or Level.FAULT).rank < entry.level.rank
        broken = {Path(one.file).name for one in result.broken_regressions}
        worse = not result.badness <= WORSE * entry.badness
        return Standing.WORSE if graver or worse or broken - set(entry.regressions) else Standing.ACCEPTED

    def gone(self, results: Iterable[TaskResult], settings: Settings) -> tuple[Accepted, ...]:
        """What is accepted and no longer violated."""
        entries = (
            self.entry(result.task, settings)
            for result in results
            if result.status in (Status.HELD, Status.NOT_APPLICABLE) and not result.cut_short
        )
        return tuple(entry for entry in entries if entry is not None)

    def updated(
        self, results: Iterable[TaskResult], settings: Settings, reason: str, until: datetime.date | None
    ) -> Baseline:
        """With what is violated now in place of what was accepted of the same; what was not run stays as it was."""
        entries = dict(self.entries)
        for result in results:
            subject = settings.subject(result.task.kind)
            if subject is None or result.status is Status.NOT_RUN or result.cut_short:
                continue
            entries.pop((result.task, subject.spec), None)
            if result.status is Status.VIOLATED:
                entries[(result.task, subject.spec)] = Accepted(
                    result.task,
                    subject.spec,
                    result.level or Level.FAULT,
                    result.badness,
                    result.message,
                    reason,
                    until,
                    tuple(sorted({Path(one.file).name for one in result.broken_regressions})),
                )
        return Baseline(entries)

    def write(self, path: Path) -> None:
        """Write the file whole.

        Raises:
            OSError: it can't be.
        """
        entries = sorted((entry.as_json() for entry in self.entries.values()), key=lambda one: json.dumps(one))
        text = json.dumps({"schema": SCHEMA, "accepted": entries}, indent=2, allow_nan=False)
        write_atomically(path, text + "\n")


def read_baseline(path: Path) -> Baseline:
    """What is accepted; nothing where there is no such file.

    Raises:
        UsageError: the file can't be read, or is no baseline that this version understands.
    """
    if not path.exists() and not path.is_symlink():
        return Baseline()
    data, where = read_json(path), one_line(str(path))
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, dict) else None
        raise UsageError(f"{where} is no baseline: its schema is {shown(found)}, not {SCHEMA!r}.")
    accepted = data.get("accepted")
    if not isinstance(accepted, list) or len(accepted) > MOST_ENTRIES:
        raise UsageError(f"{where}: accepted must be a list of at most {MOST_ENTRIES} objects.")
    entries = [_entry(one, f"{where}: accepted[{index}]") for index, one in enumerate(accepted)]
    found_twice = len({(entry.task, entry.subject) for entry in entries}) < len(entries)
    if found_twice:
        raise UsageError(f"{where} accepts the same property and precision of a subject twice.")
    return Baseline({(entry.task, entry.subject): entry for entry in entries})


def date_from(text: str, where: str) -> datetime.date:
    """A day, as ``2026-12-31``.

    Raises:
        UsageError: the text is none.
    """
    try:
        if len(text) != 10:
            raise ValueError
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{where} is {shown(text)}, which is no date like 2026-12-31.") from None


def _entry(data: Any, where: str) -> Accepted:
    if not isinstance(data, dict):
        raise UsageError(f"{where} must be an object, not {shown(data)}.")
    texts = {key: _text(data, key, where) for key in ("subject", "property", "precision", "message", "reason")}
    for key in ("subject", "property", "precision"):
        if not is_name(texts[key]):
            raise UsageError(f"{where}: {key} is {shown(texts[key])}, which is no name.")
    until = data.get("until")
    if until is not None and not isinstance(until, str):
        raise UsageError(f"{where}: until must be a date like 2026-12-31, not {shown(until)}.")
    names = data.get("regressions", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{where}: regressions must be a list of texts, not {shown(names)}.")
    return Accepted(
        Task(_member(SubjectKind, data, "kind", where), texts["property"], texts["precision"]),
        texts["subject"],
        _member(Level, data, "level", where),
        _badness(data.get("badness"), where),
        texts["message"],
        texts["reason"],
        None if until is None else date_from(until, f"{where}: until"),
        tuple(names),
    )


def _text(data: Mapping[str, Any], key: str, where: str) -> str:
    value = data.get(key)
    if not isinstance(value, str):
        raise UsageError(f"{where}: {key} must be text, not {shown(value)}.")
    return value


def _member(cls: Any, data: Mapping[str, Any], key: str, where: str) -> Any:
    names = [member.value for member in cls]
    value = data.get(key)
    if not isinstance(value, str) or value not in names:
        raise UsageError(f"{where}: {key} must be one of {', '.join(names)}, not {shown(value)}.")
    return cls(value)


def _badness(value: Any, where: str) -> float:
    if value == "inf":
        return math.inf
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise UsageError(f"{where}: badness must be a number from 0 up, or 'inf', not {shown(value)}.")
    return float(value)
