"""``map_location`` and storages: what is loaded for a pretended GPU is loaded on the CPU, and noted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from harness.pretence.patches import Patches
from harness.pretence.placement import HOST, Placement


def install(patches: Patches, placement: Placement) -> None:
    """Patch ``torch.load``, ``torch.jit.load`` and the storages' own ways to a GPU."""
    loading = torch.load

    def load(f: Any, map_location: Any = None, *args: Any, **kwargs: Any) -> Any:
        return loading(f, _mapping(placement, map_location), *args, **kwargs)

    for module in (torch, torch.serialization):
        patches.wrap(module, "load", lambda stock: load)
    patches.wrap(torch.jit, "load", lambda stock: _load_script(placement, stock))
    base = torch.storage._StorageBase
    patches.wrap(base, "cuda", lambda stock: _storage_cuda(placement))
    patches.wrap(base, "to", lambda stock: _storage_to(placement, stock))


def _mapping(placement: Placement, map_location: Any) -> Callable[[Any, str], Any]:
    """A function of a storage and where the file says that it was, as ``torch.load`` takes it."""

    def put(storage: Any, location: Any) -> Any:
        index = placement.index(location) if _names_device(location) else None
        if index is None:
            return None  # to torch's own rule
        if index != HOST:
            placement.note_storage(storage, index)
        return storage

    def by_rule(storage: Any, location: str) -> Any:
        if map_location is None:
            return put(storage, location)
        if isinstance(map_location, dict):
            return put(storage, map_location.get(location, location))
        if callable(map_location):
            result = map_location(storage, location)
            return put(storage, location) if result is None else result
        return put(storage, map_location)

    return by_rule


def _names_device(location: Any) -> bool:
    return isinstance(location, (torch.device, int)) or str(location).split(":")[0] in ("cpu", "cuda")


def _load_script(placement: Placement, stock: Any) -> Any:
    def load(f: Any, map_location: Any = None, *args: Any, **kwargs: Any) -> Any:
        index = placement.index(map_location)
        loaded = stock(f, map_location if index is None else "cpu", *args, **kwargs)
        return loaded if index in (None, HOST) else loaded.to(torch.device("cuda", index))

    return load


def _storage_cuda(placement: Placement) -> Any:
    def cuda(self: Any, device: Any = None, non_blocking: bool = False) -> Any:
        copy = self.clone()
        index = placement.index("cuda" if device is None else device)
        placement.note_storage(copy, HOST if index is None else index)
        return copy

    return cuda


def _storage_to(placement: Placement, stock: Any) -> Any:
    def to(self: Any, *, device: Any, non_blocking: bool = False) -> Any:
        index = placement.index(device)
        if index in (None, HOST):
            return stock(self, device=device, non_blocking=non_blocking)
        return self.cuda(torch.device("cuda", index))

    return to
