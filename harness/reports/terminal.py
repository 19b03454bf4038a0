"""Progress while it runs, then one table and every violation with the command that replays it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from harness.config import Settings
from harness.engine import events
from harness.engine.plan import Task
from harness.engine.result import Outcome, Status, TaskResult, outcome
from harness.findings.case_file import replay_command
from harness.findings.recorder import case_path
from harness.kinds.registry import describe
from harness.reports.words import measure
from harness.subject_spec import DEFAULT_TRUTH, SubjectKind

_CELL = {
    Status.HELD: "[green]held[/]",
    Status.VIOLATED: "[bold red]VIOLATED[/]",
    Status.NOT_APPLICABLE: "[dim]n/a[/]",
    Status.NOT_RUN: "[yellow]not run[/]",
}
# Where no terminal shows a moving bar, a line this often says that the run is alive.
_LINE_SECONDS = 5.0


class ReportConsole(Console):
    """rich's, which leaves the exit code to the command where the reader of the output is gone."""

    def on_broken_pipe(self) -> None:
        raise


class TerminalReport:
    """Listens to the events; use as a context manager, which keeps the progress bar."""

    def __init__(self, settings: Settings, console: Console) -> None:
        self.settings, self.console = settings, console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bar = self._progress.add_task("starting", total=None)
        self._done = self._total = 0
        self._next_line = time.monotonic() + _LINE_SECONDS

    def __enter__(self) -> TerminalReport:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, event: events.Event) -> None:
        if isinstance(event, events.RunStarted):
            self._total = len(event.tasks)
            self._progress.update(self._bar, total=self._total, completed=0)
        elif isinstance(event, events.Progress):
            verb = "shrinking" if event.shrinking else f"{event.examples} cases"
            self._progress.update(self._bar, description=f"{event.task.property}, {event.task.precision}: {verb}")
        elif isinstance(event, events.TaskFinished):
            self._done += 1
            self._progress.update(self._bar, completed=self._done)
            if not self.console.is_terminal and time.monotonic() >= self._next_line:
                self._next_line = time.monotonic() + _LINE_SECONDS
                self.console.print(f"{self._done} of {self._total} done ({event.task.property})", style="dim")

    def show(self, results: Sequence[TaskResult]) -> None:
        """Print tables, violations and one closing line."""
        for kind in SubjectKind:
            mine = [result for result in results if result.task.kind is kind]
            if mine:
                spec = self.settings.loss if kind is SubjectKind.LOSS else self.settings.step
                held_to = (
                    "" if kind is SubjectKind.STEP or self.settings.truth == DEFAULT_TRUTH else self.settings.truth
                )
                aside = f", held to {held_to}" if held_to else ""
                self.console.print(f"[bold]{kind.value}[/] {escape(str(spec))}{aside}", soft_wrap=True, highlight=False)
                self.console.print(_table(mine))
        violated = [result for result in results if result.status is Status.VIOLATED]
        for result in _one_for_each_property(violated):
            self._show_violation(result)
        for reason in dict.fromkeys(r.message for r in results if r.status is Status.NOT_RUN or r.cut_short):
            self.console.print(f"[yellow]not run[/]: {escape(_which(reason, results))}: {escape(reason)}")
        counts = {status: sum(result.status is status for result in results) for status in Status}
        examples = sum(result.examples for result in results)
        parts = [f"{count} {status.value}" for status, count in counts.items() if count]
        together = outcome(results, len(results))
        verdict = together.value.upper()
        style = {Outcome.VIOLATED: "red", Outcome.HELD: "green", Outcome.INCOMPLETE: "yellow"}[together]
        self.console.print(
            f"[bold {style}]{verdict}[/]: {', '.join(parts)}; {examples} examples, seed {self.settings.seed}"
        )

    def _show_violation(self, result: TaskResult) -> None:
        assert result.case is not None
        task: Task = result.task
        self.console.print(f"[bold red]{task.property}[/] under {task.precision}: {escape(result.message)}")
        self.console.print(f"  smallest case: {escape(describe(result.case))}")
        if result.earlier:
            self.console.print(f"  after {len(result.earlier)} other calls, which the case file holds")
        replay = replay_command(case_path(self.settings, task, result.case))
        self.console.print(f"  replay: {escape(replay)}", soft_wrap=True, highlight=False)


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
            cells.append("" if found is None else f"{_CELL[found.status]} {measure(found.worst)}".strip())
        table.add_row(name, *cells)
    return table


def _one_for_each_property(violated: Sequence[TaskResult]) -> list[TaskResult]:
    """Each property's last violation: of the precisions, half ones come last and are what users train in."""
    return list({(result.task.kind, result.task.property): result for result in violated}.values())
