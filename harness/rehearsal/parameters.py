"""The parameters that a training moves.

What is measured is a plain value, or a tensor of one element where it is on a device that one would have to wait for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from harness.rehearsal.readings import Readings, together

Measured = bool | Tensor
"""A truth value; of a device, as a tensor of one element."""


class Parameters:
    """What the optimizers that have stepped move; each optimizer has the number of its first step.

    Args:
        readings: tells what one would have to wait for.

    Attributes:
        optimizers: in the order of their first steps.
    """

    def __init__(self, readings: Readings) -> None:
        self.optimizers: list[torch.optim.Optimizer] = []
        self._readings = readings
        self._before: list[list[Tensor]] = []

    def index(self, optimizer: Any) -> int:
        """The optimizer's number."""
        # accelerate and others hand over a wrapper.
        optimizer = getattr(optimizer, "optimizer", optimizer)
        for index, known in enumerate(self.optimizers):
            if known is optimizer:
                return index
        self.optimizers.append(optimizer)
        self._before.append(self._copies(len(self.optimizers) - 1))
        return len(self.optimizers) - 1

    def of(self, index: int) -> list[Tensor]:
        """An optimizer's parameters."""
        return [p for group in self.optimizers[index].param_groups for p in group["params"]]

    def whose(self, parameters: Sequence[Tensor]) -> int:
        """The optimizer that moves the first of these; −1 for none."""
        wanted = {id(p) for p in parameters[:1]}
        for index in range(len(self.optimizers)):
            if any(id(p) in wanted for p in self.of(index)):
                return index
        return -1

    def moved(self) -> list[Measured]:
        """For each optimizer, whether a parameter has changed since this was asked last. NaN differs from nothing."""
        found: list[Measured] = []
        for index in range(len(self.optimizers)):
            now, before = [p.detach() for p in self.of(index)], self._before[index]
            moved = any_changed(before, now, self._readings.any_away(now))
            found.append(moved)
            # Where it isn't known yet, they are copied in any case.
            if moved is not False and not _overwritten(before, now):
                self._before[index] = self._copies(index)
        return found

    def finite(self, states: bool = True) -> Measured:
        """Whether all parameters are, and the optimizers' states, where these are asked for."""
        indices = range(len(self.optimizers))
        kept = [tensor for i in indices for tensor in _state(self.optimizers[i])] if states else []
        return self._finite([*(parameter for i in indices for parameter in self.of(i)), *kept])

    def gradients_finite(self, index: int) -> Measured | None:
        """Whether an optimizer's gradients are; ``None`` where it has none."""
        gradients = [p.grad for p in self.of(index) if p.grad is not None]
        return self._finite(gradients) if gradients else None

    def norm(self, index: int) -> float | Tensor | None:
        """The L2 norm of an optimizer's gradients; ``None`` where it has none."""
        gradients = [p.grad for p in self.of(index) if p.grad is not None]
        if not gradients:
            return None
        plain = [numbers for gradient in gradients if (numbers := _plain(gradient)) is not None]
        norm = torch.linalg.vector_norm(together(torch.linalg.vector_norm(each, dtype=torch.float64) for each in plain))
        return norm if self._readings.any_away(plain) else float(norm)

    def have_gradients(self) -> Measured:
        """Whether any gradient is other than zero."""
        gradients = [p.grad for index in range(len(self.optimizers)) for p in self.of(index) if p.grad is not None]
        if not self._readings.any_away(gradients):
            return any(bool(g.any()) for g in gradients)
        return together(_values(g).any() for g in gradients).any()

    def rates(self) -> list[list[float]]:
        """The learning rates of each optimizer's groups; NaN for one that a device holds, until it has come."""
        found: list[list[float]] = []
        for optimizer in self.optimizers:
            found.append([])
            for group in optimizer.param_groups:
                rate = group["lr"]
                if isinstance(rate, Tensor) and self._readings.is_away(rate):
                    found[-1].append(math.nan)
                    self._readings.take(rate, partial(found[-1].__setitem__, len(found[-1]) - 1))
                else:
                    found[-1].append(float(rate))
        return found

    def rate_marks(self) -> list[list[Any]]:
        """Others after a rate has changed, without a look at what a device holds."""
        return [
            [(id(g["lr"]), g["lr"]._version) if isinstance(g["lr"], Tensor) else float(g["lr"]) for g in o.param_groups]
            for o in self.optimizers
        ]

    def keeps(self, held: Any) -> bool:
        """Whether this is of what is remembered here."""
        return any(held is before for before in self._before)

    def _finite(self, tensors: Sequence[Tensor]) -> Measured:
        return all_finite(tensors, self._readings.any_away(tensors))

    def _copies(self, index: int) -> list[Tensor]:
        return [p.detach().clone() for p in self.of(index)]


