"""A made-up kind of subject: a function of images (n, 3, h, w) that must keep their values in [0, 1].

Its cases are those of losses, so that what tells kinds apart by a case's class alone takes them for a loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.cases.descriptors import LossCase
from harness.cases.image_folder import ImageFolder
from harness.cases.strategies import loss_cases
from harness.cases.tensors import build_pair
from harness.kinds.kind import Bench, Judged, Kind, SearchPlan, Starting, verdict_of
from harness.precision import Precision
from harness.properties.verdict import Verdict, within
from harness.subject_spec import SubjectKind, SubjectSpec


@dataclass(frozen=True)
class Clamping:
    """A loaded subject."""

    function: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ClampingProperty:
    """The row of the only claim."""

    name: str = "stays-in-unit-range"
    claim: str = "Every value of the images lies in [0, 1]."


class Clampings(Kind[Clamping, ClampingProperty, LossCase]):
    """Functions with a true ``is_post_processing``."""

    name, words = "clamping", "the input of a post-processing"
    cases, properties = LossCase, (ClampingProperty(),)

    def __init__(self, role: SubjectKind) -> None:
        self.role = role

    def recognises(self, found: Any) -> bool:
        return bool(getattr(found, "is_post_processing", False))

    def adapt(self, found: Any, name: SubjectSpec, try_out: bool = True) -> Clamping:
        return Clamping(found)

    def refusal(self, subject: Any) -> str:
        return "" if isinstance(subject, Clamping) else "it isn't a post-processing"

    def bench(self, subject: Clamping, folder: ImageFolder | None) -> ClampingBench:
        return ClampingBench(subject)

    def describe(self, case: LossCase) -> str:
        return f"an image of {case.height}×{case.width}"


class ClampingBench(Bench[ClampingProperty, LossCase]):
    """One such function, given images of values in [-0.5, 1.5]."""

    def __init__(self, subject: Clamping) -> None:
        self._subject = subject

    def inapplicable(self, property_: ClampingProperty) -> str | None:
        return None

    def plan(self, property_: ClampingProperty, examples: int) -> SearchPlan[LossCase]:
        return SearchPlan(loss_cases(), examples, lambda case: True, lambda case: ())

    def judge(self, property_: ClampingProperty, precision: Precision, case: LossCase, starting: Starting) -> Judged:
        starting(case)
        images = build_pair(case).cast(precision.device, precision.input_dtype).rendering * 2 - 0.5

        def check() -> Verdict:
            with precision.context(), torch.no_grad():
                values = self._subject.function(images)
            furthest = max((float(values.min()), float(values.max())), key=lambda value: abs(value - 0.5))
            return within(furthest, 0.0, 1.0, f"a value is {furthest:g}")

        return Judged(verdict_of(check), case)
