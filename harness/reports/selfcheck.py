"""What came of a catalogue of faults: on the terminal, as JSON and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

from harness.files import json_value, one_line, write_atomically
from harness.oracle.levels import Level
from harness.reports.console import ReportConsole
from harness.reports.environment import environment
from harness.reports.markdown import escaped
from harness.selfcheck.verdicts import FaultResult, RightResult, Selfcheck

SCHEMA = "harness-selfcheck/1"
# As headings of a column for each.
_LEVELS = ("faults", "definition", "rounding", "strictness")


def show_selfcheck(found: Selfcheck, console: ReportConsole) -> None:
    """Print both tables, and what they come to."""
    if found.faults:
        table = Table("fault", "kind", "by", "level", "killed", "examples", "seconds", pad_edge=False)
        for result in found.faults:
            table.add_row(*_fault_row(result))
        console.print(table)
    if found.rights:
        table = Table("right", "judged", *_LEVELS, "seconds", pad_edge=False)
        for right in found.rights:
            table.add_row(*_right_row(right))
        console.print(table)
    for line in sentences(found):
        console.plain(line)


def sentences(found: Selfcheck) -> Iterator[str]:
    """The survivors and the false alarms, one by one, and the figures of all."""
    for result in found.survivors:
        for one in result.survived:
            yield f"SURVIVED {result.fault.name} at seed {one.seed}: {one_line(one.message)}"
    for right in found.alarmed:
        for alarm in right.alarms:
            where = f"{alarm.property} under {alarm.precision}" if alarm.precision else alarm.property
            yield f"FALSE ALARM {right.right.name} at seed {alarm.seed}: {where}: {one_line(alarm.message)}"
    yield from (f"not run: {_left(one)}" for one in found.left)
    yield _summary(found)


def _left(result: FaultResult | RightResult) -> str:
    name = result.fault.name if isinstance(result, FaultResult) else result.right.name
    return f"{name}: {one_line(result.left)}" if result.left else name


def _summary(found: Selfcheck) -> str:
    word = {0: "HELD", 1: "VIOLATED"}.get(int(found.exit_code), "INCOMPLETE")
    survivors = {result.fault.name for result in found.survivors}
    ran = [one for one in found.faults if one.attempts]
    killed = sum(one.fault.name not in survivors for one in ran)
    alarms = sum(len(right.alarms) for right in found.rights)
    judged = sum(bool(right.done) for right in found.rights)
    median = found.seconds_to_kill
    last = found.first_seed + found.seeds - 1
    seeds = f"seed {found.first_seed}" if found.seeds == 1 else f"each of seeds {found.first_seed} to {last}"
    parts = [f"{killed} of {len(ran)} faults killed at {seeds}"] if ran else []
    if median is not None:
        parts.append(f"median time to kill {median:.2f} s")
    if judged:
        parts.append(f"{alarms} false alarm{'' if alarms == 1 else 's'} in {judged} right implementations")
    return f"{word}: {', '.join(parts) or 'nothing was run'} ({found.seconds:.0f} s)"


def _fault_row(result: FaultResult) -> tuple[str, ...]:
    fault = result.fault
    by = f"{fault.expected} ({fault.precision})" if fault.precision else fault.expected
    killed = f"{len(result.kills)} of {len(result.attempts)}" if result.attempts else "not run"
    level = "" if result.level is None else result.level.value
    examples = "" if result.examples is None else f"{result.examples:g}"
    return fault.name, fault.kind, by, level, killed, examples, _seconds(result.seconds)


def _right_row(right: RightResult) -> tuple[str, ...]:
    counts = (str(right.count(level) or "") for level in Level)
    return (right.right.name, str(right.judged) if right.done else "not run", *counts, _seconds(right.seconds))


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def write_selfcheck(path: Path, found: Selfcheck) -> None:
    """All of it as JSON, atomically; schema ``harness-selfcheck/1``."""
    write_atomically(path, json.dumps(json_value(as_json(found)), indent=1, allow_nan=False) + "\n")


def as_json(found: Selfcheck) -> dict[str, Any]:
    """As plain values."""
    return {
        "schema": SCHEMA,
        "command": found.command,
        "day": found.day,
        "environment": environment(),
        "verdict": found.exit_code.name.lower(),
        "first_seed": found.first_seed,
        "seeds": found.seeds,
        "seconds": found.seconds,
        "median_seconds_to_kill": found.seconds_to_kill,
        "faults": [_fault_json(result) for result in found.faults],
        "right": [_right_json(right) for right in found.rights],
    }


def _fault_json(result: FaultResult) -> dict[str, Any]:
    fault = result.fault
    return {
        "name": fault.name,
        "kind": fault.kind,
        "about": fault.about,
        "source": fault.source,
        "expected": fault.expected,
        "precision": fault.precision or None,
        "level": fault.level.value,
        "killed": len(result.kills),
        "survived": len(result.survived),
        "not_run": result.seeds - len(result.attempts),
        "why_not": result.left or None,
        "median_examples": result.examples,
        "median_seconds": result.seconds,
        "attempts": [
            {
                "seed": one.seed,
                "killed": one.killed,
                "level": None if one.level is None else one.level.value,
                "examples": one.examples,
                "seconds": one.seconds,
                "message": one.message,
                "case": one.case,
                "smallest": one.smallest,
                "elsewhere": one.elsewhere or None,
            }
            for one in result.attempts
        ],
    }


def _right_json(right: RightResult) -> dict[str, Any]:
    return {
        "name": right.right.name,
        "about": right.right.about,
        "precisions": list(right.right.precisions),
        "judged": right.judged,
        "not_run": right.seeds - right.done,
        "why_not": right.left or None,
        "seconds": right.seconds,
        "violations": [
            {
                "property": one.property,
                "precision": one.precision or None,
                "seed": one.seed,
                "level": one.level.value,
                "message": one.message,
            }
            for one in right.violations
        ],
    }


def write_selfcheck_markdown(path: Path, found: Selfcheck) -> None:
    """The :func:`markdown` of it, atomically."""
    write_atomically(path, markdown(found))


def markdown(found: Selfcheck) -> str:
    """A page in GitHub's Markdown: the figures, where they are from, and both tables."""
    *single, summary = (escaped(line) for line in sentences(found))
    where = environment()
    told = [f"{name} {where[name]}" for name in ("harness", "python", "torch", "platform") if where[name]]
    text = ["# What the harness was tried on", "", f"{summary}.", ""]
    text += [f"`{found.command}`, on {found.day}: {escaped(', '.join(told))}.", ""]
    text += [f"- {line}" for line in single] + ([""] if single else [])
    if found.faults:
        text += ["## What is known to be wrong", ""]
        text += [
            "| fault | what is wrong | source | killed by | level | killed | examples | seconds |",
            "|---" * 8 + "|",
        ]
        for result in found.faults:
            name, kind, by, level, killed, examples, seconds = (escaped(cell) for cell in _fault_row(result))
            about = f"{kind}: {escaped(result.fault.about)}"
            cells = (name, about, escaped(result.fault.source), by, level, killed, examples, seconds)
            text.append(f"| {' | '.join(cells)} |")
        text.append("")
    if found.rights:
        text += ["## What is right", ""]
        text += [f"| right | what it is | judged | {' | '.join(_LEVELS)} | seconds |", "|---" * (4 + len(Level)) + "|"]
        for right in found.rights:
            name, *figures = (escaped(cell) for cell in _right_row(right))
            text.append(f"| {' | '.join((name, escaped(right.right.about), *figures))} |")
        text.append("")
    return "\n".join(text)
