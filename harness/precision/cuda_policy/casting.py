"""How CUDA autocast casts an argument: what is eligible, the widest of several inputs, and the cache of cast
weights.

These follow ``cached_cast`` and ``prioritize`` of torch's ``ATen/autocast_mode`` (2.13), with one difference
that is the point of the emulation: a CPU tensor stands for the CUDA tensor it would be on a GPU.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


class CastCache:
    """The casts of float32 weights made in this autocast region, as torch keeps them.

    A leaf that requires grad is cast to the autocast dtype once, and later uses get the same tensor:
    changing the weight in place inside a region does not change what the region computes with. As in torch,
    the key is the weight alone, so a nested region of another dtype meets the first region's cast. Where versions of
    torch differ, it does as the installed one (:func:`cached_weights_keep_gradients`).
    """

    def __init__(self) -> None:
        self._casts: dict[int, tuple[weakref.ref[Tensor], Tensor]] = {}

    def cast(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        entry = self._casts.get(id(weight))
        if entry is not None and entry[0]() is weight:
            return entry[1]
        # Grad mode on, so that a weight first used under no_grad still gets its gradient from a later use.
        with torch.enable_grad() if cached_weights_keep_gradients() else contextlib.nullcontext():
            cast = weight.to(dtype)
        self._casts[id(weight)] = (weakref.ref(weight), cast)
        return cast

    def clear(self) -> None:
        self._casts.clear()

    def __len__(self) -> int:
        return len(self._casts)


class ThreadState(threading.local):
    """What one thread knows of the emulation. `depth` is 0 outside it.

    `unknown` holds what was said of each op that was called and whose casts are not known: what a subject swallows
    stays on record.
    """

    def __init__(self) -> None:
        self.depth = 0
        self.cache = CastCache()
        self.unknown: list[str] = []


THREAD = ThreadState()


@lru_cache(maxsize=1)
def cached_weights_keep_gradients() -> bool:
    """Whether this torch's autocast makes a cached cast with gradients even where it is first made without.

    Torch 2.13 does, and keeps no cast of inference mode; in 2.6 and 2.9 a weight that was first used under ``no_grad``
    has no gradient from then on in its region. Asked of stock CPU autocast: first ask before that is overridden.
    """
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        weight = torch.ones(1, 1, requires_grad=True)
        with torch.no_grad():
            torch.mm(weight, weight)
        return torch.mm(weight, weight).requires_grad


def is_eligible(x: Any) -> bool:
    """Whether autocast casts ``x``: a floating tensor on the emulated device that is not float64."""
    return isinstance(x, Tensor) and x.is_floating_point() and x.dtype is not torch.float64 and x.device.type == "cpu"


def cast_all(args: Iterable[Any], to: torch.dtype) -> list[Any]:
    """Casts each tensor and each list of tensors in ``args`` to ``to``, the autocast dtype or float32."""
    return [_cast_arg(a, to) for a in args]


def widest(args: Iterable[Any], region: torch.dtype) -> torch.dtype:
    """The dtype that an op of the *widest* policy runs in: float32 if any eligible input is, else ``region``.

    Raises:
        RuntimeError: an input is of the half type that ``region`` is not, as on CUDA.
    """
    to = region
    for a in args:
        for x in a if _is_tensor_list(a) else (a,):
            if not is_eligible(x):
                continue
            if torch.float32 in (to, x.dtype):
                to = torch.float32
            elif x.dtype is not region:
                raise RuntimeError(
                    f"CUDA autocast in {region} meets a {x.dtype} input in an op that runs in its widest "
                    f"input's dtype, and raises: give it {region} or float32."
                )
    return to


def _cast_arg(a: Any, to: torch.dtype) -> Any:
    if isinstance(a, Tensor):
        return _cast(a, to)
    # A list with gaps holds indices, which are never floating.
    return [_cast(x, to) for x in a] if _is_tensor_list(a) else a


def _cast(x: Tensor, to: torch.dtype) -> Tensor:
    if x.dtype is to or not is_eligible(x):
        return x
    return THREAD.cache.cast(x, to) if _is_cacheable(x) else x.to(to)


def _is_cacheable(x: Tensor) -> bool:
    return (
        x.dtype is torch.float32
        and x.requires_grad
        and x.is_leaf
        and not x._is_view()
        and torch.is_autocast_cache_enabled()
        and not (torch.is_inference_mode_enabled() and cached_weights_keep_gradients())
    )


def _is_tensor_list(a: Any) -> bool:
    return isinstance(a, (list, tuple)) and bool(a) and all(isinstance(x, Tensor) for x in a)
