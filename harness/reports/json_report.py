"""The results as one JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.cases.serialization import case_to_json
from harness.config import Settings
from harness.engine.result import TaskResult, outcome
from harness.files import json_value, write_atomically
from harness.reports.environment import environment

SCHEMA = "harness-report/1"


def report(
    settings: Settings, results: Sequence[TaskResult], planned: int | None = None, status: str = "finished"
) -> dict[str, Any]:
    """The report as plain values. A number that JSON can't hold (NaN, inf) is given as text.

    Args:
        planned: how many results were asked for, where it isn't as many as there are.
        status: ``finished``, or ``interrupted`` or ``failed``: then the results are those that had come by then.
    """
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
        "environment": environment(),
        "status": status,
        "verdict": outcome(results, len(results) if planned is None else planned).value,
        "results": [
            {
                "property": result.task.property,
                "kind": result.task.kind.value,
                "precision": result.task.precision,
                "status": result.status.value,
                "examples": result.examples,
                "seconds": round(result.seconds, 3),
                "worst": json_value(result.worst),
                "message": result.message,
                "case": None if result.case is None else case_to_json(result.case),
                "earlier_calls": len(result.earlier),
                "cut_short": result.cut_short,
            }
            for result in results
        ],
    }


def write_report(
    path: Path, settings: Settings, results: Sequence[TaskResult], planned: int | None = None, status: str = "finished"
) -> None:
    """Write the :func:`report` atomically."""
    text = json.dumps(report(settings, results, planned, status), indent=2, allow_nan=False)
    write_atomically(path, text + "\n")
