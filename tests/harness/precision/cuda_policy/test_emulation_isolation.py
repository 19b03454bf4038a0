"""The emulation is clean on exit, and keeps to its thread and process."""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from harness.precision.cuda_policy import emulation, kernels
from harness.precision.cuda_policy.emulation import emulate_cuda_autocast
from harness.precision.cuda_policy.errors import EmulationConflictError, EmulationUnavailableError
from tests.harness.rounding.traces import (
    BF16,
    F16,
    F32,
    A,
    autocast_state,
)

pytestmark = pytest.mark.usefixtures("leaves_no_trace")


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
    with pytest.raises(EmulationUnavailableError, match=r"OSError: no.*other precisions"), emulate_cuda_autocast(BF16):
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
        "import harness.precision.cuda_policy.emulation, harness.precision.cuda_policy.proofs.dtype_oracle,"
        " harness.precision.cuda_policy.proofs.cross_check, harness.rounding.op_trace;"
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
