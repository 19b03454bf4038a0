"""The running averages that follow a model's parameters.

What is measured is a plain value, or a tensor of one element where it is on a device that one would have to wait for.
"""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from harness.rehearsal.parameters import Measured, Parameters, all_finite, any_changed
from harness.rehearsal.readings import Readings, together

NONE = 2
"""In the place of a truth value: there is no running average."""

_NEAR = 0.5  # of the parameters' norm: how far an average may be from them when it is looked for
_MARKED = 8  # tensors


@dataclass
class Follower:
    """What may be a running average.

    Attributes:
        held: a module, or a list or dictionary of tensors.
        near: whether it is near the parameters, as an average is; of a device, a tensor until that has come.
        before: its numbers when they were looked at last.
    """

    held: Any
    near: Measured = True
    before: list[Tensor] = field(default_factory=list)

    @property
    def tensors(self) -> list[Tensor]:
        """Its numbers now."""
        return list(self.held.parameters()) if isinstance(self.held, nn.Module) else _tensors_in(self.held)

    def found_near(self, number: float) -> None:
        """It has come whether it is."""
        self.near = bool(number)

    def moved(self, away: bool) -> Measured:
        """Whether it has changed since it was looked at last."""
        before, self.before = self.before, self.copies()
        return any_changed(before, self.before, away)

    def copies(self) -> list[Tensor]:
        """Of its numbers."""
        return [tensor.detach().clone() for tensor in self.tensors]


class Averages:
    """Modules, lists and dictionaries of tensors with the parameters' shapes, which share no memory with them.

    Args:
        readings: tells what one would have to wait for.
    """

    def __init__(self, readings: Readings) -> None:
        self._readings = readings
        self._followers: list[Follower] = []

    def find(self, model: nn.Module, parameters: Parameters) -> None:
        """Look for them among all that lives in the process."""
        trained = [p for index in range(len(parameters.optimizers)) for p in parameters.of(index)]
        if not trained:
            return
        own = {id(p) for p in trained}
        found = [Follower(module) for module in _outermost_removed(_modules_like(model, own))]
        # A module's own parameters come as dictionaries too.
        taken = {p.data_ptr() for p in (*trained, *(tensor for follower in found for tensor in follower.tensors))}
        shapes = [p.detach() for p in model.parameters() if id(p) in own]
        for held in _collections_like(shapes, taken):
            if parameters.keeps(held) or any(held is follower.before for follower in self._followers):
                continue
            near = _distance(_tensors_in(held), shapes) < 0.0
            follower = Follower(held, near if self._readings.is_away(near) else bool(near))
            self._readings.put(follower.near, follower.found_near)
            found.append(follower)
        self._followers = found
        for follower in self.each():
            follower.before = follower.copies()

    def moved(self) -> Measured | None:
        """Whether any has changed since this was asked last; ``None``, or a tensor of ``NONE``, without any."""
        if not self.each():
            return None
        pairs = [(follower.near, follower.moved(self._away(follower))) for follower in self.each()]
        if (far := _on_device(pairs)) is None:
            return any(moved for _, moved in pairs)
        near, changed = far
        return torch.where(near.any(), (near & changed).any().int(), NONE)

    def finite(self) -> Measured:
        """Whether all their numbers are."""
        pairs = [(f.near, all_finite(f.tensors, self._away(f))) for f in self.each()]
        if (far := _on_device(pairs)) is None:
            return all(finite for _, finite in pairs)
        near, finite = far
        return (~near | finite).all()

    def mark(self) -> Callable[[], tuple[list[int], Tensor | list[str]]]:
        """Gives, cheaply, something that is another after they have changed: counts of changes, and sums, of those on a
        device as a tensor that nobody has waited for.
        """
        tensors = [tensor for follower in self.each() for tensor in follower.tensors]
        counted = [t for t in tensors if not t.is_inference()]
        # A change through `.data` isn't counted.
        few = [t.detach() for t in sorted(tensors, key=Tensor.numel)[:_MARKED]]

        def now() -> tuple[list[int], Tensor | list[str]]:
            counts = [t._version for t in counted]
            if self._readings.any_away(few):
                return counts, together(t.sum() for t in few)
            return counts, [float(t.sum()).hex() for t in few]

        return now

    def each(self) -> list[Follower]:
        """Those that were found, and those of which it isn't known yet."""
        self._followers = [follower for follower in self._followers if follower.near is not False]
        return self._followers

    def _away(self, follower: Follower) -> bool:
        return self._readings.any_away(follower.tensors)


def _on_device(pairs: Sequence[tuple[Measured, Measured]]) -> tuple[Tensor, Tensor] | None:
    """The first of each pair, and the second, in tensors where one of them is; ``None`` where none is on a device."""
    device = next((value.device for pair in pairs for value in pair if isinstance(value, Tensor)), None)
    if device is None:
        return None

    def tensor(value: Measured) -> Tensor:
        # Filled there: a copy from here would wait.
        return value if isinstance(value, Tensor) else torch.full((), value, dtype=torch.bool, device=device)

    return together(tensor(one) for one, _ in pairs), together(tensor(other) for _, other in pairs)


def _modules_like(model: nn.Module, trained: set[int]) -> list[nn.Module]:
    shapes = [p.shape for p in model.parameters() if id(p) in trained]
    found = []
    for thing in gc.get_objects():
        # Not isinstance: it would ask lazy modules and proxies for their class.
        if issubclass(type(thing), nn.Module) and thing is not model:
            own = list(thing.parameters())
            if shapes and [p.shape for p in own][: len(shapes)] == shapes and trained.isdisjoint(id(p) for p in own):
                found.append(thing)
    return found


def _outermost_removed(found: list[nn.Module]) -> list[Any]:
    """Of a module and what it holds, the outer one alone."""
    inner = {id(child) for thing in found for child in thing.modules() if child is not thing}
    return [thing for thing in found if id(thing) not in inner]


def _collections_like(model: Sequence[Tensor], taken: set[int]) -> Iterator[Any]:
    """Lists and dictionaries of tensors of these shapes, in order; gradients and moments are among them."""
    for thing in gc.get_objects():
        if type(thing) not in (list, dict, OrderedDict) or len(thing) < len(model):
            continue
        if not isinstance(next(iter(thing.values() if isinstance(thing, dict) else thing), None), Tensor):
            continue
        tensors = _tensors_in(thing)
        same = len(tensors) >= len(model) and all(a.shape == b.shape for a, b in zip(tensors, model, strict=False))
        if same and taken.isdisjoint(t.data_ptr() for t in tensors):
            yield thing


def _distance(tensors: Sequence[Tensor], model: Sequence[Tensor]) -> Tensor:
    """The square of their distance from the parameters, less that which an average may have."""
    pairs = [(a.detach().double(), b.double()) for a, b in zip(tensors, model, strict=False) if b.is_floating_point()]
    away = together((a - b).square().sum() for a, b in pairs).sum()
    return away - _NEAR**2 * together(b.square().sum() for _, b in pairs).sum()


def _tensors_in(held: Any) -> list[Tensor]:
    values = list(held.values()) if isinstance(held, dict) else list(held)
    return [value for value in values if isinstance(value, Tensor)]
