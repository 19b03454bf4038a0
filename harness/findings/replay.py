"""Run a case file's case again: is it fixed?"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harness.config import OF_ONE_LOSS, OF_ONE_STEP, Settings
from harness.engine.judge import judge_calls
from harness.engine.pool import judge_in_worker
from harness.engine.session import Session
from harness.findings.case_file import CaseFile, read_case_file
from harness.oracle.levels import Level
from harness.properties.verdict import Verdict

Given = Settings | Mapping[str, Any]
NOTHING: Given = MappingProxyType({})


class Answer(str, enum.Enum):
    FIXED = "FIXED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Replayed:
    """The file, and what its case does now; the level of the violation where it has failed."""

    file: CaseFile
    answer: Answer
    message: str
    level: Level | None = None


def replay(path: Path, given: Given = NOTHING) -> Replayed:
    """Run the case again in this process, after the earlier calls that it needs, on the subject given or the file's.

    Args:
        given: by their names, the settings that stand against the file's, as :func:`settings_for` takes them.

    Raises:
        HarnessError: no answer: the file, subject, property or precision is not to be had here.
    """
    file = read_case_file(path)
    return _answered(file, judge_calls(Session(settings_for(file, given)), file.calls))


def replay_contained(path: Path, given: Given = NOTHING) -> Replayed:
    """The same in a process of its own, which the case may end, or hang in for as long as ``case_timeout``.

    Raises:
        HarnessError: as :func:`replay`.
    """
    file = read_case_file(path)
    settings = settings_for(file, given)
    return _answered(file, judge_in_worker(settings, file.calls, ignore))


def ignore(event: Any) -> None:
    """Hears an event and does nothing."""


def settings_for(file: CaseFile, given: Given) -> Settings:
    """The file's own settings, where none are given instead: ``None`` in a mapping, and a default, mean not given.

    What the file says of its subject, its root and truth and that it gives a similarity, is said of no other.
    """
    named = {name: value for name, value in _named(given).items() if value is not None}
    kind = file.task.kind.value
    own = file.settings()
    if named.get(kind, file.subject.spec) != file.subject.spec:
        said_of_another = ("subject_root", "similarity", "truth", "arguments", *OF_ONE_LOSS, *OF_ONE_STEP)
        own = replace(own, **{name: getattr(Settings(), name) for name in said_of_another})
    other = {"loss": "step", "step": "loss"}[kind]
    return replace(own, **{name: value for name, value in named.items() if name != other})


def _named(given: Given) -> Mapping[str, Any]:
    if not isinstance(given, Settings):
        return given
    named = {f.name: getattr(given, f.name) for f in fields(given)}
    return {name: value for name, value in named.items() if value != getattr(Settings(), name)}


def _answered(file: CaseFile, verdict: Verdict) -> Replayed:
    if verdict.holds:
        return Replayed(file, Answer.FIXED, "the property holds for this case")
    return Replayed(file, Answer.FAILED, verdict.message, verdict.level)
