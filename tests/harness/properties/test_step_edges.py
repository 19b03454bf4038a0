"""Where the properties of a step draw their lines: one action each, with what was expected of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from harness.oracle.step_model import Expected
from harness.oracle.window import Fault, ScalerState
from harness.properties.step_bookkeeping import counters, gradients_cleared, scale, schedule
from harness.properties.step_outcome import drops_bad_windows, finite_parameters, never_raises, right_update
from harness.properties.step_property import StepProperty
from harness.properties.step_report import truthful
from harness.properties.step_resume import resume
from harness.protocols import StepReport
from harness.trials.observation import Observation, Snapshot

_SCALER = ScalerState(2.0, 3)
_BEFORE = Snapshot({"w": torch.zeros(2), "none": torch.zeros(0)}, 7, 1000, 0.5, 1000, _SCALER, True)
_MOVED = {"w": torch.ones(2), "none": torch.zeros(0)}
_GOOD = Expected(True, True, True, "all was finite", None, 1.0, 7, 1000, 0.5, (_SCALER,), {"w": 1.0, "none": 0.0}, 1e-6)
_BAD = replace(
    _GOOD, stepped=False, moved=False, why="the loss was NaN", fault=Fault.NONFINITE_LOSS, parameters={"w": 0.0}
)
_RESTORED = {"restored": True, "before": _BEFORE}


def _report(stepped: bool | None, norm: Any = None, scale_: Any = None, reason: str | None = None) -> StepReport:
    return StepReport(stepped, norm, scale_, reason)


def _message(of: StepProperty, after: dict[str, Any], expected: Expected = _GOOD, **more: Any) -> str:
    seen = Observation("act", False, _BEFORE, replace(_BEFORE, **after), expected, None, None)
    verdict = of(replace(seen, **more))
    assert verdict.holds is not bool(verdict.message)
    return verdict.message


def test_updates_are_counted_as_they_happen_or_as_the_step_counts() -> None:
    thousand = int("1000")
    assert not _message(counters, {"updates": thousand})
    for found in (999, 1001):
        words = f"act: param_update_step is {found}, but the parameters have been updated 1000 times (all was finite)"
        assert _message(counters, {"updates": found}) == words
    counted = replace(_GOOD, counted=4)
    assert not _message(counters, {"updates": 4}, counted)
    assert "is 1000, but the parameters have been updated 4 times" in _message(counters, {}, counted)
    assert "updated 0 times" in _message(counters, {}, replace(_GOOD, counted=0))


@pytest.mark.parametrize("found", [6, 8])
def test_passes_are_counted(found: int) -> None:
    words = f"act: fwdbwd_pass_step is {found}, but there have been 7 passes"
    assert _message(counters, {"passes": found}) == words
    assert not _message(counters, {"passes": 1007}, replace(_GOOD, passes=int("1007")))


def test_a_schedule_stands_where_the_updates_are_and_gives_its_rate() -> None:
    assert not _message(schedule, {})
    assert not _message(schedule, {"schedule_steps": None})
    for found in (999, 1001):
        words = f"act: after 1000 updates the schedule stands at step {found} (all was finite)"
        assert _message(schedule, {"schedule_steps": found}) == words
    assert not _message(schedule, {"learning_rate": 0.5 * (1 + 9e-13)})
    for rate in (0.5 * (1 + 2e-12), 0.5 * (1 - 2e-12), 0.0, 5.0):
        assert "after 1000 updates the schedule gives a rate of" in _message(schedule, {"learning_rate": rate})
    third = replace(_GOOD, learning_rate=1 / 3)
    words = "gives a rate of 0.123457; it should be 0.333333 (all was finite)"
    assert _message(schedule, {"learning_rate": 0.123456789}, third).endswith(words)


def test_any_of_the_permitted_states_of_the_scaler_will_do() -> None:
    other = ScalerState(1.0, 0)
    both = replace(_GOOD, scaler=(_SCALER, other))
    assert not _message(scale, {}, both)
    assert not _message(scale, {"scaler": other}, both)
    words = "act: the scale is 1 (tracker 3), but not 2 (tracker 3) or 1 (tracker 0), as all was finite"
    assert _message(scale, {"scaler": ScalerState(1.0, 3)}, both) == words


def test_gradients_may_be_left_within_a_window() -> None:
    left = {"gradients_cleared": False}
    words = "act: gradients are left after the window's end (all was finite)"
    assert _message(gradients_cleared, left) == words
    assert not _message(gradients_cleared, left, replace(_GOOD, window_ended=False))
    assert not _message(gradients_cleared, {})


def test_parameters_move_in_good_windows_alone() -> None:
    assert not _message(drops_bad_windows, {"parameters": _MOVED})
    words = "act: the parameters did not move, though all was finite"
    assert _message(drops_bad_windows, {}) == words
    assert not _message(drops_bad_windows, {}, replace(_GOOD, moved=False))
    assert not _message(drops_bad_windows, {}, _BAD)
    words = "act: the parameters moved, though the loss was NaN: the window must be dropped"
    assert _message(drops_bad_windows, {"parameters": _MOVED}, _BAD) == words


@pytest.mark.parametrize(
    ("times", "expected", "words"),
    [
        (0, _GOOD, "act: the average was updated 0 times in one step"),
        (1, _GOOD, ""),
        (2, _GOOD, "act: the average was updated 2 times in one step"),
        (0, _BAD, ""),
        (-1, _BAD, "act: the average was updated, though the loss was NaN"),
        (1, _BAD, "act: the average was updated, though the loss was NaN"),
        (1, replace(_BAD, fault=Fault.NO_GRADIENTS), ""),
        (2, replace(_BAD, fault=Fault.NO_GRADIENTS), "act: the average was updated, though the loss was NaN"),
    ],
)
def test_an_average_follows_each_step_once(times: int, expected: Expected, words: str) -> None:
    before, after = replace(_BEFORE, averagings=5), {"averagings": 5 + times}
    if expected is _GOOD:
        after["parameters"] = _MOVED  # type: ignore[assignment]
    assert _message(drops_bad_windows, after, expected, before=before) == words
    assert not _message(drops_bad_windows, after, expected, before=before, restored=True)
    # Where it isn't known before, or any more, nothing is said.
    assert not _message(drops_bad_windows, after, expected)
    assert not _message(drops_bad_windows, {**after, "averagings": None}, expected, before=before)


def test_parameters_are_what_the_clipped_gradients_give() -> None:
    def off(by: float) -> dict[str, Any]:
        return {"parameters": {"w": torch.tensor([1.0, 1.0 + by], dtype=torch.float64), "none": torch.zeros(0)}}

    assert not _message(right_update, off(0.9e-6))
    for by in (1.1e-6, -1.1e-6):
        assert "act: the parameters are off by 1.1e-06 from what" in _message(right_update, off(by))
    assert _message(right_update, {"parameters": {"w": torch.ones(2)}}) == "act: the parameter none is gone"
    # For another property to convict.
    assert not _message(right_update, off(float("nan")))


def test_parameters_that_are_not_finite_are_named() -> None:
    broken = {"a": torch.tensor([0.0, torch.inf]), "b": torch.zeros(1), "c": torch.tensor([torch.nan, 0.0])}
    assert _message(finite_parameters, {"parameters": broken}) == "act: a, c became NaN or inf"
    assert not _message(finite_parameters, {})


def test_what_raised_is_told() -> None:
    assert _message(never_raises, {}, raised=ValueError("no")) == "act: raises ValueError: no"
    assert not _message(never_raises, {})
    assert not resume.verdict(Observation("act", True, _BEFORE, _BEFORE, _GOOD, None, ValueError("no"))).holds
    assert resume.verdict(Observation("act", False, _BEFORE, _BEFORE, _GOOD, None, ValueError("no"))).holds


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""),
        ({"parameters": _MOVED}, "w"),
        ({"passes": 8}, "passes"),
        ({"updates": 1}, "updates"),
        ({"learning_rate": 0.1}, "learning rate"),
        ({"schedule_steps": 1}, "schedule steps"),
        ({"scaler": ScalerState(1.0, 0)}, "scaler"),
        ({"gradients_cleared": False}, "gradients cleared"),
        ({"passes": 8, "updates": 1}, "passes, updates"),
    ],
)
def test_a_restore_changes_nothing(change: dict[str, Any], words: str) -> None:
    message = _message(resume, change, restored=True)
    assert message == (f"after save and restore {words} differ" if words else "")


def test_after_a_restore_the_run_goes_on_rightly() -> None:
    good = {"parameters": _MOVED}
    assert not _message(resume, good)
    for change, words in (
        ({}, "the parameters are off"), ({**good, "passes": 8}, "fwdbwd_pass_step is 8"),
        ({**good, "schedule_steps": 1}, "the schedule stands at step 1"),
        ({**good, "scaler": ScalerState(1.0, 0)}, "the scale is 1 "),
    ):  # fmt: skip
        message = _message(resume, change)
        assert message.startswith("after a restore, act: ")
        assert words in message


@pytest.mark.parametrize(
    ("report", "expected", "moved", "words"),
    [
        (_report(True), _GOOD, True, ""),
        (_report(False), _GOOD, True, "says stepped=False, but the parameters moved"),
        (_report(True), _BAD, False, "says stepped=True, but the parameters did not move"),
        (_report(False), _BAD, False, ""),
        (_report(None, 5.0, 5.0), _GOOD, True, ""),
        (None, _GOOD, True, ""),
        # A step on gradients of zero may be told either way.
        (_report(True), replace(_GOOD, moved=False), False, ""),
        (_report(False), replace(_GOOD, moved=False), False, ""),
        (_report(False), replace(_GOOD, moved=False), True, "says stepped=False, but the parameters moved"),
        (_report(True, reason="nan loss"), _GOOD, True, "says that it stepped, and gives the reason 'nan loss'"),
        (_report(True, reason="fine"), _GOOD, True, ""),
        (_report(False, reason="nan loss"), _BAD, False, ""),
        (_report(False, reason="no gradients"), replace(_BAD, fault=Fault.LARGE_NORM), False, "gives the reason"),
        (_report(True, 1.0 + 0.9e-5), _GOOD, True, ""),
        (_report(True, 1.0 + 1.2e-5), _GOOD, True, "reports a gradient norm of 1.00001; it should be 1"),
        (_report(True, 1.23456), _GOOD, True, "reports a gradient norm of 1.23456; it should be 1"),
        (_report(True, 9e-13), replace(_GOOD, grad_norm=0.0), True, ""),
        (_report(True, 2e-12), replace(_GOOD, grad_norm=0.0), True, "reports a gradient norm of 2e-12"),
        (_report(True, 5.0), replace(_GOOD, grad_norm=None), True, ""),
        (_report(True, None, 2.0), _GOOD, True, ""),
        (_report(True, None, 2.0 + 1e-15), _GOOD, True, "reports a scale of"),
        (_report(True, "large", 2.0), _GOOD, True, "reports a gradient norm that is no number but a str"),
    ],
)  # fmt: skip
def test_a_report_is_held_to_what_happened(report: Any, expected: Expected, moved: bool, words: str) -> None:
    message = _message(truthful, {"parameters": _MOVED} if moved else {}, expected, report=report)
    assert message.startswith(f"act: the step {words}" if words else "")
    assert bool(words) is bool(message)
