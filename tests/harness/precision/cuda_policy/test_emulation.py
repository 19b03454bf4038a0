"""The emulation as a context: regions, casts that are exempt, the weight cache, threads, and leaving no
trace.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd
from torch.utils.checkpoint import checkpoint

from harness.precision.cuda_policy import emulation, kernels
from harness.precision.cuda_policy.casting import THREAD
from harness.precision.cuda_policy.emulation import emulate_cuda_autocast
from harness.precision.cuda_policy.errors import BannedUnderAutocastError, EmulationConflictError

F16, BF16, F32, F64 = torch.float16, torch.bfloat16, torch.float32, torch.float64
A = torch.rand(4, 4, generator=torch.Generator().manual_seed(1)) + 0.5


def autocast_state() -> tuple[Any, ...]:
    devices = [(torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in ("cuda", "cpu")]
    functions = [
        getattr(torch, f)
        for f in (
            "set_autocast_enabled",
            "set_autocast_dtype",
            "clear_autocast_cache",
            "set_autocast_gpu_dtype",
        )
    ]
    methods = torch.autocast.__init__, torch.amp.autocast_mode._cast
    kernels = [
        torch._C._dispatch_dump_table(f"aten::{op}")
        for op in (
            "mm",
            "norm.Scalar",
            "norm.ScalarOpt_dim",
            "pow.Tensor_Scalar",
            "stack",
            "mul.Tensor",
            "conv2d",
        )
    ]
    nesting = torch.autocast_increment_nesting()
    torch.autocast_decrement_nesting()
    return (
        *devices,
        *functions,
        *methods,
        *kernels,
        nesting,
        torch.is_autocast_cache_enabled(),
        THREAD.depth,
    )


@pytest.fixture(autouse=True)
def _leaves_no_trace() -> Iterator[None]:
    before = autocast_state()
    yield
    assert autocast_state() == before
    assert emulation._INSTALLATION._users == 0


# Regions


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


@contextmanager
def stock_cpu_autocast(dtype: torch.dtype) -> Iterator[None]:
    with torch.autocast("cpu", dtype=dtype):
        yield


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


# The weight cache: whatever stock autocast shows on the CPU, where both lists cast `mm`


def used_twice(w: Tensor) -> Any:
    return torch.mm(A, w), torch.mm(w, A)


def changed_between(w: Tensor) -> Any:
    first = torch.mm(w, A)
    with torch.no_grad():
        w.add_(1)
    return first, torch.mm(w, A)


def first_without_grad(w: Tensor) -> Any:
    with torch.no_grad():
        first = torch.mm(w, A)
        w.add_(1)
    return first, torch.mm(w, A)


def first_in_inference(w: Tensor) -> Any:
    with torch.inference_mode():
        torch.mm(w, A)
    with torch.no_grad():
        w.add_(1)
    return torch.mm(w, A)


def without_cache(w: Tensor) -> Any:
    with torch.autocast("cpu", dtype=BF16, cache_enabled=False):
        return changed_between(w)


def in_a_nested_region(w: Tensor) -> Any:
    first = torch.mm(w, A)
    with torch.no_grad():
        w.add_(1)
    with torch.autocast("cpu", dtype=BF16):
        return first, torch.mm(w, A)


def across_a_disabled_region(w: Tensor) -> Any:
    first = torch.mm(w, A)
    with torch.no_grad():
        w.add_(1)
    with torch.autocast("cpu", enabled=False):
        between = torch.mm(w, A)
    return first, between, torch.mm(w, A)


def cleared_between(w: Tensor) -> Any:
    first = torch.mm(w, A)
    torch.clear_autocast_cache()
    with torch.no_grad():
        w.add_(1)
    return first, torch.mm(w, A)


def view_of_a_weight(w: Tensor) -> Any:
    first = torch.mm(w[:], A)
    with torch.no_grad():
        w.add_(1)
    return first, torch.mm(w[:], A)


def leaf_that_is_a_view(w: Tensor) -> Any:
    v = torch.cat([A, A])[:4].requires_grad_()
    first = torch.mm(v, A)
    with torch.no_grad():
        v.add_(1)
    return first, torch.mm(v, A), torch.mm(w, A)


def not_a_leaf(w: Tensor) -> Any:
    v = w * 1
    first = torch.mm(v, A)
    with torch.no_grad():
        v.add_(1)
    return first, torch.mm(v, A)


def nested_in_another_dtype(w: Tensor) -> Any:
    torch.mm(w, A)
    with torch.autocast("cpu", dtype=F16):
        return torch.mm(w, A)


PROGRAMS = [
    used_twice,
    changed_between,
    first_without_grad,
    first_in_inference,
    without_cache,
    in_a_nested_region,
    across_a_disabled_region,
    cleared_between,
    view_of_a_weight,
    leaf_that_is_a_view,
    not_a_leaf,
    nested_in_another_dtype,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_weight_cache_as_in_stock_autocast(program: Any) -> None:
    def outcome(context: Any) -> Any:
        w = (A * 0.7).requires_grad_()
        with context(BF16):
            try:
                outs = program(w)
            except RuntimeError as e:
                return str(e)
        outs = outs if isinstance(outs, tuple) else (outs,)
        sum(o.float().sum() for o in outs if o.requires_grad).backward()
        return [(o.dtype, o.requires_grad, o.tolist()) for o in outs], w.grad.tolist()  # type: ignore[union-attr]

    assert outcome(emulate_cuda_autocast) == outcome(stock_cpu_autocast)


def test_weight_cache_ends_with_the_outermost_region() -> None:
    w = A.clone().requires_grad_()
    with emulate_cuda_autocast(BF16, enabled=False):
        with torch.autocast("cuda", dtype=BF16):
            torch.mm(w, A)
            assert len(THREAD.cache) == 1
            with torch.autocast("cuda", dtype=BF16):
                pass
            assert len(THREAD.cache) == 1
        assert len(THREAD.cache) == 0
    with emulate_cuda_autocast(BF16, cache_enabled=False):
        torch.mm(w, A)
        assert len(THREAD.cache) == 0


# Clean on exit, threads, processes


def test_clean_after_an_exception() -> None:
    before = autocast_state()
    with pytest.raises(ZeroDivisionError), emulate_cuda_autocast(BF16), torch.autocast("cuda", enabled=False):
        raise ZeroDivisionError
    assert autocast_state() == before


def test_clean_after_a_failed_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    before = autocast_state()

    def fail(self: Any) -> None:
        raise OSError("no")

    monkeypatch.setattr(emulation.entry_points.EntryPoints, "replace", fail)
    with pytest.raises(OSError, match="no"), emulate_cuda_autocast(BF16):
        pass
    assert autocast_state() == before


def test_stock_cpu_autocast_is_whole_afterwards() -> None:
    def outcome() -> list[torch.dtype]:
        with torch.autocast("cpu", dtype=BF16):
            x = A.bfloat16()
            outs = (
                torch.mm(A, A),
                x.exp(),
                x.norm(),
                F.pad(x[None, None], (1, 1, 1, 1), mode="reflect"),
                x.sum(),
            )
            return [t.dtype for t in outs]

    before = outcome()
    with emulate_cuda_autocast(F16):
        pass
    assert outcome() == before


def in_threads(*runs: Any) -> list[Any]:
    results: list[Any] = [None] * len(runs)

    def call(i: int) -> None:
        try:
            results[i] = runs[i]()
        except BaseException as e:
            results[i] = e

    threads = [threading.Thread(target=call, args=(i,)) for i in range(len(runs))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return results


def test_a_new_thread_is_outside() -> None:
    def other() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with torch.autocast("cuda", dtype=F16):
                return (
                    torch.mm(A, A).dtype,
                    torch.is_autocast_enabled("cuda"),
                    torch.is_autocast_enabled("cpu"),
                )

    with emulate_cuda_autocast(BF16):
        assert in_threads(other) == [(F32, False, False)]
        assert torch.mm(A, A).dtype is BF16


@pytest.mark.skipif(not hasattr(torch.library, "get_kernel"), reason="this torch cannot call an overridden kernel")
def test_stock_cpu_autocast_in_another_thread_stays_stock() -> None:
    def stock() -> Any:
        with torch.autocast("cpu", dtype=BF16):
            x, p = A.bfloat16(), A.clamp(0, 1)
            outs = (torch.mm(A, A), x.exp(), x.norm(), F.pad(x[None, None], (1, 1, 1, 1), mode="reflect"))
            return [(t.dtype, t.tolist()) for t in (*outs, F.binary_cross_entropy(p, p))]

    want = stock()
    with emulate_cuda_autocast(F16):
        assert in_threads(stock) == [want]


def test_a_torch_that_cannot_call_overridden_kernels_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.library, "get_kernel", raising=False)
    stock = kernels._stock_kernel("mm")
    with pytest.raises(EmulationConflictError, match="run them one after the other, or in two processes"):
        stock(None, A, A)


def test_threads_with_different_dtypes_at_once() -> None:
    barrier = threading.Barrier(4)

    def run(dtype: torch.dtype) -> Any:
        def inside() -> Any:
            w = A.clone().requires_grad_()
            seen = set()
            for _ in range(20):
                barrier.wait()
                with emulate_cuda_autocast(dtype):
                    barrier.wait()
                    for _ in range(5):
                        seen.add((torch.mm(w, A).dtype, torch.get_autocast_dtype("cuda"), A.half().exp().dtype))
                    with torch.autocast("cuda", enabled=False):
                        seen.add(torch.mm(w, A).dtype)
            return seen

        return inside

    got = in_threads(run(F16), run(BF16), run(F16), run(BF16))
    assert got == [{(d, d, F32), F32} for d in (F16, BF16, F16, BF16)]


def test_import_changes_nothing() -> None:
    code = (
        "import torch; before = torch.autocast.__init__, torch._C._dispatch_dump_table('aten::mm');"
        "import harness.precision.cuda_policy.emulation, harness.precision.cuda_policy.dtype_oracle,"
        " harness.precision.cuda_policy.cross_check, harness.precision.cuda_policy.op_trace;"
        "assert before == (torch.autocast.__init__, torch._C._dispatch_dump_table('aten::mm'));"
        "assert not torch.is_autocast_enabled('cuda')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_modules_with_torch_function_and_dispatch_modes() -> None:
    from torch.overrides import TorchFunctionMode
    from torch.utils._python_dispatch import TorchDispatchMode

    class Calls(TorchFunctionMode):
        def __init__(self) -> None:
            super().__init__()
            self.names: list[str] = []

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.names.append(func.__name__)
            return func(*args, **(kwargs or {}))

    class Ops(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.names: list[str] = []

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.names.append(func.name())
            return func(*args, **(kwargs or {}))

    with emulate_cuda_autocast(BF16):
        with Calls() as calls:
            product = torch.mm(A, A)
        assert product.dtype is BF16
        assert calls.names == ["mm"]  # the casts are not calls that a subject made
        x = A.clone().requires_grad_()
        loss = torch.mm(x, A).sum()
        with Calls() as calls:
            torch.autograd.grad(loss, x)
        assert "to" not in calls.names
        with Ops() as ops:
            assert torch.mm(A, A).dtype is BF16
        assert ops.names == ["aten::_to_copy", "aten::_to_copy", "aten::mm"]
