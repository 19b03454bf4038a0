"""Rerun a case's loss and follow its rounding, op by op, against float64."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

import harness
from harness.cases.descriptors import LossCase
from harness.engine.session import Session
from harness.errors import SubjectError, UsageError
from harness.findings.case_file import CaseFile, read_case_file
from harness.findings.replay import Given, settings_for
from harness.kinds.registry import default_kind, kind_of_case
from harness.precision import Precision, precisions_named
from harness.rounding.op_trace import Trace, record_ops
from harness.subject_spec import SubjectKind
from harness.trials.loss_trial import LossTrial

_HARNESS = Path(harness.__file__).parent
# Who calls the loss: their compositing, and the 1 − value of a similarity, are none of its ops.
_AROUND = (_HARNESS / "subjects" / "loss.py", _HARNESS / "cases", _HARNESS / "trials", Path(__file__))


@dataclass(frozen=True)
class Explanation:
    """A case's loss under one precision, the truth, and the trace of its forward pass; where it raised, up to there."""

    file: CaseFile
    precision: Precision
    trial: LossTrial
    trace: Trace

    @property
    def value(self) -> float | None:
        """The loss; ``None`` where it raised."""
        return None if self.trace.raised else float(self.trace.result)

    @property
    def own_float64(self) -> float | None:
        """What the loss' own ops give in float64, however wrong its formula; ``None`` where it raised."""
        return None if self.trace.exact is None else float(self.trace.exact)


def explain(path: Path, given: Given, precision: str | None = None) -> Explanation:
    """Run the file's case once more, under its own precision or the one named, and trace it.

    Raises:
        HarnessError: the file holds no loss case, or subject or precision is not to be had here.
    """
    file = read_case_file(path)
    kind = kind_of_case(file.case, file.task.property)
    if kind is not default_kind(SubjectKind.LOSS) or not isinstance(file.case, LossCase):
        raise UsageError(f"{path} holds {kind.words}: only a loss can be explained op by op.")
    if file.case.flaw is not None:
        raise UsageError(f"{path} holds bad input ({file.case.flaw.value}), which has no right value to explain.")
    (chosen,) = precisions_named([precision or file.task.precision])
    session = Session(settings_for(file, given))
    subject = session.subject(SubjectKind.LOSS)
    if kind.refusal(subject):
        raise SubjectError(f"the case is {kind.words}, which {session.spec(SubjectKind.LOSS)} is not.")
    trial = LossTrial(subject, chosen, file.case, session.folder)
    with chosen.installed(), chosen.context(), torch.no_grad():
        trace = record_ops(lambda: trial.forward(trial.inputs), maps=True, around=_AROUND, keep_raised=True)
    return Explanation(file, chosen, trial, trace)
