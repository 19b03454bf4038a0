"""The table of public packages: on the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.table import Table as Screen

from harness.conformance.table import Cell, Found, Standing, State, Table, alarms
from harness.engine.result import Status
from harness.errors import ExitCode
from harness.files import one_line, write_atomically
from harness.findings.case_file import replay_command
from harness.oracle.levels import Level
from harness.reports.console import ReportConsole
from harness.reports.markdown import escaped

_SHORT = {Status.HELD: "held", Status.NOT_APPLICABLE: "n/a", Status.NOT_RUN: "not run"}
HEADINGS = ("subject", "versions", *(level.value for level in Level), "held", "n/a", "not run")
_LONGEST_MESSAGE = 200
_LEGEND = (
    "A fault could change a training; a definition is another loss than the one found, and right as that; "
    "rounding is what float32 does to anyone who writes SSIM by the textbook; strictness is bad input accepted, "
    "or refused without a word. Held means that nothing was found in so many examples; more of them find more. A "
    "property that says nothing of a subject is n/a. A search ends with the first fault, and its case is not made "
    "smaller. What stands as expected has the number of its reason, at the end."
)
_VERDICTS = {
    ExitCode.HELD: "AS EXPECTED",
    ExitCode.VIOLATED: "NOT AS EXPECTED",
    ExitCode.SUBJECT: "A SUBJECT DOES NOT FIT",
}


def show_conformance(table: Table, console: ReportConsole) -> None:
    """Print the table, and what isn't as expected."""
    screen = Screen(*HEADINGS, pad_edge=False)
    for found in table.found:
        screen.add_row(*row(found))
    console.print(screen)
    for line in sentences(table):
        console.plain(line)


def row(found: Found) -> tuple[str, ...]:
    """A subject's: its versions, and how many cells have each level or status; empty for none."""
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    if found.state is not State.RUN:
        told = f"{versions}: {found.state.value}" if versions else found.state.value
        return (found.listed.name, told, *[""] * (len(HEADINGS) - 2))
    levels = [sum(level_of(cell) is level for cell in found.cells) for level in Level]
    statuses = [sum(cell.status is status for cell in found.cells) for status in _SHORT]
    return (found.listed.name, versions, *(str(count or "") for count in (*levels, *statuses)))


def level_of(cell: Cell) -> Level | None:
    """Of a violation; ``None`` where there is none."""
    return (cell.level or Level.FAULT) if cell.status is Status.VIOLATED else None


def word(cell: Cell) -> str:
    """What the table says of a cell."""
    level = level_of(cell)
    return level.value if level is not None else _SHORT[cell.status]


def sentences(table: Table) -> Iterator[str]:
    """What isn't as expected, what was not run and why, and all of it in a line."""
    for found in table.found:
        yield from alarms(found)
    not_run = [found for found in table.found if found.state not in (State.RUN, State.DOES_NOT_FIT)]
    yield from (f"{found.state.value}: {found.listed.name}: {one_line(found.why, 300)}" for found in not_run)
    for found in table.found:
        reasons = dict.fromkeys(one_line(cell.message, 200) for cell in found.cells if cell.status is Status.NOT_RUN)
        yield from (f"not run: {found.listed.name}: {why}" for why in reasons)
    yield summary(table)


def summary(table: Table) -> str:
    """All of it in one line."""
    verdict = _VERDICTS.get(table.exit_code, "INCOMPLETE")
    ran = [found for found in table.found if found.state is State.RUN]
    cells = [cell for found in ran for cell in found.cells]
    faults = sum(level_of(cell) is Level.FAULT for cell in cells)
    unexpected = len(table.having(Standing.UNEXPECTED)) + len(table.having(Standing.GRAVER))
    parts = [
        f"{len(ran)} of {len(table.found)} subjects run",
        f"{len(cells)} properties under a precision",
        f"{faults} {'fault' if faults == 1 else 'faults'}",
        f"{len(table.having(Standing.EXPECTED))} violations expected",
        f"{unexpected} not expected",
        f"{len(table.gone)} gone",
    ]
    return f"{verdict}: {', '.join(parts)} ({table.seconds:.0f} s)"


def write_conformance_markdown(path: Path, table: Table) -> None:
    """The :func:`markdown` of it, atomically."""
    write_atomically(path, markdown(table))


