"""``torch.backends`` and ``torch.accelerator``: what a build with CUDA answers, and flags that are put back."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from harness.pretence import runtime, streams
from harness.pretence.patches import Patches
from harness.pretence.placement import Placement

CUDNN_VERSION = 90100
# How `torch._C` reads and sets each flag; not every torch has all.
_FLAGS = (
    ("_get_cudnn_enabled", "_set_cudnn_enabled"),
    ("_get_cudnn_benchmark", "_set_cudnn_benchmark"),
    ("_get_cudnn_deterministic", "_set_cudnn_deterministic"),
    ("_get_cudnn_allow_tf32", "_set_cudnn_allow_tf32"),
    ("_get_cublas_allow_tf32", "_set_cublas_allow_tf32"),
    ("_get_cublas_allow_fp16_accumulation", "_set_cublas_allow_fp16_accumulation"),
    ("_get_flash_sdp_enabled", "_set_sdp_use_flash"),
    ("_get_mem_efficient_sdp_enabled", "_set_sdp_use_mem_efficient"),
    ("_get_math_sdp_enabled", "_set_sdp_use_math"),
    ("_get_cudnn_sdp_enabled", "_set_sdp_use_cudnn"),
    ("_get_math_sdp_allow_fp16_bf16_reduction", "_set_math_sdp_allow_fp16_bf16_reduction"),
)
_REDUCTIONS = (
    "_get_cublas_allow_fp16_reduced_precision_reduction",
    "_get_cublas_allow_bf16_reduced_precision_reduction",
)
# From the general to the particular, which follows the general until it is set.
_FP32 = (
    ("generic", "all"),
    *((backend, op) for backend in ("cuda", "mkldnn") for op in ("all", "matmul", "conv", "rnn")),
)


def install(patches: Patches, placement: Placement) -> None:
    """Answer as a build with CUDA and cuDNN does."""
    answering = runtime.answering
    patches.put(torch.version, "cuda", runtime.CUDA_VERSION)
    patches.put_all(torch.backends.cuda, {"is_built": answering(True)})
    # `is_acceptable`: recurrent layers would flatten their weights for cuDNN.
    cudnn = {"version": CUDNN_VERSION, "is_available": True, "is_acceptable": False}
    patches.put_all(torch.backends.cudnn, {name: answering(value) for name, value in cudnn.items()})
    patches.put_all(torch.cuda.nccl, {"version": answering((2, 21, 5)), "is_available": answering(True)})
    accelerator: Any = getattr(torch, "accelerator", None)
    if accelerator is not None:
        _accelerator(patches, placement, accelerator)


def _accelerator(patches: Patches, placement: Placement, accelerator: Any) -> None:
    of_cuda = {**runtime.devices(placement), **runtime.activity(), **runtime.memory(placement), **streams.STAND_INS}
    same = ("is_available", "device_count", "current_stream", "set_stream", "synchronize")
    chosen = {
        **{name: of_cuda[name] for name in same},
        "current_accelerator": lambda check_available=False: torch.device("cuda"),
        "current_device_index": of_cuda["current_device"],
        "current_device_idx": of_cuda["current_device"],
        "set_device_index": of_cuda["set_device"],
        "set_device_idx": of_cuda["set_device"],
        "device_index": of_cuda["device"],
        "get_memory_info": of_cuda["mem_get_info"],
        "get_device_capability": runtime.answering(
            {"supported_dtypes": {torch.float32, torch.float16, torch.bfloat16}}
        ),
    }
    for name in ("empty_cache", "memory_stats", "memory_allocated", "max_memory_allocated", "memory_reserved"):
        chosen[name] = of_cuda[name]
    for name in ("max_memory_reserved", "reset_accumulated_memory_stats", "reset_peak_memory_stats"):
        chosen[name] = of_cuda[name]
    patches.put_all(accelerator, chosen)


@contextlib.contextmanager
def kept_flags() -> Iterator[None]:
    """Put back the flags that a script sets."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = list(_settings())
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for read, put, value in kept:
                if _read(read) != value:
                    put(value)


def _settings() -> Iterator[tuple[Callable[[], Any], Callable[[Any], None], Any]]:
    api: Any = torch._C
    found: list[tuple[Callable[[], Any], Callable[[Any], None]]] = [
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision)
    ]
    if hasattr(api, "_get_fp32_precision_getter"):
        for which in _FP32:
            found.append(
                (partial(api._get_fp32_precision_getter, *which), partial(api._set_fp32_precision_setter, *which))
            )
    for getter, setter in _FLAGS:
        if hasattr(api, getter) and hasattr(api, setter):
            found.append((getattr(api, getter), getattr(api, setter)))
    for getter in _REDUCTIONS:
        setter = getter.replace("_get_", "_set_")
        if hasattr(api, getter) and hasattr(api, setter):
            found.append((getattr(api, getter), partial(_set_unpacked, getattr(api, setter))))
    for read, put in found:
        value = _read(read)
        if value is not None:
            yield read, put, value


def _set_unpacked(setter: Callable[..., None], value: Any) -> None:
    setter(*(value if isinstance(value, tuple) else (value,)))


def _read(getter: Callable[[], Any]) -> Any:
    try:
        return getter()
    except RuntimeError:  # the old and the new flag for TF32 disagree
        return None
