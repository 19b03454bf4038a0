"""One of two implementations that are compared, in a process of its own, so that two checkouts of one package fit."""

from __future__ import annotations

import contextlib
import multiprocessing
import statistics
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from harness.cases.descriptors import Case, LossCase, StepCase
from harness.engine.plan import SubjectKind
from harness.errors import HarnessError, SubjectError, describe_exception, reraise_unless_subjects
from harness.goldens.probes import Observed, Probe, load_probe
from harness.goldens.suite import GoldenKind, GoldenSpec, MaskedLossCase
from harness.precision import Precision, precisions_named
from harness.precision.cuda_policy.emulation import emulate_cuda_autocast
from harness.subjects.door import load_object


@dataclass(frozen=True)
class Raised:
    """What the subject raised on a case."""

    type: str
    message: str


class Side:
    """The subject ``spec`` under ``root``, asked case by case."""

    def __init__(self, spec: str, root: str | None, precision: str) -> None:
        self.spec = spec
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, spec, root, precision), daemon=True)
        self._process.start()
        theirs.close()
        self._kind: SubjectKind | None = None

    @property
    def kind(self) -> SubjectKind:
        """A step has ``optimizer_step``, or ``backward`` and ``step``; all else is a loss.

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

    def seconds(self, case: Case, repeats: int) -> float:
        """The median time of a run on the case."""
        return float(self._asked(case, repeats))

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
            raise SubjectError(f"the process of {self.spec} died (exit code {self._process.exitcode}).") from None
        if isinstance(answer, HarnessError):
            raise answer
        return answer


def _serve(connection: Connection, spec: str, root: str | None, name: str) -> None:
    import torch

    torch.set_num_threads(1)
    try:
        (precision,) = precisions_named([name])
        # A subject may make an autocast("cuda") on import, which without a GPU would switch itself off for good.
        with emulate_cuda_autocast(enabled=False):
            kind = _kind(load_object(spec, root))
        connection.send(kind)
        with precision.installed():
            while True:
                case, repeats = connection.recv()
                connection.send(_timed(spec, case, precision, repeats) if repeats else _run(spec, case, precision))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return
    except HarnessError as error:
        connection.send(error)


def _kind(found: Any) -> SubjectKind:
    is_step = hasattr(found, "optimizer_step") or (hasattr(found, "backward") and hasattr(found, "step"))
    return SubjectKind.STEP if isinstance(found, type) and is_step else SubjectKind.LOSS


def _probe(spec: str, case: Case, precision: Precision) -> Probe:
    kind = GoldenKind.LOSS if isinstance(case, LossCase) else GoldenKind.STEP
    assert isinstance(case, (LossCase, StepCase))
    held: MaskedLossCase | StepCase = MaskedLossCase(case) if isinstance(case, LossCase) else case
    # The root has been entered already.
    return load_probe(GoldenSpec("", kind, spec, {}, held, (precision.name,), None), None)


def _run(spec: str, case: Case, precision: Precision) -> Observed | Raised:
    probe = _probe(spec, case, precision)
    try:
        return probe.observe(precision)
    except BaseException as error:
        reraise_unless_subjects(error)
        kind = type(error).__name__
        return Raised(kind, describe_exception(error).removeprefix(kind).removeprefix(": "))


def _timed(spec: str, case: Case, precision: Precision, repeats: int) -> float:
    probe, times = _probe(spec, case, precision), []
    for _ in range(repeats):
        start = time.perf_counter()
        probe.observe(precision)
        times.append(time.perf_counter() - start)
    return statistics.median(times)
