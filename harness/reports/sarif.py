"""A run as SARIF 2.1.0, which code scanning shows at the subject's own line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.files import write_atomically
from harness.reports.words import foremost, level_of, violation_lines

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {"fault": "error", "definition": "warning", "rounding": "note", "strictness": "note"}


def write_sarif(path: Path, report: Mapping[str, Any]) -> None:
    """Write the :func:`sarif` atomically."""
    write_atomically(path, json.dumps(sarif(report), indent=2, allow_nan=False) + "\n")


def sarif(report: Mapping[str, Any], checkout: Path | None = None) -> dict[str, Any]:
    """One result for each violated property, under the precision where it is gravest, at the line where its subject
    begins; without a place where that can't be told.

    Args:
        checkout: the folder that places are told from; the working directory unless it is said.
    """
    cells = foremost(report["results"])
    claims = {f"{cell['kind']}/{cell['property']}": cell["claim"] for cell in cells}
    rules = [{"id": rule, "shortDescription": {"text": claim}} for rule, claim in claims.items()]
    driver = {"name": "gslrm-harness", "version": report["environment"].get("harness", ""), "rules": rules}
    results = [_result(cell, report["subject"], checkout or Path.cwd()) for cell in cells]
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def _result(cell: Mapping[str, Any], subject: Mapping[str, Any], checkout: Path) -> dict[str, Any]:
    rule = f"{cell['kind']}/{cell['property']}"
    source = subject[f"{cell['kind']}_source"]
    known = f"{rule} {subject[cell['kind']]}".encode()
    return {
        "ruleId": rule,
        "level": _LEVELS[level_of(cell)],
        "message": {"text": f"under {cell['precision']}: " + "\n".join(violation_lines(cell))},
        "locations": [] if source is None else [_location(source, checkout)],
        # The same finding in the next run, whatever case shows it then.
        "partialFingerprints": {"harness/v1": hashlib.sha256(known).hexdigest()},
    }


def _location(source: Mapping[str, Any], checkout: Path) -> dict[str, Any]:
    file = checkout / source["file"]
    inside = file.is_relative_to(checkout)
    place = {"uri": file.relative_to(checkout).as_posix() if inside else file.as_uri()}
    if inside:
        place["uriBaseId"] = "%SRCROOT%"
    return {"physicalLocation": {"artifactLocation": place, "region": {"startLine": max(1, source["line"])}}}
