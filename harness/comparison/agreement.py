"""Do two implementations agree? The refactor guard without files: the same drawn cases on both."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import Phase, given, seed
from hypothesis import strategies as st

from harness.cases.descriptors import (
    Case,
    LossCase,
    Mask,
    MaskKind,
    Perturbation,
    PerturbationKind,
    Picture,
    PictureKind,
    StepCase,
)
from harness.cases.strategies import (
    ACCUMULATIONS,
    DRAWN_MASKS,
    GROWTH_INTERVALS,
    MICRO_STEPS,
    SCALE_EXPONENTS,
    loss_cases,
)
from harness.comparison.side import Raised, Side
from harness.engine.plan import Task
from harness.engine.search import Search, hypothesis_settings, run_quietly
from harness.errors import UsageError
from harness.goldens.deviation import RECORDED, Deviation, Place, deviations
from harness.goldens.terms import Numbers, Term, Tolerance, Words
from harness.oracle.budget import VALUE_FLOOR, ZERO
from harness.oracle.definitions import Counting, LossDefinition
from harness.properties import sampling
from harness.properties.verdict import Verdict
from harness.subject_spec import SubjectKind, SubjectSpec

_LONGEST_PROGRAM = 10
# What a step says of itself, which it need not.
_SAID = ("norm", "stepped", "reason")
_NOTHING = Raised("nothing", "nothing")
_TIMING_ROUNDS, _TIMING_REPEATS = 3, 5
_TIMED_LOSS = LossCase(
    128,
    128,
    batch=2,
    picture=Picture(PictureKind.TEXTURE),
    mask=Mask(MaskKind.DISC, 5000),
    perturbation=Perturbation(PerturbationKind.NOISE),
)
_TIMED_STEP = StepCase(actions=MICRO_STEPS * 2)


@dataclass(frozen=True)
class ComparedCase:
    """One case on both sides.

    Attributes:
        size: |A's loss|, by which agreement is grouped; NaN for a step.
        terms: B's deviations from A.
        raised: what is wrong where one side raises and the other doesn't, or not the same; else empty.
        both_raise: what both raise, so that nothing was compared; else empty.
    """

    case: Case
    size: float
    terms: tuple[Deviation, ...]
    raised: str = ""
    both_raise: str = ""

    @property
    def agrees(self) -> bool:
        return not self.raised and all(d.within for d in self.terms)


@dataclass(frozen=True)
class TermSummary:
    """One term over all cases: relative differences, and in how many cases it is beyond the budget."""

    term: str
    largest: float
    typical: float
    beyond: int
    cases: int


@dataclass(frozen=True)
class Comparison:
    """What came of it.

    Attributes:
        cases: those that were drawn, and the one that is timed where only one side raises on it.
        speed: B's time as a share of A's; ``None`` where a side raises.
        first: the first drawn case that differs beyond the budget; ``smallest`` is what it shrank to.
    """

    kind: SubjectKind
    precision: str
    cases: tuple[ComparedCase, ...]
    speed: float | None
    first: ComparedCase | None
    smallest: ComparedCase | None

    @property
    def compared(self) -> int:
        """In how many cases there was something to compare."""
        return sum(not one.both_raise for one in self.cases)

    def summaries(self, least: float = 0.0, below: float = math.inf) -> list[TermSummary]:
        """Each term over the cases with A's loss in [least, below), all for the defaults."""
        chosen = [c for c in self.cases if (least, below) == (0.0, math.inf) or least <= c.size < below]
        by_term: dict[str, list[Deviation]] = {}
        for one in chosen:
            for found in one.terms:
                by_term.setdefault(found.term.partition("[")[0], []).append(found)
        return [
            TermSummary(
                term,
                max(d.relative for d in found),
                statistics.median(d.relative for d in found),
                sum(not d.within for d in found),
                len(found),
            )
            for term, found in by_term.items()
        ]


