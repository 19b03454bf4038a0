"""Rerun a case's loss and follow its rounding, op by op, against float64."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.cases.descriptors import LossCase
from harness.cases.loss_inputs import MaskedPair
from harness.cases.serialization import case_to_json
from harness.config import Settings
from harness.engine.run import Session
from harness.errors import UsageError
from harness.files import move_into_place, write_atomically
from harness.findings.case_file import CaseFile, read_case_file
from harness.findings.replay import settings_for
from harness.precision import Precision, precisions_named
from harness.precision.cuda_policy.op_trace import Trace, record_ops
from harness.precision.cuda_policy.trace_report import format_trace, trace_to_dict, what_stands_out
from harness.properties.trial import LossTrial


@dataclass(frozen=True)
class Explanation:
    """A case's loss under one precision, the truth, and the trace of its forward pass."""

    file: CaseFile
    precision: Precision
    trial: LossTrial
    trace: Trace

    @property
    def value(self) -> float:
        return float(self.trace.result)

    def as_text(self, *, brief: bool = False) -> str:
        """What the loss is and should be, every op with its error, and what stands out; ``brief`` omits the ops."""
        head = (
            f"under {self.precision.name} the loss is {self.value:.6g}; in float64 it is {self.trial.truth.value:.6g}"
        )
        body = "\n".join(what_stands_out(self.trace)) if brief else format_trace(self.trace)
        return f"{head}\n\n{body}"

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "schema": "harness-explanation/1",
            "subject": self.file.spec,
            "precision": self.precision.name,
            "case": case_to_json(self.file.case),
            "loss": self.value,
            "float64": self.trial.truth.value,
            "trace": trace_to_dict(self.trace),
        }

    def write_json(self, path: Path) -> None:
        """Write :meth:`as_json` atomically; NaN and inf are given as text."""
        text = json.dumps(self.as_json(), indent=2, default=str)
        write_atomically(path, text + "\n")

    def write_picture(self, path: Path) -> None:
        """Draw rendering, target and mask of the first image (of points, the mask alone) above the error maps of the
        ops that stand out.
        """
        from harness.precision.cuda_policy.trace_plot import plot_trace

        inputs = self.trial.built
        images = {"mask": inputs.mask[0, 0]}
        if isinstance(inputs, MaskedPair):
            images = {"rendering": inputs.rendering[0], "target": inputs.target[0], **images}
        figure = plot_trace(self.trace, images)
        with move_into_place(path) as temporary:
            figure.savefig(temporary, format="png", dpi=150)


def explain(path: Path, given: Settings, precision: str | None = None) -> Explanation:
    """Run the file's case once more, under its own precision or the one named, and trace it.

    Raises:
        HarnessError: the file holds no loss case, or subject or precision is not to be had here.
    """
    file = read_case_file(path)
    if not isinstance(file.case, LossCase):
        raise UsageError(f"{path} holds a fault program of a step: only a loss can be explained op by op.")
    if file.case.flaw is not None:
        raise UsageError(f"{path} holds bad input ({file.case.flaw.value}), which has no right value to explain.")
    (chosen,) = precisions_named([precision or file.task.precision])
    session = Session(settings_for(file, given))
    assert session.loss is not None
    trial = LossTrial(session.loss, chosen, file.case, session.folder)
    with chosen.installed(), chosen.context(), torch.no_grad():
        trace = record_ops(lambda: trial.forward(trial.inputs), maps=True)
    return Explanation(file, chosen, trial, trace)
