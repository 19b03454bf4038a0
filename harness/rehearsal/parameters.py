"""The parameters that a training moves, and the running averages that follow them."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Parameters:
    """What the optimizers that have stepped move; each optimizer has the number of its first step.

    Attributes:
        optimizers: in the order of their first steps.
    """

    def __init__(self) -> None:
        self.optimizers: list[torch.optim.Optimizer] = []
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

    def moved(self) -> list[bool]:
        """For each optimizer, whether a parameter has changed since this was asked last. NaN differs from nothing."""
        found = []
        for index in range(len(self.optimizers)):
            now = self._copies(index)
            before = self._before[index]
            found.append(len(now) != len(before) or any(_differ(a, b) for a, b in zip(before, now, strict=True)))
            self._before[index] = now
        return found

    def finite(self) -> bool:
        """Whether all parameters and the optimizers' states are."""
        return all(
            _finite(self.of(index)) and _finite(_state(self.optimizers[index])) for index in range(len(self.optimizers))
        )

    def gradients_finite(self, index: int) -> bool | None:
        """Whether an optimizer's gradients are; ``None`` where it has none."""
        gradients = [p.grad for p in self.of(index) if p.grad is not None]
        return _finite(gradients) if gradients else None

    def norm(self, index: int) -> float | None:
        """The L2 norm of an optimizer's gradients; ``None`` where it has none."""
        gradients = [p.grad for p in self.of(index) if p.grad is not None]
        if not gradients:
            return None
        norms = [torch.linalg.vector_norm(g.coalesce().values() if g.is_sparse else g.double()) for g in gradients]
        return float(torch.linalg.vector_norm(torch.stack([norm.double().cpu() for norm in norms])))

    def have_gradients(self) -> bool:
        """Whether any gradient is other than zero."""
        gradients = [p.grad for index in range(len(self.optimizers)) for p in self.of(index) if p.grad is not None]
        return any(bool(g.any()) for g in gradients)

    def rates(self) -> list[list[float]]:
        """The learning rates of each optimizer's groups."""
        return [[float(group["lr"]) for group in optimizer.param_groups] for optimizer in self.optimizers]

    def _copies(self, index: int) -> list[Tensor]:
        return [p.detach().clone() for p in self.of(index)]


class Averages:
    """Modules whose parameters no optimizer moves, shaped as the model's: running averages of it."""

    def __init__(self) -> None:
        self._followers: list[nn.Module] = []
        self._before: list[Tensor] = []

    def find(self, model: nn.Module, parameters: Parameters) -> None:
        """Look for them among all that lives in the process."""
        trained = {id(p) for index in range(len(parameters.optimizers)) for p in parameters.of(index)}
        shapes = [p.shape for p in model.parameters() if id(p) in trained]
        found = []
        for thing in gc.get_objects():
            # Not isinstance: it would ask lazy modules and proxies for their class.
            if not issubclass(type(thing), nn.Module) or thing is model:
                continue
            own = list(thing.parameters())
            if shapes and [p.shape for p in own][: len(shapes)] == shapes and trained.isdisjoint(id(p) for p in own):
                found.append(thing)
        # Of a module and what it holds, the inner one.
        inner = {id(child) for thing in found for child in thing.modules() if child is not thing}
        self._followers = [thing for thing in found if id(thing) not in inner]
        self._before = self._copies()

    def moved(self) -> bool | None:
        """Whether any has changed since this was asked last; ``None`` where there are none."""
        if not self._followers:
            return None
        now, before = self._copies(), self._before
        self._before = now
        return len(now) != len(before) or any(_differ(a, b) for a, b in zip(before, now, strict=True))

    def finite(self) -> bool:
        """Whether all their numbers are."""
        return _finite(self._copies())

    def _copies(self) -> list[Tensor]:
        return [p.detach().clone() for module in self._followers for p in module.parameters()]


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


def _finite(tensors: Iterable[Tensor]) -> bool:
    return all(bool(torch.isfinite(t).all()) for t in tensors if t.is_floating_point())


def _differ(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return True
    return bool(((a != b) & ~(a.isnan() & b.isnan())).any())
