"""The parameters that a training moves, and the running averages that follow them."""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_NEAR = 0.5  # of the parameters' norm: how far an average may be from them when it is looked for

_MARKED = 8  # tensors


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
            now, before = [p.detach() for p in self.of(index)], self._before[index]
            moved = len(now) != len(before) or any(_differ(a, b) for a, b in zip(before, now, strict=True))
            found.append(moved)
            if moved and not _overwritten(before, now):
                self._before[index] = self._copies(index)
        return found

    def finite(self, states: bool = True) -> bool:
        """Whether all parameters are, and the optimizers' states, where these are asked for."""
        indices = range(len(self.optimizers))
        kept = [tensor for i in indices for tensor in _state(self.optimizers[i])] if states else []
        return _finite([*(parameter for i in indices for parameter in self.of(i)), *kept])

    def gradients_finite(self, index: int) -> bool | None:
        """Whether an optimizer's gradients are; ``None`` where it has none."""
        gradients = [p.grad for p in self.of(index) if p.grad is not None]
        return _finite(gradients) if gradients else None

    def norm(self, index: int) -> float | None:
        """The L2 norm of an optimizer's gradients; ``None`` where it has none."""
        gradients = [p.grad for p in self.of(index) if p.grad is not None]
        if not gradients:
            return None
        plain = [numbers for gradient in gradients if (numbers := _plain(gradient)) is not None]
        norms = _by_device(torch.linalg.vector_norm(numbers, dtype=torch.float64) for numbers in plain)
        return float(torch.linalg.vector_norm(torch.cat([torch.stack(these).cpu() for these in norms])))

    def have_gradients(self) -> bool:
        """Whether any gradient is other than zero."""
        gradients = [p.grad for index in range(len(self.optimizers)) for p in self.of(index) if p.grad is not None]
        return any(bool(g.any()) for g in gradients)

    def rates(self) -> list[list[float]]:
        """The learning rates of each optimizer's groups."""
        return [[float(group["lr"]) for group in optimizer.param_groups] for optimizer in self.optimizers]

    def keeps(self, held: Any) -> bool:
        """Whether this is of what is remembered here."""
        return any(held is before for before in self._before)

    def _copies(self, index: int) -> list[Tensor]:
        return [p.detach().clone() for p in self.of(index)]


class Averages:
    """Running averages of a model's parameters: modules, lists and dictionaries of tensors with the parameters' shapes,
    which share no memory with them.
    """

    def __init__(self) -> None:
        self._followers: list[Any] = []
        self._before: list[Tensor] = []

    def find(self, model: nn.Module, parameters: Parameters) -> None:
        """Look for them among all that lives in the process."""
        trained = [p for index in range(len(parameters.optimizers)) for p in parameters.of(index)]
        if not trained:
            return
        own = {id(p) for p in trained}
        self._followers = _outermost_removed(_modules_like(model, own))
        # A module's own parameters come as dictionaries too.
        taken = {p.data_ptr() for p in (*trained, *self._tensors())}
        shapes = [p.detach() for p in model.parameters() if id(p) in own]
        self._followers += [held for held in _collections_like(shapes, taken) if not parameters.keeps(held)]
        self._before = self._copies()

    def moved(self) -> bool | None:
        """Whether any has changed since this was asked last; ``None`` where there are none."""
        if not self._followers:
            return None
        now, before = self._copies(), self._before
        self._before = now
        return len(now) != len(before) or any(_differ(a, b) for a, b in zip(before, now, strict=True))

    def mark(self) -> Callable[[], Any]:
        """Gives, cheaply, something that is another after they have changed."""
        tensors = self._tensors()
        counted = [t for t in tensors if not t.is_inference()]
        # A change through `.data` isn't counted.
        few = [t.detach() for t in sorted(tensors, key=Tensor.numel)[:_MARKED]]
        return lambda: ([t._version for t in counted], [float(t.sum()).hex() for t in few])

    def finite(self) -> bool:
        """Whether all their numbers are."""
        return _finite(self._copies())

    def each(self) -> list[list[Tensor]]:
        """The tensors of each that was found."""
        return [list(h.parameters()) if isinstance(h, nn.Module) else _tensors_in(h) for h in self._followers]

    def _tensors(self) -> list[Tensor]:
        return [tensor for tensors in self.each() for tensor in tensors]

    def _copies(self) -> list[Tensor]:
        return [p.detach().clone() for p in self._tensors()]


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


def _collections_like(model: Sequence[Tensor], taken: set[int]) -> list[Any]:
    """Lists and dictionaries of tensors near these, in order: an average is, gradients and moments are not."""
    found = []
    for thing in gc.get_objects():
        if type(thing) not in (list, dict, OrderedDict) or len(thing) < len(model):
            continue
        if not isinstance(next(iter(thing.values() if isinstance(thing, dict) else thing), None), Tensor):
            continue
        tensors = _tensors_in(thing)
        same = len(tensors) >= len(model) and all(a.shape == b.shape for a, b in zip(tensors, model, strict=False))
        if same and taken.isdisjoint(t.data_ptr() for t in tensors) and _are_near(tensors, model):
            found.append(thing)
    return found


def _are_near(tensors: Sequence[Tensor], model: Sequence[Tensor]) -> bool:
    pairs = [(a.detach().double(), b.double()) for a, b in zip(tensors, model, strict=False) if b.is_floating_point()]
    away = sum(float((a - b).square().sum()) for a, b in pairs)
    return away < _NEAR**2 * sum(float(b.square().sum()) for _, b in pairs)


def _tensors_in(held: Any) -> list[Tensor]:
    values = list(held.values()) if isinstance(held, dict) else list(held)
    return [value for value in values if isinstance(value, Tensor)]


def buffers_finite(model: nn.Module) -> bool | None:
    """Whether a model's floating buffers are finite; ``None`` where it has none."""
    buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    return _finite(buffers) if buffers else None


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
    floating = [plain for tensor in tensors if (plain := _plain(tensor)) is not None]
    # A sum of finite numbers may overflow; one that is finite has no others in it.
    sums = [tensor.sum(dtype=torch.float32 if tensor.dtype.itemsize < 4 else None).float() for tensor in floating]
    if all(bool(torch.stack(these).isfinite().all()) for these in _by_device(sums)):
        return True
    return all(bool(tensor.isfinite().all()) for tensor in floating)


def _plain(tensor: Tensor) -> Tensor | None:
    """Its numbers, real and imaginary parts apart; ``None`` where they are integers."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return None
    plain = tensor.detach().coalesce().values() if tensor.is_sparse else tensor.detach()
    return torch.view_as_real(plain.resolve_conj()) if plain.is_complex() else plain


def _by_device(numbers: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    """Tensors of one number each, those of a device together: to read each by itself is to wait for each."""
    found: dict[torch.device, list[Tensor]] = {}
    for number in numbers:
        found.setdefault(number.device, []).append(number)
    return found.values()


def _overwritten(copies: list[Tensor], now: list[Tensor]) -> bool:
    """Whether the copies could be brought up to date where they are: new memory costs more than what is written."""
    same = len(copies) == len(now) and all(
        (a.shape, a.dtype, a.device) == (b.shape, b.dtype, b.device) for a, b in zip(copies, now, strict=True)
    )
    if same:
        for copy, tensor in zip(copies, now, strict=True):
            copy.copy_(tensor)
    return same


def _differ(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return True
    return not torch.equal(a, b) and bool(((a != b) & ~(a.isnan() & b.isnan())).any())
