"""The sentences of verdicts: what is measured and what is allowed look different where they are."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gslrm.model.utils_losses import MaskedSsimLoss
from harness.cases.descriptors import LossCase, Mask, MaskKind, Perturbation, PerturbationKind, Picture, PictureKind
from harness.oracle.step_model import Expected
from harness.oracle.window import ScalerState
from harness.precision import precisions_named
from harness.properties import LOSS_PROPERTIES
from harness.properties.step_bookkeeping import scale, schedule
from harness.properties.step_report import truthful
from harness.protocols import LossKind, StepReport
from harness.subject_spec import SubjectSpec
from harness.subjects.adapted_loss import AdaptedLoss
from harness.trials.observation import Observation, Snapshot
from tests.harness.judging import judged_loss

_RIGHT = MaskedSsimLoss()
_CASE = LossCase(
    16,
    16,
    batch=2,
    picture=Picture(PictureKind.SMOOTH),
    mask=Mask(MaskKind.FULL),
    perturbation=Perturbation(PerturbationKind.NOISE, 0.1),
)
_OFF = 1.00104


def _message(name: str, function: Callable[..., Tensor]) -> str:
    (float32,) = precisions_named(["float32"])
    property_ = next(p for p in LOSS_PROPERTIES if p.name == name)
    return judged_loss(AdaptedLoss(SubjectSpec(name), LossKind.MASKED, function), property_, float32, _CASE).message


def _slightly_off(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    value: Tensor = _RIGHT(rendering, target, mask) * _OFF
    return value


def test_an_error_just_beyond_what_is_allowed_looks_like_it() -> None:
    assert re.search(r"off by 0\.104% with 0\.100% allowed", _message("accuracy", _slightly_off))
    assert re.search(r"off by 0\.00104 times .* where 0\.001 is allowed", _message("gradient-accuracy", _slightly_off))


def test_a_loss_just_out_of_its_range_looks_like_it() -> None:
    def above(*inputs: Tensor) -> Tensor:
        return inputs[0].sum() * 0 + 2.0000002

    found = re.search(r"the loss is (\S+) \(an SSIM of (\S+)\); it belongs in \[0, 2\]", _message("range", above))
    assert found is not None
    assert float(found[1]) > 2.0
    assert float(found[2]) < -1.0


def test_a_gradient_that_a_layout_changes_is_told_with_its_bound() -> None:
    def by_layout(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        value: Tensor = _RIGHT(rendering, target, mask)
        factor = 1.0 if rendering.is_contiguous() else _OFF
        return value.detach() + factor * (value - value.detach())

    message = _message("strides", by_layout)
    found = re.search(r"change the gradient by (\S+), its length being \S+ and (\S+) allowed", message)
    assert found is not None
    assert float(found[1]) > float(found[2])


def _seen(after: dict[str, Any], expected: dict[str, Any], report: StepReport | None = None) -> Observation:
    start = {
        "parameters": {}, "passes": 1, "updates": 1, "learning_rate": 0.5, "schedule_steps": 1,
        "scaler": ScalerState(1.0, 0), "gradients_cleared": True,
    }  # fmt: skip
    wanted = {
        "window_ended": True, "stepped": True, "moved": True, "why": "all was finite", "fault": None, "grad_norm": 1.0,
        "passes": 1, "updates": 1, "learning_rate": 0.5, "scaler": (ScalerState(1.0, 0),), "parameters": {},
        "parameter_error": 1e-6,
    }  # fmt: skip
    seen = Snapshot(**{**start, **after})
    return Observation("good", False, seen, seen, Expected(**{**wanted, **expected}), report, None)


def test_scales_and_rates_that_differ_look_different() -> None:
    right, off = ScalerState(2.0**20, 0), ScalerState(2.0**20 + 1, 0)
    message = scale(_seen({"scaler": off}, {"scaler": (right,)})).message
    assert "the scale is 1048577 (tracker 0), but not 1048576 (tracker 0)" in message
    message = schedule(_seen({"learning_rate": 0.5 + 1e-9}, {})).message
    assert "a rate of 0.500000001; it should be 0.5 " in message


@pytest.mark.parametrize(
    ("norm", "scale_", "words"),
    [
        (1.0 + 2e-5, 1.0, "a gradient norm of 1.00002; it should be 1"),
        (torch.tensor(1.0), torch.tensor(2.0), "a scale of 2; it should be 1"),
        ("large", 1.0, "a gradient norm that is no number but a str"),
        (float("nan"), 1.0, "a gradient norm of nan"),
        (1.0, 1.0, ""),
    ],
)
def test_what_a_step_reports_is_told_beside_what_is_so(norm: Any, scale_: Any, words: str) -> None:
    seen = _seen({}, {"stepped": True, "moved": False}, StepReport(True, norm, scale_))
    message = truthful(seen).message
    assert words in message
    assert bool(words) is bool(message)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_nan_and_inf_are_told_as_such(value: float) -> None:
    def broken(*inputs: Tensor) -> Tensor:
        return inputs[0].sum() * 0 + value

    for name in ("range", "accuracy", "full-mask", "identity", "finite"):
        assert str(float(value)) in _message(name, broken)


def _needs_a_graph(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Works out its gradient ahead, which inference_mode forbids."""
    value: Tensor = _RIGHT(rendering, target, mask)
    if torch.is_inference_mode_enabled():
        raise RuntimeError("no graph")
    return value


class _Fragile(torch.nn.Module):
    def forward(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        if not self.training:
            raise RuntimeError("in training only")
        value: Tensor = _RIGHT(rendering, target, mask)
        return value


class _Single(torch.nn.Module):
    def __deepcopy__(self, memo: object) -> _Single:
        raise RuntimeError("there is one")

    def forward(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        value: Tensor = _RIGHT(rendering, target, mask)
        return value


@pytest.mark.parametrize(
    ("name", "function", "says"),
    [
        ("modes", _needs_a_graph, "a call in inference_mode raises RuntimeError: no graph"),
        ("side-effects", _needs_a_graph, "the call in inference_mode raises RuntimeError: no graph"),
        ("modes", _Fragile(), "a call after eval() raises RuntimeError: in training only"),
        ("modes", _Single(), "a deep copy of it raises RuntimeError: there is one"),
    ],
)
def test_where_a_loss_raises_is_told(name: str, function: Callable[..., Tensor], says: str) -> None:
    assert _message(name, function) == says
