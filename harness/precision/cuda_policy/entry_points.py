"""Torch's own ways into autocast, sent to the emulation while a thread is in it.

Without a GPU ``torch.autocast("cuda")`` switches itself off, ``custom_fwd`` casts CUDA tensors only, and the
CPU and CUDA autocast states are two. Inside the emulation a CPU tensor stands for a CUDA tensor, so both
device types mean the same state, whichever a subject names (``x.device.type`` says "cpu" here and "cuda" on
a GPU). Threads outside the emulation keep torch's own behaviour: each replacement asks first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch.amp import autocast_mode

from harness.precision.cuda_policy.casting import THREAD

# The C functions that stay what they are; `torch.set_autocast_enabled` and the others are what subjects call.
set_enabled = torch._C.set_autocast_enabled
set_dtype = torch._C.set_autocast_dtype

DEVICES = ("cuda", "cpu")


class EntryPoints:
    """The replaced attributes of torch, and how to put the old ones back."""

    def __init__(self) -> None:
        self._old: list[tuple[Any, str, Any, Any]] = []

    def replace(self) -> None:
        self._put(torch, "set_autocast_enabled", _set_enabled)
        self._put(torch, "set_autocast_dtype", _set_dtype)
        self._put(torch, "set_autocast_cpu_enabled", _set_enabled)
        self._put(torch, "set_autocast_cpu_dtype", _set_dtype)
        self._put(torch, "set_autocast_gpu_dtype", _set_dtype)
        self._put(torch, "clear_autocast_cache", _clear_cache)
        self._put(autocast_mode, "_cast", _cast)
        self._put(autocast_mode.autocast, "__init__", _init)

    def restore(self) -> None:
        """Puts the old attributes back, except where somebody has since put a third thing in their place."""
        while self._old:
            owner, name, old, new = self._old.pop()
            if getattr(owner, name) is new:
                setattr(owner, name, old)

    def _put(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        old = getattr(owner, name, None)
        if old is None:  # a deprecated function that this torch no longer has
            return
        new = wraps(old)(make(old))
        self._old.append((owner, name, old, new))
        setattr(owner, name, new)


def _set_enabled(stock: Any) -> Any:
    def set_autocast_enabled(*args: Any, **kwargs: Any) -> None:
        stock(*args, **kwargs)
        device = _device_of(args, kwargs)
        if THREAD.depth and device in DEVICES:
            _mirror(set_enabled, _value_of(args, kwargs, "enabled"))

    return set_autocast_enabled


def _set_dtype(stock: Any) -> Any:
    def set_autocast_dtype(*args: Any, **kwargs: Any) -> None:
        stock(*args, **kwargs)
        device = _device_of(args, kwargs)
        if THREAD.depth and device in DEVICES:
            _mirror(set_dtype, _value_of(args, kwargs, "dtype"))

    return set_autocast_dtype


def _clear_cache(stock: Any) -> Any:
    def clear_autocast_cache() -> None:
        stock()
        if THREAD.depth:
            THREAD.cache.clear()

    return clear_autocast_cache


def _cast(stock: Any) -> Any:
    def _cast(value: Any, device_type: str, dtype: torch.dtype) -> Any:
        # The stock function comes back here for each member of a container, with the device type it was
        # given.
        return stock(value, "cpu" if THREAD.depth and device_type == "cuda" else device_type, dtype)

    return _cast


def _init(stock: Any) -> Any:
    def __init__(
        self: Any,
        device_type: str,
        dtype: torch.dtype | None = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> None:
        if not (THREAD.depth and device_type in DEVICES):
            stock(self, device_type, dtype=dtype, enabled=enabled, cache_enabled=cache_enabled)
            return
        # Made as disabled, so that torch does not look for a GPU, then switched to what was asked.
        stock(self, device_type, dtype=dtype, enabled=False, cache_enabled=cache_enabled)
        self._enabled = enabled

    return __init__


def _mirror(setter: Callable[[str, Any], None], value: Any) -> None:
    for device in DEVICES:
        setter(device, value)


def _device_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The device type of a call of either form: ``(device_type, value)``, or ``(value)``, which means CUDA or
    CPU.
    """
    named = kwargs.get("device_type", args[0] if args else None)
    return named if isinstance(named, str) else "cuda"


def _value_of(args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> Any:
    return kwargs[name] if name in kwargs else args[-1]