def markdown(table: Table) -> str:
    """A page in GitHub's Markdown: the figures, where they are from, and each subject's properties and violations."""
    reasons = reasons_of(table)
    text = ["# Public packages", "", f"{escaped(summary(table))}.", ""]
    text += [f"Made by `{table.command}` on {table.day}: {escaped(told_of(table))}.", ""]
    text += [escaped(_LEGEND), ""]
    text += [f"- {escaped(line)}" for line in list(sentences(table))[:-1]]
    text += ["", f"| {' | '.join(HEADINGS)} |", "|---" * len(HEADINGS) + "|"]
    text += [f"| {' | '.join(escaped(cell) for cell in row(found))} |" for found in table.found]
    text += [""]
    for found in table.found:
        if found.state is State.RUN:
            text += _subject(found, reasons)
    if reasons:
        text += ["## Why these are expected", ""]
        text += [f"{number}. {escaped(reason)} <{link}>" for (reason, link), number in reasons.items()] + [""]
    return "\n".join(text)


def told_of(table: Table) -> str:
    """How and where it was made."""
    where = table.environment
    told = [f"{name} {where[name]}" for name in ("harness", "python", "torch", "platform") if where.get(name)]
    return f"{table.examples} examples for each property under a precision, seed {table.seed}, {', '.join(told)}"


def reasons_of(table: Table) -> dict[tuple[str, str], int]:
    """Each reason and link that stands beside a violation, with its number."""
    found = (cell.expected for one in table.found for cell in one.cells if cell.standing is Standing.EXPECTED)
    pairs = dict.fromkeys((one.reason, one.link) for one in found if one is not None)
    return {pair: number for number, pair in enumerate(pairs, 1)}


def standing_words(cell: Cell, reasons: dict[tuple[str, str], int]) -> str:
    """How a violation stands, with the number of its reason."""
    if cell.standing is Standing.EXPECTED and cell.expected is not None:
        number = reasons[cell.expected.reason, cell.expected.link]
        return f"GONE: less than is expected ({number})" if cell.is_gone else f"expected ({number})"
    return "" if cell.standing is None else f"{cell.standing.value.upper()}"


def precisions_of(found: Found) -> list[str]:
    """In the order in which they were run."""
    return list(dict.fromkeys(cell.precision for cell in found.cells))


def matrix(found: Found) -> list[tuple[str, list[Cell | None]]]:
    """Each property with its cells, one for each precision; ``None`` where it isn't run in one."""
    cells = {(cell.name, cell.precision): cell for cell in found.cells}
    names = dict.fromkeys(cell.name for cell in found.cells)
    return [(name, [cells.get((name, precision)) for precision in precisions_of(found)]) for name in names]


def violations(found: Found) -> list[Cell]:
    """The gravest first, each property's together."""
    violated = [cell for cell in found.cells if cell.status is Status.VIOLATED]
    return sorted(violated, key=lambda cell: (cell.level or Level.FAULT).rank)


def replays(cell: Cell) -> str:
    """The command that runs the case again; with what it needs besides, where it does."""
    if cell.case_file is None:
        return ""
    return replay_command(cell.case_file) + (" (only after other cases)" if cell.alone is False else "")


def _subject(found: Found, reasons: dict[tuple[str, str], int]) -> Sequence[str]:
    listed, precisions = found.listed, precisions_of(found)
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    text = [
        f"## {escaped(listed.name)}",
        "",
        f"{escaped(listed.about)}; `{listed.spec.spec}`, {escaped(versions)}.",
        "",
    ]
    if found.held_to:
        text += [f"Definition found: {escaped(found.held_to_words or found.held_to)}", ""]
    text += [f"| property | {' | '.join(precisions)} |", "|---" * (len(precisions) + 1) + "|"]
    for name, cells in matrix(found):
        words = ("" if cell is None else _marked(cell) for cell in cells)
        text.append(f"| {name} | {' | '.join(words)} |")
    text += [""]
    if found.does:
        text += ["| what it does | |", "|---|---|"]
        text += [f"| {escaped(question)} | {escaped(answer)} |" for question, answer in found.does.items()] + [""]
    if violated := violations(found):
        text += ["| violated | under | level | what | replay | |", "|---" * 6 + "|"]
        for cell in violated:
            what = escaped(one_line(cell.message, _LONGEST_MESSAGE))
            command = f"`{replays(cell)}`" if cell.case_file is not None else ""
            stands = escaped(standing_words(cell, reasons))
            text.append(f"| {cell.name} | {cell.precision} | {word(cell)} | {what} | {command} | {stands} |")
        text += [""]
    return text


def _marked(cell: Cell) -> str:
    return f"**{word(cell)}**" if level_of(cell) is Level.FAULT else word(cell)
