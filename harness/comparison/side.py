"""One of two implementations that are compared, in a process of its own, so that two checkouts of one package fit."""

from __future__ import annotations

import contextlib
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from harness.cases.descriptors import Case
from harness.errors import HarnessError, SubjectError, describe_exception, reraise_unless_subjects
from harness.goldens.probes import Observed, Probe, loss_probe, step_probe
from harness.kinds.registry import default_kind, kind_of_object
from harness.oracle.definitions import definition_named
from harness.precision import Precision, import_guard, precisions_named
from harness.subject_spec import SubjectKind, SubjectSpec
from harness.subjects.door import load_object
from harness.subjects.loss import adapt_loss, check_kind
from harness.subjects.step import adapt_fed_step


@dataclass(frozen=True)
class Raised:
    """What the subject raised on a case: its type, and in words."""

    type: str
    description: str


class Side:
    """The subject, asked case by case."""

    def __init__(self, name: SubjectSpec, precision: str) -> None:
        self.subject = name
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name, precision), daemon=True)
        self._process.start()
        theirs.close()
        self._kind: SubjectKind | None = None

    @property
    def kind(self) -> SubjectKind:
        """What the subject is.

        Raises:
            HarnessError: the subject can't be loaded.
        """
        if self._kind is None:
            self._kind = self._answer()
        return self._kind

    def measure(self, case: Case) -> Observed | Raised:
        """What the subject gives on the case."""
        assert self._kind is not None
        answer: Observed | Raised = self._asked(case, 0)
        return answer

    def seconds(self, case: Case, repeats: int) -> float | Raised:
        """The median time of a run on the case."""
        answer: float | Raised = self._asked(case, repeats)
        return answer

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join(timeout=5)
        if self._process.is_alive():
            self._process.kill()

    def _asked(self, case: Case, repeats: int) -> Any:
        # To a dead process nothing can be sent; why it died, it may have said before.
        with contextlib.suppress(BrokenPipeError):
            self._connection.send((case, repeats))
        return self._answer()

    def _answer(self) -> Any:
        try:
            answer = self._connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join(timeout=5)
            raise SubjectError(
                f"the process of {self.subject.spec} died (exit code {self._process.exitcode})."
            ) from None
        if isinstance(answer, HarnessError):
            raise answer
        return answer


def _serve(connection: Connection, name: SubjectSpec, precision_name: str) -> None:
    import torch

    torch.set_num_threads(1)
    try:
        (precision,) = precisions_named([precision_name])
        with import_guard():
            role, subject = _loaded(name)
        connection.send(role)
        with precision.installed():
            while True:
                case, repeats = connection.recv()
                connection.send(_run(_PROBES[role](subject, case), precision, repeats))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return
    except HarnessError as error:
        connection.send(error)


_PROBES: dict[SubjectKind, Callable[[Any, Any], Probe]] = {SubjectKind.LOSS: loss_probe, SubjectKind.STEP: step_probe}


def _loaded(name: SubjectSpec) -> tuple[SubjectKind, Any]:
    """The subject, not tried out: one that raises is compared too."""
    found = load_object(name.spec, name.root)
    kind = kind_of_object(found)
    role = kind.role
    if kind is not default_kind(role):
        can_be = " or a ".join(default_kind(role).name for role in SubjectKind)
        raise SubjectError(f"{name.spec} is a {kind.name}: only a {can_be} can be compared.")
    if role is SubjectKind.STEP:
        return role, adapt_fed_step(found, name)
    loss = adapt_loss(found, name, try_out=False)
    check_kind(loss, definition_named(name.truth))
    return role, loss


def _run(probe: Probe, precision: Precision, repeats: int) -> Observed | Raised | float:
    """What it gives on the case, or where ``repeats`` are asked for, the median time of so many runs."""
    times: list[float] = []
    try:
        observed = probe.observe(precision)
        for _ in range(repeats):
            start = time.perf_counter()
            probe.observe(precision)
            times.append(time.perf_counter() - start)
    except BaseException as error:
        reraise_unless_subjects(error)
        return Raised(type(error).__name__, describe_exception(error))
    return statistics.median(times) if repeats else observed
