"""A trace as text for a terminal and as plain data for JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.files import json_value
from harness.rounding.op_trace import OpRecord, TensorNote, Trace

_SHORT = {
    "float16": "f16",
    "bfloat16": "bf16",
    "float32": "f32",
    "float64": "f64",
    "int64": "i64",
    "bool": "bool",
}


OP_COLUMNS = ("#", "op", "in > out", "range", "own error", "error", "expected", "lost", "line")


@dataclass(frozen=True)
class OpRow:
    """One op of a table: its marks, and a text for each of :data:`OP_COLUMNS`.

    Marks: ``E`` the first error beyond what the dtypes should give, ``e`` the later ones, ``C`` cancellation, ``M`` one
        side of a mismatch.
    """

    marks: str
    texts: tuple[str, ...]


def op_rows(trace: Trace, *, all_ops: bool = False) -> list[OpRow]:
    """The ops of the code itself that compute something, or with ``all_ops`` each that was run."""
    mismatched = {i for m in trace.mismatches for i in m.ops}
    first = trace.first_excess
    rows = []
    for r in trace.records:
        if (r.is_view or r.around) and not all_ops:
            continue
        error = "E" if first is r else "e" if r.exceeds else " "
        marks = error + ("C" if r.cancels else " ") + ("M" if r.index in mismatched else " ")
        lost = f"{r.digits_lost:.1f}" if r.cancels else ""
        errors = (_number(r.own_error), _number(r.error), _number(r.expected_error))
        rows.append(OpRow(marks, (str(r.index), r.op, _dtypes(r), _range(r), *errors, lost, _where(r))))
    return rows


def left_out(trace: Trace) -> str:
    """How many ops :func:`op_rows` leaves out, in a sentence; empty for none."""
    around = sum(r.around for r in trace.records)
    views = sum(r.is_view and not r.around for r in trace.records)
    parts = [f"{views} that only look at a tensor in another shape"] if views else []
    parts += [f"{around} of the code around it"] if around else []
    return f"Not shown: of its ops {' and '.join(parts)}." if parts else ""


def format_trace(trace: Trace, *, all_ops: bool = False) -> str:
    """The trace as a table, one op a line, and below it what stands out, in sentences.

    Args:
        all_ops: also show ops that only reshape, and those of the code around.
    """
    rows = [("", *OP_COLUMNS), *((row.marks, *row.texts) for row in op_rows(trace, all_ops=all_ops))]
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    aside = "" if all_ops else left_out(trace)
    return "\n".join([*lines, *([f"{aside[:-1]} (--all-ops)."] if aside else []), "", *what_stands_out(trace)])


def what_stands_out(trace: Trace) -> list[str]:
    """Sentences: the first excess, each cancellation with its operands, each mismatch."""
    said = []
    if (r := trace.first_excess) is not None:
        said.append(
            f"First error beyond its dtype: {_name(r)}, off by {_number(r.error)} where the roundings on "
            f"the way there should give at most {_number(r.expected_error)}."
        )
    for r in trace.cancellations:
        operands = " and ".join(f"{_name(o)}, off by {_number(o.error)}" for o in trace.operands(r)) or "inputs"
        said.append(
            f"Cancellation: {_name(r)} loses {r.digits_lost:.1f} digits, and one or more in "
            f"{r.share_lost:.0%} of its elements. Its operands: {operands}."
        )
    for m in trace.mismatches:
        ops = "; ".join(f"{_name(trace.records[i])} {mean:.6g}" for i, mean in zip(m.ops, m.means, strict=True))
        said.append(
            f"Mismatch: these are one number in float64 (apart by {_number(m.apart_float64)}), and up to "
            f"{_number(m.apart)} apart here: {ops}."
        )
    if trace.raised:
        last = f"after {_name(trace.records[-1])}" if trace.records else "before its first op"
        said.append(f"It raises {trace.raised}, {last}.")
    return said or ["Nothing stands out: every error is within what its dtypes should give."]


def trace_to_dict(trace: Trace) -> dict[str, Any]:
    """The trace as JSON-ready data: numbers that JSON lacks become their names, ``"nan"`` or ``"inf"``."""
    first = trace.first_excess
    return {
        "ops": [_record_to_dict(r) for r in trace.records],
        "first_excess": None if first is None else first.index,
        "cancellations": [r.index for r in trace.cancellations],
        "mismatches": [
            {
                "ops": list(m.ops),
                "means": [json_value(x) for x in m.means],
                "apart": json_value(m.apart),
                "apart_float64": json_value(m.apart_float64),
            }
            for m in trace.mismatches
        ],
        "raised": trace.raised or None,
        "stands_out": what_stands_out(trace),
    }


def _record_to_dict(r: OpRecord) -> dict[str, Any]:
    return {
        "index": r.index,
        "op": r.op,
        "where": r.where,
        "around": r.around,
        "inputs": [_note_to_dict(n) for n in r.inputs],
        "outputs": [_note_to_dict(n) for n in r.outputs],
        "parents": list(r.parents),
        "own_error": json_value(r.own_error),
        "error": json_value(r.error),
        "expected_error": json_value(r.expected_error),
        "exceeds": r.exceeds,
        "cancels": r.cancels,
        "digits_lost": json_value(r.digits_lost),
        "share_lost": json_value(r.share_lost),
    }


def _note_to_dict(n: TensorNote) -> dict[str, Any]:
    return {
        "dtype": n.dtype,
        "shape": list(n.shape),
        "low": json_value(n.low),
        "high": json_value(n.high),
        "not_finite": n.not_finite,
    }


def _name(r: OpRecord) -> str:
    dtype = r.outputs[0].dtype if r.outputs else "no tensor"
    return f"#{r.index} {r.op} ({dtype}{', ' + _where(r) if r.where else ''})"


def _where(r: OpRecord) -> str:
    return f"harness: {r.where}" if r.around else r.where


def _dtypes(r: OpRecord) -> str:
    taken, given = ([_SHORT.get(n.dtype, n.dtype) for n in notes] for notes in (r.inputs, r.outputs))
    return f"{' '.join(taken)} > {' '.join(given)}"


def _range(r: OpRecord) -> str:
    if not r.outputs:
        return ""
    n = r.outputs[0]
    return f"{_number(n.low)} .. {_number(n.high)}" + (f", {n.not_finite} not finite" if n.not_finite else "")


def _number(x: float) -> str:
    return "0" if x == 0 else f"{x:.3g}"
