"""Rerun a case's loss and follow its rounding, op by op, against float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from harness.cases.descriptors import LossCase
from harness.cases.image_folder import ImageFolder
from harness.engine.judge import judge_calls
from harness.engine.result import Call
from harness.engine.session import Session
from harness.errors import HarnessError, SubjectError, UsageError
from harness.findings.case_file import CaseFile, read_case_file
from harness.findings.replay import Given, settings_for
from harness.kinds.loss_evidence import LossUnderCase, loss_evidence, traced_evidence
from harness.kinds.registry import default_kind, kind_of_case
from harness.precision import Precision, precisions_named
from harness.properties.verdict import Verdict
from harness.rounding.op_trace import Trace, record_ops
from harness.subject_spec import SubjectKind
from harness.trials.loss_trial import CALLERS, LossTrial

_AROUND = (*CALLERS, Path(__file__))


@dataclass(frozen=True)
class Explanation:
    """A case's loss under one precision, the truth, and the trace of its forward pass; where it raised, up to there.

    Attributes:
        path: where the file lies.
        folder: the user's own pictures, which the case may draw on.
        verdict: on the file's property, after the calls that the file says it needs; ``None`` where the property says
            nothing of the case under this precision.
        evidence: what was measured, and what stands out among the ops, as plain values.
    """

    path: Path
    file: CaseFile
    precision: Precision
    folder: ImageFolder | None
    trial: LossTrial
    trace: Trace
    verdict: Verdict | None
    evidence: Mapping[str, Any]

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
    with chosen.installed():
        evidence = traced_evidence(trial, trace)
    return Explanation(path, file, chosen, session.folder, trial, trace, _verdict(session, file, chosen), evidence)


def _verdict(session: Session, file: CaseFile, precision: Precision) -> Verdict | None:
    task = replace(file.task, precision=precision.name)
    try:
        return judge_calls(session, (*file.earlier, Call(task, file.case)))
    except HarnessError:
        return None


def pictured(explanation: Explanation) -> Mapping[str, Any]:
    """The evidence with small pictures, and with the loss by the size of the perturbation under every precision."""
    trial = explanation.trial
    asked = LossUnderCase(trial.subject, explanation.precision, trial.case, explanation.folder)
    return {**loss_evidence(asked, with_sweep=True), **explanation.evidence}
