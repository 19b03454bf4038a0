"""Do two implementations agree? The refactor guard without files: the same drawn cases on both."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hypothesis import Phase, given, seed
from hypothesis import strategies as st

from harness.cases.descriptors import Case, LossCase, MaskKind, PerturbationKind
from harness.comparison.cases import TIMED_STEP, loss_cases_for, step_cases, timed_loss
from harness.comparison.events import CaseCompared, ComparisonFinished, ComparisonStarted, Listener, Timing
from harness.comparison.result import ComparedCase, Comparison
from harness.comparison.side import Raised, Side
from harness.engine.events import unheard
from harness.engine.plan import derived_seed
from harness.engine.search import ViolationFound, hypothesis_settings, run_quietly
from harness.errors import UsageError
from harness.goldens.deviation import RECORDED, Place, deviations
from harness.goldens.terms import Numbers, Term, Tolerance, Words
from harness.kinds.kind import SHRINKS
from harness.oracle.budget import VALUE_FLOOR, ZERO
from harness.oracle.definitions import Counting, LossDefinition
from harness.subject_spec import SubjectKind, SubjectSpec

# What a step says of itself, which it need not.
_SAID = ("norm", "stepped", "reason")
_NOTHING = Raised("nothing", "nothing")
_TIMING_ROUNDS, _TIMING_REPEATS = 3, 5


class Comparer:
    """Runs cases on two sides and compares what they give, within a relative budget."""

    def __init__(self, a: Side, b: Side, precision: str, budget: float, definition: LossDefinition) -> None:
        if a.kind is not b.kind:
            one, other = a.subject.spec, b.subject.spec
            raise UsageError(f"{one} is a {a.kind.value} and {other} a {b.kind.value}: only like can be compared.")
        self._a, self._b, self._precision, self._budget, self._definition = a, b, precision, budget, definition
        self._known: dict[Case, ComparedCase] = {}

    def compare(
        self, examples: int, seed_: int, emit: Listener = unheard, environment: Mapping[str, Any] | None = None
    ) -> Comparison:
        """All drawn cases on both, then the first that differs shrunk, then the time of each.

        Args:
            examples: how many cases are drawn.
            seed_: the same seed draws the same cases.
            emit: told of each case as it is compared.
            environment: what the first event says of it.
        """
        kind, began = self._a.kind, time.monotonic()
        loss = kind is SubjectKind.LOSS
        sides = (self._a.subject, self._b.subject)
        emit(ComparisonStarted(*sides, kind, self._precision, self._budget, examples, seed_, environment or {}))
        strategy: st.SearchStrategy[Any] = loss_cases_for(self._definition) if loss else step_cases()
        own_seed = derived_seed(seed_, kind.value, "agreement", self._precision, "")
        drawn: list[ComparedCase] = []

        @seed(own_seed)
        @hypothesis_settings(examples, (Phase.generate,))
        @given(strategy)
        def collect(case: Case) -> None:
            drawn.append(self.compared(case))
            emit(CaseCompared(drawn[-1], shrinking=False))

        collect()
        timed = self.compared(timed_loss(self._definition) if loss else TIMED_STEP)
        searched = next((compared for compared in drawn if not compared.agrees), None)
        if timed.raised:
            drawn.append(timed)
        first = next((compared for compared in drawn if not compared.agrees), None)
        smallest = self._shrunk(strategy, examples, own_seed, emit) if searched is not None else None
        emit(Timing())
        speed = self._speed(timed.case)
        comparison = Comparison(kind, self._precision, tuple(drawn), speed, first, smallest or first)
        emit(ComparisonFinished(comparison, time.monotonic() - began))
        return comparison

    def compared(self, case: Case) -> ComparedCase:
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

    def _shrunk(
        self, strategy: st.SearchStrategy[Any], examples: int, own_seed: int, emit: Listener
    ) -> ComparedCase | None:
        """The smallest case that differs, of those that were run in search of one; draws as before until one does."""
        smallest: ComparedCase | None = None
        differing: set[Case] = set()
        left = SHRINKS

        @seed(own_seed)
        @hypothesis_settings(examples, (Phase.generate, Phase.shrink))
        @given(strategy)
        def shrink(case: Case) -> None:
            nonlocal smallest, left
            if case not in differing:
                if smallest is not None:
                    if left == 0:
                        return
                    left -= 1
                    emit(CaseCompared(self.compared(case), shrinking=True))
                if self.compared(case).agrees:
                    return
                differing.add(case)
            smallest = self.compared(case)
            # Hypothesis tells failures apart by the line that raises: there must be one only.
            raise ViolationFound

        run_quietly(shrink)
        return smallest

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
