"""A case file: one page of JSON that says which subject, property, precision and case."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import __version__
from harness.cases.descriptors import Case
from harness.cases.serialization import case_from_json, case_to_json
from harness.config import Settings, settings_for
from harness.engine.plan import Task
from harness.engine.result import Call
from harness.errors import UsageError
from harness.files import json_value, one_line, read_json, shown, write_atomically
from harness.kinds.registry import kind_of_case
from harness.subject_spec import DEFAULT_TRUTH, SubjectSpec, name_from_json, subject_from_json

SCHEMA = "harness-case/1"
# The same with ``earlier``, without which a reader of the first would run the case on a subject too fresh.
SCHEMA_WITH_EARLIER = "harness-case/2"
MOST_EARLIER = 4096
"""Calls before a case: as many as are ever tried to find out which it needs."""


@dataclass(frozen=True)
class CaseFile:
    """What a case file holds.

    Attributes:
        subject: as the settings named it.
        images: the user's folder of pictures that the case draws on, or ``None``.
        message: what was wrong, or ``None`` for a case that was saved before it was run.
        earlier: calls of the same subject that are made before the case, without which it doesn't fail.
    """

    subject: SubjectSpec
    images: str | None
    task: Task
    case: Case
    seed: int
    message: str | None = None
    earlier: tuple[Call, ...] = ()

    @staticmethod
    def of(
        settings: Settings, task: Task, case: Case, message: str | None = None, earlier: tuple[Call, ...] = ()
    ) -> CaseFile:
        subject = settings.subject(task.kind)
        assert subject is not None
        return CaseFile(subject, settings.images, task, case, settings.seed, message, earlier)

    @property
    def calls(self) -> tuple[Call, ...]:
        """The earlier ones, and the case."""
        return (*self.earlier, Call(self.task, self.case))

    def settings(self) -> Settings:
        """Settings under which the case's subject is loaded again."""
        return settings_for(self.task.kind, self.subject, images=self.images, seed=self.seed)

    def file_name(self) -> str:
        """A name that is the same for the same finding, and another for any other."""
        subject = self.subject
        what: list[Any] = [subject.spec, subject.root, case_to_json(self.case)]
        # Names stay what they were before there was anything else to name.
        what += [subject.truth] if subject.truth != DEFAULT_TRUTH else []
        what += [json_value(dict(subject.arguments))] if subject.arguments else []
        how = (subject.call, subject.reduce, subject.scale)
        what += [list(how)] if how != (None, None, 1.0) else []
        what += [list(subject.promises)] if subject.promises else []
        identity = json.dumps(what, sort_keys=True)
        digest = hashlib.sha256(identity.encode()).hexdigest()[:10]
        return f"{self.task.kind.value}.{self.task.property}.{self.task.precision}.{digest}.json"

    def as_json(self, path: Path) -> dict[str, Any]:
        """The file's content as plain values; ``path`` is where it will lie."""
        return {
            "schema": SCHEMA_WITH_EARLIER if self.earlier else SCHEMA,
            "subject": self.subject.as_json(),
            "property": self.task.property,
            "precision": self.task.precision,
            "case": case_to_json(self.case),
            **({"earlier": [_call_to_json(call) for call in self.earlier]} if self.earlier else {}),
            "images": self.images,
            "seed": self.seed,
            "harness": __version__,
            "message": self.message,
            "replay": replay_command(path),
        }

    def write(self, path: Path) -> None:
        """Write the file whole."""
        write_atomically(path, json.dumps(self.as_json(path), indent=2) + "\n")


def replay_command(path: Path) -> str:
    """What a shell takes, whatever is in the path; told from the working directory where it lies under it."""
    with contextlib.suppress(ValueError, OSError):
        path = path.relative_to(Path.cwd())
    return f"harness replay {shlex.quote(str(path))}"


def _call_to_json(call: Call) -> dict[str, Any]:
    return {"property": call.task.property, "precision": call.task.precision, "case": case_to_json(call.case)}


def _earlier(data: Any, where: str) -> tuple[Call, ...]:
    if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
        raise UsageError(f"{where}: earlier must be a list of objects.")
    if len(data) > MOST_EARLIER:
        raise UsageError(f"{where}: earlier has {len(data)} calls, but at most {MOST_EARLIER} are made.")
    return tuple(
        _call(entry, case_from_json(entry.get("case"), f"{where}: earlier[{index}]: case"), where)
        for index, entry in enumerate(data)
    )


def _call(data: dict[str, Any], case: Case, where: str) -> Call:
    property_ = _name(data, "property", where)
    role = kind_of_case(case, property_).role
    return Call(Task(role, property_, _name(data, "precision", where)), case)


def read_case_file(path: Path) -> CaseFile:
    """Read and check a case file; nothing in it is executed.

    Raises:
        UsageError: the file is missing, or no case file that this version understands.
    """
    data, where = read_json(path), one_line(str(path))
    if not isinstance(data, dict) or data.get("schema") not in (SCHEMA, SCHEMA_WITH_EARLIER):
        found = data.get("schema") if isinstance(data, dict) else None
        raise UsageError(f"{where} is no case file: its schema is {shown(found)}, not {SCHEMA!r}.")
    case = case_from_json(data.get("case"), f"{where}: case")
    seed = data.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise UsageError(f"{where}: seed must be a whole number from 0 up, not {shown(seed)}.")
    message = data.get("message")
    if message is not None and not isinstance(message, str):
        raise UsageError(f"{where}: message must be text, not {shown(message)}.")
    return CaseFile(
        subject=subject_from_json(data.get("subject"), where),
        images=name_from_json(data, "images", where),
        task=_call(data, case, where).task,
        case=case,
        seed=seed,
        message=message,
        earlier=_earlier(data.get("earlier", []), where),
    )


def _name(data: dict[str, Any], key: str, where: str) -> str:
    value = name_from_json(data, key, where)
    if value is None:
        raise UsageError(f"{where}: {key} must be text, not None.")
    return value
