"""Whole trainings in two processes, with faults in either."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from multiprocessing.connection import Connection
from typing import Any

from hypothesis import strategies as st

from harness.cases.descriptors import PassKind, TrainingCase
from harness.cases.image_folder import ImageFolder
from harness.cases.strategies import ACCUMULATIONS, GROWTH_INTERVALS, TRAINING_SCALE_EXPONENTS
from harness.errors import UsageError
from harness.kinds.kind import Bench, Judged, Kind, SearchPlan, Starting
from harness.kinds.programs import describe_program
from harness.precision import Precision
from harness.properties import RANKS_AGREE
from harness.properties.ranks import RanksProperty
from harness.properties.verdict import holds_if
from harness.subject_spec import SubjectKind, SubjectSpec
from harness.subjects.training import TrainingFactory, adapt_training
from harness.trials.observation import RankState
from harness.trials.rank_pair import PASS_SECONDS, START_SECONDS, DiedError, HangError, RankPair

_LONGEST_PROGRAM = 4
# A pass in two processes takes tens of milliseconds: one program for so many examples asked for.
_EXAMPLES_A_PROGRAM = 16
_SHRINKS = 60

_Ranks = tuple[list[RankState], list[RankState]]


class RankPairs(Kind[TrainingFactory, RanksProperty, TrainingCase]):
    """Two processes of one training."""

    name, role, words = "pair of ranks", SubjectKind.STEP, "a pair of fault programs of a whole training"
    cases, properties = TrainingCase, (RANKS_AGREE,)
    takes_long = True
    # A fork can't take the two processes along.
    confirms = False

    def recognises(self, found: Any) -> bool:
        return False  # it comes in as a training

    def adapt(self, found: Any, name: SubjectSpec, try_out: bool = True) -> TrainingFactory:
        return adapt_training(found, name)

    def refusal(self, subject: Any) -> str:
        return "" if isinstance(subject, TrainingFactory) else "only a whole training can run in two processes"

    def bench(self, subject: TrainingFactory, folder: ImageFolder | None) -> RankBench:
        return RankBench(subject)

    def describe(self, case: TrainingCase) -> str:
        return describe_program(case)

    def runs_in(self, precision: Precision) -> bool:
        return precision.applies_to_steps

    def seconds(self, case: TrainingCase, limit: float) -> float:
        """Two ranks have limits of their own, for starting and for each pass."""
        return limit + START_SECONDS + PASS_SECONDS * (len(case.actions) + 1)


class RankBench(Bench[RanksProperty, TrainingCase]):
    """The two processes, started when first needed and kept from case to case."""

    def __init__(self, factory: TrainingFactory, pass_seconds: float = PASS_SECONDS) -> None:
        self._factory = factory
        self._pair = RankPair(factory.name, pass_seconds)
        self._last: tuple[TrainingCase, _Ranks] | None = None

    def fork_ahead(self, closing: Sequence[Connection] = ()) -> None:
        self._pair.fork_ahead(self._factory, closing)

    def inapplicable(self, property_: RanksProperty) -> str | None:
        return None

    def plan(self, property_: RanksProperty, examples: int) -> SearchPlan[TrainingCase]:
        """No simpler cases are tried: two short programs are drawn as they are."""
        first, count = _first(property_.passes)[:examples], max(1, examples // _EXAMPLES_A_PROGRAM)
        return SearchPlan(
            _pairs(property_.passes), count, lambda case: True, lambda case: (), first=first, shrinks=_SHRINKS
        )

    def judge(self, property_: RanksProperty, precision: Precision, case: TrainingCase, starting: Starting) -> Judged:
        if not case.actions or len(case.actions) != len(case.second_rank):
            raise UsageError("a case of two ranks needs two programs of one length, actions and second_rank.")
        starting(case)
        self._last = None
        try:
            ranks = self._pair.run(precision.name, case)
        except HangError as error:
            # Each try to make it smaller would cost the time limit.
            return Judged(holds_if(False, f"{error}: it waits for the other"), case, slow=True)
        except DiedError as error:
            return Judged(holds_if(False, str(error)), case)
        self._last = case, ranks
        return Judged(property_.check(list(zip(case.actions, case.second_rank, strict=True)), *ranks), case)

    def evidence(
        self, property_: RanksProperty, precision: Precision, case: TrainingCase, brief: bool = False
    ) -> Mapping[str, Any] | None:
        """From the last run, where it was of this case: another might hang."""
        if self._last is None or self._last[0] != case:
            return None
        return {"ranks": [[asdict(state) for state in states] for states in self._last[1]]}

    def close(self) -> None:
        self._pair.close()


def _first(passes: tuple[PassKind, ...]) -> list[TrainingCase]:
    """Each pass in one process beside a good one in the other."""
    beside = [pair for kind in passes for pair in ((PassKind.GOOD, kind), (kind, PassKind.GOOD))]
    least = min(TRAINING_SCALE_EXPONENTS)
    return [
        TrainingCase(scale_exponent=least, actions=(one,), second_rank=(other,)) for one, other in dict.fromkeys(beside)
    ]


def _pairs(passes: tuple[PassKind, ...]) -> st.SearchStrategy[TrainingCase]:
    kind = st.sampled_from(passes)
    setting = st.builds(
        TrainingCase,
        st.sampled_from(ACCUMULATIONS[:2]),
        st.sampled_from(TRAINING_SCALE_EXPONENTS),
        st.sampled_from(GROWTH_INTERVALS),
    )
    programs = st.lists(st.tuples(kind, kind), min_size=1, max_size=_LONGEST_PROGRAM)
    return st.builds(
        lambda case, pairs: replace(case, actions=tuple(a for a, _ in pairs), second_rank=tuple(b for _, b in pairs)),
        setting,
        programs,
    )
