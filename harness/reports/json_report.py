"""A run as one JSON file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.cases.serialization import case_to_json
from harness.files import json_value, write_atomically
from harness.reports.run_model import Cell, RunModel

SCHEMA = "harness-report/2"


def report(run: RunModel) -> dict[str, Any]:
    """The run as plain values. A number that JSON can't hold (NaN, inf) is given as text."""
    settings = run.settings
    return {
        "schema": SCHEMA,
        "subject": {
            "loss": settings.loss,
            "step": settings.step,
            "root": settings.subject_root,
            "similarity": settings.similarity,
            "truth": settings.truth,
            **({"arguments": json_value(dict(settings.arguments))} if settings.arguments else {}),
        },
        "seed": settings.seed,
        "environment": json_value(run.environment),
        "left_out": run.left_out,
        "status": run.ended,
        "verdict": run.outcome.value,
        "seconds": round(run.seconds, 3),
        "results": [_cell(cell) for cell in run.cells],
    }


def write_report(path: Path, run: RunModel) -> None:
    """Write the :func:`report` atomically."""
    write_atomically(path, json.dumps(report(run), indent=2, allow_nan=False) + "\n")


def _cell(cell: Cell) -> dict[str, Any]:
    result = cell.result
    return {
        "property": cell.task.property,
        "kind": cell.task.kind.value,
        "claim": cell.claim,
        "precision": cell.task.precision,
        "status": result.status.value,
        "examples": result.examples,
        "seconds": round(result.seconds, 3),
        "worst": json_value(result.worst),
        "message": result.message,
        "case": None if result.case is None else case_to_json(result.case),
        "case_words": cell.case_words,
        "case_file": cell.case_file,
        "replay": cell.replay,
        "earlier_calls": len(result.earlier),
        "cut_short": result.cut_short,
        "evidence": json_value(cell.evidence),
    }
