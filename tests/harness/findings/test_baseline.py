from __future__ import annotations

import datetime
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.config import Settings
from harness.engine.events import RunStarted, TaskFinished
from harness.engine.plan import Task
from harness.engine.result import BrokenRegression, Outcome, Status, TaskResult
from harness.errors import UsageError
from harness.findings.baseline import SCHEMA, Baseline, Standing, read_baseline
from harness.oracle.levels import Level
from harness.reports.run_model import RunModel
from harness.reports.terminal import show_run
from harness.subject_spec import SubjectKind

SETTINGS = Settings(loss="m:L")
RANGE, FINITE = (Task(SubjectKind.LOSS, name, "float32") for name in ("range", "finite"))
FOUND = TaskResult(RANGE, Status.VIOLATED, message="the loss is -1", level=Level.ROUNDING, badness=2.0)
TODAY, LAST = datetime.date(2030, 1, 1), datetime.date(2030, 1, 31)
ACCEPTED = Baseline().updated([FOUND], SETTINGS, "mended next month", LAST)


@pytest.mark.parametrize(
    ("result", "today", "standing"),
    [
        (FOUND, TODAY, Standing.ACCEPTED),
        (FOUND, LAST, Standing.ACCEPTED),
        (FOUND, LAST + datetime.timedelta(days=1), Standing.EXPIRED),
        (replace(FOUND, badness=8.0), TODAY, Standing.ACCEPTED),
        (replace(FOUND, badness=8.1), TODAY, Standing.WORSE),
        (replace(FOUND, badness=math.nan), TODAY, Standing.WORSE),
        (replace(FOUND, level=Level.FAULT), TODAY, Standing.WORSE),
        (replace(FOUND, level=Level.STRICTNESS), TODAY, Standing.ACCEPTED),
        (replace(FOUND, task=FINITE), TODAY, Standing.NEW),
        (replace(FOUND, broken_regressions=(BrokenRegression("d/a.json", "m", Level.FAULT),)), TODAY, Standing.WORSE),
    ],
)
def test_what_is_new_or_worse_is_told_apart(result: TaskResult, today: datetime.date, standing: Standing) -> None:
    assert ACCEPTED.standing(result, SETTINGS, today) is standing
    assert ACCEPTED.standing(result, Settings(loss="m:Other"), today) is Standing.NEW


def test_a_plain_no_is_no_worse_than_a_plain_no() -> None:
    endless = replace(FOUND, badness=math.inf)
    baseline = Baseline().updated([endless], SETTINGS, "r", None)
    assert baseline.standing(endless, SETTINGS, TODAY) is Standing.ACCEPTED
    assert ACCEPTED.standing(endless, SETTINGS, TODAY) is Standing.WORSE


def test_a_baseline_is_read_as_it_was_written(tmp_path: Path) -> None:
    endless = replace(FOUND, task=FINITE, badness=math.inf, level=Level.FAULT)
    baseline = ACCEPTED.updated([endless], SETTINGS, "ünlike", None)
    assert len(baseline.entries) == 2
    baseline.write(tmp_path / "deep" / "b.json")
    assert read_baseline(tmp_path / "deep" / "b.json") == baseline
    assert read_baseline(tmp_path / "nowhere.json") == Baseline()


def test_what_was_not_run_stays_and_what_holds_is_taken_out() -> None:
    assert ACCEPTED.updated([replace(FOUND, status=Status.NOT_RUN)], SETTINGS, "r", None) == ACCEPTED
    assert ACCEPTED.updated([TaskResult(RANGE, Status.HELD, cut_short=True)], SETTINGS, "r", None) == ACCEPTED
    assert not ACCEPTED.updated([TaskResult(RANGE, Status.HELD)], SETTINGS, "r", None).entries


def _shown(run: RunModel) -> str:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    show_run(run, console)
    return console.export_text()


@pytest.mark.parametrize(
    ("result", "today", "outcome", "words"),
    [
        (FOUND, TODAY, Outcome.HELD, "accepted rounding range under float32: mended next month (until 2030-01-31)"),
        (FOUND, datetime.date(2030, 2, 1), Outcome.VIOLATED, "the date has passed: mended next month"),
        (replace(FOUND, level=Level.FAULT), TODAY, Outcome.VIOLATED, "more than is accepted"),
        (TaskResult(RANGE, Status.HELD), TODAY, Outcome.HELD, "gone: range under float32 holds now"),
    ],
)
def test_a_run_is_told_against_it(result: TaskResult, today: datetime.date, outcome: Outcome, words: str) -> None:
    run = RunModel(ACCEPTED, today)
    # Every level counts, so that what is accepted would.
    run(RunStarted((RANGE,), replace(SETTINGS, strict=True)))
    run(TaskFinished(RANGE, result))
    assert run.outcome is outcome
    assert words in _shown(run)


def _entry(**changed: Any) -> dict[str, Any]:
    (entry,) = ACCEPTED.entries.values()
    return {**entry.as_json(), **changed}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "its schema is None"),
        ({"schema": "harness-baseline/9", "accepted": []}, "is no baseline"),
        ({"schema": SCHEMA}, "accepted must be a list"),
        ({"schema": SCHEMA, "accepted": [3]}, r"accepted\[0\] must be an object"),
        ({"schema": SCHEMA, "accepted": [_entry(level="grave")]}, "level must be one of fault"),
        ({"schema": SCHEMA, "accepted": [_entry(badness="much")]}, "badness must be a number"),
        ({"schema": SCHEMA, "accepted": [_entry(badness=-1)]}, "badness must be a number"),
        ({"schema": SCHEMA, "accepted": [_entry(until="soon")]}, "no date like 2026-12-31"),
        ({"schema": SCHEMA, "accepted": [_entry(until=20300101)]}, "until must be a date"),
        ({"schema": SCHEMA, "accepted": [_entry(reason=None)]}, "reason must be text"),
        ({"schema": SCHEMA, "accepted": [_entry(), _entry()]}, "twice"),
    ],
)
def test_a_damaged_baseline_is_named(data: Any, words: str, tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text(json.dumps(data))
    with pytest.raises(UsageError, match=words):
        read_baseline(tmp_path / "b.json")
