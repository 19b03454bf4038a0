"""Who calculates the SSIM loss.

``numba`` is the compiled pass of :mod:`gslrm.model.ssim_fused`, for tensors on the CPU; ``triton`` that of
:mod:`gslrm.model.ssim_triton`, for tensors on a CUDA device; ``torch`` is :mod:`gslrm.model.ssim_plain`, which runs
anywhere. ``auto`` takes ``numba`` for tensors on the CPU where Numba can be imported, else ``torch``: the kernel of
``triton`` is right wherever it could be run, which was never a GPU.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gslrm.model.ssim_fused import why_not_fused

PATHS = ("auto", "numba", "triton", "torch")


def checked_path(path: str) -> str:
    """The path, if it is one.

    Raises:
        ValueError: it is none of :data:`PATHS`.
    """
    if path not in PATHS:
        raise ValueError(f"path must be one of {', '.join(PATHS)}, not {path!r}.")
    return path


def path_of(path: str, x: Tensor, y: Tensor, mask: Tensor | None) -> str:
    """``numba``, ``triton`` or ``torch``: the path itself, or what ``auto`` is for these tensors.

    Raises:
        ValueError: it is not for tensors on their device.
    """
    if path == "numba" and x.device.type != "cpu":
        raise _misplaced(path, "the CPU", x)
    if path == "triton" and x.device.type != "cuda" and not _interpreted():
        raise _misplaced(path, "a CUDA device", x)
    if path != "auto":
        return path
    # Who watches torch's operations is to see them; what is not a tensor of torch's own may have no values.
    plain = all(type(tensor) in (Tensor, nn.Parameter) for tensor in (x, y, mask) if tensor is not None)
    watched = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 0)() > 0
    return "numba" if x.device.type == "cpu" and plain and not watched and not why_not_fused() else "torch"


def _misplaced(path: str, device: str, x: Tensor) -> ValueError:
    return ValueError(f"the path {path!r} is for tensors on {device}, and these are on {x.device}: take 'auto'.")


def tiled() -> Callable[..., tuple[Tensor, Tensor | None, Tensor | None]]:
    """:func:`gslrm.model.ssim_triton.tiled_ssim_loss`.

    Raises:
        RuntimeError: Triton can't be imported.
    """
    function: Callable[..., Any] = _kernels().tiled_ssim_loss
    return function


def _interpreted() -> bool:
    return bool(_kernels().INTERPRETED)


def _kernels() -> Any:
    try:
        return importlib.import_module("gslrm.model.ssim_triton")
    except ImportError as error:
        raise RuntimeError(
            f"the path 'triton' of the SSIM loss can't be had: Triton can't be imported ({error}). Take 'auto'."
        ) from error
