"""``torch.cuda.FloatTensor`` and the like: classes older than ``device=``."""

from __future__ import annotations

from typing import Any

import torch

from harness.pretence.placement import HOST, Placement

_NAMES = ("Float", "Double", "Half", "BFloat16", "Byte", "Char", "Short", "Int", "Long", "Bool")


def stand_ins(placement: Placement) -> dict[str, Any]:
    """A class for each dtype: called, it makes a tensor on the current GPU; ``isinstance`` tells one."""
    return {f"{name}Tensor": _tensor_type(placement, getattr(torch, f"{name}Tensor")) for name in _NAMES}


def _tensor_type(placement: Placement, host: Any) -> Any:
    class _Meta(type):
        def __instancecheck__(cls, instance: object) -> bool:
            is_tensor = isinstance(instance, torch.Tensor) and instance.dtype is host.dtype
            return is_tensor and placement.of(instance) != HOST  # type: ignore[arg-type]

        def __call__(cls, *args: Any, **kwargs: Any) -> torch.Tensor:
            # Of a tensor or an array it may be the same memory; a GPU has its own.
            made = host(*args, **kwargs).clone()
            placement.note(made, placement.current)
            return made

    return _Meta(
        host.__name__,
        (),
        {
            "dtype": host.dtype,
            "is_cuda": True,
            "pretended_name": f"torch.cuda.{host.__name__}",
            "__module__": "torch.cuda",
        },
    )


def set_default(stock: Any) -> Any:
    """``torch.set_default_tensor_type`` where it names a type of CUDA: its dtype, and the GPU, become the defaults."""

    def set_default_tensor_type(t: Any) -> None:
        name = t if isinstance(t, str) else getattr(t, "pretended_name", "")
        if not name.startswith("torch.cuda."):
            stock(t)
            torch.set_default_device(None)
            return
        torch.set_default_dtype(getattr(torch, name.removeprefix("torch.cuda.")).dtype)
        torch.set_default_device("cuda")

    return set_default_tensor_type
