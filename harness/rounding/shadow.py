"""The float64 twin of a run: each op again in float64, on its actual inputs or on the float64 results before
it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

_WITH_HALF_TO_FLOAT = (torch.ops.aten._softmax.default, torch.ops.aten._log_softmax.default)


@dataclass(frozen=True)
class Twin:
    """What is known of a tensor of the run.

    Attributes:
        exact: its float64 twin (complex128 of complex, unchanged of integers).
        maker: index of the op that made it; -1 for a tensor from outside, which counts as exact.
        rounding: unit roundoff of the coarsest dtype on the way to it.
        depth: how many roundings are on the longest way to it.
        actual: the tensor itself, kept so that its storage is not used again.
    """

    exact: Tensor
    maker: int
    rounding: float
    depth: int
    actual: Tensor


class Shadows:
    """The twins of a run's tensors, found again by storage, offset and shape."""

    def __init__(self) -> None:
        self._twins: dict[Any, Twin] = {}
        # The last op that wrote to a storage, whose result every view of it sees.
        self._written: dict[int, Twin] = {}

    def of(self, t: Tensor) -> Twin:
        twin = self._twins.get(_key(t)) or self._from_outside(t)
        last = self._written.get(_storage(t), twin)
        if last.maker <= twin.maker:
            return twin
        return replace(
            twin,
            maker=last.maker,
            rounding=max(last.rounding, twin.rounding),
            depth=max(last.depth, twin.depth),
        )

    def _from_outside(self, t: Tensor) -> Twin:
        return self._twins.setdefault(_key(t), Twin(exact_copy(t), -1, 0.0, 0, t))

    def keep(self, t: Tensor, twin: Twin, *, written: bool) -> None:
        """Notes an op's output; ``written`` unless it is a view."""
        self._twins[_key(t)] = twin
        if written:
            self._written[_storage(t)] = twin

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The op on the twins of its inputs; None where there is no such thing."""
        return None if _is_arbitrary(func) else _run_wide(func, args, kwargs, lambda t: self.of(t).exact)


def reference(func: Any, args: Any, kwargs: Any) -> Any:
    """The op in float64 on its actual inputs, which stay as they are; None where there is no such thing."""
    return None if _is_arbitrary(func) or is_view(func) else _run_wide(func, args, kwargs, exact_copy)


def is_view(func: Any) -> bool:
    """Whether the op's output is another view of its input."""
    returns = func._schema.returns
    return bool(returns) and returns[0].alias_info is not None and not returns[0].alias_info.is_write


def exact_copy(t: Tensor) -> Tensor:
    """A copy in float64 (complex128, or the same integer dtype) with the same strides."""
    with torch.no_grad():
        return t.detach().to(_wide(t.dtype), copy=True)


def like_strides(exact: Tensor, t: Tensor) -> Tensor:
    """``exact`` in float64 and laid out as ``t``, so that later views of the one fit the other."""
    exact = exact.to(_wide(t.dtype))  # an op without tensor inputs made it in the default dtype
    if exact.stride() == t.stride() or exact.shape != t.shape or 0 in t.stride():
        return exact
    return torch.empty_strided(t.size(), t.stride(), dtype=exact.dtype).copy_(exact)


def _run_wide(func: Any, args: Any, kwargs: Any, wide_tensor: Any) -> Any:
    def widen(x: Any) -> Any:
        if isinstance(x, Tensor):
            return wide_tensor(x)
        return _wide(x) if isinstance(x, torch.dtype) else x

    wide_args, wide_kwargs = tree_map(widen, (list(args), dict(kwargs)))
    if func in _WITH_HALF_TO_FLOAT:
        wide_args[2] = False
    # An op without a float64 kernel, or whose twin has another layout, counts as exact.
    try:
        return func(*wide_args, **wide_kwargs)
    except (RuntimeError, NotImplementedError):
        return None


def _wide(dtype: torch.dtype) -> torch.dtype:
    if dtype.is_complex:
        return torch.complex128
    return torch.float64 if dtype.is_floating_point else dtype


def _is_arbitrary(func: Any) -> bool:
    """Whether a second run would give other values: random ops, and memory that nothing was written to."""
    name = func.name().removeprefix("aten::")
    return torch.Tag.nondeterministic_seeded in func.tags or name.startswith(("empty", "new_empty"))


def _storage(t: Tensor) -> int:
    return t.untyped_storage().data_ptr()


def _key(t: Tensor) -> Any:
    return _storage(t), t.storage_offset(), tuple(t.shape), t.stride(), t.dtype
