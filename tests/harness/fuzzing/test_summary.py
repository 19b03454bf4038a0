"""What a campaign comes to, and the exit code of it."""

from __future__ import annotations

import datetime
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.engine.result import Status
from harness.errors import ExitCode
from harness.findings.baseline import Accepted, Baseline
from harness.fuzzing.records import UnitRecord
from harness.fuzzing.summary import Summary
from harness.fuzzing.units import Shard
from harness.oracle.levels import Level
from harness.reports.console import ReportConsole
from harness.reports.fuzz import sentences, show_campaign, write_campaign
from tests.harness.fuzzing.made import PLAN, TASKS, record

TODAY = datetime.date(2026, 1, 1)


def _held(index: int) -> UnitRecord:
    one = record(index)
    return replace(one, found=(replace(one.found[0], status=Status.HELD, level=None, message="", case=""),))


def _summary(*records: UnitRecord, rounds: int | None = None, shard: Shard | None = None) -> Summary:
    summary = Summary(PLAN, shard or Shard(), rounds)
    for one in records:
        summary.add(one)
    summary.judge(Baseline(), TODAY)
    return summary


def test_a_fault_makes_it_fail() -> None:
    summary = _summary(*(record(i) for i in range(6)), rounds=2)
    assert summary.exit_code is ExitCode.VIOLATED
    (tally,) = summary.violated
    assert (tally.task, tally.units, tally.statuses) == (TASKS[0], 2, {Status.VIOLATED: 2})
    assert len(tally.cases) == 2


def test_nothing_found_holds_once_each_had_its_turn() -> None:
    assert _summary(*(_held(i) for i in range(3))).exit_code is ExitCode.HELD
    assert _summary(_held(0), _held(2)).exit_code is ExitCode.INCOMPLETE
    assert _summary(*(_held(i) for i in range(3)), rounds=2).exit_code is ExitCode.INCOMPLETE
    assert _summary().exit_code is ExitCode.INCOMPLETE


def test_a_shard_owes_its_own_units_alone() -> None:
    summary = _summary(_held(1), _held(3), _held(5), rounds=2, shard=Shard(1, 2))
    assert (summary.missing, summary.exit_code, summary.complete_rounds) == (0, ExitCode.HELD, 2)
    assert _summary(_held(1), _held(5), rounds=2, shard=Shard(1, 2)).missing == 1


def test_lesser_levels_count_where_that_is_asked_for() -> None:
    one = record(next(i for i in range(3) if PLAN.units[i].tasks == (TASKS[0],)))
    lesser = replace(one, found=(replace(one.found[0], level=Level.ROUNDING),))
    summary = _summary(*(_held(i) for i in range(3) if i != one.unit.index), lesser)
    assert summary.exit_code is ExitCode.HELD
    summary.strict = True
    assert summary.exit_code is ExitCode.VIOLATED


def test_the_gravest_is_told() -> None:
    numbers = [i for i in range(9) if PLAN.units[i].tasks == (TASKS[0],)]
    levels = [(Level.ROUNDING, 9.0), (Level.FAULT, 2.0), (Level.FAULT, 1.0)]
    records = [
        replace(one, found=(replace(one.found[0], level=level, badness=badness),))
        for one, (level, badness) in zip(map(record, numbers), levels, strict=True)
    ]
    worst = _summary(*records).violated[0].worst
    assert worst is not None
    assert (worst.level, worst.badness) == levels[1]


def test_what_a_baseline_accepts_does_not_count() -> None:
    summary = _summary(*(record(i) for i in range(3)))
    accepted = Accepted(TASKS[0], "losses.py:loss", Level.FAULT, 1.0, "too low", "known", None, ())
    summary.judge(Baseline({(TASKS[0], "losses.py:loss"): accepted}), TODAY)
    assert summary.exit_code is ExitCode.HELD


def test_what_was_not_run_is_named() -> None:
    one = _held(0)
    lost = replace(one, found=(replace(one.found[0], status=Status.NOT_RUN, message="its process ended"),))
    summary = _summary(lost, _held(1), _held(2))
    assert summary.exit_code is ExitCode.INCOMPLETE
    assert any("not run: " in line and "its process ended" in line for line in sentences(summary))


def test_an_example_that_fails_counts() -> None:
    summary = _summary(*(_held(i) for i in range(3)))
    summary.tried = [record(next(i for i in range(3) if PLAN.units[i].tasks == (TASKS[0],))).found[0]]
    assert summary.exit_code is ExitCode.VIOLATED
    assert any(line.startswith("examples of the database: 1 of 1") for line in sentences(summary))


def test_it_is_shown_and_written(tmp_path: Path) -> None:
    summary = _summary(*(record(i) for i in range(3)))
    out = io.StringIO()
    show_campaign(summary, tmp_path, ReportConsole(file=out, width=160))
    shown = out.getvalue()
    assert "1 of 1" in shown
    assert "harness replay" in shown
    assert "never run (loss): mask: pixel, line" in shown
    assert shown.rstrip().splitlines()[-1].startswith("VIOLATED: 3 units of 3 a round, 1 whole round, 3 cases")
    write_campaign(tmp_path / "r.json", summary)
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["verdict"] == "violated"
    assert told["coverage"]["loss"]["mask"] == {"full": 3}
    assert [one["property"] for one in told["results"] if one["worst"]] == ["range"]
    assert told["never_run"][0]["feature"] == "mask"


@pytest.mark.parametrize("width", [60, 110])
def test_a_message_that_looks_like_markup_is_shown(tmp_path: Path, width: int) -> None:
    records = [
        replace(one, found=tuple(replace(f, message="[bold]x[/y]") if f.case else f for f in one.found))
        for one in map(record, range(3))
    ]
    out = io.StringIO()
    show_campaign(_summary(*records), tmp_path, ReportConsole(file=out, width=width))
    assert "[bold]x" in out.getvalue()
