"""A run on the terminal: one table, and every violation with the command that replays it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.engine.result import Outcome, Status, TaskResult
from harness.reports.run_model import Cell, RunModel, violation_lines
from harness.subject_spec import DEFAULT_TRUTH, SubjectKind

_CELL = {
    Status.HELD: "[green]held[/]",
    Status.VIOLATED: "[bold red]VIOLATED[/]",
    Status.NOT_APPLICABLE: "[dim]n/a[/]",
    Status.NOT_RUN: "[yellow]not run[/]",
}


def show_run(run: RunModel, console: Console) -> None:
    """Print tables, violations and one closing line."""
    results = [cell.result for cell in run.cells]
    for kind in SubjectKind:
        mine, subject = [result for result in results if result.task.kind is kind], run.subject(kind)
        if mine and subject is not None:
            aside = "" if subject.truth == DEFAULT_TRUTH else f", held to {subject.truth}"
            console.print(f"[bold]{kind.value}[/] {escape(subject.spec)}{aside}", soft_wrap=True, highlight=False)
            console.print(_table(mine))
    for cell in _one_for_each_property(run.violated):
        _show_violation(cell, console)
    for reason in dict.fromkeys(r.message for r in results if r.status is Status.NOT_RUN or r.cut_short):
        console.print(f"[yellow]not run[/]: {escape(_which(reason, results))}: {escape(reason)}")
    parts = [f"{run.counts[status]} {status.value}" for status in Status if run.counts[status]]
    style = {Outcome.VIOLATED: "red", Outcome.HELD: "green", Outcome.INCOMPLETE: "yellow"}[run.outcome]
    console.print(
        f"[bold {style}]{run.outcome.value.upper()}[/]: {', '.join(parts)}; {run.examples} examples, "
        f"seed {run.settings.seed}"
    )


def _show_violation(cell: Cell, console: Console) -> None:
    sentence, *further = violation_lines(cell)
    console.print(f"[bold red]{cell.task.property}[/] under {cell.task.precision}: {escape(sentence)}")
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
            cells.append("" if found is None else f"{_CELL[found.status]} {_digits(found.worst)}".strip())
        table.add_row(name, *cells)
    return table


def _one_for_each_property(violated: Sequence[Cell]) -> list[Cell]:
    """Each property's last violation: of the precisions, half ones come last and are what users train in."""
    return list({(cell.task.kind, cell.task.property): cell for cell in violated}.values())


def _digits(value: float | None) -> str:
    """Three significant digits, or nothing."""
    return "" if value is None else f"{value:.3g}"
