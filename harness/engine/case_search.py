"""Search for a case on which a subject violates a property, whatever its kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from hypothesis import Phase, given, seed
from hypothesis.strategies import SearchStrategy

from harness.cases.descriptors import Case
from harness.engine.draws import Draws
from harness.engine.events import Listener
from harness.engine.plan import Task
from harness.engine.result import NOWHERE, Elsewhere, TaskResult
from harness.engine.search import Search, ViolationFound, hypothesis_settings, run_quietly
from harness.errors import PrecisionError
from harness.kinds.kind import Bench, Judged, SearchPlan
from harness.oracle.levels import Level
from harness.precision import Precision
from harness.properties.verdict import Verdict


@dataclass(frozen=True)
class Asked:
    """What is searched for, and within which bounds.

    Attributes:
        examples: asked for; a property's plan may take more or fewer.
        seed: the same seed draws the same cases.
        known: cases that failed before the run, smaller ones first, and what came of them now.
        elsewhere: what other precisions have; its cases are tried first.
        deadline: on the monotonic clock, after which no further example is started; ``None`` for none.
        draws: what other searches have drawn.
        until: the search ends with the first violation as grave as this, and makes no case smaller; ``None``: it looks
            for the worst and for a small one.
    """

    task: Task
    precision: Precision
    property: Any
    examples: int
    seed: int
    elsewhere: Elsewhere = NOWHERE
    deadline: float | None = None
    known: Sequence[tuple[Case, Judged]] = ()
    draws: Draws = field(default_factory=Draws)
    until: Level | None = None


def search_case(bench: Bench[Any, Any], asked: Asked, emit: Listener) -> TaskResult:
    """Run the suspects and the plan's first cases, then drawn ones; then walk towards the bound, and past it, where
    that is worth while; make what fails smaller. What is known has been run before.

    The drawn cases depend on the seed and the task alone, or on seed and property where the plan says so.  The walk
    goes where the verdicts lead, so on another processor it may run other cases.
    """
    return _CaseSearch(bench, asked, emit).result()


_DRAWN, _WALKED, _SIMPLER = "", "walk", "simpler"
# Cases of the walk from the worst on, large ones counted as what they weigh; and of that from what is no fault.
_WALK = 150
_LESSER_WALK = 80
# A walk, and a look at all that is beside where it ends, are begun again at most so often, and only where the last came
# so many times as far; and only in a precision that is no more than so many times less bad than another.
_ROUNDS, _FURTHER, _ABOUT = 4, 1.25, 4
# Of the drawn cases after a fault and of the walk from it, only one in so many where a case that was told beforehand
# violates the property as gravely as can be.
_LED = 3
# Cases run to make smaller what is no fault.
_LESSER_SHRINKS = 20


class _CaseSearch:
    def __init__(self, bench: Bench[Any, Any], asked: Asked, emit: Listener) -> None:
        self._bench, self._asked = bench, asked
        self._plan: SearchPlan[Any] = bench.plan(asked.property, asked.examples)
        if asked.until is not None:
            self._plan = replace(self._plan, gravest=asked.until, after_fault=0)
        self._search = Search(asked.task, emit, asked.deadline, self._plan.after_fault, self._plan.gravest)
        self._stream = _DRAWN
        self._passed_over: set[Case] = set()
        self._numbers = Random(self._seed(_WALKED))

    def result(self) -> TaskResult:
        """The result; of what was met before the precision proved wanting, where it did.

        Raises:
            PrecisionError: it proved wanting, and nothing was violated until then.
        """
        try:
            self._look()
        except PrecisionError as error:
            self._search.count_what_was_tried_before()
            if not self._search.has_failed:
                raise
            return self._search.ended_early(str(error))
        return self._search.result()

    def _look(self) -> None:
        search, plan = self._search, self._plan
        for _, judged in self._asked.known:
            search.tried_before(judged)
        for case in self._asked.elsewhere.cases:
            if not search.has_gravest and search.may_survey():
                self._survey(case)
        settled, walk = search.worst_level, _WALK
        if search.has_gravest:
            # The worst of another precision is where this one's search begins.
            search.shorten(_LED)
            walk //= _LED
        for case in plan.first:
            if search.known(case) is None and not self._is_over and search.may_survey():
                self._survey(case)
        if not self._is_over:
            self._survey_drawn()
        if plan.varied is not None:
            if not search.has_failed or search.has_gravest:
                # Half as many as are drawn: the way to what fails; then on from there.
                self._walk(plan.varied, max(1, plan.examples // 2))
            if search.has_gravest and not self._is_over:
                self._look_for_the_worst(plan.varied, walk)
            elif search.has_failed:
                self._walk(plan.varied, _LESSER_WALK)
        known = search.count_what_was_tried_before()
        if self._asked.until is not None or not search.has_failed:
            return
        # What a case tried first showed needs no other to be made smaller, unless something graver was found since; or
        # unless an earlier run left it large, as one that was cut short does.
        if search.worst_level is known:
            if not self._is_small():
                self._make_smaller()
        elif search.worst_level is not settled:
            self._make_smaller()

    def _survey_drawn(self) -> None:
        plan, seed_ = self._plan, self._seed(_DRAWN)
        for case in self._asked.draws.cases(plan.drawn, plan.examples, seed_, plan.among):
            if self._is_over or not self._search.may_survey():
                return
            if self._search.known(case) is None:
                self._survey(case)

    @property
    def _is_over(self) -> bool:
        """What the search was to go on until has been found."""
        return self._asked.until is not None and self._search.has_gravest

    def _walk(self, varied: Callable[[Any, Random], Any], cases: int) -> None:
        """From the case that comes furthest towards the bound, or past it, to ones that come further, each much like
        the furthest so far.
        """
        if self._is_over or not self._search.begin_walk(cases):
            return
        self._stream = _WALKED
        walked = 0.0
        for _ in range(cases):
            case = varied(self._search.furthest, self._numbers)
            if self._search.known(case) is None and self._search.may_survey():
                walked += self._plan.weight(case)
                if walked > cases or self._is_over:
                    return
                self._survey(case)

    def _look_for_the_worst(self, varied: Callable[[Any, Random], Any], walk: int) -> None:
        """Walk; where that comes about as far as another precision did, try what is beside where it ends, and so on for
        as long as both get much further.
        """
        search, beside = self._search, self._plan.beside
        for _ in range(_ROUNDS):
            before = search.furthest_badness
            self._walk(varied, walk)
            if beside is None or search.furthest_badness * _ABOUT < self._asked.elsewhere.badness:
                return
            self._try_all(list(beside(search.furthest)))
            if not search.furthest_badness > before * _FURTHER:
                return

    def _try_all(self, cases: Sequence[Any]) -> None:
        search = self._search
        if not search.begin_walk(len(cases)):
            return
        self._stream = _WALKED
        for case in cases:
            if search.furthest_badness == math.inf:
                return
            if search.known(case) is None and search.may_survey():
                self._survey(case)

    def _make_smaller(self) -> None:
        search, plan = self._search, self._plan
        shrinks = plan.shrinks if search.has_gravest else min(plan.shrinks, _LESSER_SHRINKS)
        search.begin_shrinking(0 if search.slow else shrinks)
        stream = search.found_in
        if stream is not None and stream != _WALKED:
            self._draw_to_what_failed(stream)
        if not search.has_gravest:
            return
        if not self._is_small():
            self._try_simpler()
        if not self._is_small() and plan.small is not None:
            self._draw_small(plan.small)

    def _draw_to_what_failed(self, stream: str) -> None:
        """Draw the same cases once more, for Hypothesis to meet the failure; those that were passed over, are again."""
        plan = self._plan
        number = max(plan.examples, plan.among)
        if plan.among > plan.examples:
            self._passed_over = set(self._asked.draws.cases(plan.drawn, number, self._seed(_DRAWN)))
        self._draw(plan.drawn, number, stream, (Phase.generate, Phase.shrink))
        self._passed_over = set()

    def _draw(
        self,
        strategy: SearchStrategy[Any],
        examples: int,
        stream: str,
        phases: Sequence[Phase] = (Phase.generate,),
    ) -> None:
        self._stream = stream

        @seed(self._seed(stream))
        @hypothesis_settings(examples, phases)
        @given(strategy)
        def draw(case: Case) -> None:
            self._run(case)

        run_quietly(draw)

    def _try_simpler(self) -> None:
        large = self._search.smallest
        assert large is not None
        candidates = list(self._plan.simpler(large))
        # Not drawn, whatever was drawn last.
        self._stream = _SIMPLER
        self._search.begin_shrinking(len(candidates))
        for candidate in candidates:
            run_quietly(lambda case=candidate: self._run(case))  # type: ignore[misc]
            if self._is_small():
                return
        self._search.restore_smallest(large)

    def _draw_small(self, strategy: SearchStrategy[Any]) -> None:
        large = self._search.smallest
        assert large is not None
        self._search.begin_shrinking(self._plan.small_examples)
        self._draw(strategy, self._plan.small_examples, "small", (Phase.generate, Phase.shrink))
        if not self._is_small():
            self._search.restore_smallest(large)

    def _run(self, case: Case) -> None:
        """Run it, once for all phases; while shrinking, fail where it fails as gravely as the worst."""
        search = self._search
        verdict = search.known(case)
        if verdict is None and search.may_run() and case not in self._passed_over:
            verdict = self._survey(case)
        if verdict is None:
            return
        if self._is_over:
            # Nothing more is to be drawn.
            raise ViolationFound
        search.fail_if_shrinking(case)

    def _survey(self, case: Case) -> Verdict:
        judged = self._bench.judge(self._asked.property, self._asked.precision, case, self._search.starting)
        return self._search.ran(case, judged, self._stream)

    def _is_small(self) -> bool:
        smallest = self._search.smallest
        return smallest is not None and bool(self._plan.is_small(smallest))

    def _seed(self, stream: str) -> int:
        task = replace(self._asked.task, property=self._plan.draws or self._asked.property.name)
        if self._plan.any_precision and stream == _DRAWN:
            task = replace(task, precision="any")
        return task.seed(self._asked.seed, stream)
