"""Every measurement ranks somewhere, NaN among them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from harness.oracle.levels import Level
from harness.properties.verdict import Rounding, Verdict, at_least_zero, at_most, holds_if, relative_to, within

_VALUES = (0.0, 1e-30, 0.5, 1.0, 3.0, -1.0, 1e300, math.inf, -math.inf, math.nan)
_MADE: dict[str, Callable[[float], Verdict]] = {
    "at_most": lambda value: at_most(value, 1.0, "words"),
    "at_most zero": lambda value: at_most(value, 0.0, "words"),
    "within": lambda value: within(value, 0.0, 2.0, "words"),
    "at_least_zero": lambda value: at_least_zero(value, "words"),
    "relative_to": lambda value: relative_to(0.1, abs(value), 1.0, "words"),
    "relative_to beyond noise": lambda value: relative_to(0.1, abs(value), 1.0, "words", lambda: Rounding(2.0)),
    "relative_to nothing": lambda value: relative_to(0.1, abs(value), 0.0, "words", lambda: Rounding(2.0)),
    "rounding": lambda value: relative_to(0.1, abs(value), 1.0, "words", lambda: Rounding(2.0, Level.ROUNDING)),
    "holds_if": lambda value: holds_if(value > 0, "words"),
}


@pytest.mark.parametrize("made", _MADE.values(), ids=list(_MADE))
@pytest.mark.parametrize("value", _VALUES)
def test_none_has_a_badness_that_ranks_nowhere(made: Callable[[float], Verdict], value: float) -> None:
    verdict = made(value)
    assert not math.isnan(verdict.badness)
    assert bool(verdict.message) is not verdict.holds


@pytest.mark.parametrize("made", [made for name, made in _MADE.items() if name != "holds_if"])
def test_nan_never_holds_and_nothing_is_worse(made: Callable[[float], Verdict]) -> None:
    verdict = made(math.nan)
    assert not verdict.holds
    assert verdict.badness == math.inf


@pytest.mark.parametrize("level", [Level.FAULT, Level.ROUNDING])
def test_next_to_a_true_value_of_almost_nothing_an_error_is_told_by_the_rounding(level: Level) -> None:
    rounding = Rounding(5e-4, level)
    found = relative_to(1e-18, 1e-7, 1e-15, "words", lambda: rounding)
    assert found.quantity == pytest.approx(2e-4)
    # So a larger error ranks above one that is next to a smaller truth.
    assert relative_to(1e-15, 1e-6, 1e-12, "words", lambda: rounding).badness > found.badness
    # Of another definition the share is told: its error is no matter of rounding.
    other = Rounding(5e-4, Level.DEFINITION)
    assert relative_to(1e-18, 1e-7, 1e-15, "words", lambda: other).quantity == pytest.approx(1e8)


def test_what_rounding_may_do_is_asked_of_what_does_not_hold_alone() -> None:
    asked = []

    def rounding() -> Rounding:
        asked.append(True)
        return Rounding(2.0, Level.ROUNDING)

    assert relative_to(0.5, 0.4, 1.0, "words", rounding).holds
    assert not asked
    assert at_most(0.4, 0.5, "words").graded(lambda: rounding().level).holds
    assert not asked
    assert relative_to(0.5, 0.6, 1.0, "words", rounding).level is Level.ROUNDING
    assert len(asked) == 1
    assert at_most(0.6, 0.5, "words").graded(lambda: rounding().level).level is Level.ROUNDING
    assert len(asked) == 2
