"""The emulation as a context: regions, casts that are exempt, and autograd."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd
from torch.utils.checkpoint import checkpoint

from harness.precision.cuda_policy.emulation import emulate_cuda_autocast
from harness.precision.cuda_policy.errors import BannedUnderAutocastError
from tests.harness.rounding.traces import (
    BF16,
    F16,
    F32,
    F64,
    A,
)

pytestmark = pytest.mark.usefixtures("leaves_no_trace")


def test_answers_as_on_a_gpu() -> None:
    assert not torch.is_autocast_enabled()
    with emulate_cuda_autocast(BF16):
        assert torch.is_autocast_enabled()
        assert torch.is_autocast_enabled("cuda")
        assert torch.is_autocast_enabled(A.device.type)
        assert torch.get_autocast_dtype("cuda") is BF16
        assert torch.mm(A, A).dtype is BF16
    assert torch.mm(A, A).dtype is F32


@pytest.mark.parametrize("device", ["cuda", "cpu", A.device.type])
def test_disabled_region_holds(device: str) -> None:
    with emulate_cuda_autocast(F16):
        with torch.autocast(device, enabled=False):
            assert torch.mm(A, A).dtype is F32
            assert A.half().exp().dtype is F16
            assert not torch.is_autocast_enabled("cuda")
            assert not torch.is_autocast_enabled("cpu")
            with torch.autocast(device, dtype=BF16):
                assert torch.mm(A, A).dtype is BF16
            assert torch.mm(A, A).dtype is F32
        assert torch.mm(A, A).dtype is F16


def test_disabled_region_holds_after_an_exception() -> None:
    with emulate_cuda_autocast(F16):
        with pytest.raises(KeyError), torch.autocast("cuda", enabled=False):
            raise KeyError
        assert torch.mm(A, A).dtype is F16


@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")
def test_subjects_own_regions_are_sent_here() -> None:
    with emulate_cuda_autocast(BF16, enabled=False):
        assert torch.mm(A, A).dtype is F32
        with torch.autocast("cuda", dtype=F16):
            assert torch.mm(A, A).dtype is F16
        with torch.autocast("cuda"):
            assert torch.mm(A, A).dtype is BF16
        with torch.amp.autocast(device_type="cuda", dtype=F16):
            assert torch.mm(A, A).dtype is F16
        with torch.cuda.amp.autocast():
            assert torch.mm(A, A).dtype is F16
        with torch.cuda.amp.autocast(dtype=BF16):
            assert torch.mm(A, A).dtype is BF16
        with torch.cuda.amp.autocast(enabled=False):
            assert torch.mm(A, A).dtype is F32
        with torch.autocast(A.device.type, dtype=F16):
            assert torch.mm(A, A).dtype is F16

        @torch.autocast("cuda", dtype=BF16)
        def decorated() -> torch.dtype:
            return torch.mm(A, A).dtype

        assert decorated() is BF16
        assert torch.mm(A, A).dtype is F32


def test_no_warning_that_cuda_is_missing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with emulate_cuda_autocast(BF16), torch.autocast("cuda", dtype=BF16):
            torch.mm(A, A)


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_setters_move_both_devices() -> None:
    with emulate_cuda_autocast(BF16):
        torch.set_autocast_enabled("cuda", False)
        assert torch.mm(A, A).dtype is F32
        torch.set_autocast_enabled(True)
        assert torch.mm(A, A).dtype is BF16
        torch.set_autocast_dtype("cuda", F16)
        assert torch.mm(A, A).dtype is F16
        torch.set_autocast_gpu_dtype(BF16)
        assert torch.mm(A, A).dtype is BF16
        assert torch.get_autocast_dtype("cpu") is BF16


def test_a_switch_behind_torchs_back_is_obeyed() -> None:
    with emulate_cuda_autocast(BF16):
        torch._C.set_autocast_enabled("cuda", False)
        assert torch.mm(A, A).dtype is F32
        torch._C.set_autocast_enabled("cuda", True)
        assert torch.mm(A, A).dtype is BF16


def test_nesting() -> None:
    with emulate_cuda_autocast(BF16):
        with emulate_cuda_autocast(F16):
            assert torch.mm(A, A).dtype is F16
            with emulate_cuda_autocast(BF16, enabled=False):
                assert torch.mm(A, A).dtype is F32
            assert torch.mm(A, A).dtype is F16
        assert torch.mm(A, A).dtype is BF16
        assert A.half().exp().dtype is F32  # which only the CUDA lists do
        assert torch.get_autocast_dtype("cuda") is BF16


def test_inside_stock_cpu_autocast() -> None:
    halves = A.bfloat16()
    with torch.autocast("cpu", dtype=BF16):
        assert halves.exp().dtype is BF16
        with emulate_cuda_autocast(F16):
            assert halves.exp().dtype is F32
            assert torch.mm(A, A).dtype is F16
        with emulate_cuda_autocast(F16, enabled=False):
            assert torch.mm(A, A).dtype is F32
        assert halves.exp().dtype is BF16
        assert torch.mm(A, A).dtype is BF16


@pytest.mark.parametrize("dtype", [F32, F64, torch.int64])
def test_refuses_other_dtypes(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=r"float16 or torch\.bfloat16"), emulate_cuda_autocast(dtype):
        pass


# What is never cast


def test_out_and_in_place_are_exempt() -> None:
    with emulate_cuda_autocast(BF16):
        out = torch.empty(4, 4)
        torch.mm(A, A, out=out)
        torch.testing.assert_close(out, torch.mm(A.double(), A.double()).float())
        x = A.half()
        assert x.exp_().dtype is F16
        y = torch.zeros(4, 4)
        assert y.addmm_(A, A).dtype is F32
        torch.testing.assert_close(y, torch.mm(A.double(), A.double()).float())


def test_float64_is_exempt() -> None:
    x = A.double()
    with emulate_cuda_autocast(BF16):
        for got in (x @ x, x.exp(), x.sum(), x.norm(), x.norm(dim=1), x.softmax(0), torch.dot(x[0], x[0])):
            assert got.dtype is F64
        assert torch.mm(x, x).equal(x @ x)


def test_both_norm_overloads() -> None:
    x = A.half() * 300  # the sum of squares is beyond float16
    with emulate_cuda_autocast(F16):
        assert torch.norm(x).dtype is F32
        assert x.norm(2, dim=1, keepdim=True).shape == (4, 1)
        for got, want in (
            (torch.ops.aten.norm.Scalar(x), x.double().norm()),
            (torch.ops.aten.norm.ScalarOpt_dim(x, 1, [1], True), x.double().norm(1, 1, True)),
            (torch.ops.aten.norm.ScalarOpt_dim(x, None, [0]), x.double().norm(2, 0)),
        ):
            assert got.dtype is F32
            torch.testing.assert_close(got, want.float())
        assert torch.ops.aten.norm.Scalar(x.double()).dtype is F64
        assert torch.ops.aten.norm.ScalarOpt_dim(x.double(), 2, [0]).dtype is F64


def test_banned_op_raises_with_advice() -> None:
    p = torch.rand(3)
    with emulate_cuda_autocast(F16):
        with pytest.raises(BannedUnderAutocastError, match="binary_cross_entropy_with_logits"):
            F.binary_cross_entropy(p, p)
        with pytest.raises(BannedUnderAutocastError):
            torch.nn.BCELoss()(p, p)
        with torch.autocast("cuda", enabled=False):
            assert F.binary_cross_entropy(p, p).dtype is F32
        assert F.binary_cross_entropy_with_logits(p.half(), p).dtype is F32
    assert F.binary_cross_entropy(p, p).isfinite()


# custom_fwd, custom_bwd, autograd


class Twice(torch.autograd.Function):
    """Notes the dtypes that its forward and backward compute in."""

    seen: ClassVar[list[Any]] = []

    @staticmethod
    @custom_fwd(device_type="cuda", cast_inputs=F32)
    def forward(ctx: Any, x: Tensor) -> Tensor:
        Twice.seen = [x.dtype, torch.is_autocast_enabled("cuda"), torch.mm(x, x).dtype]
        return x * 2

    @staticmethod
    @custom_bwd(device_type="cuda")
    def backward(ctx: Any, g: Tensor) -> Tensor:
        Twice.seen += [torch.is_autocast_enabled("cuda")]
        return g * 2


class InRegion(torch.autograd.Function):
    @staticmethod
    @custom_fwd(device_type="cuda")
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.mm(x, x)

    @staticmethod
    @custom_bwd(device_type="cuda")
    def backward(ctx: Any, g: Tensor) -> Tensor:
        Twice.seen = [torch.is_autocast_enabled("cuda"), torch.mm(g.float(), g.float()).dtype]
        return g.float()


def test_custom_fwd_casts_its_inputs() -> None:
    x = A.half().requires_grad_()
    with emulate_cuda_autocast(F16):
        assert Twice.apply(x).dtype is F32
        assert Twice.seen == [F32, False, F32]
        Twice.apply(x).sum().backward()
        assert Twice.seen[3:] == [False]
    assert Twice.apply(x).dtype is F16  # outside a region, cast_inputs does nothing


def test_custom_bwd_runs_as_its_forward_did() -> None:
    x = A.clone().requires_grad_()
    with emulate_cuda_autocast(BF16, enabled=False):
        with torch.autocast("cuda", dtype=BF16):
            y = InRegion.apply(x)
        y.float().sum().backward()
    assert Twice.seen == [True, BF16]


@pytest.mark.parametrize("inside", [True, False], ids=["backward inside", "backward outside"])
def test_gradient_is_that_of_casts_by_hand(inside: bool) -> None:
    x, w = A.clone().requires_grad_(), (A * 0.3).requires_grad_()

    def by_hand() -> Tensor:
        return ((x.bfloat16() @ w.bfloat16()).float() ** 2).mean()

    want = torch.autograd.grad(by_hand(), (x, w))
    with emulate_cuda_autocast(BF16):
        loss = ((x @ w) ** 2).mean()
        if inside:
            loss.backward()
    if not inside:
        loss.backward()
    for p, g in zip((x, w), want, strict=True):
        assert p.grad is not None
        assert p.grad.dtype is F32
        assert p.grad.equal(g)


def test_checkpoint_recomputes_in_the_same_dtypes() -> None:
    x = A.clone().requires_grad_()
    with emulate_cuda_autocast(BF16, enabled=False):
        with torch.autocast("cuda", dtype=BF16):
            y = checkpoint(lambda t: (t @ t).exp(), x, use_reentrant=False)
        y.sum().backward()
    want = torch.autograd.grad((x.bfloat16() @ x.bfloat16()).float().exp().sum(), x)[0]
    torch.testing.assert_close(x.grad, want, rtol=2e-2, atol=1e-2)