class Comparer:
    """Runs cases on two sides and compares what they give, within a relative budget."""

    def __init__(self, a: Side, b: Side, precision: str, budget: float, definition: LossDefinition) -> None:
        if a.kind is not b.kind:
            raise UsageError(f"{a.spec} is a {a.kind.value} and {b.spec} a {b.kind.value}: only like can be compared.")
        self._a, self._b, self._precision, self._budget, self._definition = a, b, precision, budget, definition
        self._known: dict[Case, ComparedCase] = {}

    def compare(self, examples: int, seed_: int) -> Comparison:
        """All drawn cases on both, then the first that differs shrunk, then the time of each."""
        kind = self._a.kind
        strategy: st.SearchStrategy[Any] = _loss_cases(self._definition) if kind is SubjectKind.LOSS else _step_cases()
        task = Task(kind, "agreement", self._precision)
        drawn: list[ComparedCase] = []

        @seed(task.seed(seed_))
        @hypothesis_settings(examples, (Phase.generate,))
        @given(strategy)
        def collect(case: Case) -> None:
            drawn.append(self.compared_case(case))

        collect()
        timed = self.compared_case(_timed_loss(self._definition) if kind is SubjectKind.LOSS else _TIMED_STEP)
        searched = next((one for one in drawn if not one.agrees), None)
        if timed.raised:
            drawn.append(timed)
        first = next((one for one in drawn if not one.agrees), None)
        smallest = self._shrunk(task, strategy, examples, seed_) if searched is not None else None
        return Comparison(kind, self._precision, tuple(drawn), self._speed(timed.case), first, smallest or first)

    def compared_case(self, case: Case) -> ComparedCase:
        """One case on both sides, run once."""
        if case not in self._known:
            self._known[case] = self._compared(case)
        return self._known[case]

    def _compared(self, case: Case) -> ComparedCase:
        a, b = self._a.measure(case), self._b.measure(case)
        if isinstance(a, Raised) or isinstance(b, Raised):
            left, right = (x if isinstance(x, Raised) else _NOTHING for x in (a, b))
            if left.type == right.type:
                return ComparedCase(case, math.nan, (), both_raise=left.description)
            return ComparedCase(case, math.nan, (), raised=f"A raises {left.description}, B raises {right.description}")
        names = [n for n in a.terms if n not in _SAID or not (_silent(a.terms[n]) or _silent(b.terms.get(n)))]
        then, now = ({n: x.terms[n] for n in names if n in x.terms} for x in (a, b))
        value = a.terms.get("value")
        size = abs(value.values[0]) if isinstance(value, Numbers) else math.nan
        tolerances = {}
        floor = ZERO if self._is_zero(case) else VALUE_FLOOR
        for name in names:
            # What a half-precision gradient's rounding permits, each side may use.
            own, other = (x.truth_tolerances.get(name, Tolerance()) for x in (a, b))
            absolute = max(own.absolute, other.absolute, floor)
            relative = max(self._budget, *(t.relative - 1e-3 for t in (own, other)))
            tolerances[name] = Tolerance(relative, absolute)
        place = Place("", self._precision, RECORDED)
        return ComparedCase(case, size, tuple(deviations(place, then, now, tolerances)))

    def _shrunk(self, task: Task, strategy: st.SearchStrategy[Any], examples: int, seed_: int) -> ComparedCase | None:
        search = Search(task, lambda _: None, None)

        @seed(task.seed(seed_))
        @hypothesis_settings(examples, (Phase.generate, Phase.shrink))
        @given(strategy)
        def shrink(case: Case) -> None:
            search.fail_again(case)
            if search.may_run():
                one = self.compared_case(case)
                search.ran(case, case, Verdict(one.agrees, None, 0.0 if one.agrees else math.inf, "differs"))

        run_quietly(shrink)
        return None if search.smallest is None else self.compared_case(search.smallest)

    def _speed(self, case: Case) -> float | None:
        ratios = []
        for _ in range(_TIMING_ROUNDS):
            a, b = (side.seconds(case, _TIMING_REPEATS) for side in (self._a, self._b))
            if isinstance(a, Raised) or isinstance(b, Raised):
                return None
            ratios.append(b / a)
        return statistics.median(ratios)

    def _is_zero(self, case: Case) -> bool:
        """Whether the loss is exactly zero by construction, where a few units in the last place of 1 don't count."""
        if self._a.kind is not SubjectKind.LOSS:
            return False
        assert isinstance(case, LossCase)
        counting = self._definition.counting
        nothing = MaskKind.FULL if counting is Counting.BACKGROUND else MaskKind.EMPTY
        if case.mask.kind is nothing and counting is not Counting.ALL:
            return True
        return self._definition.zero_at_identity and case.perturbation.kind is PerturbationKind.NONE


@contextmanager
def both_sides(a: SubjectSpec, b: SubjectSpec, precision: str) -> Iterator[tuple[Side, Side]]:
    """Two subjects, started together."""
    sides: list[Side] = []
    try:
        for name in (a, b):
            sides.append(Side(name, precision))
        yield sides[0], sides[1]
    finally:
        for side in sides:
            side.close()


def _silent(term: Term | None) -> bool:
    """Whether a step that reports nothing left the term empty throughout."""
    if isinstance(term, Numbers):
        return all(math.isnan(value) for value in term.values)
    return isinstance(term, Words) and all(value is None for value in term.values)


def _loss_cases(definition: LossDefinition) -> st.SearchStrategy[LossCase]:
    smallest, largest = sampling.sides(definition)
    return loss_cases(
        masks=sampling.masks(definition, DRAWN_MASKS),
        magnitudes=sampling.magnitudes(definition),
        smallest_side=smallest,
        largest_side=largest,
    )


def _timed_loss(definition: LossDefinition) -> LossCase:
    smallest, largest = sampling.sides(definition)
    # What looks through a network is slow enough on the images that are drawn.
    side = largest if definition.needs_convolutions else max(_TIMED_LOSS.height, smallest)
    return replace(_TIMED_LOSS, height=side, width=side)


def _step_cases() -> st.SearchStrategy[StepCase]:
    actions = st.lists(st.sampled_from(MICRO_STEPS), min_size=1, max_size=_LONGEST_PROGRAM)
    return st.builds(
        lambda case, actions: replace(case, actions=tuple(actions)),
        st.builds(
            StepCase,
            st.sampled_from(ACCUMULATIONS),
            st.sampled_from(SCALE_EXPONENTS),
            st.sampled_from(GROWTH_INTERVALS),
        ),
        actions,
    )
