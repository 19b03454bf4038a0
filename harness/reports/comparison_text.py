"""What came of comparing two implementations, in words and as JSON."""

from __future__ import annotations

import math
from typing import Any

from harness.cases.serialization import case_to_json
from harness.comparison.result import ComparedCase, Comparison, TermSummary
from harness.files import json_value
from harness.kinds.registry import default_kind
from harness.reports.comparison_model import ComparisonModel
from harness.reports.golden_text import moved
from harness.subject_spec import SubjectKind, SubjectSpec

SCHEMA = "harness-comparison/1"
# By the size of A's loss: a form that cancels agrees where the loss is large.
_BANDS = ((1e-2, math.inf), (1e-4, 1e-2), (1e-6, 1e-4), (0.0, 1e-6))


def comparison_lines(comparison: Comparison) -> list[str]:
    """Differences by term and by the loss' size, the speed, and the first case that differs."""
    lines = [f"{_cases(len(comparison.cases))} under {comparison.precision}; differences relative to A:"]
    lines += [f"  {_summary(summary)}" for summary in comparison.summaries()]
    if comparison.kind is SubjectKind.LOSS:
        for least, below in _BANDS:
            parts = [_summary(summary) for summary in comparison.summaries(least, below)]
            if parts:
                size = f"A's loss from {least:g}" + (f" to {below:g}" if below < math.inf else " up")
                lines += [f"  {size}:", *(f"    {part}" for part in parts)]
    lines += _raising(comparison)
    time = "not told, as a side raises" if comparison.speed is None else f"B takes {comparison.speed:.2f} of A's"
    lines.append(f"time: {time}")
    if not comparison.compared:
        return [*lines, "NOT COMPARED: both sides raise in every case"]
    if comparison.first is None or comparison.smallest is None:
        return [*lines, "AGREE: no case differs beyond the budget"]
    beyond = _cases(sum(not compared.agrees for compared in comparison.cases))
    describe = default_kind(comparison.kind).describe
    lines.append(f"DIFFER: in {beyond}; the first is {describe(comparison.first.case)}")
    return [*lines, f"  shrunk: {describe(comparison.smallest.case)}", *_differences(comparison.smallest)]


def comparison_report(model: ComparisonModel, a: str, b: str, subject: SubjectSpec) -> dict[str, Any]:
    """All of it as plain values.

    Args:
        a, b: names of the sides, each with its revision.
        subject: either of them; they differ in spec and root alone.
    """
    comparison = model.comparison
    smallest = comparison.smallest
    both = {key: value for key, value in subject.as_json().items() if key in ("similarity", "truth", "arguments")}
    return {
        "schema": SCHEMA,
        "environment": dict(model.started.environment),
        "a": a,
        "b": b,
        **(both if comparison.kind is SubjectKind.LOSS else {}),
        "precision": comparison.precision,
        "cases": len(comparison.cases),
        "compared": comparison.compared,
        "agree": comparison.first is None and comparison.compared > 0,
        "terms": [json_value(vars(summary)) for summary in comparison.summaries()],
        "by_size": [
            {
                "least": least,
                "below": None if below == math.inf else below,
                "terms": [json_value(vars(s)) for s in comparison.summaries(least, below)],
            }
            for least, below in _BANDS
        ],
        "speed_ratio": comparison.speed,
        "first": None if comparison.first is None else case_to_json(comparison.first.case),
        "smallest": None
        if smallest is None
        else {
            "case": case_to_json(smallest.case),
            "raised": smallest.raised,
            "terms": [d.as_json() for d in smallest.terms],
        },
    }


def _raising(comparison: Comparison) -> list[str]:
    lines = []
    one = [compared.raised for compared in comparison.cases if compared.raised]
    both = [compared.both_raise for compared in comparison.cases if compared.both_raise]
    if one:
        lines.append(f"  one side raises in {_cases(len(one))}, first: {one[0]}")
    if both:
        lines.append(f"  both raise in {_cases(len(both))}, first: {both[0]}")
    return lines


def _cases(count: int) -> str:
    return f"{count} case{'' if count == 1 else 's'}"


def _summary(summary: TermSummary) -> str:
    beyond = f"; beyond the budget in {summary.beyond} of {summary.cases}" if summary.beyond else ""
    # Relative to nothing, or to what is no number, any difference is.
    most = (
        f"at most {summary.largest:.2g}" if math.isfinite(summary.largest) else "unbounded (a side is 0 or no number)"
    )
    return f"{summary.term}: {most}, typically {summary.typical:.2g}{beyond}"


def _differences(compared: ComparedCase) -> list[str]:
    if compared.raised:
        return [f"  {compared.raised}"]
    return [f"  [{d.precision}] {d.term}: {moved(d, 'A')}" for d in compared.terms if not d.within]
