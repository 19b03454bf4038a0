"""What is told while a run goes on."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from harness.config import Settings
from harness.engine.confirmation import NOT_REPEATABLE
from harness.engine.events import Event, Progress, RunStarted, SubjectPrinted, TaskFinished, ViolationMet
from harness.engine.plan import Task
from harness.engine.result import Status, TaskResult
from harness.findings.baseline import Standing
from harness.oracle.levels import Level
from harness.reports.console import ReportConsole
from harness.reports.progress import ProgressBar, RunProgress
from harness.reports.run_model import Cell, RunModel
from harness.subject_spec import SubjectKind

_TASKS = [Task(SubjectKind.LOSS, name, p) for name in ("range", "finite") for p in ("a", "b", "c", "d")]
_LEVELS = (Level.ROUNDING, Level.ROUNDING, Level.FAULT, Level.FAULT, None, None, None, None)
_SAID = "the loss\nis [-1]"


class _Accepting(RunModel):
    """Has all that is violated under this precision accepted."""

    accepted = ""

    def cell_of(self, task: Task) -> Cell:
        cell = super().cell_of(task)
        return replace(cell, standing=Standing.ACCEPTED) if task.precision == self.accepted else cell


def _told(console: ReportConsole, accepted: str = "", verbose: bool = False) -> None:
    run = _Accepting()
    run.accepted = accepted
    with ProgressBar(console) as bar:
        progress = RunProgress(bar, run, verbose)
        violated = [
            TaskResult(
                task, Status.HELD if level is None else Status.VIOLATED, message="the loss\nis [-1]", level=level
            )
            for task, level in zip(_TASKS, _LEVELS, strict=True)
        ]
        finished = (TaskFinished(result.task, result) for result in violated)
        for event in (RunStarted(tuple(_TASKS), Settings(loss="m:L")), SubjectPrinted(1, "[said]\n"), *finished):
            run(event)
            progress(event)


def test_a_violation_is_told_once_and_again_only_if_graver(capsys: pytest.CaptureFixture[str]) -> None:
    _told(ReportConsole(file=io.StringIO()))
    first, graver = capsys.readouterr().err.splitlines()
    assert first == "rounding range under a: the loss�is [-1]"
    assert graver == "FAULT range under c: the loss�is [-1]"


def test_what_is_accepted_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    _told(ReportConsole(file=io.StringIO()), accepted="a")
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == [
        "rounding range under b",
        "FAULT range under c",
    ]


def test_what_a_subject_prints_goes_to_stderr_if_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    _told(ReportConsole(file=io.StringIO()), verbose=True)
    told = capsys.readouterr()
    assert told.err.startswith("[said]\n")
    assert told.out == ""


def test_on_a_terminal_it_stands_above_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    screen = io.StringIO()
    _told(ReportConsole(file=screen, force_terminal=True, width=80))
    assert "FAULT range under c: the loss" in screen.getvalue()
    assert capsys.readouterr().err == ""


def _met_and_found(level: Level, message: str, accepted: bool = False) -> None:
    """A violation of the first task is met, as the loss being [-1], and this comes of the task."""

    class _Expecting(RunModel):
        def accepts(self, task: Task) -> bool:
            return accepted

    run, task = _Expecting(), _TASKS[0]
    result = TaskResult(task, Status.VIOLATED, message=message, level=level)
    told: tuple[Event, ...] = (
        RunStarted((task,), Settings(loss="m:L")),
        ViolationMet(task, level, _SAID),
        TaskFinished(task, result),
    )
    with ProgressBar(ReportConsole(file=io.StringIO())) as bar:
        progress = RunProgress(bar, run)
        for event in told:
            run(event)
            progress(event)


@pytest.mark.parametrize(
    ("level", "message", "accepted", "lines"),
    [
        pytest.param(Level.FAULT, "it is -9", False, ["FAULT range under a: the loss�is [-1]"], id="fault"),
        pytest.param(Level.ROUNDING, "it is -9", False, ["rounding range under a: it is -9"], id="less grave"),
        pytest.param(Level.FAULT, "it is -9", True, ["FAULT range under a: it is -9"], id="worse than accepted"),
        pytest.param(
            Level.FAULT,
            f"{NOT_REPEATABLE}: it held",
            False,
            ["FAULT range under a: the loss�is [-1]", f"FAULT range under a: {NOT_REPEATABLE}: it held"],
            id="not repeatable",
        ),
    ],
)
def test_a_fault_is_told_when_it_is_met(
    level: Level, message: str, accepted: bool, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    _met_and_found(level, message, accepted)
    assert capsys.readouterr().err.splitlines() == lines


def test_what_came_too_soon_to_be_said_is_said_while_nothing_follows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr("harness.reports.progress.time.monotonic", lambda: now)
    bar = ProgressBar(ReportConsole(file=io.StringIO()))
    bar.begin(2)
    bar.did("first")
    bar.waits()
    assert capsys.readouterr().err == ""
    now += 2.5
    bar.waits()
    bar.waits()
    assert capsys.readouterr().err == "1 of 2 done (first)\n"


def test_a_check_says_how_far_it_has_come_while_a_long_property_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr("harness.reports.progress.time.monotonic", lambda: now)
    run, (first, second) = RunModel(), _TASKS[:2]
    progress = RunProgress(ProgressBar(ReportConsole(file=io.StringIO())), run)
    for later, event in (
        (0.0, RunStarted((first, second), Settings(loss="m:L"))),
        (0.0, TaskFinished(first, TaskResult(first, Status.HELD))),
        (1.0, Progress(second, 3, False)),
        (1.5, Progress(second, 9, False)),
    ):
        now += later
        run(event)
        progress(event)
    assert capsys.readouterr().err == f"1 of 2 done ({first.property})\n"
