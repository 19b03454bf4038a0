"""What came of a unit: one small file for each, written whole, which says by itself whether it is whole."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.engine.plan import Task
from harness.engine.result import Status, TaskResult
from harness.errors import UsageError
from harness.files import json_value, read_json, write_atomically
from harness.fuzzing.coverage import Coverage, coverage_from_json
from harness.fuzzing.units import Unit
from harness.oracle.levels import Level
from harness.subject_spec import SubjectKind

SCHEMA = "harness-unit/1"
CASE_NAME = re.compile(r"[a-z0-9.-]{1,200}\.json")
"""Of a case file, as :meth:`harness.findings.case_file.CaseFile.file_name` gives it."""


@dataclass(frozen=True)
class Found:
    """What came of one property under one precision.

    Attributes:
        level: of the worst violation; ``None`` for none.
        examples: cases run, those of the shrinking not counted.
        badness: of the worst verdict: 1 at its bound, more outside.
        case: the case file of the smallest case where violated, or empty.
        worst: that of the worst case, where it is another; or empty.
        hung: the subject didn't come back from the case.
    """

    task: Task
    status: Status
    level: Level | None = None
    examples: int = 0
    message: str = ""
    badness: float = 0.0
    case: str = ""
    worst: str = ""
    hung: bool = False

    def as_result(self) -> TaskResult:
        """As a check has it, without its cases."""
        return TaskResult(
            self.task, self.status, self.examples, message=self.message, level=self.level, badness=self.badness
        )

    def as_json(self) -> dict[str, Any]:
        told = {
            "kind": self.task.kind.value,
            "property": self.task.property,
            "precision": self.task.precision,
            "status": self.status.value,
            "examples": self.examples,
        }
        more = {
            "level": None if self.level is None else self.level.value,
            "message": self.message,
            "badness": self.badness,
            "case": self.case,
            "worst": self.worst,
            "hung": self.hung,
        }
        return {**told, **{name: value for name, value in more.items() if value}}


@dataclass(frozen=True)
class UnitRecord:
    """A unit that is done.

    Attributes:
        shard: that it was run in, ``i/n``.
        seconds: that it took.
        found: of each of its tasks.
        coverage: of the cases that it ran.
        files: the contents of its case files by their names; none where it was read from a campaign's folder.
    """

    unit: Unit
    shard: str
    seconds: float
    found: tuple[Found, ...]
    coverage: Coverage = field(default_factory=Coverage)
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def cases(self) -> int:
        """That were run, each once."""
        return self.coverage.cases.total()

    def as_json(self) -> dict[str, Any]:
        """Plain values, with a digest of all others."""
        told = {
            "schema": SCHEMA,
            "unit": self.unit.index,
            "seed": self.unit.seed,
            "shard": self.shard,
            "seconds": round(self.seconds, 3),
            "found": [one.as_json() for one in self.found],
            "coverage": self.coverage.as_json(),
        }
        told = json_value(told)
        return {**told, "digest": _digest(told)}

    def write(self, path: Path) -> None:
        """Write it whole, without the case files."""
        write_atomically(path, json.dumps(self.as_json(), separators=(",", ":")) + "\n")


def read_record(path: Path, unit: Unit) -> UnitRecord:
    """The record of this unit.

    Raises:
        UsageError: it can't be read, is damaged, or is of another unit.
    """
    data = read_json(path)
    try:
        return record_from_json(data, unit)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{path} is no whole record of unit {unit.index}: {error}.") from error


def record_from_json(data: Any, unit: Unit) -> UnitRecord:
    """What :meth:`UnitRecord.as_json` gave.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is something else.
    """
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise ValueError(f"its schema is not {SCHEMA}")
    told = dict(data)
    if told.pop("digest", None) != _digest(told):
        raise ValueError("its digest is not that of what it says")
    if (data["unit"], data["seed"]) != (unit.index, unit.seed):
        raise ValueError("it is of another unit")
    found = tuple(found_from_json(one) for one in data["found"])
    if tuple(one.task for one in found) != unit.tasks:
        raise ValueError("it is of other properties")
    return UnitRecord(unit, str(data["shard"]), float(data["seconds"]), found, coverage_from_json(data["coverage"]))


def found_from_json(data: Mapping[str, Any]) -> Found:
    """What :meth:`Found.as_json` gave.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is something else.
    """
    level = data.get("level")
    case, worst = str(data.get("case", "")), str(data.get("worst", ""))
    if any(name and not CASE_NAME.fullmatch(name) for name in (case, worst)):
        raise ValueError("it names a file that is no case file")
    return Found(
        found_task(data),
        Status(data["status"]),
        None if level is None else Level(level),
        int(data["examples"]),
        str(data.get("message", "")),
        float(data.get("badness", 0.0)),
        case,
        worst,
        bool(data.get("hung", False)),
    )


def found_task(data: Mapping[str, Any]) -> Task:
    """The task that plain values tell by kind, property and precision."""
    return Task(SubjectKind(data["kind"]), str(data["property"]), str(data["precision"]))


def _digest(told: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def same_findings(one: UnitRecord, other: UnitRecord) -> bool:
    """Whether both tell the same of their unit, but for who ran it and how long that took."""
    return one.found == other.found and one.coverage.as_json() == other.coverage.as_json()


def hangs(found: Sequence[Found]) -> bool:
    """Whether the subject hung, or was gone, in any of them."""
    return any(one.hung for one in found)
