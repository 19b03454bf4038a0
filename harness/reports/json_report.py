"""A run as one JSON file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.cases.serialization import case_to_json
from harness.files import json_value, write_atomically
from harness.reports.run_model import Cell, RunModel
from harness.subject_spec import SubjectKind

SCHEMA = "harness-report/3"


def report(run: RunModel) -> dict[str, Any]:
    """The run as plain values. A number that JSON can't hold (NaN, inf) is given as text."""
    settings, loaded = run.settings, run.loaded.get(SubjectKind.LOSS)
    step = run.loaded.get(SubjectKind.STEP)
    return {
        "schema": SCHEMA,
        "subject": {
            "loss": settings.loss,
            "step": settings.step,
            "root": settings.subject_root,
            "similarity": settings.similarity,
            "truth": settings.truth,
            "held_to": None if loaded is None else loaded.held_to,
            "another_definition": loaded is not None and loaded.another,
            "held_to_words": "" if loaded is None else loaded.sentence,
            "data_range": None if loaded is None else json_value(loaded.data_range),
            "data_range_words": "" if loaded is None else loaded.data_range_words,
            **({"arguments": json_value(dict(settings.arguments))} if settings.arguments else {}),
        },
        "step_does": {} if step is None else dict(step.table),
        "seed": settings.seed,
        "strict": settings.strict,
        "environment": json_value(run.environment),
        "left_out": run.left_out,
        "status": run.ended,
        "verdict": run.outcome.value,
        "gone_from_baseline": [
            {"kind": one.task.kind.value, "property": one.task.property, "precision": one.task.precision}
            for one in run.gone
        ],
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
        "level": None if result.level is None else result.level.value,
        "examples": result.examples,
        "seconds": round(result.seconds, 3),
        "worst": json_value(result.worst),
        "message": result.message,
        "case": None if result.case is None else case_to_json(result.case),
        "case_words": cell.case_words,
        "case_file": cell.case_file,
        "replay": cell.replay,
        "worst_case": None if cell.worst_case is None else case_to_json(cell.worst_case),
        "worst_words": cell.worst_words,
        "worst_replay": cell.worst_replay,
        "earlier_calls": len(result.earlier),
        "cut_short": result.cut_short,
        "known_cases": result.known_cases,
        "broken_regressions": [
            {"file": one.file, "message": one.message, "level": one.level.value} for one in result.broken_regressions
        ],
        "standing": None if cell.standing is None else cell.standing.value,
        "accepted_because": "" if cell.accepted is None else cell.accepted.words,
        "evidence": json_value(cell.evidence),
    }
