"""The op-by-op trace: its errors, cancellation and mismatches, on SSIM and on code whose answer is known by
hand.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pytorch_msssim import ssim
from torch import Tensor

from harness.precision.cuda_policy.emulation import emulate_cuda_autocast
from harness.reports.rounding_picture import plot_trace
from harness.reports.rounding_text import format_trace, trace_to_dict, what_stands_out
from harness.rounding.op_trace import OpRecord, Trace, record_ops

BF16 = torch.bfloat16
FLAT = torch.full((1, 3, 24, 24), 0.6)


def picture(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def of_op(trace: Trace, op: str) -> OpRecord:
    return next(r for r in trace.records if r.op == op)


def flat_ssim(y: Tensor = FLAT, dtype: torch.dtype = BF16, **options: Any) -> Trace:
    with emulate_cuda_autocast(dtype):
        return record_ops(ssim, FLAT, y.clone(), data_range=1.0, **options)


@pytest.mark.parametrize("offset", [0.0, 1e-7])
def test_ssim_of_a_flat_pair_names_the_convolution_and_the_squares(offset: float) -> None:
    trace = flat_ssim(FLAT + offset)
    assert trace.result < 0.75  # the truth is 1
    first = trace.first_excess
    assert first is not None
    assert first.op == "sub"
    assert first.cancels
    assert first.share_lost == 1
    assert first.error > 1e-3
    assert sorted((o.op, o.outputs[0].dtype) for o in trace.operands(first)) == [
        ("convolution", "bfloat16"),
        ("pow", "float32"),
    ]
    covariance = trace.cancellations[2]
    assert sorted((o.op, o.outputs[0].dtype) for o in trace.operands(covariance)) == [
        ("convolution", "bfloat16"),
        ("mul", "bfloat16"),
    ]
    (mismatch,) = trace.mismatches
    ops = {(trace.records[i].op, trace.records[i].outputs[0].dtype) for i in mismatch.ops}
    assert ops == {("pow", "float32"), ("mul", "bfloat16"), ("convolution", "bfloat16")}
    assert mismatch.apart > 1e-3
    assert mismatch.apart_float64 < 1e-6
    said = "\n".join(what_stands_out(trace))
    assert "First error beyond its dtype: #" in said
    assert "convolution (bfloat16, pytorch_msssim/ssim.py:" in said
    assert "pow (float32" in said
    assert "mul (bfloat16" in said


def test_ssim_in_float16_too() -> None:
    trace = flat_ssim(dtype=torch.float16)
    assert trace.result > 1.02
    assert {trace.records[i].op for m in trace.mismatches for i in m.ops} == {"pow", "mul", "convolution"}


def test_a_picture_in_float32_stands_out_in_nothing_but_harmless_cancellation() -> None:
    x = picture(1, 3, 24, 24)
    y = 0.7 * x + 0.3 * picture(1, 3, 24, 24, seed=1)
    trace = record_ops(ssim, x, y, data_range=1.0)
    assert trace.first_excess is None
    assert trace.mismatches == ()


def test_sound_code_in_half_stands_out_in_nothing() -> None:
    x, w = picture(4, 16), picture(8, 16, seed=1)
    with emulate_cuda_autocast(BF16):
        trace = record_ops(lambda: F.softmax(F.linear(F.relu(x), w).tanh().clamp(0, 1), dim=1).sum())
    assert trace.first_excess is None
    assert trace.cancellations == ()
    assert trace.mismatches == ()
    assert what_stands_out(trace) == ["Nothing stands out: every error is within what its dtypes should give."]


def test_own_and_accumulated_error() -> None:
    x = torch.tensor([[1 + 2**-10, 3.0]])  # 1 + 2^-10 is 1 in bfloat16

    def run() -> Tensor:
        return (x.bfloat16() * 2).float() + 1

    cast, double, back, add = record_ops(run).records
    assert (cast.op, double.op, back.op, add.op) == ("_to_copy", "mul", "_to_copy", "add")
    assert (cast.own_error, cast.error) == (2**-10, 2**-10)
    assert (double.own_error, double.error) == (0, 2**-9)
    assert (add.own_error, add.error) == (0, 2**-9)
    assert (cast.inputs[0].dtype, cast.outputs[0].dtype) == ("float32", "bfloat16")
    assert (add.outputs[0].low, add.outputs[0].high) == (3, 7)
    assert [r.parents for r in (cast, double, back, add)] == [(-1,), (0,), (1,), (2,)]
    assert cast.where.endswith(".py:" + str(run.__code__.co_firstlineno + 1))


@pytest.mark.parametrize(
    ("subtract", "op"),
    [
        (lambda a, b: a - b, "sub"),
        (lambda a, b: a + (-b), "add"),
        (lambda a, b: torch.add(a, b / 2, alpha=-2), "add"),
        (lambda a, b: torch.rsub(b, a), "rsub"),
        (lambda a, b: a.clone().sub_(b), "sub_"),
    ],
)
def test_digits_lost_in_a_subtraction(subtract: Any, op: str) -> None:
    a = torch.tensor([1 / 3, 10 / 3]) * 1
    trace = record_ops(lambda: subtract(a.double().mul(1.0000001).float(), torch.tensor([0.333, 1 / 3])))
    record = of_op(trace, op)
    assert record.digits_lost == pytest.approx(3.0, abs=0.01)  # 0.33333 - 0.333; the other element loses none
    assert record.share_lost == 0.5
    assert record.cancels


def test_subtraction_of_exact_numbers_is_no_cancellation() -> None:
    trace = record_ops(lambda: FLAT - FLAT.clone())
    assert of_op(trace, "sub").digits_lost == pytest.approx(7.2, abs=0.05)  # all that float32 has
    assert trace.cancellations == ()
    assert trace.first_excess is None


def test_addition_of_like_signs_loses_nothing() -> None:
    assert of_op(record_ops(lambda: FLAT + FLAT), "add").digits_lost == 0


def test_first_excess_is_measured_by_the_dtype() -> None:
    """1.01 is off by 2.4e-3 of itself in bfloat16, which is too much for the difference from 1, and not for
    itself.
    """
    trace = record_ops(lambda: torch.tensor([1.01]).bfloat16() * 1 - torch.tensor([1.0]).bfloat16())
    first = trace.first_excess
    assert first is not None
    assert first.op == "sub"
    assert 0 < first.expected_error < first.error < 0.01


def test_a_rounded_round_trip_is_no_mismatch_with_its_start() -> None:
    trace = record_ops(lambda: (picture(16).bfloat16() + 0) / 3 * 3)
    start, end = of_op(trace, "add"), of_op(trace, "mul")
    assert end.error > start.error
    assert trace.mismatches == ()


def test_overflow_is_found() -> None:
    big = torch.full((3,), 6e4)
    with emulate_cuda_autocast(torch.float16):
        trace = record_ops(lambda: big.half() * 2)
    assert trace.records[-1].outputs[0].not_finite == 3
    assert trace.records[-1].error == math.inf
    assert trace.first_excess is trace.records[-1]


def test_in_place_and_views_keep_their_twins() -> None:
    def run() -> Tensor:
        z = torch.zeros(3, 4)
        z[1:, ::2].add_(0.1)
        z.view(-1)[5:7] = 1 / 3
        return (z.t() * 3).sum()

    trace = record_ops(run)
    assert trace.first_excess is None
    # Had the twins been lost on the way, the twin of the sum would be the sum itself.
    third = torch.tensor(1 / 3).item()  # torch makes the number a float32 tensor before any op
    want = 3 * (3 * 0.1 + third + third)
    assert trace.records[-1].error == pytest.approx(abs(trace.result.item() - want), rel=1e-6)
    assert trace.records[-1].error > 1e-8


def test_float64_code_is_left_as_it_is() -> None:
    x = FLAT.double()
    trace = record_ops(lambda: x.clone().add_(1).mul_(2))
    assert trace.result.equal((x + 1) * 2)
    assert max(r.error for r in trace.records) == 0


def test_random_ops_count_as_exact() -> None:
    torch.manual_seed(0)
    want = F.dropout(FLAT, 0.5)
    torch.manual_seed(0)
    trace = record_ops(F.dropout, FLAT, 0.5)
    assert trace.result.equal(want)  # no random number more or less was drawn
    assert trace.first_excess is None


def test_backward_is_traced_and_its_result_is_unchanged() -> None:
    def step(x: Tensor) -> Tensor:
        with emulate_cuda_autocast(BF16):
            loss = 1 - ssim(x, picture(1, 3, 16, 16, seed=2), data_range=1.0)
        loss.backward()
        assert x.grad is not None
        return x.grad

    x = picture(1, 3, 16, 16)
    plain = step(x.clone().requires_grad_())
    trace = record_ops(step, x.clone().requires_grad_())
    assert trace.result.equal(plain)
    assert any("backward" in r.op for r in trace.records)


def test_errors_of_the_code_come_through() -> None:
    with pytest.raises(RuntimeError, match="shape"):
        record_ops(lambda: torch.mm(torch.rand(2, 3), torch.rand(2, 3)))


def test_text_and_json() -> None:
    trace = flat_ssim()
    text = format_trace(trace)
    header, *rows = text.split("\n")
    assert header.split() == [
        "#",
        "op",
        "in",
        ">",
        "out",
        "range",
        "own",
        "error",
        "error",
        "expected",
        "lost",
        "line",
    ]
    assert sum(row.startswith("EC") for row in rows) == 1
    assert "view" not in text.split("\n\n")[0].replace("views", "")
    assert max(map(len, rows[: len(trace.records) // 2])) < 130
    data = json.loads(json.dumps(trace_to_dict(trace), allow_nan=False))
    assert len(data["ops"]) == len(trace.records)
    assert data["first_excess"] == data["cancellations"][0]
    assert data["stands_out"] == what_stands_out(trace)
    overflow = record_ops(lambda: torch.full((2,), 6e4).half() * 2)
    assert json.loads(json.dumps(trace_to_dict(overflow), allow_nan=False))["ops"][-1]["error"] == "inf"


def test_picture_of_a_trace(tmp_path: Path) -> None:
    trace = flat_ssim(maps=True)
    dim, mask = 1e-3 * picture(3, 14, 14), torch.zeros(14, 14)
    mask[:7] = 1
    images = {"rendering": dim, "target": FLAT[0, 0].numpy(), "difference": dim - 1e-4, "mask": mask}
    figure = plot_trace(trace, images)
    figure.savefig(tmp_path / "trace.png", dpi=50)
    assert (tmp_path / "trace.png").stat().st_size > 5000
    panels = {ax.get_title(): ax for ax in figure.axes if ax.get_images()}
    # In its own range, which stands with it, however small; of one number everywhere there is no panel.
    assert panels["rendering"].get_images()[0].get_array().max() == pytest.approx(1.0)
    assert panels["rendering"].get_xlabel() == f"{float(dim.min()):.3g} … {float(dim.max()):.3g}"
    low, high = panels["difference"].get_images()[0].get_clim()
    assert -low == high == pytest.approx(float((dim - 1e-4).abs().max()))
    assert "target" not in panels
    assert "target: 0.6 everywhere" in figure.get_suptitle()
    assert panels["mask"].axison
    assert any("sub" in t and "digits lost" in t for t in panels)
    record = trace.first_excess
    assert record is not None
    assert record.error_map is not None
    assert record.error_map.shape == (14, 14)
    assert record.error_map.max() == pytest.approx(record.error)


def test_without_an_error_there_is_no_map() -> None:
    trace = record_ops(lambda: FLAT - FLAT.clone(), maps=True)
    figure = plot_trace(trace, {"image": picture(3, 9, 9), "mask": torch.ones(9, 9)})
    assert [ax.get_title() for ax in figure.axes if ax.get_images()] == ["image"]
    with pytest.raises(ValueError, match="no op of the loss made an image that is off anywhere"):
        plot_trace(trace, {"mask": torch.ones(9, 9)})


def test_picture_refuses_what_is_no_image() -> None:
    with pytest.raises(ValueError, match=r"'x' has shape \(2, 2, 2\)"):
        plot_trace(flat_ssim(maps=True), {"x": torch.zeros(2, 2, 2)})
