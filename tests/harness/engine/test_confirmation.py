"""What becomes of a violation that doesn't show by itself, told by subjects that are made of two lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from harness.cases.descriptors import LossCase
from harness.engine.confirmation import Ask, confirmed
from harness.engine.plan import Task
from harness.engine.result import Call, Status, TaskResult
from harness.properties.verdict import VACUOUS, Verdict
from harness.subject_spec import SubjectKind

TASK = Task(SubjectKind.LOSS, "range", "float32")
FAILED = Verdict(False, -1.0, 1.0, "below zero")
RESULT = TaskResult(TASK, Status.VIOLATED, message="below zero", case=LossCase(seed=1000))


def _calls(count: int) -> list[Call]:
    return [Call(TASK, LossCase(seed=seed)) for seed in range(count)]


def _fails_after(*seeds: int) -> Ask:
    return lambda calls, _: FAILED if set(seeds) <= {call.case.seed for call in calls} else VACUOUS  # type: ignore[union-attr]


def test_what_fails_by_itself_stays_as_it_is() -> None:
    asked: list[Sequence[Call]] = []

    def ask(calls: Sequence[Call], seconds: float) -> Verdict:
        asked.append(calls)
        return FAILED

    assert confirmed(RESULT, _calls(50), ask) == RESULT
    assert asked == [(Call(TASK, LossCase(seed=1000)),)] * 2


@pytest.mark.parametrize("needed", [(49,), (0,), (20,), (40, 45), (0, 49)])
def test_the_calls_that_are_needed_are_found_and_no_others(needed: tuple[int, ...]) -> None:
    found = confirmed(RESULT, _calls(50), _fails_after(*needed))
    assert found.message == "only after other calls: below zero"
    assert [call.case.seed for call in found.earlier] == list(needed)  # type: ignore[union-attr]
    assert found.status is Status.VIOLATED


def test_what_never_fails_again_is_not_repeatable() -> None:
    found = confirmed(RESULT, _calls(50), lambda calls, seconds: VACUOUS)
    assert found.message == "not repeatable: it failed once (below zero) and held when run again"
    assert (found.status, found.earlier) == (Status.VIOLATED, ())


WORST = LossCase(seed=2000)
OF_TWO = replace(RESULT, worst_case=WORST)


def test_a_small_case_that_holds_by_itself_gives_way_to_a_worst_one_that_fails() -> None:
    found = confirmed(OF_TWO, _calls(50), _fails_after(2000))
    assert found == replace(OF_TWO, case=WORST)


@pytest.mark.parametrize(
    "of_the_worst",
    [
        lambda nth: VACUOUS,
        lambda nth: replace(FAILED, message="less than was told"),
        lambda nth: FAILED if nth % 2 else VACUOUS,
        lambda nth: None,
    ],
    ids=["holds too", "says something else", "now and then", "no answer"],
)
def test_a_worst_case_that_does_not_show_what_was_told_helps_nothing(
    of_the_worst: Callable[[int], Verdict | None],
) -> None:
    of_the_small = _fails_after(20)
    asked = 0

    def ask(calls: Sequence[Call], seconds: float) -> Verdict | None:
        nonlocal asked
        if calls[-1].case == WORST:
            asked += 1
            return of_the_worst(asked)
        return of_the_small(calls, seconds)

    found = confirmed(OF_TWO, _calls(50), ask)
    assert (found.message, found.case) == ("only after other calls: below zero", RESULT.case)
    assert [call.case.seed for call in found.earlier] == [20]  # type: ignore[union-attr]


def _every(nth: int) -> Callable[[Sequence[Call], float], Verdict]:
    count = 0

    def ask(calls: Sequence[Call], seconds: float) -> Verdict:
        nonlocal count
        count += 1
        return FAILED if count % nth == 0 else VACUOUS

    return ask


@pytest.mark.parametrize("nth", [2, 5, 7])
def test_what_fails_now_and_then_is_not_repeatable(nth: int) -> None:
    assert confirmed(RESULT, _calls(50), _every(nth)).message.startswith("not repeatable: ")


def test_no_answer_is_no_acquittal() -> None:
    assert confirmed(RESULT, _calls(50), lambda calls, seconds: None) == RESULT
    alone_only = confirmed(RESULT, _calls(50), lambda calls, seconds: VACUOUS if len(calls) == 1 else None)
    assert alone_only.message == (
        "not repeatable: it failed once (below zero) and held when run again, by itself at least: not all calls "
        "before it could be tried"
    )


@pytest.mark.parametrize("result", [RESULT, OF_TWO], ids=["one case", "and a worst one"])
def test_the_questions_are_bounded(result: TaskResult) -> None:
    asked = 0

    def ask(calls: Sequence[Call], seconds: float) -> Verdict:
        nonlocal asked
        asked += 1
        # All of a long history is needed: nothing can be left out.
        return FAILED if len(calls) > 4000 else VACUOUS

    assert confirmed(result, _calls(5000), ask).status is Status.VIOLATED
    assert asked <= 80
