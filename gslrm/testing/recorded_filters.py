"""Which filter the windows of the SSIM losses take where torch filters: products, or what nothing rounds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.backends import mkldnn
from torch.utils._python_dispatch import TorchDispatchMode

from gslrm.model.gaussian_window import window_mean, window_mean_adjoint


def filters() -> list[int]:
    """How many products the window's filter takes for small planes and for larger ones of either shape, both ways; then
    for small ones where products may be rounded, and in autocast. On the CPU.
    """
    found: list[int] = []

    def count(height: int, width: int) -> None:
        planes = torch.ones(70, height, width)  # more than a side has pixels
        with CountingMode() as counting:
            window_mean_adjoint(window_mean(planes))
        found.append(counting.operators.count("aten::bmm"))

    for height, width in ((64, 20), (20, 64), (65, 20), (20, 65), (11, 11)):
        count(height, width)
    with _rounded_products():
        count(20, 20)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        count(20, 20)
    return found


@contextlib.contextmanager
def _rounded_products() -> Iterator[None]:
    """A process that lets torch round what products of float32 are of."""
    settings: Any = getattr(mkldnn, "matmul", None)
    if hasattr(settings, "fp32_precision"):
        before, settings.fp32_precision = settings.fp32_precision, "bf16"
    else:  # torch before 2.9
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        if hasattr(settings, "fp32_precision"):
            settings.fp32_precision = before
        else:
            torch.set_float32_matmul_precision(before)


class CountingMode(TorchDispatchMode):
    """Names the operators that torch runs."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators.append(func.name())
        return func(*args, **(kwargs or {}))
