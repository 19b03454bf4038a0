"""What came of comparing two implementations."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from harness.cases.descriptors import Case
from harness.goldens.deviation import Deviation
from harness.subject_spec import SubjectKind


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
        return sum(not compared.both_raise for compared in self.cases)

    def summaries(self, least: float = 0.0, below: float = math.inf) -> list[TermSummary]:
        """Each term over the cases with A's loss in [least, below), all for the defaults."""
        chosen = [c for c in self.cases if (least, below) == (0.0, math.inf) or least <= c.size < below]
        by_term: dict[str, list[Deviation]] = {}
        for compared in chosen:
            for found in compared.terms:
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
