"""Progress while a command runs: a bar that moves on a terminal, elsewhere a line on stderr every few seconds."""

from __future__ import annotations

import sys
import time

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from harness.comparison import events as comparison_events
from harness.engine import events
from harness.engine.confirmation import AFTER_OTHERS, NOT_REPEATABLE
from harness.engine.plan import Task
from harness.engine.result import Status
from harness.files import one_line
from harness.findings.baseline import Standing
from harness.goldens import events as golden_events
from harness.goldens.outcome import Status as GoldenStatus
from harness.oracle.levels import Level
from harness.reports.console import ReportConsole
from harness.reports.run_model import RunModel
from harness.subject_spec import SubjectKind

# What is over sooner needs no line to say that it is alive.
_FIRST_LINE_SECONDS = 2.0
_LINE_SECONDS = 5.0
_HANGS_ON_MORE = (NOT_REPEATABLE, AFTER_OTHERS)


class ProgressBar:
    """How far a command has come; use as a context manager, which keeps the bar.

    Args:
        console: where the bar is shown, if it is a terminal.
        late: it is shown when the command begins its steps, and not before; it takes a thread.
    """

    def __init__(self, console: ReportConsole, late: bool = False) -> None:
        self.console, self._late = console, late
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bar = self._progress.add_task("starting", total=None)
        self._done = self._total = 0
        self._next_line = time.monotonic() + _FIRST_LINE_SECONDS
        self._unsaid = ""

    def __enter__(self) -> ProgressBar:
        if not self._late:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, total: int) -> None:
        """So many steps are to be done."""
        self._total = total
        self._progress.start()
        self._progress.update(self._bar, total=total, completed=0)

    def at(self, what: str) -> None:
        """This is being done."""
        self._progress.update(self._bar, description=what)

    def did(self, what: str) -> None:
        """One more step is done: this one."""
        self._done += 1
        self._progress.update(self._bar, completed=self._done)
        self._line(f"{self._done} of {self._total} done ({what})")

    def still(self, what: str) -> None:
        """This goes on beyond the steps."""
        self.at(what)
        self._line(what)

    def waits(self) -> None:
        """Nothing has come for a while: what came too soon after the line before is said now."""
        if self._unsaid:
            self._line(self._unsaid)

    def say(self, text: str) -> None:
        """A line above the bar; on stderr where there is none."""
        if self.console.is_terminal:
            self.console.plain(text)
        else:
            print(text, file=sys.stderr, flush=True)

    def _line(self, text: str) -> None:
        now = time.monotonic()
        self._unsaid = text
        if not self.console.is_terminal and now >= self._next_line:
            self._next_line, self._unsaid = now + _LINE_SECONDS, ""
            print(text, file=sys.stderr, flush=True)


class RunProgress:
    """Listens to a run.

    Args:
        run: has heard each event before.
        verbose: also show what the subject prints, as it comes.
    """

    def __init__(self, bar: ProgressBar, run: RunModel, verbose: bool = False) -> None:
        self._bar, self._run, self._verbose = bar, run, verbose
        self._told: dict[tuple[SubjectKind, str], int] = {}
        self._first: dict[tuple[SubjectKind, str], Task] = {}

    def __call__(self, event: events.Event) -> None:
        if isinstance(event, events.RunStarted):
            self._bar.begin(len(event.tasks))
            if event.left_out:
                self._bar.console.plain(event.left_out)
        elif isinstance(event, events.Progress):
            verb = "shrinking" if event.shrinking else f"{event.examples} cases"
            self._bar.at(f"{event.task.property}, {event.task.precision}: {verb}")
            self._bar.waits()
        elif isinstance(event, events.ViolationMet):
            self._met(event)
        elif isinstance(event, events.TaskFinished):
            self._violated(event.task)
            self._bar.did(event.task.property)
        elif isinstance(event, events.SubjectPrinted) and self._verbose:
            sys.stderr.write(event.text)
            sys.stderr.flush()

    def _met(self, event: events.ViolationMet) -> None:
        """Say of a fault that it was found, before a worse and a smaller case are. Of a violation that a baseline may
        accept, and of what is less grave, the result tells.
        """
        if event.level is Level.FAULT and not self._run.accepts(event.task):
            self._say(event.task, event.level, event.message)

    def _violated(self, task: Task) -> None:
        """Say that a property is violated; under a further precision only if it is graver there.

        What was told when it was met is told again where it turns out to hang on more than its case.
        """
        cell = self._run.cell_of(task)
        if cell.result.status is not Status.VIOLATED or cell.standing is Standing.ACCEPTED:
            return
        if self._first.get((task.kind, task.property)) == task and cell.result.message.startswith(_HANGS_ON_MORE):
            self._told.pop((task.kind, task.property))
        self._say(task, cell.result.level or Level.FAULT, cell.result.message)

    def _say(self, task: Task, level: Level, message: str) -> None:
        key = (task.kind, task.property)
        if level.rank < self._told.get(key, level.rank + 1):
            self._told[key], self._first[key] = level.rank, task
            name = level.value.upper() if level is Level.FAULT else level.value
            self._bar.say(f"{name} {task.property} under {task.precision}: {one_line(message)}")


class GoldenProgress:
    """Listens to goldens that are checked or recorded."""

    def __init__(self, bar: ProgressBar) -> None:
        self._bar = bar

    def __call__(self, event: golden_events.Event) -> None:
        if isinstance(event, golden_events.GoldensStarted):
            self._bar.begin(event.planned)
        elif isinstance(event, golden_events.GoldenStarted):
            self._bar.at(event.golden)
        elif isinstance(event, golden_events.GoldenRecorded):
            self._bar.did(event.golden)
        elif isinstance(event, golden_events.GoldenChecked) and event.outcome.status is not GoldenStatus.UNUSED:
            self._bar.did(event.outcome.golden)


class ComparisonProgress:
    """Listens to a comparison."""

    def __init__(self, bar: ProgressBar) -> None:
        self._bar = bar

    def __call__(self, event: comparison_events.Event) -> None:
        if isinstance(event, comparison_events.ComparisonStarted):
            self._bar.begin(event.examples)
        elif isinstance(event, comparison_events.CaseCompared):
            if event.shrinking:
                self._bar.still("shrinking the first case that differs")
            else:
                self._bar.did("cases compared")
        elif isinstance(event, comparison_events.Timing):
            self._bar.still("taking the time of both")
