"""Whether a violation shows by itself, only after other calls, or not again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from harness.engine.result import Call, TaskResult
from harness.properties.verdict import Verdict

Ask = Callable[[Sequence[Call], float], Verdict | None]

# For all questions about one violation.
_SECONDS = 20.0
_QUESTIONS = 80
# How many of the calls before it are tried, of the latest and of the first: state may be kept from either.
_LATEST = (1, 4, 16, 64, 256)
_FIRST = (1, 8, 64)
_MOST = 4096
_CHECKS = 2

NOT_REPEATABLE = "not repeatable"
AFTER_OTHERS = "only after other calls: "


def confirmed(result: TaskResult, before: Sequence[Call], ask: Ask) -> TaskResult:
    """The violated result, with what its case needs.

    Where the case fails by itself, twice over, or there is no answer, it stays as it is.  Where it holds by itself and
    the worst case shows by itself what was told, that one is the result's.  Else a short list of the calls ``before``
    it is looked for after which it fails.  Where it doesn't fail after those either, it is not repeatable, which is a
    violation too.
    """
    assert result.case is not None
    last = Call(result.task, result.case)
    questions = _Questions(last, ask)
    alone = questions.fails(())
    if alone is None or (alone and questions.fails(()) is not False):
        return result
    if alone:
        return replace(result, message=f"{NOT_REPEATABLE}: of the same calls some failed ({result.message}), some held")
    if _is_told_by_its_worst(result, questions):
        return replace(result, case=result.worst_case)
    if (needed := _needed(before, questions)) is not None:
        return replace(result, message=f"{AFTER_OTHERS}{result.message}", earlier=needed)
    once = f"{NOT_REPEATABLE}: it failed once ({result.message}) and held when run again"
    # Not all that was to be tried could be.
    aside = ", by itself at least: not all calls before it could be tried" if questions.unanswered else ""
    return replace(result, message=once + aside)


def _is_told_by_its_worst(result: TaskResult, questions: _Questions) -> bool:
    """Whether the worst case alone gives what the result says, each time."""
    if result.worst_case in (None, result.case):
        return False
    assert result.worst_case is not None
    calls = (Call(result.task, result.worst_case),)
    verdicts = (questions.verdict(calls) for _ in range(_CHECKS))
    return all(verdict is not None and not verdict.holds and verdict.message == result.message for verdict in verdicts)


class _Questions:
    """What is asked about one violation, within a number of questions and of seconds."""

    def __init__(self, last: Call, ask: Ask) -> None:
        self._last, self._ask = last, ask
        self._until = time.monotonic() + _SECONDS
        self._left = _QUESTIONS
        self.unanswered = False

    def verdict(self, calls: Sequence[Call]) -> Verdict | None:
        """On the last of these; ``None``: no answer."""
        seconds = self._until - time.monotonic()
        self._left -= 1
        return None if self._left < 0 or seconds <= 0 else self._ask(calls, seconds)

    def fails(self, earlier: Sequence[Call]) -> bool | None:
        """Whether the violation's call fails after others; ``None``: no answer."""
        verdict = self.verdict((*earlier, self._last))
        if verdict is None:
            self.unanswered = True
            return None
        return not verdict.holds


def _needed(before: Sequence[Call], questions: _Questions) -> tuple[Call, ...] | None:
    """A short list of earlier calls after which the last one fails each time; ``None`` where none was found."""
    candidates = [
        *(before[-count:] for count in _LATEST),
        *(before[:count] for count in _FIRST),
        before[-_MOST:],
    ]
    asked: set[tuple[Call, ...]] = {()}
    for candidate in map(tuple, candidates):
        if candidate in asked:
            continue
        asked.add(candidate)
        if questions.fails(candidate):
            shortest = _shortened(candidate, questions)
            # A subject that fails at random is none that needs these calls.
            return shortest if all(questions.fails(shortest) for _ in range(_CHECKS)) else None
    return None


def _shortened(calls: tuple[Call, ...], questions: _Questions) -> tuple[Call, ...]:
    """Leave out ever smaller parts for as long as it fails without them (Zeller's ddmin)."""
    size = max(1, len(calls) // 2)
    while True:
        start = 0
        while start < len(calls):
            shorter = calls[:start] + calls[start + size :]
            if questions.fails(shorter):
                calls = shorter
            else:
                start += size
        if size == 1:
            return calls
        size = max(1, size // 2)
