"""Which tensors stand on the pretended GPU.

Every tensor is a CPU tensor.  That one was put on the GPU is noted of its storage, by weak reference: views,
parameters, ``.data`` and what C++ makes of it share the storage, and so the note.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

HOST = -1
"""The index of a tensor that isn't on a GPU."""


class Placement:
    """The storages on the pretended GPUs, and those in pinned memory.

    Attributes:
        devices: how many GPUs there seem to be.
        active: whether the pretence lasts.
        current: the GPU that ``"cuda"`` without an index means.
        allocated: bytes on each GPU now, as far as Python has seen the tensors.
        peak: the most bytes that there were on each since it was reset.
    """

    def __init__(self, devices: int) -> None:
        self.devices = devices
        self.current = 0
        self.active = True
        self.allocated = [0] * devices
        self.peak = [0] * devices
        self._index: dict[int, int] = {}
        self._alive: dict[int, weakref.ref[Any]] = {}
        self._pinned: dict[int, weakref.ref[Any]] = {}

    def end(self) -> None:
        """The pretence is over, also for threads that go on."""
        self.active = False

    def index(self, device: Any) -> int | None:
        """What ``device=`` means: a GPU's index, :data:`HOST`, or ``None`` where it is neither, or not given.

        Raises:
            RuntimeError: there is no such GPU; in CUDA's words.
        """
        if device is None or isinstance(device, bool):
            return None
        if isinstance(device, int):
            index = device
        else:
            if isinstance(device, str):
                device = torch.device(device)
            if not isinstance(device, torch.device):
                return None
            if device.type != "cuda":
                return HOST if device.type == "cpu" else None
            index = self.current if device.index is None else device.index
        if not 0 <= index < self.devices:
            raise RuntimeError(
                f"CUDA error: invalid device ordinal ({index}, but {self.devices} pretended: "
                "pretend_cuda(devices=...) sets how many)"
            )
        return index

    def of(self, tensor: Tensor) -> int:
        """The index of the tensor's GPU, or :data:`HOST`."""
        try:
            return self._index.get(tensor.untyped_storage()._cdata, HOST)
        except (RuntimeError, NotImplementedError):  # sparse: no storage
            inner = _unwrapped(tensor)
            return self._index.get(id(tensor), HOST) if inner is tensor else self.of(inner)

    def note(self, tensor: Tensor, index: int) -> None:
        """Note that the tensor, and whatever shares its storage, is on this GPU."""
        try:
            holder: Any = tensor.untyped_storage()
            key, size = holder._cdata, holder.nbytes()
        except (RuntimeError, NotImplementedError):
            inner = _unwrapped(tensor)
            if inner is not tensor:
                self.note(inner, index)
                return
            holder, key, size = tensor, id(tensor), 0
        self.note_storage(holder, index, key, size)

    def note_storage(self, holder: Any, index: int, key: int | None = None, size: int | None = None) -> None:
        """As :meth:`note`, of an ``UntypedStorage``."""
        key = holder._cdata if key is None else key
        size = holder.nbytes() if size is None else size
        if key in self._index:
            return

        def gone(_: Any) -> None:
            self._alive.pop(key, None)
            if self._index.pop(key, None) is not None:
                self.allocated[index] -= size

        self._alive[key] = weakref.ref(holder, gone)
        self._index[key] = index
        self.allocated[index] += size
        self.peak[index] = max(self.peak[index], self.allocated[index])

    def first(self, values: Iterable[Any]) -> int:
        """The GPU of the first tensor among the values, or in a list among them, that is on one; else :data:`HOST`."""
        for value in values:
            if isinstance(value, Tensor):
                index = self.of(value)
            elif isinstance(value, (list, tuple)) and value and isinstance(value[0], (Tensor, list, tuple)):
                index = self.first(value)
            else:
                continue
            if index != HOST:
                return index
        return HOST

    def pin(self, tensor: Tensor) -> None:
        """Note that the tensor's storage is in pinned memory."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        self._pinned[key] = weakref.ref(storage, lambda _: self._pinned.pop(key, None))

    def is_pinned(self, tensor: Tensor) -> bool:
        """Whether it is."""
        try:
            return tensor.untyped_storage()._cdata in self._pinned
        except (RuntimeError, NotImplementedError):
            return False

    def seen_as(self, tensor: Tensor) -> int:
        """As :meth:`of`, but what autograd hands to hooks and to custom functions, which nobody has seen yet, is on the
        GPU as well.
        """
        index = self.of(tensor)
        if index == HOST and torch._C._current_graph_task_id() != -1 and self._index:
            return 0
        return index


def real_device(tensor: Tensor) -> str:
    """Where it is, also where a pretence says otherwise: ``cpu``, ``cuda``, ..."""
    with torch._C.DisableTorchFunction():
        return tensor.device.type


def _unwrapped(tensor: Tensor) -> Tensor:
    """The tensor within those that ``torch.vmap`` and ``torch.func.grad`` make."""
    functorch: Any = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    return tensor
