"""A run as one JSON file."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.cases.serialization import case_to_json
from harness.config import Settings
from harness.engine.events import SubjectLoaded
from harness.files import json_value, write_atomically
from harness.findings.baseline import Accepted
from harness.findings.case_file import replay_command
from harness.reports.run_model import Cell, RunModel, SubjectWarnings
from harness.subject_spec import SubjectKind

SCHEMA = "harness-report/4"
# Settings that say where files are and who does the work.
_PLACES = ("cases_dir", "golden_dir", "regressions_dir", "baseline", "workers")
# Settings of several values, by the flag that takes one of them.
_SINGULAR = {
    "arguments": "argument",
    "precisions": "precision",
    "properties": "property",
    "promises": "promise",
}


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
            "loss_source": _source(loaded),
            "step_source": _source(step),
            "data_range": None if loaded is None else json_value(loaded.data_range),
            "data_range_words": "" if loaded is None else loaded.data_range_words,
            **({"arguments": json_value(dict(settings.arguments))} if settings.arguments else {}),
        },
        "command": check_command(settings),
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
        "warnings": [warning_report(one) for one in run.warnings],
        "results": [cell_report(cell) for cell in run.cells],
    }


def write_report(path: Path, saved: Mapping[str, Any]) -> None:
    """Write a :func:`report` atomically."""
    write_atomically(path, json.dumps(saved, indent=2, allow_nan=False) + "\n")


def check_command(settings: Settings) -> str:
    """The command that checks the same again: every setting that is not the default, but for where files go."""
    words, default = ["harness", "check"], Settings()
    for field in dataclasses.fields(Settings):
        name, value = field.name, getattr(settings, field.name)
        if value == getattr(default, name) or name in _PLACES:
            continue
        flag = "--" + _SINGULAR.get(name, name.replace("_", "-"))
        if isinstance(value, Mapping):
            values = [f"{key}={given if isinstance(given, str) else json.dumps(given)}" for key, given in value.items()]
        else:
            values = [str(item) for item in value] if isinstance(value, tuple) else [str(value)]
        words += [flag] if value is True else [word for given in values for word in (flag, given)]
    return shlex.join(words)


def _source(loaded: SubjectLoaded | None) -> dict[str, Any] | None:
    if loaded is None or loaded.source is None:
        return None
    return {"file": loaded.source[0], "line": loaded.source[1]}


def cell_report(cell: Cell) -> dict[str, Any]:
    """One property under one precision, as plain values."""
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
        "last_words": cell.last_words,
        "cut_short": result.cut_short,
        "known_cases": result.known_cases,
        "broken_regressions": [
            {
                "file": one.file,
                "message": one.message,
                "level": one.level.value,
                "replay": replay_command(Path(one.file)),
            }
            for one in result.broken_regressions
        ],
        "standing": None if cell.standing is None else cell.standing.value,
        "accepted": _accepted(cell.accepted),
        "counts": cell.counts,
        "badness": json_value(result.badness),
        "evidence": json_value(cell.evidence),
        "worst_evidence": json_value(cell.worst_evidence),
    }


def warning_report(one: SubjectWarnings) -> dict[str, Any]:
    """One warning of the subject, as plain values."""
    return {**dataclasses.asdict(one.warning), "times": one.times}


def _accepted(entry: Accepted | None) -> dict[str, Any] | None:
    if entry is None:
        return None
    return {"because": entry.words, "level": entry.level.value, "badness": json_value(entry.badness)}
