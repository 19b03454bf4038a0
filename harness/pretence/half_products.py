"""Products of half-precision tensors on the CPU by float32's kernels, as a GPU sums them.

Without instructions for a half precision, and in the backward pass of a float16 convolution even with them, torch's own
kernels take tens of times as long as float32's. A GPU multiplies halves exactly, sums in float32 and rounds once; so
does this.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Set
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from harness.pretence.placement import real_device

_aten = torch.ops.aten
_PRODUCTS = frozenset(
    {
        _aten.convolution.default,
        _aten.convolution_backward.default,
        _aten.mm.default,
        _aten.addmm.default,
        _aten.bmm.default,
        _aten.baddbmm.default,
    }
)


_LARGE = 300_000
"""Numbers in a model's parameters. In a smaller one to step in at each op costs as much as it saves."""


def worth_while(model: nn.Module, autocast_to: Set[torch.dtype]) -> frozenset[torch.dtype]:
    """The half precisions that :class:`HalfProducts` is worth being entered for, in a step of this model on this
    processor; none where it isn't.

    Args:
        autocast_to: the half precisions that it is run in, besides those of its parameters.
    """
    parameters = list(model.parameters())
    halves = (autocast_to | {parameter.dtype for parameter in parameters}) & slow_halves()
    if not halves or sum(parameter.numel() for parameter in parameters) < _LARGE:
        return frozenset()
    return frozenset(halves) if real_device(parameters[0]) == "cpu" else frozenset()


@functools.cache
def slow_halves() -> frozenset[torch.dtype]:
    """The half precisions whose products this processor is slow at."""
    try:
        has_bfloat16 = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):  # a torch without oneDNN
        has_bfloat16 = False
    return frozenset({torch.float16} if has_bfloat16 else {torch.float16, torch.bfloat16})


class HalfProducts(TorchDispatchMode):
    """While it is entered, convolutions and matrix products of these dtypes are computed in float32 and rounded.

    Args:
        halves: the dtypes; those of tensors elsewhere than on the CPU are left alone.
    """

    def __init__(self, halves: Iterable[torch.dtype]) -> None:
        super().__init__()
        self._halves = frozenset(halves)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        half = args[0].dtype if func in _PRODUCTS else None
        if half not in self._halves or real_device(args[0]) != "cpu":
            return func(*args, **named)
        with torch._C.DisableTorchFunction():
            found = func(*(arg.float() if isinstance(arg, Tensor) else arg for arg in args), **named)
            if isinstance(found, Tensor):
                return found.to(half)
            return tuple(None if part is None else part.to(half) for part in found)
