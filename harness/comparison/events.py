"""What a comparison tells whoever listens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.comparison.result import ComparedCase, Comparison
from harness.subject_spec import SubjectKind, SubjectSpec


@dataclass(frozen=True)
class ComparisonStarted:
    """A comparison begins; both sides are loaded.

    Attributes:
        a, b: the two subjects.
        kind: what both are.
        budget: a relative difference that counts as none.
        examples: how many cases are drawn.
        environment: what the results depend on besides, as plain values.
    """

    a: SubjectSpec
    b: SubjectSpec
    kind: SubjectKind
    precision: str
    budget: float
    examples: int
    seed: int
    environment: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class CaseCompared:
    """A case was run on both sides: one that was drawn, or (``shrinking``) in search of a smaller one that differs."""

    compared: ComparedCase
    shrinking: bool


@dataclass(frozen=True)
class Timing:
    """All cases are compared: what is left is to take both sides' time."""


@dataclass(frozen=True)
class ComparisonFinished:
    comparison: Comparison
    seconds: float


Event = ComparisonStarted | CaseCompared | Timing | ComparisonFinished
Listener = Callable[[Event], None]
