"""An explanation of a case as one page."""

from __future__ import annotations

import shlex
from pathlib import Path

from markupsafe import Markup

from harness.errors import UsageError
from harness.files import json_value, write_atomically
from harness.findings.explain import Explanation, pictured
from harness.kinds.registry import describe
from harness.reports.explanation import SCHEMA, explanation_advice, values_told
from harness.reports.page.page import shown_case
from harness.reports.page.plots import sweep_plot
from harness.reports.page.rendering import rendered
from harness.reports.rounding_text import OP_COLUMNS, left_out, op_rows, what_stands_out


def write_explanation_page(path: Path, explanation: Explanation) -> None:
    """Write the :func:`explanation_page` atomically.

    Raises:
        UsageError: its evidence can't be drawn.
        OSError: the file can't be written.
    """
    write_atomically(path, explanation_page(explanation))


def explanation_page(explanation: Explanation) -> str:
    """The case in pictures, the loss' own ops with their errors, what stands out, and what to change.

    Raises:
        UsageError: its evidence can't be drawn.
    """
    file, trace = explanation.file, explanation.trace
    evidence = json_value(pictured(explanation))
    command = shlex.join(["harness", "explain", str(explanation.path), "--precision", explanation.precision.name])
    try:
        case = shown_case({"kind": "loss"}, "explained", describe(file.case, file.task.property), None, evidence)
    except ValueError as error:
        raise UsageError(f"the case's evidence can't be drawn: {error}.") from error
    try:
        drawing = Markup(sweep_plot(evidence["sweep"], explanation.precision.name, "sweep"))
    except ValueError:
        drawing = None  # a loss that is zero, or raises, throughout
    verdict = explanation.verdict
    return rendered(
        "explanation.html.j2",
        spec=explanation.trial.subject.name.spec,
        precision=explanation.precision.name,
        outcome="incomplete" if verdict is None else "held" if verdict.holds else "violated",
        told=values_told(explanation),
        advice=explanation_advice(explanation),
        stands_out=what_stands_out(trace),
        case=case,
        drawing=drawing,
        columns=OP_COLUMNS,
        rows=op_rows(trace),
        left_out=left_out(trace),
        command=command,
        schema=SCHEMA,
    )
