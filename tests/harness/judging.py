"""A property's verdict on one case, without a search."""

from __future__ import annotations

from typing import Any

from harness.cases.descriptors import Case
from harness.kinds.registry import kind_for, kinds_of
from harness.precision import Precision
from harness.properties.verdict import Verdict
from harness.subject_spec import SubjectKind


def judged(role: SubjectKind, subject: Any, property_: Any, precision: Precision, case: Case) -> Verdict:
    """Whether the property holds for the case; the precision is installed by the caller where it needs that."""
    names = [kind.name for kind in kinds_of(role, subject)]
    bench = kind_for(role, property_.name, names).bench(subject, None)
    return bench.judge(property_, precision, case, lambda _: None).verdict


def judged_loss(subject: Any, property_: Any, precision: Precision, case: Case) -> Verdict:
    """Likewise, of a loss."""
    return judged(SubjectKind.LOSS, subject, property_, precision, case)
