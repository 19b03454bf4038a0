"""What an emulation may not leave behind, and what its tests share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from harness.precision.cuda_policy.casting import THREAD

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


@contextmanager
def stock_cpu_autocast(dtype: torch.dtype) -> Iterator[None]:
    with torch.autocast("cpu", dtype=dtype):
        yield
