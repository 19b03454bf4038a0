"""A run's JSON report, read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema

from harness.errors import UsageError
from harness.files import one_line, read_json
from harness.reports.json_report import SCHEMA
from harness.reports.report_schema import report_schema

LARGEST_REPORT = 2**26
"""Bytes of a report that is read."""


def read_report(path: Path) -> dict[str, Any]:
    """The report in the file.

    Raises:
        UsageError: it can't be read, or isn't one of this version, naming the place.
    """
    found = read_json(path, LARGEST_REPORT)
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema != SCHEMA:
        told = f"has the schema {one_line(str(schema), 80)}" if schema is not None else "names no schema"
        raise UsageError(f"{one_line(str(path))} {told}, but {SCHEMA} is read: make it with harness check --json.")
    error = next(iter(jsonschema.Draft202012Validator(report_schema()).iter_errors(found)), None)
    if error is not None:
        where = one_line(error.json_path, 200)
        raise UsageError(f"{one_line(str(path))} is no {SCHEMA}: at {where}, {one_line(error.message, 300)}.")
    report: dict[str, Any] = found
    return report
