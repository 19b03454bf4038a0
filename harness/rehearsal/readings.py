"""Numbers that are on a device, read without waiting for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from harness.pretence.placement import real_device

Into = Callable[[float], None]
"""Takes a number once it is there."""


class Readings:
    """Reads tensors: those of the CPU at once, those of a GPU once they have come.

    Those of a GPU are copied together, at a window's end, into memory that the GPU writes by itself, and read when it
    has: a window or two later. Nobody waits.
    """

    def __init__(self) -> None:
        self._asked: list[tuple[Tensor, Into]] = []
        self._asked_whole: list[tuple[Tensor, Callable[[Tensor], None]]] = []
        self._coming: deque[tuple[Sequence[Any], list[Callable[[], None]]]] = deque()
        self._sent = self._received = 0

    def has_come(self, sent: int) -> bool:
        """Whether all has been read that was sent for by then, as :meth:`send` counts."""
        return self._received >= sent

    def is_away(self, tensor: Tensor) -> bool:
        """Whether it is on a device that one would have to wait for."""
        return real_device(tensor) != "cpu"

    def any_away(self, tensors: Sequence[Tensor]) -> bool:
        """Whether the first is: what belongs together is mostly in one place, and this is asked at every step."""
        return bool(tensors) and self.is_away(tensors[0])

    def take(self, tensor: Tensor, into: Into) -> None:
        """Have the number of a tensor of one element given to ``into``, now or later."""
        tensor = tensor.detach()
        if not self.is_away(tensor):
            into(float(tensor))
        elif not _is_captured(tensor):
            # A copy: a scale, say, is changed in place. Apple's devices have no float64.
            dtype = torch.float32 if real_device(tensor) == "mps" else torch.float64
            self._asked.append((tensor.reshape(()).to(dtype, copy=True), into))

    def put(self, value: Any, into: Callable[[Any], None]) -> None:
        """Give a value to ``into``, now; where it is a tensor of one element, its number, now or later."""
        if isinstance(value, Tensor):
            self.take(value, into)
        else:
            into(value)

    def take_whole(self, tensor: Tensor, into: Callable[[Tensor], None]) -> None:
        """Have all of a tensor, as it is now, given to ``into`` in the CPU's memory, now or later."""
        tensor = tensor.detach()
        if not self.is_away(tensor):
            into(tensor)
        elif not _is_captured(tensor):
            self._asked_whole.append((tensor.clone(), into))

    def send(self) -> int:
        """Have what was asked for copied; the number of this order."""
        asked, self._asked = self._asked, []
        whole, self._asked_whole = self._asked_whole, []
        by_device: dict[torch.device, list[tuple[Tensor, Into]]] = {}
        for tensor, into in asked:
            by_device.setdefault(tensor.device, []).append((tensor, into))
        given: list[Callable[[], None]] = []
        for pairs in by_device.values():
            numbers = _on_its_way(torch.stack([tensor for tensor, _ in pairs]))
            given.append(partial(_give_each, numbers, [into for _, into in pairs]))
        given += [partial(into, _on_its_way(tensor)) for tensor, into in whole]
        devices = dict.fromkeys([*by_device, *(tensor.device for tensor, _ in whole)])
        if given:
            self._coming.append(([event for device in devices if (event := _event(device)) is not None], given))
            self._sent += 1
        return self._sent

    def receive(self) -> None:
        """Give out what has come by now."""
        while self._coming and all(event.query() for event in self._coming[0][0]):
            _, given = self._coming.popleft()
            self._received += 1
            for give in given:
                give()

    def wait(self) -> None:
        """Give out all, at the script's end."""
        self.send()
        for events, _ in self._coming:
            for event in events:
                event.synchronize()
        self.receive()


def together(numbers: Iterable[Tensor]) -> Tensor:
    """Tensors of one element each in one tensor, where the first is."""
    found = list(numbers)
    return torch.stack([number.to(found[0].device, found[0].dtype, non_blocking=True) for number in found])


def _is_captured(tensor: Tensor) -> bool:
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()


def _give_each(numbers: Tensor, intos: Sequence[Into]) -> None:
    for number, into in zip(numbers.tolist(), intos, strict=True):
        into(number)


def _on_its_way(tensor: Tensor) -> Tensor:
    """The memory of the CPU that it will be in after the device's event; of a device without such events, it waits."""
    if not tensor.is_cuda or tensor.is_sparse:
        return tensor.cpu()
    found = torch.empty_like(tensor, device="cpu", pin_memory=True)
    with torch.cuda.device(tensor.device):
        return found.copy_(tensor, non_blocking=True)


def _event(device: torch.device) -> Any:
    """After which all is there that a device was asked for; ``None`` for no need to wait."""
    if device.type != "cuda":
        return None
    with torch.cuda.device(device):
        event = torch.cuda.Event()
        event.record()
    return event
