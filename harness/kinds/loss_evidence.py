"""What a report can show of a loss on one case: values, pictures, where digits were lost, and other perturbations."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from harness.cases.descriptors import LossCase, Perturbation, PerturbationKind
from harness.cases.image_folder import ImageFolder
from harness.cases.loss_inputs import MaskedPair
from harness.cases.strategies import NEAR_IDENTICAL
from harness.errors import HarnessError, describe_exception, reraise_unless_subjects
from harness.oracle.definitions import Counting
from harness.oracle.masked_ssim import window_terms
from harness.packed_arrays import packed
from harness.precision import Precision, precisions_named
from harness.process_state import kept_state
from harness.protocols import LossSubject
from harness.rounding.op_trace import OpRecord, Trace, record_ops
from harness.trials.loss_trial import CALLERS, LossTrial

MOST_DRAWN = 64
"""Pixels a side of what is drawn; of a larger image the part around the largest difference."""
_WINDOW = 11
_MAGNITUDES = tuple(10.0 ** (half / 2) for half in range(-12, 1))
# A loss that takes long is followed for some precisions only.
_SWEEP_SECONDS = 2.0
# What is traced has this many numbers at most: every op runs three times, in float64 too.
_MOST_TRACED = 2**15
_MOST_NAMED = 3
_AROUND = (*CALLERS, Path(__file__))


@dataclass(frozen=True)
class LossUnderCase:
    """A loss under a precision, on one case, and the user's own pictures that the case may draw on."""

    subject: LossSubject
    precision: Precision
    case: LossCase
    folder: ImageFolder | None = None


def loss_evidence(asked: LossUnderCase, with_sweep: bool) -> Mapping[str, Any]:
    """Plain values; arrays are packed.

    Args:
        with_sweep: also the loss under every precision of this machine, for perturbations of 1e-6 to 1.
    """
    with asked.precision.installed():
        trial = LossTrial(asked.subject, asked.precision, asked.case, asked.folder)
        found, gradient = _measured(trial)
        trace = _trace(trial)
    index = _most_different(trial)
    arrays = _pictures(trial, index, gradient, trace)
    place, arrays = _cropped(arrays)
    found["arrays"] = {name: packed(array) for name, array in arrays.items()}
    found["shown"] = {"image": index, "images": asked.case.images, **place}
    found["rounding"] = None if trace is None else _rounding(trace)
    found["sweep"] = _sweep(asked) if with_sweep else None
    return found


def traced_evidence(trial: LossTrial, trace: Trace) -> dict[str, Any]:
    """Of a trial that was traced already the values alone, and what stands out among its ops."""
    return {**_measured(trial)[0], "rounding": _rounding(trace)}


def _measured(trial: LossTrial) -> tuple[dict[str, Any], Tensor | None]:
    """The truth, and the subject's value and gradient or what it raised."""
    truth = trial.truth
    found: dict[str, Any] = {
        "true value": truth.value,
        "true gradient norm": float(truth.gradient.norm()),
        "formula": trial.definition.formula,
    }
    try:
        with kept_state():
            measured = trial.evaluation
    except BaseException as error:
        reraise_unless_subjects(error)
        return {**found, "raised": describe_exception(error)}, None
    allowed = trial.budget
    found |= {
        "value": measured.value,
        "value bound": allowed.value_relative * abs(truth.value) + allowed.value_floor + truth.value_uncertainty,
        "gradient norm": float(measured.gradient.norm()),
        "gradient cosine": _cosine(measured.gradient, truth.gradient),
        "gradient largest": float(measured.gradient.abs().max()),
        "has graph": measured.has_graph,
    }
    return found, measured.gradient


def _most_different(trial: LossTrial) -> int:
    """The image of the batch that is shown."""
    inputs = trial.built
    if not isinstance(inputs, MaskedPair) or trial.case.images == 1:
        return 0
    apart = (inputs.rendering - inputs.target).abs() * (inputs.mask > 0.5)
    return int(apart.flatten(1).amax(1).argmax())


def _pictures(trial: LossTrial, index: int, gradient: Tensor | None, trace: Trace | None) -> dict[str, Tensor]:
    """Of one image: (3, h, w) or (h, w). Gradients are of the channel in which they are furthest off."""
    inputs, truth = trial.inputs, trial.truth.gradient[index].detach()
    arrays: dict[str, Tensor] = {"mask": inputs.mask[index, 0]}
    if isinstance(inputs, MaskedPair):
        rendering, target = inputs.rendering[index].double(), inputs.target[index].double()
        apart = rendering - target
        arrays |= {"target": target, "rendering": rendering, "difference": apart[_largest_channel(apart)]}
        composited = trial.definition.counting is Counting.COMPOSITED
        arrays["1 - SSIM"] = _one_minus_ssim(inputs.composited() if composited else inputs, index)
    off = truth if gradient is None else gradient[index] - truth
    channel = _largest_channel(off)
    arrays["true gradient"] = truth[channel]
    if gradient is not None:
        arrays["gradient"] = gradient[index][channel]
    first = None if trace is None else trace.first_excess
    if first is not None and first.error_map is not None and min(first.error_map.shape) > 1:
        arrays["rounding error"] = first.error_map
    return {name: array.detach().cpu().double() for name, array in arrays.items()}