def buffers_finite(model: nn.Module, readings: Readings) -> Measured | None:
    """Whether a model's floating buffers are finite; ``None`` where it has none."""
    buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    return all_finite(buffers, readings.any_away(buffers)) if buffers else None


def scaler_in(saved: Any) -> tuple[bool, bool]:
    """Whether an optimizer's state is in what is saved, and whether a gradient scaler's is."""
    optimizer = scaler = False
    waiting, seen = [saved], 0
    while waiting and seen < 10_000:
        thing = waiting.pop()
        seen += 1
        if isinstance(thing, dict):
            optimizer |= {"state", "param_groups"} <= thing.keys()
            scaler |= {"scale", "growth_factor", "_growth_tracker"} <= thing.keys()
            waiting += thing.values()
        elif isinstance(thing, (list, tuple)) and len(thing) < 1000:
            waiting += thing
    return optimizer, scaler


def _state(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]


def all_finite(tensors: Iterable[Tensor], away: bool) -> Measured:
    """Whether all numbers are."""
    floating = [plain for tensor in tensors if (plain := _plain(tensor)) is not None]
    if away:
        return together(tensor.isfinite().all() for tensor in floating).all() if floating else True
    # A sum of finite numbers may overflow; one that is finite has no others in it.
    sums = [tensor.sum(dtype=torch.float32 if tensor.dtype.itemsize < 4 else None).float() for tensor in floating]
    if not sums or bool(together(sums).isfinite().all()):
        return True
    return all(bool(tensor.isfinite().all()) for tensor in floating)


def _plain(tensor: Tensor) -> Tensor | None:
    """Its numbers, real and imaginary parts apart; ``None`` where they are integers."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return None
    plain = tensor.detach().coalesce().values() if tensor.is_sparse else tensor.detach()
    return torch.view_as_real(plain.resolve_conj()) if plain.is_complex() else plain


def _values(tensor: Tensor) -> Tensor:
    return tensor.coalesce().values() if tensor.is_sparse else tensor


def any_changed(before: Sequence[Tensor], now: Sequence[Tensor], away: bool) -> Measured:
    """Whether any of these is another than it was. NaN differs from nothing."""
    if len(now) != len(before) or any(a.shape != b.shape for a, b in zip(before, now, strict=True)):
        return True
    if away:
        return together(_others(a, b).any() for a, b in zip(before, now, strict=True)).any()
    return any(not torch.equal(a, b) and bool(_others(a, b).any()) for a, b in zip(before, now, strict=True))


def _others(a: Tensor, b: Tensor) -> Tensor:
    return (a != b) & ~(a.isnan() & b.isnan())


def _overwritten(copies: list[Tensor], now: list[Tensor]) -> bool:
    """Whether the copies could be brought up to date where they are: new memory costs more than what is written."""
    same = len(copies) == len(now) and all(
        (a.shape, a.dtype, a.device) == (b.shape, b.dtype, b.device) for a, b in zip(copies, now, strict=True)
    )
    if same:
        for copy, tensor in zip(copies, now, strict=True):
            copy.copy_(tensor)
    return same
