"""A run on the terminal: one table, and every violation with the command that replays it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.engine.result import Outcome, Status, TaskResult
from harness.findings.baseline import Standing
from harness.oracle.levels import Level
from harness.reports.json_report import cell_report, warning_report
from harness.reports.run_model import Cell, RunModel
from harness.reports.words import violation_lines, warning_line, warnings_heading
from harness.subject_spec import SubjectKind

_LEVEL = {
    Level.FAULT: "[bold red]FAULT[/]",
    Level.DEFINITION: "[magenta]definition[/]",
    Level.ROUNDING: "[yellow]rounding[/]",
    Level.STRICTNESS: "[yellow]strictness[/]",
}
_CELL = {
    Status.HELD: "[green]held[/]",
    Status.NOT_APPLICABLE: "[dim]n/a[/]",
    Status.NOT_RUN: "[yellow]not run[/]",
}

_MOST_WARNINGS = 10


def show_run(run: RunModel, console: Console) -> None:
    """Print tables, violations and one closing line."""
    results = [cell.result for cell in run.cells]
    for kind in SubjectKind:
        mine, subject = [result for result in results if result.task.kind is kind], run.subject(kind)
        if mine and subject is not None:
            loaded = run.loaded.get(kind)
            aside = f", held to {escape(loaded.held_to)}" if loaded is not None and loaded.held_to else ""
            if loaded is not None and loaded.data_range_words:
                aside += f" ({escape(loaded.data_range_words)})"
            console.print(f"[bold]{kind.value}[/] {escape(subject.spec)}{aside}", soft_wrap=True, highlight=False)
            if loaded is not None and loaded.sentence:
                console.print(f"[magenta]definition[/]: {escape(loaded.sentence)}")
            if loaded is not None and loaded.table:
                console.print(_answers(loaded.table))
            console.print(_table(mine))
    accepted = [cell for cell in run.violated if cell.standing is Standing.ACCEPTED]
    for cell in accepted:
        console.print(_accepted(cell), highlight=False)
    for cell in _one_for_each_property([cell for cell in run.violated if cell not in accepted]):
        _show_violation(cell, console)
    for entry in run.gone:
        where = f"{entry.task.property} under {entry.task.precision}"
        console.print(f"[green]gone[/]: {where} holds now; harness baseline takes it out of what is accepted")
    for reason in dict.fromkeys(r.message for r in results if r.status is Status.NOT_RUN or r.cut_short):
        console.print(f"[yellow]not run[/]: {escape(_which(reason, results))}: {escape(reason)}")
    _show_warnings(run, console)
    style = {Outcome.VIOLATED: "red", Outcome.HELD: "green", Outcome.INCOMPLETE: "yellow"}[run.outcome]
    console.print(
        f"[bold {style}]{run.outcome.value.upper()}[/]: {', '.join(_counted(run))}; {run.examples} examples, "
        f"{_tried_first(run.known_cases)}seed {run.settings.seed}"
    )


def _show_warnings(run: RunModel, console: Console) -> None:
    warnings = [warning_report(one) for one in run.warnings]
    if not warnings:
        return
    aside = f", of which the {_MOST_WARNINGS} most frequent" if len(warnings) > _MOST_WARNINGS else ""
    console.print(f"[yellow]{warnings_heading(warnings)}[/]{aside} (--verbose: each as it comes):", highlight=False)
    for one in warnings[:_MOST_WARNINGS]:
        console.print(f"  {escape(warning_line(one))}", highlight=False)


def _tried_first(known: int) -> str:
    return f"{known} {'case' if known == 1 else 'cases'} known from before tried first, " if known else ""


def _accepted(cell: Cell) -> str:
    """An accepted violation in one line."""
    assert cell.accepted is not None
    level = _LEVEL[cell.result.level or Level.FAULT]
    return f"accepted {level} {cell.task.property} under {cell.task.precision}: {escape(cell.accepted.words)}"


def _counted(run: RunModel) -> list[str]:
    """How many cells are of each status, the violated ones by their level."""
    accepted = [cell for cell in run.violated if cell.standing is Standing.ACCEPTED]
    levels = Counter(cell.result.level or Level.FAULT for cell in run.violated if cell not in accepted)
    words = {
        Level.FAULT: "fault",
        Level.DEFINITION: "of definition",
        Level.ROUNDING: "of rounding",
        Level.STRICTNESS: "of strictness",
    }
    found = [f"{levels[level]} {words[level]}" for level in Level if levels[level]]
    found += [f"{len(accepted)} accepted"] if accepted else []
    return found + [f"{run.counts[s]} {s.value}" for s in Status if run.counts[s] and s is not Status.VIOLATED]


def _answers(rows: Sequence[tuple[str, str]]) -> Table:
    table = Table("what this step does", "", pad_edge=False)
    for question, answer in rows:
        table.add_row(question, answer)
    return table


def _show_violation(cell: Cell, console: Console) -> None:
    sentence, *further = violation_lines(cell_report(cell))
    level = _LEVEL[cell.result.level or Level.FAULT]
    console.print(f"{level} [bold]{cell.task.property}[/] under {cell.task.precision}: {escape(sentence)}")
    for line in further:
        # A command is copied: it must stay on one line.
        console.print(f"  {escape(line)}", soft_wrap=line.startswith("replay: "), highlight=False)


def _which(reason: str, results: Sequence[TaskResult]) -> str:
    """The cells of this reason, or how many they are."""
    cells = [f"{r.task.property} under {r.task.precision}" for r in results if r.message == reason]
    return cells[0] if len(cells) == 1 else f"{len(cells)} of {len(results)}, {cells[0]} the first"


def _table(results: Sequence[TaskResult]) -> Table:
    precisions = list(dict.fromkeys(result.task.precision for result in results))
    by_task = {(result.task.property, result.task.precision): result for result in results}
    table = Table(pad_edge=False)
    table.add_column("property", no_wrap=True)
    for precision in precisions:
        table.add_column(precision.replace("-", "\n"))
    for name in dict.fromkeys(result.task.property for result in results):
        cells = []
        for precision in precisions:
            found = by_task.get((name, precision))
            cells.append("" if found is None else _cell(found))
        table.add_row(name, *cells)
    return table


def _cell(result: TaskResult) -> str:
    """The verdict, and its figure: beside it where the property held, under it where it is violated."""
    if result.status is Status.VIOLATED:
        return f"{_LEVEL[result.level or Level.FAULT]}\n{_digits(result.worst)}".strip()
    return f"{_CELL[result.status]} {_digits(result.worst)}".strip()


def _one_for_each_property(violated: Sequence[Cell]) -> list[Cell]:
    """Each property's violation under the precision where it is worst; of equals the last, which users train in."""
    worst: dict[tuple[SubjectKind, str], Cell] = {}
    for cell in violated:
        key = (cell.task.kind, cell.task.property)
        if key not in worst or _gravity(cell) >= _gravity(worst[key]):
            worst[key] = cell
    return sorted(worst.values(), key=lambda cell: (cell.result.level or Level.FAULT).rank)


def _gravity(cell: Cell) -> tuple[int, float]:
    return (-(cell.result.level or Level.FAULT).rank, cell.result.badness)


def _digits(value: float | None) -> str:
    """Three significant digits, or nothing."""
    return "" if value is None else f"{value:.3g}"