def _one_minus_ssim(pair: MaskedPair, index: int) -> Float[Tensor, "p q"]:
    """1 − SSIM in float64 of every 11×11 window of one image, the mean of its channels."""
    x, y = (image[index : index + 1].detach().cpu().double() for image in (pair.rendering, pair.target))
    one_minus_l, one_minus_cs = window_terms(x, y)
    terms = (one_minus_l + one_minus_cs - one_minus_l * one_minus_cs)[0].mean(0)
    return terms.reshape(x.shape[2] - _WINDOW + 1, x.shape[3] - _WINDOW + 1)


def _largest_channel(image: Float[Tensor, "3 h w"]) -> int:
    return int(image.abs().nan_to_num(torch.inf, torch.inf).flatten(1).amax(1).argmax())


def _cropped(arrays: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """No side above :data:`MOST_DRAWN`: the same part of every picture, around the largest difference."""
    height, width = arrays["mask"].shape
    around = arrays.get("difference", arrays["true gradient"]).abs()
    row, column = divmod(int(around.argmax()), width)
    top = min(max(0, row - MOST_DRAWN // 2), max(0, height - MOST_DRAWN))
    left = min(max(0, column - MOST_DRAWN // 2), max(0, width - MOST_DRAWN))
    place = {"height": height, "width": width, "top": top, "left": left}
    return place, {name: array[..., top : top + MOST_DRAWN, left : left + MOST_DRAWN] for name, array in arrays.items()}


def _trace(trial: LossTrial) -> Trace | None:
    """The ops of the loss' forward pass; ``None`` where that would take long, or can't be had."""
    if trial.case.elements > _MOST_TRACED:
        return None
    try:
        with kept_state(), trial.precision.context(), torch.no_grad():
            return record_ops(lambda: trial.forward(trial.inputs), maps=True, around=_AROUND, keep_raised=True)
    except HarnessError:
        return None


def _rounding(trace: Trace) -> dict[str, Any]:
    """What stands out among the ops; of cancellations and mismatches the first few."""
    first, records = trace.first_excess, trace.records
    own = [record for record in records if not record.around]
    result = trace.result.dtype if isinstance(trace.result, Tensor) else None
    return {
        "ops": len(own),
        "names": sorted({record.op for record in own}),
        "first": None if first is None else _op(first),
        "cancellations": [
            {**_op(record), "digits": record.digits_lost, "share": record.share_lost}
            for record in trace.cancellations[:_MOST_NAMED]
        ],
        "mismatches": [
            {"ops": [_op(records[i]) for i in m.ops], "means": list(m.means), "apart": m.apart}
            for m in trace.mismatches[:_MOST_NAMED]
        ],
        "half": next((_op(record) for record in own if _computes_in_half(record)), None),
        "clamps": [_op(record) for record in own if record.op in ("clamp", "clamp_min", "clamp_max", "relu")][
            :_MOST_NAMED
        ],
        "result dtype": str(result).removeprefix("torch."),
        "raised": trace.raised,
    }


def _computes_in_half(record: OpRecord) -> bool:
    """Whether it is the op's own doing, and no cast."""
    gives = record.outputs[0].dtype if record.outputs else ""
    return gives in ("float16", "bfloat16") and not record.is_view and record.op not in ("_to_copy", "clone", "copy_")


def _op(record: OpRecord) -> dict[str, Any]:
    return {
        "index": record.index,
        "op": record.op,
        "where": record.where,
        "takes": [note.dtype for note in record.inputs],
        "gives": record.outputs[0].dtype if record.outputs else "",
        "error": record.error,
        "expected": record.expected_error,
    }


def _sweep(asked: LossUnderCase) -> dict[str, Any]:
    """The loss against the size of the perturbation, in float64 and under each precision, the case's own first."""
    kind = asked.case.perturbation.kind
    kind = kind if kind in NEAR_IDENTICAL else PerturbationKind.NOISE
    cases = [replace(asked.case, perturbation=Perturbation(kind, magnitude)) for magnitude in _MAGNITUDES]
    available = [p for p in precisions_named(()) if p.device == asked.precision.device]
    order = sorted(available, key=lambda p: p.name != asked.precision.name)
    plain = next((p for p in available if p.name.endswith("float32")), asked.precision)
    truths = [LossTrial(asked.subject, plain, case, asked.folder).truth.value for case in cases]
    until = time.monotonic() + _SWEEP_SECONDS
    losses: dict[str, list[float | None]] = {}
    for precision in order:
        if time.monotonic() < until:
            with precision.installed():
                losses[precision.name] = [_value(replace(asked, precision=precision, case=case)) for case in cases]
    by_name = {p.name: losses[p.name] for p in available if p.name in losses}
    return {
        "perturbation": kind.value,
        "own": asked.case.perturbation.magnitude if kind is asked.case.perturbation.kind else None,
        "magnitudes": list(_MAGNITUDES),
        "float64": truths,
        "losses": by_name,
    }


def _value(asked: LossUnderCase) -> float | None:
    """``None`` where the loss raises."""
    trial = LossTrial(asked.subject, asked.precision, asked.case, asked.folder)
    try:
        with kept_state():
            return trial.value(trial.inputs)
    except BaseException as error:
        reraise_unless_subjects(error)
        return None


def _cosine(first: Tensor, second: Tensor) -> float | None:
    lengths = float(first.norm()) * float(second.norm())
    return float(torch.sum(first * second)) / lengths if lengths > 0 else None
