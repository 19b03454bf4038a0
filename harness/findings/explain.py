"""Rerun a case's loss and follow its rounding, op by op, against float64."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import harness
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
from harness.properties.numerals import told_apart
from harness.properties.trial import LossTrial

_HARNESS = Path(harness.__file__).parent
# Who calls the loss: their compositing, and the 1 − value of a similarity, are none of its ops.
_AROUND = (_HARNESS / "subjects" / "loss.py", _HARNESS / "cases", _HARNESS / "properties", Path(__file__))


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

    def as_text(self, *, brief: bool = False) -> str:
        """What the loss is and should be, every op with its error, and what stands out; ``brief`` omits the ops."""
        truth = f"{self.trial.truth.value:.6g}"
        if self.value is None:
            head = f"under {self.precision.name} the loss raises {self.trace.raised}"
        else:
            value, truth = told_apart(self.value, self.trial.truth.value, 6)
            head = (
                f"under {self.precision.name} the loss is {value}; its own ops in float64 give {self.own_float64:.6g}"
            )
        meaning = self.trial.meaning
        head += f"\nby its definition, {meaning.definition} ({meaning.name}), it is {truth}"
        body = "\n".join(what_stands_out(self.trace)) if brief else format_trace(self.trace)
        return f"{head}\n\n{body}"

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values. JSON has no NaN and no inf: where a number is one, its name stands as text."""
        return {
            "schema": "harness-explanation/2",
            "subject": self.trial.subject.name.spec,
            "precision": self.precision.name,
            "case": case_to_json(self.file.case),
            "loss": _plain(self.value),
            "own_float64": _plain(self.own_float64),
            "truth": {"name": self.trial.meaning.name, "value": _plain(self.trial.truth.value)},
            "trace": trace_to_dict(self.trace),
        }

    def write_json(self, path: Path) -> None:
        """Write :meth:`as_json` atomically."""
        write_atomically(path, json.dumps(self.as_json(), indent=2, allow_nan=False) + "\n")

    def write_picture(self, path: Path) -> None:
        """Draw rendering, target and mask of the first image (of points, the mask alone) above the error maps of the
        ops that stand out.

        Raises:
            UsageError: there are no such maps.
        """
        from harness.precision.cuda_policy.trace_plot import plot_trace

        inputs = self.trial.built
        images = {"mask": inputs.mask[0, 0]}
        if isinstance(inputs, MaskedPair):
            images = {"rendering": inputs.rendering[0], "target": inputs.target[0], **images}
        try:
            figure = plot_trace(self.trace, images)
        except ValueError:
            raise UsageError("there is no error map to draw: no op of the loss made an image.") from None
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
        trace = record_ops(lambda: trial.forward(trial.inputs), maps=True, around=_AROUND, keep_raised=True)
    return Explanation(file, chosen, trial, trace)


def _plain(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)
