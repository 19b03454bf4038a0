"""A campaign on the terminal and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

from harness.engine.result import Status
from harness.errors import ExitCode
from harness.files import json_value, one_line, write_atomically
from harness.findings.baseline import Standing
from harness.findings.case_file import replay_command
from harness.fuzzing.summary import Summary, Tally
from harness.oracle.levels import Level
from harness.reports.console import ReportConsole
from harness.reports.environment import environment

SCHEMA = "harness-fuzz/1"


def show_campaign(found: Summary, folder: Path, console: ReportConsole) -> None:
    """Print the violations, the coverage of the cases, what was never run, and what it comes to."""
    console.plain(f"campaign {folder}: {found.plan.title}, seed {found.plan.units.seed}")
    if found.violated:
        table = Table("property", "precision", "level", "units", "worst case's message", pad_edge=False)
        for tally in found.violated:
            table.add_row(*(_plain(cell) for cell in _row(tally)))
        console.print(table)
        for tally in found.violated:
            if tally.worst is not None and tally.worst.case:
                console.plain(f"  {replay_command(folder / 'cases' / tally.worst.case)}")
    if found.coverage.cases:
        table = Table("cases", "feature", "run, by value", pad_edge=False)
        for kind, feature, values in found.coverage.rows():
            table.add_row(kind, feature, _plain(", ".join(f"{value} {count}" for value, count in values)))
        console.print(table)
    for kind, feature, left in found.coverage.never_run(found.plan.images is not None):
        console.plain(f"never run ({kind}): {feature}: {', '.join(left)}")
    for line in sentences(found):
        console.plain(line)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _row(tally: Tally) -> tuple[str, ...]:
    worst = tally.worst
    assert worst is not None
    level = (worst.level or Level.FAULT).value
    if tally.standing is Standing.ACCEPTED:
        level += " (accepted)"
    units = f"{tally.statuses[Status.VIOLATED]} of {tally.units}"
    return tally.task.property, tally.task.precision, level, units, one_line(worst.message, 120)


def sentences(found: Summary) -> Iterator[str]:
    """What was not run and why, the examples of the database, and the whole in one line."""
    yield from found.notes
    for tally in found.not_run:
        count = tally.statuses[Status.NOT_RUN]
        yield (
            f"not run: {tally.task.property} under {tally.task.precision}, {_units(count)}: "
            f"{one_line(tally.why_not, 200)}"
        )
    if found.tried:
        failing = [one for one in found.tried if one.status is Status.VIOLATED]
        yield f"examples of the database: {len(failing)} of {len(found.tried)} that were tried fail here."
        yield from (f"  {one.case}: {one_line(one.message, 200)}" for one in failing)
    if found.stopped:
        yield f"stopped: {found.stopped}."
    yield _summary(found)


def _units(count: int) -> str:
    return f"{count} unit" if count == 1 else f"{count} units"


def _summary(found: Summary) -> str:
    word = {ExitCode.HELD: "HELD", ExitCode.VIOLATED: "VIOLATED"}.get(found.exit_code, "INCOMPLETE")
    rounds = found.complete_rounds
    parts = [
        f"{_units(len(found.done))} of {found.plan.round_size} a round",
        f"{rounds} whole {'round' if rounds == 1 else 'rounds'}",
        f"{found.coverage.cases.total()} cases in {found.seconds:.0f} s of a process",
    ]
    if found.shard.count > 1:
        parts.insert(0, f"shard {found.shard}")
    if found.missing:
        parts.append(
            f"{_units(found.missing)} of {'the first round' if found.rounds is None else 'all rounds'} missing"
        )
    if found.ran:
        parts.append(f"now {_units(found.ran)}, {found.ran_cases} cases in {found.wall:.0f} s")
    return f"{word}: {', '.join(parts)}"


def write_campaign(path: Path, found: Summary) -> None:
    """All of it as JSON, atomically; schema ``harness-fuzz/1``."""
    write_atomically(path, json.dumps(json_value(as_json(found)), indent=1, allow_nan=False) + "\n")


def as_json(found: Summary) -> dict[str, Any]:
    """As plain values."""
    return {
        "schema": SCHEMA,
        "plan": found.plan.as_json(),
        "environment": environment(),
        "verdict": found.exit_code.name.lower(),
        "shard": str(found.shard),
        "units": len(found.done),
        "complete_rounds": found.complete_rounds,
        "missing": found.missing,
        "stopped": found.stopped or None,
        "seconds": found.seconds,
        "this_run": {"units": found.ran, "cases": found.ran_cases, "seconds": found.wall},
        "results": [_tally_json(tally) for tally in found.tallies.values()],
        "examples": [one.as_json() for one in found.tried],
        "coverage": found.coverage.as_json(),
        "never_run": [
            {"kind": kind, "feature": feature, "values": list(values)}
            for kind, feature, values in found.coverage.never_run(found.plan.images is not None)
        ],
        "notes": found.notes,
    }


def _tally_json(tally: Tally) -> dict[str, Any]:
    return {
        "kind": tally.task.kind.value,
        "property": tally.task.property,
        "precision": tally.task.precision,
        "units": {status.value: count for status, count in tally.statuses.items()},
        "worst": None if tally.worst is None else tally.worst.as_json(),
        "cases": list(tally.cases),
        "why_not": tally.why_not or None,
        "standing": tally.standing.value if tally.worst is not None else None,
    }
