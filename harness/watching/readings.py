"""Numbers that are on a device, read without waiting for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.pretence.placement import real_device

Into = Callable[[float], None]


class Readings:
    """Reads single numbers: those of the CPU at once, those of a GPU once they have come.

    Those of a GPU are copied together, at a window's end, into memory that the GPU writes by itself, and read when it
    has: a window or two later. Nobody waits.
    """

    def __init__(self) -> None:
        self._asked: list[tuple[Tensor, Into]] = []
        self._coming: list[tuple[Any, Tensor, list[Into]]] = []

    @property
    def coming(self) -> bool:
        """Whether some have not been read yet."""
        return bool(self._asked or self._coming)

    def is_away(self, tensor: Tensor) -> bool:
        """Whether it is on a device that one would have to wait for."""
        return real_device(tensor) != "cpu"

    def take(self, tensor: Tensor, into: Into) -> None:
        """Have the number of a tensor of one element given to ``into``, now or later."""
        tensor = tensor.detach()
        if not self.is_away(tensor):
            into(float(tensor))
        elif not (tensor.is_cuda and torch.cuda.is_current_stream_capturing()):
            # A copy: a scale, say, is changed in place.
            self._asked.append((tensor.reshape(()).to(torch.float32, copy=True), into))

    def send(self) -> None:
        """Have what was asked for copied."""
        asked, self._asked = self._asked, []
        by_device: dict[torch.device, list[tuple[Tensor, Into]]] = {}
        for tensor, into in asked:
            by_device.setdefault(tensor.device, []).append((tensor, into))
        for pairs in by_device.values():
            event, numbers = _copied([tensor for tensor, _ in pairs])
            self._coming.append((event, numbers, [into for _, into in pairs]))

    def receive(self) -> None:
        """Give out what has come by now."""
        while self._coming and (self._coming[0][0] is None or self._coming[0][0].query()):
            _, numbers, intos = self._coming.pop(0)
            for number, into in zip(numbers.tolist(), intos, strict=True):
                into(number)

    def wait(self) -> None:
        """Give out all, at the script's end."""
        self.send()
        for event, _, _ in self._coming:
            if event is not None:
                event.synchronize()
        self.receive()


def _copied(tensors: Sequence[Tensor]) -> tuple[Any, Tensor]:
    """The numbers in the CPU's memory, and the event after which they are there; ``None`` for no need to wait."""
    together = torch.stack(list(tensors))
    if not together.is_cuda:  # a device without such events: the copy waits
        return None, together.cpu()
    numbers = torch.empty(together.shape, dtype=together.dtype, pin_memory=True)
    with torch.cuda.device(together.device):
        numbers.copy_(together, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
    return event, numbers
