"""Rules held against runs that are made up."""

from __future__ import annotations

from harness.rehearsal.record import Call, Did, Run, Window
from harness.rehearsal.rules import findings


def _skipped_and_averaged(fault: str, averages_at: str) -> Run:
    """One window whose gradients weren't finite, and whose running averages changed all the same."""
    step = Call(Did.SCALER_STEP, "train.py:9", 0, finite=False)
    window = Window(fault, calls=[step], moved=[False], averages=True, averages_at=averages_at)
    return Run([window], scaler=True)


def test_a_window_of_which_no_line_is_known_is_told_that_of_another_run() -> None:
    traced, untraced = _skipped_and_averaged("nan-loss", "train.py:11"), _skipped_and_averaged("nan-output", "")
    for runs in ([traced, untraced], [untraced, traced]):
        (found,) = findings(untraced, runs)
        assert (found.where, found.fault) == ("train.py:11", "nan-output")
        assert found.sentence.startswith("train.py:11: the running averages are updated here although")


def test_where_several_lines_do_it_none_is_told() -> None:
    untraced = _skipped_and_averaged("nan-output", "")
    others = [_skipped_and_averaged("nan-loss", f"train.py:{line}") for line in (11, 12)]
    (found,) = findings(untraced, others)
    assert found.where == "train.py:9"
    assert found.sentence.startswith("the running averages were updated although the step at train.py:9")
    assert findings(untraced) == [found]


def _scheduled(each: int) -> Run:
    """Nine updates, then a window that was skipped, and a schedule that steps in it and in each so many of those."""
    step, schedule = Call(Did.SCALER_STEP, "train.py:9", 0, finite=True), Call(Did.SCHEDULE, "train.py:12", 0)
    windows = [Window(calls=[step, schedule] if n % each == 0 else [step], moved=[True]) for n in range(9)]
    skipped = Call(Did.SCALER_STEP, "train.py:9", 0, finite=False)
    return Run([*windows, Window("nan-loss", calls=[skipped, schedule], moved=[False])], scaler=True)


def test_a_schedule_of_updates_must_not_go_on_without_one() -> None:
    (found,) = findings(_scheduled(1))
    assert (found.rule, found.where) == ("schedule-follows-updates", "train.py:12")


def test_one_of_epochs_may_step_in_a_window_that_is_skipped() -> None:
    assert findings(_scheduled(3)) == []
