"""All kinds of subject. A new one is a module, and a line here."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from harness.cases.descriptors import Case
from harness.errors import UsageError
from harness.kinds.fed_steps import FedSteps
from harness.kinds.kind import Kind
from harness.kinds.losses import Losses
from harness.kinds.rank_pairs import RankPairs
from harness.kinds.trainings import Trainings
from harness.subject_spec import SubjectKind, SubjectSpec
from harness.subjects.door import load_object

AnyKind = Kind[Any, Any, Any]

# What is of several kinds is taken for the first of them. The last of a role is its default kind; the very last takes
# any object, so that a kind after it would never be reached.
KINDS: tuple[AnyKind, ...] = (Trainings(), RankPairs(), FedSteps(), Losses())


def kind_of_object(found: Any) -> AnyKind:
    """The kind that an imported object has the shape of; a loss, where it has no other."""
    return next(kind for kind in KINDS if kind.recognises(found))


def load_subject(role: SubjectKind, name: SubjectSpec) -> Any:
    """Import and adapt a subject, as the kind does whose shape it has.

    Raises:
        UsageError: the spec, or what it is held to, is none.
        SubjectError: it can't be imported, or fits no kind of the role.
    """
    return adapted(role, load_object(name.spec, name.root), name)


def adapted(role: SubjectKind, found: Any, name: SubjectSpec) -> Any:
    """What was imported, adapted as the kind does whose shape it has.

    Raises:
        UsageError: what it is held to is none.
        SubjectError: it fits no kind of the role.
    """
    kind = next((kind for kind in _of_role(role) if kind.recognises(found)), default_kind(role))
    return kind.adapt(found, name)


def default_kind(role: SubjectKind) -> AnyKind:
    """The kind that an object of no other is taken for, and says what it lacks; also the one that is compared."""
    return _of_role(role)[-1]


def kinds_of(role: SubjectKind, subject: Any) -> tuple[AnyKind, ...]:
    """The kinds that a loaded subject is of."""
    return tuple(kind for kind in _of_role(role) if not kind.refusal(subject))


def kind_for(role: SubjectKind, property_: str, names: Collection[str]) -> AnyKind:
    """Which of the named kinds has the property; where none of them, one that has.

    Raises:
        UsageError: no kind of the role has it.
    """
    having = [kind for kind in _of_role(role) if kind.property_named(property_) is not None]
    if not having:
        raise UsageError(f"this version of the harness has no {role.value} property {property_!r}.")
    return next((kind for kind in having if kind.name in names), having[0])


def kinds_with(role: SubjectKind, property_: str) -> tuple[AnyKind, ...]:
    """The kinds that have the property."""
    return tuple(kind for kind in _of_role(role) if kind.property_named(property_) is not None)


def property_names(role: SubjectKind) -> list[str]:
    """Every property of any kind of the role, once."""
    return list(dict.fromkeys(p.name for kind in (*_of_role(role),) for p in kind.properties))


def claim_of(role: SubjectKind, property_: str) -> str:
    """What the property claims, in a sentence or two."""
    (kind, *_) = kinds_with(role, property_)
    claim: str = kind.property_named(property_).claim  # type: ignore[union-attr]
    return claim


def kind_of_case(case: Case, property_: str) -> AnyKind:
    """The kind that judges the property on such cases; where none does, the first whose case it is."""
    having = [kind for kind in KINDS if isinstance(case, kind.cases)]
    return next((kind for kind in having if kind.property_named(property_) is not None), having[0])


def describe(case: Case, property_: str) -> str:
    """The property's case in one line."""
    return kind_of_case(case, property_).describe(case)


def _of_role(role: SubjectKind) -> tuple[AnyKind, ...]:
    return tuple(kind for kind in KINDS if kind.role is role)
