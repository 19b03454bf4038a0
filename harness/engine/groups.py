"""What one worker runs in a row."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from harness.cases.descriptors import Case
from harness.engine.messages import Check
from harness.engine.plan import Task
from harness.engine.result import NOWHERE, Elsewhere, KnownCase
from harness.kinds.registry import AnyKind, kind_for
from harness.precision import PRECISIONS
from harness.subject_spec import SubjectKind

_IN_BFLOAT16 = {one.name for one in PRECISIONS if torch.bfloat16 in (one.autocast_dtype, one.input_dtype)}
_UNDER_AUTOCAST = {precision.name for precision in PRECISIONS if precision.autocast_dtype is not None}


@dataclass
class Group:
    """Tasks that one process runs in a row.

    Attributes:
        found: by kind and property, what is known from the precisions before.
        hangs: how many tasks in a row ended in a hang.
    """

    tasks: deque[Task]
    found: dict[tuple[SubjectKind, str], Elsewhere] = field(default_factory=dict)
    hangs: int = 0

    def order(self, known: Mapping[Task, Sequence[KnownCase]]) -> Check:
        """That its first task be run."""
        task = self.tasks[0]
        return Check(task, self._found(task), tuple(known.get(task, ())))

    def remember(self, task: Task, case: Case, badness: float = 0.0) -> None:
        """That the case violates the task's property.

        Args:
            badness: of a fault.
        """
        found = self._found(task)
        cases = found.cases if case in found.cases else (*found.cases, case)
        self.found[task.kind, task.property] = Elsewhere(cases, max(found.badness, badness))

    def _found(self, task: Task) -> Elsewhere:
        return self.found.get((task.kind, task.property), NOWHERE)


def groups_of(tasks: Sequence[Task], kinds: Sequence[str]) -> list[tuple[Task, ...]]:
    """What one process runs in a row, of it what is run under autocast first; the longest first.

    Args:
        kinds: those of the subjects.
    """

    def kind(task: Task) -> AnyKind:
        return kind_for(task.kind, task.property, kinds)

    def key(task: Task) -> tuple[str, str]:
        return task.kind.value, task.precision if kind(task).shares_runs else task.property

    groups: dict[tuple[str, str], list[Task]] = {}
    for task in sorted(tasks, key=lambda task: (not kind(task).shares_runs, not kind(task).takes_long)):
        groups.setdefault(key(task), []).append(task)
    return [tuple(sorted(group, key=_comes_late)) for group in groups.values()]


def _comes_late(task: Task) -> tuple[bool, bool]:
    """Under autocast most losses fail that do: so a fault is on the screen early, and its cases, which are the most
    telling, are tried first without. With bfloat16's eight bits they fail by more than with float16's eleven, so the
    worst is known early too.
    """
    return task.precision not in _UNDER_AUTOCAST, task.precision not in _IN_BFLOAT16
