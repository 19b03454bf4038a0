"""Which property is to be checked under which precision."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import UsageError, unknown_name
from harness.subject_spec import SubjectKind


def derived_seed(seed: int, *names: str) -> int:
    """A seed for what these names name: the same in any process, and as good as independent of any other's."""
    text = "/".join((str(seed), *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


@dataclass(frozen=True)
class Task:
    """One property of one subject under one precision, by name."""

    kind: SubjectKind
    property: str
    precision: str

    def seed(self, seed: int, stream: str = "") -> int:
        """The task's own seed: the same in any process, and independent of which other tasks run."""
        return derived_seed(seed, self.kind.value, self.property, self.precision, stream)


def plan(kinds: Sequence[SubjectKind], properties: Sequence[str], precisions: Sequence[str]) -> tuple[Task, ...]:
    """All tasks, those of one property together.

    Args:
        kinds: the subjects at hand.
        properties: names to keep, of either kind; empty keeps all.
        precisions: names; those that no subject of a kind is run in are left out for it.

    Raises:
        UsageError: an unknown property, or one of a subject that isn't at hand; nothing is left to run.
    """
    from harness.kinds.registry import kinds_with, property_names
    from harness.precision import precisions_named

    by_kind = {kind: property_names(kind) for kind in SubjectKind}
    available = [name for kind in kinds for name in by_kind[kind]]
    for name in properties:
        if name not in available:
            elsewhere = next((k.value for k, names in by_kind.items() if name in names), None)
            if elsewhere is not None:
                raise UsageError(f"property {name!r} is one of a {elsewhere}, and none is checked.")
            raise unknown_name("property", name, available)
    # Named twice is asked for once.
    chosen = precisions_named(tuple(dict.fromkeys(precisions)))
    tasks = tuple(
        Task(kind, name, precision.name)
        for kind in kinds
        for name in by_kind[kind]
        if not properties or name in properties
        for precision in chosen
        if any(k.runs_in(precision) for k in kinds_with(kind, name))
    )
    if not tasks:
        asked = [kind for kind in kinds if not properties or set(properties) & set(by_kind[kind])]
        roles = " and no ".join(kind.value for kind in asked)
        raise UsageError(f"nothing to run: no {roles} is run in {', '.join(precisions)}; name another precision.")
    return tasks
