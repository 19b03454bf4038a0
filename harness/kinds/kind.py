"""What the engine asks of a kind of subject, and of one subject of that kind."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from random import Random
from typing import Any, Generic, TypeVar

from hypothesis.strategies import SearchStrategy

from harness.cases.descriptors import Case
from harness.cases.image_folder import ImageFolder
from harness.errors import describe_exception, reraise_unless_subjects
from harness.oracle.levels import Level
from harness.precision import Precision
from harness.process_state import kept_state
from harness.properties.verdict import Verdict
from harness.subject_spec import SubjectKind, SubjectSpec

S = TypeVar("S")
P = TypeVar("P")
C = TypeVar("C")

SHRINKS = 300
"""Cases run in search of a smaller one, where a plan says nothing else."""

# Told of each case just before it is run.
Starting = Callable[[Case], None]


@dataclass(frozen=True)
class Judged:
    """What came of a case.

    Attributes:
        case: as much of it as was run: a program ends with the action that violates the property.
        slow: trying others like it, to find a smaller one, would take too long.
    """

    verdict: Verdict
    case: Case
    slow: bool = False


def verdict_of(check: Callable[[], Verdict]) -> Verdict:
    """The verdict of a check that runs the subject; what the subject raises in it violates the property.

    Global state that the subject changes is put back.
    """
    try:
        with kept_state():
            return check()
    except BaseException as error:
        reraise_unless_subjects(error)
        return Verdict(False, math.nan, math.inf, f"raises {describe_exception(error)}", raised=True)


@dataclass(frozen=True)
class SearchPlan(Generic[C]):
    """The cases that the search for a violation runs, in this order.

    Attributes:
        first: run before any is drawn.
        drawn: where cases are drawn from; its first choices are what they shrink towards.
        examples: how many are drawn.
        is_small: the case is one that a person takes in at a glance.
        simpler: cases like a failing one, but smaller, tried where shrinking hasn't found a small one.
        small: small cases to draw afresh where that hasn't found one either; ``None`` for none.
        small_examples: how many of them.
        after_fault: drawn cases run after a fault, in search of a worse one.
        gravest: level that a violation can have.
        varied: a case much like another, as the random numbers have it: half as many as were drawn are so led towards
            the bound, and after a violation so ever worse ones are looked for. ``None`` for no such walk.
        beside: after a fault that is about the worst, the cases where no walk leads: a list that hangs on the worst
            so far. ``None`` for none.
        weight: how many ordinary cases take as long as this one.
        shrinks: cases run in search of a smaller one after the first failure.
        draws: what the drawn cases are called: plans that call theirs alike draw the same, whatever the property, so
            that the properties can share the runs; empty for the property's own.
        among: the drawn cases are ``examples`` of so many, from first to last at even distances; 0 for all of them.
            Plans whose draws are called alike, and which take more and fewer, so have the fewer in common.
        any_precision: the same cases are drawn under every precision, so that these can share what is built of them.
    """

    drawn: SearchStrategy[C]
    examples: int
    is_small: Callable[[C], bool]
    simpler: Callable[[C], Iterable[C]]
    first: Sequence[C] = ()
    small: SearchStrategy[C] | None = None
    small_examples: int = 0
    after_fault: int = 0
    gravest: Level = Level.FAULT
    varied: Callable[[C, Random], C] | None = None
    beside: Callable[[C], Iterable[C]] | None = None
    weight: Callable[[C], float] = lambda case: 1.0
    shrinks: int = SHRINKS
    draws: str = ""
    among: int = 0
    any_precision: bool = False


class Bench(ABC, Generic[P, C]):
    """One loaded subject, ready to be tried on cases of its kind; of properties, it is handed the rows of its kind."""

    def fork_ahead(self, closing: Sequence[Connection] = ()) -> None:
        """The subject has been loaded and not been run yet, in a process that may be forked: whoever will need others
        that begin where this one is now, forks one for them.

        Args:
            closing: connections of this process that a fork must not keep open.
        """

    @abstractmethod
    def inapplicable(self, property_: P) -> str | None:
        """Why the property says nothing of this subject, or ``None``."""

    @abstractmethod
    def plan(self, property_: P, examples: int) -> SearchPlan[C]:
        """What to run when so many examples are asked for."""

    @abstractmethod
    def judge(self, property_: P, precision: Precision, case: C, starting: Starting) -> Judged:
        """Run the case, under a precision that is installed, and say whether the property holds for it.

        What the subject raises is part of the verdict, as :func:`verdict_of` makes it.

        Args:
            starting: to be called with the case just before it is run: so its time is limited, and where it ends
                the process, it is on record.

        Raises:
            UsageError: the case is beyond the harness' limits, or not whole.
            SubjectError: the subject doesn't fit after all.
            PrecisionError: this torch can't run it so.
        """

    def refuse(self, property_: P, case: C) -> None:
        """Refuse a case of which the property says nothing, as a file that was written by hand may hold.

        Raises:
            UsageError: it is one.
        """

    def evidence(self, property_: P, precision: Precision, case: C, brief: bool = False) -> Mapping[str, Any] | None:
        """What a report can show of a case that violates the property: plain values; ``None`` for nothing.

        The case is run once more, with the same exceptions as :meth:`judge`. The precision isn't installed yet.

        Args:
            brief: leave out what needs other cases run too.
        """
        return None

    def close(self) -> None:
        """End the processes that were started for it."""


class Kind(ABC, Generic[S, P, C]):
    """A kind of subject.

    Attributes:
        name: in a word or two.
        role: the option by which such a subject is named.
        words: what a case of it is, in a sentence that goes on "…, which this subject is not".
        cases: the descriptors' class. Several kinds may share one: a case's kind is told by its property too.
        properties: the rows of its properties, each with a ``name`` and a ``claim``. Within a role a name means one
            claim: kinds that share it share the row.
        shares_runs: one run serves all its properties, which therefore belong in one process.
        takes_long: a property of it takes longer than most, so it is begun early: else one process would be at it when
            all others are done.
        confirms: whether a violation shows by itself can be asked of a fork of the process that found it.
    """

    name: str
    role: SubjectKind
    words: str
    cases: type[C]
    properties: Sequence[P]
    shares_runs = False
    takes_long = False
    confirms = True

    @abstractmethod
    def recognises(self, found: Any) -> bool:
        """Whether what was imported has the shape of this kind."""

    @abstractmethod
    def adapt(self, found: Any, name: SubjectSpec, try_out: bool = True) -> S:
        """What was imported, as the subject that the bench takes.

        Args:
            try_out: call it once, to tell a subject that doesn't fit from one that is wrong.

        Raises:
            SubjectError: it lacks something that this kind needs.
        """

    @abstractmethod
    def refusal(self, subject: Any) -> str:
        """Why a loaded subject of the same role, which may be of any kind's class, is none of this kind; empty where it
        is one.
        """

    @abstractmethod
    def bench(self, subject: S, folder: ImageFolder | None) -> Bench[P, C]:
        """The subject ready to be tried; ``folder`` has the user's own pictures."""

    @abstractmethod
    def describe(self, case: C) -> str:
        """The case in one line."""

    def runs_in(self, precision: Precision) -> bool:
        """Whether such subjects are run in the precision."""
        return True

    def seconds(self, case: C, limit: float) -> float:
        """How long the case may take, where a single run of a subject may take ``limit``."""
        return limit

    def property_named(self, name: str) -> P | None:
        """The row, or ``None``."""
        return next((p for p in self.properties if p.name == name), None)  # type: ignore[attr-defined]
