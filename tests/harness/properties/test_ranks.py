"""What is said of two processes that train together, from what each saw."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from harness.cases.descriptors import PassKind
from harness.properties import RANKS_AGREE
from harness.trials.observation import RankState

_STATE = RankState(0.5, None, 1, 0, 0.1, 1.0, "digest", None)
_ACTIONS = [
    (PassKind.NAN_PIXELS, PassKind.GOOD),
    (PassKind.GOOD, PassKind.EXPLODING_VIEW),
    (PassKind.GOOD, PassKind.GOOD),
]
_LABELS = [f"{first.value} beside {second.value}" for first, second in _ACTIONS]


def _message(first: list[RankState], second: list[RankState]) -> str:
    verdict = RANKS_AGREE(_ACTIONS, first, second)
    assert verdict.holds is not bool(verdict.message)
    return verdict.message


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("parameters", "other", "parameters"),
        ("stepped", False, "whether they stepped"),
        ("passes", 2, "passes"),
        ("updates", 1, "updates"),
        ("learning_rate", 0.2, "learning rate"),
        ("scale", 2.0, "scale"),
    ],
)
def test_what_they_differ_in_is_told_with_the_pass(field: str, value: Any, words: str) -> None:
    other = replace(_STATE, **{field: value})
    assert _message([_STATE] * 3, [_STATE, other, _STATE]) == (
        f"{_LABELS[1]}: after pass 2 the ranks differ in {words}"
    )
    both = replace(other, loss=0.25, parameters="third")
    assert _message([_STATE], [both]).startswith(f"{_LABELS[0]}: after pass 1 the ranks differ in parameters")


def test_their_losses_may_differ() -> None:
    assert not _message([_STATE] * 3, [replace(_STATE, loss=0.25)] * 3)


def test_who_raises_is_told() -> None:
    raised = replace(_STATE, raised="OSError: gone")
    assert _message([_STATE, raised], [_STATE] * 2) == f"{_LABELS[1]}: rank 0 raises OSError: gone"
    assert _message([_STATE] * 2, [_STATE, raised]) == f"{_LABELS[1]}: rank 1 raises OSError: gone"
    # One that ended early may have missed what comes after.
    assert not _message([_STATE], [_STATE] * 3)
    assert _message([_STATE], [_STATE] * 2 + [raised]) == f"{_LABELS[2]}: rank 1 raises OSError: gone"


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_window_with_a_bad_loss_may_not_step(loss: float) -> None:
    bad, ends, skips = replace(_STATE, loss=loss), replace(_STATE, stepped=True), replace(_STATE, stepped=False)
    for first, second in ((bad, _STATE), (_STATE, bad)):
        words = f"{_LABELS[1]}: both stepped, though one's loss was NaN or inf"
        assert _message([first, ends], [second, ends]) == words
        # What comes in between ends no window, and what was dropped is forgotten.
        assert _message([first, _STATE, ends], [second, _STATE, ends]) == words.replace(_LABELS[1], _LABELS[2])
        assert not _message([first, skips, ends], [second, skips, ends])
    stepping = replace(bad, stepped=True)
    assert "both stepped" in _message([stepping], [ends])
    assert not _message([ends, ends], [ends, ends])
    assert not _message([replace(_STATE, loss=None), ends], [_STATE, ends])
