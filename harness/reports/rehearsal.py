"""A rehearsal on the terminal and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from harness.files import json_value, write_atomically
from harness.rehearsal.record import Did, Run, Window
from harness.rehearsal.rehearsal import Rehearsal
from harness.rehearsal.resumption import Resumption
from harness.rehearsal.rules import Finding
from harness.reports.console import ReportConsole

SCHEMA = "harness-rehearsal/1"


def show_rehearsal(rehearsal: Rehearsal, console: ReportConsole) -> None:
    """Print the table of what the script does, each broken rule with its line, and a closing line."""
    console.plain(rehearsal.script.words)
    rows = Table("what this script does", "", pad_edge=False)
    for question, answer in rehearsal.table:
        rows.add_row(question, escape(answer))
    console.print(rows)
    for finding, faults in by_line(rehearsal.findings):
        during = f" (fault: {', '.join(faults)})" if faults else ""
        console.print(
            f"[bold red]FAULT[/] [bold]{finding.rule}[/]: {escape(finding.sentence)}{during}", highlight=False
        )
    for fault, reason in rehearsal.refused.items():
        console.plain(f"not put in: {fault}: {reason}")
    late = [one.fault.value for one in rehearsal.left if one.fault.value not in rehearsal.left_out]
    if late:
        console.plain(f"not run within the time: {', '.join(late)}")
    if rehearsal.beginnings:
        console.plain(rehearsal.beginnings)
    windows = sum(len(run.windows) for run in rehearsal.runs)
    word = verdict(rehearsal)
    style = {"VIOLATED": "red", "INCOMPLETE": "yellow", "HELD": "green"}[word]
    runs = f"{len(rehearsal.runs)} run" + ("s" if len(rehearsal.runs) > 1 else "")
    console.print(f"[bold {style}]{word}[/]: {windows} windows in {runs}, {rehearsal.seconds:.0f} s", highlight=False)


def verdict(rehearsal: Rehearsal) -> str:
    """In a word."""
    return "VIOLATED" if rehearsal.findings else "INCOMPLETE" if rehearsal.left else "HELD"


def by_line(findings: list[Finding]) -> list[tuple[Finding, list[str]]]:
    """What differs in its fault alone is told once; without faults where it is seen in good windows too."""
    found: dict[tuple[str, str], tuple[Finding, list[str]]] = {}
    for finding in findings:
        found.setdefault((finding.rule, finding.sentence), (finding, []))[1].append(finding.fault)
    return [(one, [] if "" in faults else faults) for one, faults in found.values()]


def rehearsal_report(rehearsal: Rehearsal) -> dict[str, Any]:
    """All of it as plain values; NaN and inf as text."""
    found: dict[str, Any] = json_value(
        {
            "schema": SCHEMA,
            "script": rehearsal.script.words,
            "table": dict(rehearsal.table),
            "findings": [
                {
                    "rule": f.rule,
                    "level": f.level.value,
                    "where": f.where,
                    "fault": f.fault or None,
                    "sentence": f.sentence,
                }
                for f in rehearsal.findings
            ],
            "not put in": rehearsal.refused,
            "not run": [one.fault.value for one in rehearsal.left],
            "runs": [_run(run) for run in rehearsal.runs],
            "resumption": _resumption(rehearsal.resumption),
            "seconds": rehearsal.seconds,
        }
    )
    return found


def _resumption(resumption: Resumption | None) -> dict[str, Any] | None:
    """The run that was killed, and the one from its checkpoint; ``None`` where that wasn't tried."""
    if resumption is None:
        return None
    resumed = resumption.resumed
    return {
        "checkpoint": resumption.saved[0] or None,
        "not tried": resumption.why_not if resumed is None else None,
        "killed": _run(resumption.killed),
        "resumed": None if resumed is None else _run(resumed),
    }


def _run(run: Run) -> dict[str, Any]:
    return {
        "rank": run.rank,
        "forked": run.forked,
        "afresh": run.afresh or None,
        "raised": run.ending.raised or None,
        "where": run.ending.where or None,
        "timeline": [_window(window) for window in run.windows],
    }


def _window(window: Window) -> dict[str, Any]:
    norms = [call.value for call in window.of(Did.CLIP) if call.value is not None]
    return {
        "fault": window.fault or None,
        "losses": window.losses,
        "norm": norms[-1] if norms else None,
        "scale": window.scale,
        "rates": window.rates,
        "moved": window.moved,
        "finite": window.finite,
        "averages": window.averages,
        "calls": [f"{call.did.value} at {call.where}" for call in window.calls],
    }


def write_rehearsal(path: Path, rehearsal: Rehearsal) -> None:
    """Write the :func:`rehearsal_report` atomically."""
    write_atomically(path, json.dumps(rehearsal_report(rehearsal), indent=1, allow_nan=False) + "\n")
