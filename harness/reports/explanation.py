"""An explanation of a case as text, as JSON and as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.cases.loss_inputs import MaskedPair
from harness.cases.serialization import case_to_json
from harness.errors import UsageError
from harness.files import json_value, move_into_place, write_atomically
from harness.findings.explain import Explanation
from harness.numerals import told_apart
from harness.reports.rounding_picture import plot_trace
from harness.reports.rounding_text import format_trace, trace_to_dict, what_stands_out

SCHEMA = "harness-explanation/2"


def explanation_text(explanation: Explanation, *, brief: bool = False) -> str:
    """What the loss is and should be, every op with its error, and what stands out; ``brief`` omits the ops."""
    trial, trace = explanation.trial, explanation.trace
    under = f"under {explanation.precision.name} the loss"
    truth = f"{trial.truth.value:.6g}"
    if explanation.value is None:
        head = f"{under} raises {trace.raised}"
    else:
        value, truth = told_apart(explanation.value, trial.truth.value, 6)
        head = f"{under} is {value}; its own ops in float64 give {explanation.own_float64:.6g}"
    head += f"\nby its definition, {trial.definition.formula} ({trial.definition.name}), it is {truth}"
    body = "\n".join(what_stands_out(trace)) if brief else format_trace(trace)
    return f"{head}\n\n{body}"


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
        "trace": trace_to_dict(explanation.trace),
    }


def write_explanation(path: Path, explanation: Explanation) -> None:
    """Write the :func:`explanation_report` atomically."""
    write_atomically(path, json.dumps(explanation_report(explanation), indent=2, allow_nan=False) + "\n")


def draw_explanation(path: Path, explanation: Explanation) -> None:
    """Draw rendering, target and mask of the first image (of points, the mask alone) above the error maps of the ops
    that stand out, as a PNG.

    Raises:
        UsageError: there are no such maps.
    """
    inputs = explanation.trial.built
    images = {"mask": inputs.mask[0, 0]}
    if isinstance(inputs, MaskedPair):
        images = {"rendering": inputs.rendering[0], "target": inputs.target[0], **images}
    try:
        figure = plot_trace(explanation.trace, images)
    except ValueError:
        raise UsageError("there is no error map to draw: no op of the loss made an image.") from None
    with move_into_place(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
