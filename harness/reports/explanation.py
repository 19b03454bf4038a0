"""An explanation of a case as text, as JSON and as a picture."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from pathlib import Path
from typing import Any

from harness.cases.loss_inputs import MaskedPair
from harness.cases.serialization import case_to_json
from harness.errors import UsageError
from harness.files import json_value, move_into_place, write_atomically
from harness.findings.explain import Explanation
from harness.numerals import told_apart
from harness.oracle.levels import Level
from harness.reports.advice import Advice, advice
from harness.reports.rounding_picture import plot_trace
from harness.reports.rounding_text import format_trace, trace_to_dict, what_stands_out

SCHEMA = "harness-explanation/3"


def explanation_text(explanation: Explanation, *, brief: bool = False, all_ops: bool = False) -> str:
    """What the loss is and should be, its ops with their errors, what stands out, and what to change.

    Args:
        brief: leave the ops out.
        all_ops: show every op, not only what the loss itself computes.
    """
    trace = explanation.trace
    body = "\n".join(what_stands_out(trace)) if brief else format_trace(trace, all_ops=all_ops)
    found = [*values_told(explanation), "", body]
    for one in explanation_advice(explanation):
        found += ["", f"Why: {one.why}"]
        found += [f"To change: {one.change}"] if one.change else []
        found += [textwrap.indent(one.code, "    ")] if one.code else []
    return "\n".join(found)


def values_told(explanation: Explanation) -> list[str]:
    """The loss, the same ops in float64, its definition in float64, and what the file's property says of it."""
    trial = explanation.trial
    under = f"under {explanation.precision.name} the loss"
    truth = f"{trial.truth.value:.6g}"
    if explanation.value is None:
        head = f"{under} raises {explanation.trace.raised}"
    else:
        value, truth = told_apart(explanation.value, trial.truth.value, 6)
        head = f"{under} is {value}; its own ops in float64 give {explanation.own_float64:.6g}"
    held_to = f"by its definition in float64, {trial.definition.formula} ({trial.definition.name}), it is {truth}"
    verdict, name = explanation.verdict, explanation.file.task.property
    if verdict is None:
        return [head, held_to]
    if verdict.holds:
        return [head, held_to, f"the property {name} holds for this case"]
    level = "" if verdict.level is None else f" ({verdict.level.value})"
    return [head, held_to, f"the property {name} is violated{level}: {verdict.message}"]


def explanation_advice(explanation: Explanation) -> list[Advice]:
    """What is known of why the case fails, and what to change; nothing for one that holds."""
    verdict = explanation.verdict
    if verdict is not None and verdict.holds:
        return []
    level = Level.FAULT if verdict is None or verdict.level is None else verdict.level
    message = "" if verdict is None else verdict.message
    cell = {"precision": explanation.precision.name, "level": level.value, "message": message}
    return advice({**cell, "evidence": explanation.evidence})


def explanation_report(explanation: Explanation) -> dict[str, Any]:
    """Everything as plain values. JSON has no NaN and no inf: where a number is one, its name stands as text."""
    trial = explanation.trial
    named = trial.subject.name.as_json()
    del named["truth"]  # it stands with its value below
    return {
        "schema": SCHEMA,
        "subject": named.pop("spec"),
        **named,
        "precision": explanation.precision.name,
        "case": case_to_json(explanation.file.case),
        "loss": json_value(explanation.value),
        "own_float64": json_value(explanation.own_float64),
        "truth": {"name": trial.definition.name, "value": json_value(trial.truth.value)},
        "verdict": _verdict(explanation),
        "advice": [dataclasses.asdict(one) for one in explanation_advice(explanation)],
        "trace": trace_to_dict(explanation.trace),
    }


def _verdict(explanation: Explanation) -> dict[str, Any] | None:
    verdict = explanation.verdict
    if verdict is None:
        return None
    level = None if verdict.holds or verdict.level is None else verdict.level.value
    return {
        "property": explanation.file.task.property,
        "holds": verdict.holds,
        "level": level,
        "message": verdict.message,
    }


def write_explanation(path: Path, explanation: Explanation) -> None:
    """Write the :func:`explanation_report` atomically."""
    write_atomically(path, json.dumps(explanation_report(explanation), indent=2, allow_nan=False) + "\n")


def draw_explanation(path: Path, explanation: Explanation) -> None:
    """Draw the first image's rendering, target, difference and mask (of points, the mask alone) above the error maps of
    the ops that stand out, as a PNG.

    Raises:
        UsageError: there is nothing to be seen in any of them.
    """
    inputs = explanation.trial.built
    images = {"mask": inputs.mask[0, 0]}
    if isinstance(inputs, MaskedPair):
        rendering, target = inputs.rendering[0], inputs.target[0]
        images = {"target": target, "rendering": rendering, "rendering − target": rendering - target, **images}
    try:
        figure = plot_trace(explanation.trace, images)
    except ValueError as error:
        raise UsageError(f"there is no picture to draw: {error}.") from None
    with move_into_place(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
