"""Search for a case on which a subject violates a property, whatever its kind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import Phase, given, seed, target
from hypothesis.strategies import SearchStrategy

from harness.cases.descriptors import Case
from harness.engine.events import Listener
from harness.engine.plan import Task
from harness.engine.result import TaskResult
from harness.engine.search import Search, climbing_score, hypothesis_settings, run_quietly
from harness.kinds.kind import Bench, SearchPlan
from harness.precision import Precision


@dataclass(frozen=True)
class Asked:
    """What is searched for, and within which bounds.

    Attributes:
        examples: asked for; a property's plan may take more or fewer.
        seed: the same seed draws the same cases.
        suspects: cases tried first, say because they violated the property under another precision.
        deadline: on the monotonic clock, after which no further example is started; ``None`` for none.
    """

    task: Task
    precision: Precision
    property: Any
    examples: int
    seed: int
    suspects: Sequence[Case] = ()
    deadline: float | None = None


def search_case(bench: Bench[Any, Any], asked: Asked, emit: Listener) -> TaskResult:
    """Run the suspects and the plan's first cases, then drawn ones; then climb towards the bound where that is worth
    while; make what fails smaller.

    The drawn cases depend on the seed and the task alone.  The climb goes where the verdicts lead, so on another
    processor it may run other cases.
    """
    return _CaseSearch(bench, asked, emit).result()


class _CaseSearch:
    def __init__(self, bench: Bench[Any, Any], asked: Asked, emit: Listener) -> None:
        self._bench, self._asked = bench, asked
        self._plan: SearchPlan[Any] = bench.plan(asked.property, asked.examples)
        self._search = Search(asked.task, emit, asked.deadline)

    def result(self) -> TaskResult:
        search, plan = self._search, self._plan
        if self._any_fails((*self._asked.suspects, *plan.first)):
            return search.result()
        self._draw(plan.drawn, plan.examples, "")
        if plan.climbs and search.may_run() and not search.has_failed:
            self._climb()
        if search.has_failed and not self._is_small():
            self._try_simpler()
        if search.has_failed and not self._is_small() and plan.small is not None:
            self._draw_small(plan.small)
        return search.result()

    def _any_fails(self, cases: Iterable[Case]) -> bool:
        for case in cases:
            run_quietly(lambda case=case: self._run(case))  # type: ignore[misc]
            if self._search.has_failed:
                return True
        return False

    def _draw(self, strategy: SearchStrategy[Any], examples: int, stream: str) -> None:
        @seed(self._seed(stream))
        @hypothesis_settings(examples, (Phase.generate, Phase.shrink))
        @given(strategy)
        def draw(case: Case) -> None:
            self._run(case)

        run_quietly(draw)

    def _climb(self) -> None:
        @seed(self._seed("climb"))
        @hypothesis_settings(max(1, self._plan.examples // 2), (Phase.generate, Phase.target, Phase.shrink))
        @given(self._plan.drawn)
        def climb(case: Case) -> None:
            self._run(case, climbing=True)

        run_quietly(climb)

    def _try_simpler(self) -> None:
        large = self._search.smallest
        assert large is not None
        candidates = list(self._plan.simpler(large))
        self._search.allow_shrinking(len(candidates))
        for candidate in candidates:
            run_quietly(lambda case=candidate: self._run(case))  # type: ignore[misc]
            if self._is_small():
                return
        self._search.restore_smallest(large)

    def _draw_small(self, strategy: SearchStrategy[Any]) -> None:
        large = self._search.smallest
        assert large is not None
        self._search.allow_shrinking(self._plan.small_examples)
        self._draw(strategy, self._plan.small_examples, "small")
        if not self._is_small():
            self._search.restore_smallest(large)

    def _run(self, case: Case, climbing: bool = False) -> None:
        search = self._search
        search.fail_again(case)
        if not search.may_run():
            return
        judged = self._bench.judge(self._asked.property, self._asked.precision, case, search.starting)
        if climbing and not search.has_failed:
            target(climbing_score(judged.verdict))
        if not judged.verdict.holds and not search.has_failed:
            search.allow_shrinking(0 if judged.slow else self._plan.shrinks)
        search.ran(case, judged.case, judged.verdict)

    def _is_small(self) -> bool:
        return bool(self._plan.is_small(self._search.smallest))

    def _seed(self, stream: str) -> int:
        task = replace(self._asked.task, property="any") if self._plan.shared_draws else self._asked.task
        return task.seed(self._asked.seed, stream)
