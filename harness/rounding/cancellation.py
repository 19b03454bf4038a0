"""Cancellation: a subtraction whose result is much smaller than its operands keeps only the digits in which
they differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.rounding.shadow import exact_copy

_SUBTRACTIONS = frozenset({"sub", "sub_", "rsub", "add", "add_"})


@dataclass(frozen=True)
class Loss:
    """What a subtraction lost: decimal digits in its worst element, and the share of elements that lost one
    or more.
    """

    digits: float
    share: float


@dataclass(frozen=True)
class Operands:
    """The larger of |a| and |b| for each element of ``a - b``, and the decimal digits of their dtype."""

    larger: Tensor
    digits: float


def operands_of(func: Any, args: Any, kwargs: Any) -> Operands | None:
    """The operands of a subtraction, or of an addition, which may be one; None for another op. Ask before the
    op runs.
    """
    name = func.name().removeprefix("aten::").split(".")[0]
    if name not in _SUBTRACTIONS or len(args) < 2:
        return None
    dtypes = [x.dtype for x in args[:2] if isinstance(x, Tensor) and x.is_floating_point() and x.dim()]
    if not dtypes:
        return None
    alpha = kwargs.get("alpha", args[2] if len(args) > 2 else 1)
    a, b = (exact_copy(x).double() if isinstance(x, Tensor) else torch.tensor(float(x)).double() for x in args[:2])
    a, b = (a * alpha, b) if name == "rsub" else (a, b * alpha)
    return Operands(torch.maximum(a.abs(), b.abs()), -math.log10(max(torch.finfo(d).eps for d in dtypes) / 2))


def subtraction_loss(operands: Operands, result: Tensor) -> Loss:
    """Digits lost: log10(|larger operand| / |result|) in the worst element, at most all there are."""
    compared = (operands.larger > 0) & operands.larger.isfinite()
    if not compared.any():
        return Loss(0.0, 0.0)
    lost = (operands.larger / result.double().abs()).log10().clamp(0, operands.digits)
    lost = torch.where(compared, lost.nan_to_num(0.0), 0.0)
    return Loss(lost.max().item(), (lost >= 1).double().mean().item())
