"""Search for a pair of fault programs on which two processes that train together part."""

from __future__ import annotations

from hypothesis import Phase, given, seed
from hypothesis import strategies as st

from harness.cases.descriptors import PassKind, TrainingCase
from harness.cases.strategies import ACCUMULATIONS, GROWTH_INTERVALS, TRAINING_SCALE_EXPONENTS
from harness.engine.events import Listener
from harness.engine.plan import Task
from harness.engine.result import TaskResult
from harness.engine.search import Search, hypothesis_settings, run_quietly
from harness.errors import UsageError
from harness.properties.ranks import RanksProperty
from harness.properties.verdict import Verdict, holds_if
from harness.trials.rank_pair import DiedError, HangError, RankPair

_LONGEST = 4
# A pass in two processes takes tens of milliseconds: one program for so many examples asked for.
_EXAMPLES_A_PROGRAM = 4
_SHRINK_CASES = 60


def check_ranks_case(pair: RankPair, property_: RanksProperty, precision: str, case: TrainingCase) -> Verdict:
    """The property on one pair of programs.

    Raises:
        UsageError: the case holds none.
    """
    return _judged(pair, property_, precision, case)[0]


def _judged(pair: RankPair, property_: RanksProperty, precision: str, case: TrainingCase) -> tuple[Verdict, bool]:
    """The verdict, and whether the processes hung."""
    if not case.actions or len(case.actions) != len(case.second_rank):
        raise UsageError("a case of two ranks needs two programs of one length, actions and second_rank.")
    try:
        first, second = pair.run(precision, case)
    except HangError as error:
        return holds_if(False, f"{error}: it waits for the other"), True
    except DiedError as error:
        return holds_if(False, str(error)), False
    return property_.check(list(zip(case.actions, case.second_rank, strict=True)), first, second), False


def search_ranks(
    task: Task,
    pair: RankPair,
    property_: RanksProperty,
    *,
    examples: int,
    seed_: int,
    emit: Listener,
    deadline: float | None,
) -> TaskResult:
    """Run drawn pairs of programs and shrink what fails; what hangs is not shrunk, each try costing the time limit."""
    search = Search(task, emit, deadline)

    @seed(task.seed(seed_))
    @hypothesis_settings(max(1, examples // _EXAMPLES_A_PROGRAM), (Phase.generate, Phase.shrink))
    @given(_programs(property_.passes))
    def draw(case: TrainingCase) -> None:
        search.fail_again(case)
        if not search.may_run():
            return
        search.starting(case)
        verdict, hung = _judged(pair, property_, task.precision, case)
        if not verdict.holds and not search.has_failed:
            search.allow_shrinking(0 if hung else _SHRINK_CASES)
        search.ran(case, verdict)

    run_quietly(draw)
    return search.result()


def _programs(passes: tuple[PassKind, ...]) -> st.SearchStrategy[TrainingCase]:
    kind = st.sampled_from(passes)
    return st.builds(
        lambda accumulation, scale, growth, pairs: TrainingCase(
            accumulation, scale, growth, tuple(a for a, _ in pairs), tuple(b for _, b in pairs)
        ),
        st.sampled_from(ACCUMULATIONS[:2]),
        st.sampled_from(TRAINING_SCALE_EXPONENTS),
        st.sampled_from(GROWTH_INTERVALS),
        st.lists(st.tuples(kind, kind), min_size=1, max_size=_LONGEST),
    )
