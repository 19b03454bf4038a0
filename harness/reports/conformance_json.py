"""The table of public packages as JSON, and read again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.conformance.table import Cell, Expected, Found, Listed, State, Table, expected_of
from harness.engine.plan import Task
from harness.engine.result import Status
from harness.errors import UsageError
from harness.files import json_value, one_line, read_json, write_atomically
from harness.findings.case_file import replay_command
from harness.oracle.levels import Level

SCHEMA = "harness-conformance/1"
LARGEST_TABLE = 2**25
"""Bytes of a table that is read."""


def write_conformance(path: Path, table: Table) -> None:
    """All of it as JSON, atomically; schema ``harness-conformance/1``."""
    write_atomically(path, json.dumps(json_value(as_json(table)), indent=1, allow_nan=False) + "\n")


def as_json(table: Table) -> dict[str, Any]:
    """As plain values."""
    return {
        "schema": SCHEMA,
        "command": table.command,
        "day": table.day,
        "environment": dict(table.environment),
        "verdict": table.exit_code.name.lower(),
        "examples": table.examples,
        "seed": table.seed,
        "seconds": round(table.seconds, 1),
        "subjects": [_found_json(found) for found in table.found],
    }


def _found_json(found: Found) -> dict[str, Any]:
    listed = found.listed
    return {
        "name": listed.name,
        "about": listed.about,
        "kind": listed.role.value,
        "subject": listed.spec.as_json(),
        "state": found.state.value,
        "why": found.why,
        "versions": dict(found.versions),
        "held_to": found.held_to,
        "held_to_words": found.held_to_words,
        "does": dict(found.does),
        "seconds": round(found.seconds, 1),
        "cells": [_cell_json(cell) for cell in found.cells],
    }


def _cell_json(cell: Cell) -> dict[str, Any]:
    return {
        "property": cell.name,
        "precision": cell.precision,
        "status": cell.status.value,
        "level": None if cell.level is None else cell.level.value,
        "examples": cell.examples,
        "seconds": round(cell.seconds, 3),
        "message": cell.message,
        "case": cell.case,
        "case_file": None if cell.case_file is None else _from_here(cell.case_file),
        "replay": None if cell.case_file is None else replay_command(cell.case_file),
        "alone": cell.alone,
        "standing": None if cell.standing is None else cell.standing.value,
        "gone": cell.is_gone,
        "expected": None
        if cell.expected is None
        else {"level": cell.expected.level.value, "reason": cell.expected.reason, "link": cell.expected.link},
    }


def _from_here(path: Path) -> str:
    with contextlib.suppress(ValueError, OSError):
        path = path.relative_to(Path.cwd())
    return str(path)


def read_conformance(
    path: Path, listed: Sequence[Listed], expected: Sequence[Expected], *, strict: bool = False
) -> Table:
    """A table that was written, held to what is expected now; of these subjects alone.

    Raises:
        UsageError: it can't be read, or is none of this version, naming the place.
    """
    where = one_line(str(path))
    data = read_json(path, LARGEST_TABLE)
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        raise UsageError(f"{where} is no {SCHEMA}: make it with harness conformance --json.")
    by_name = {one.name: one for one in listed}
    try:
        found = [_found(one, by_name, expected, strict) for one in data["subjects"] if one["name"] in by_name]
        return Table(
            found,
            int(data["examples"]),
            int(data["seed"]),
            float(data["seconds"]),
            str(data["command"]),
            str(data["day"]),
            dict(data["environment"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        told = one_line(f"{type(error).__name__}: {error}", 200)
        raise UsageError(f"{where} is no {SCHEMA}, or was changed by hand ({told}): make it again.") from None


def _found(data: Mapping[str, Any], by_name: Mapping[str, Listed], expected: Sequence[Expected], strict: bool) -> Found:
    listed = by_name[data["name"]]
    return Found(
        listed,
        State(data["state"]),
        str(data["why"]),
        {str(name): str(version) for name, version in data["versions"].items()},
        str(data["held_to"]),
        str(data["held_to_words"]),
        {str(question): str(answer) for question, answer in data["does"].items()},
        [_cell(one, listed, expected, strict) for one in data["cells"]],
        float(data["seconds"]),
    )


def _cell(data: Mapping[str, Any], listed: Listed, expected: Sequence[Expected], strict: bool) -> Cell:
    name, precision = str(data["property"]), str(data["precision"])
    return Cell(
        name,
        precision,
        Status(data["status"]),
        None if data["level"] is None else Level(data["level"]),
        int(data["examples"]),
        float(data["seconds"]),
        str(data["message"]),
        str(data["case"]),
        None if data["case_file"] is None else Path(str(data["case_file"])),
        data["alone"],
        expected_of(listed, Task(listed.role, name, precision), expected),
        strict,
    )
