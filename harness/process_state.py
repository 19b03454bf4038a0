"""What a call of the subject may have changed of its process: read, and put back, for the cases after it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.backends import cudnn

# In Python's own floats, which take the processor's mode as torch's do; multiplied at run time.
_SMALLEST, _ONE = 5e-324, float(1)
# Looked for once: the state is read several times a case.
_HOOK_NAMES = tuple(name for name in vars(torch.nn.modules.module) if name.startswith("_global_"))


class ProcessState(NamedTuple):
    """Torch's modes, its hooks for every module and for what is saved for backward, NumPy's answer to floating-point
    errors, and the working directory (empty where there is none any more).

    Attributes:
        denormals: numbers below the smallest normal one are numbers, and not zero.
    """

    gradients: bool
    cpu_autocast: tuple[bool, torch.dtype]
    cuda_autocast: tuple[bool, torch.dtype]
    autocast_cache: bool
    default_dtype: torch.dtype
    default_device: torch.device
    threads: int
    deterministic_algorithms: tuple[bool, bool]
    cudnn: tuple[bool, bool, bool]
    anomaly_mode: bool
    denormals: bool
    matmul_precision: str
    module_hooks: int
    saved_tensors_hooks: bool
    floating_point_errors: tuple[tuple[str, Any], ...]
    working_directory: str

    def changes(self, later: ProcessState) -> list[str]:
        """What differs in ``later``, in words."""
        return [
            f"{name.replace('_', ' ')} from {was} to {now}"
            for name, was, now in zip(self._fields, self, later, strict=True)
            if now != was
        ]


def read_state() -> ProcessState:
    """The state as it is, of this thread where it belongs to one."""
    return ProcessState(
        torch.is_grad_enabled(),
        (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        (torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")),
        torch.is_autocast_cache_enabled(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.get_num_threads(),
        (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        (cudnn.enabled, cudnn.benchmark, cudnn.deterministic),
        torch.is_anomaly_enabled(),
        _SMALLEST * _ONE != 0.0,
        torch.get_float32_matmul_precision(),
        sum(map(len, _global_hooks())),
        _saved_tensors_hooks() is not None,
        tuple(np.geterr().items()),
        _working_directory(),
    )


@contextlib.contextmanager
def kept_state() -> Iterator[None]:
    """Put back at the end what the block changed."""
    before = read_state()
    try:
        yield
    finally:
        if read_state() != before:
            _put_back(before)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Within, torch computes in the calling thread alone, as workers do.

    Tiny tensors gain nothing from more; where other processes run besides, threads that wait for each other take many
    times as long.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _put_back(state: ProcessState) -> None:
    torch.set_grad_enabled(state.gradients)
    for device, (enabled, dtype) in (("cpu", state.cpu_autocast), ("cuda", state.cuda_autocast)):
        if torch.is_autocast_enabled(device) != enabled:
            torch.set_autocast_enabled(device, enabled)
        if torch.get_autocast_dtype(device) != dtype:
            torch.set_autocast_dtype(device, dtype)
    torch.set_autocast_cache_enabled(state.autocast_cache)
    torch.set_default_dtype(state.default_dtype)
    if torch.get_default_device() != state.default_device:
        torch.set_default_device(state.default_device)
    if torch.get_num_threads() != state.threads:
        torch.set_num_threads(state.threads)
    enabled, warn_only = state.deterministic_algorithms
    if read_state().deterministic_algorithms != state.deterministic_algorithms:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
    cudnn.enabled, cudnn.benchmark, cudnn.deterministic = state.cudnn
    torch.set_flush_denormal(not state.denormals)
    np.seterr(**dict(state.floating_point_errors))
    if not state.saved_tensors_hooks:
        while _saved_tensors_hooks() is not None:
            torch._C._autograd._pop_saved_tensors_default_hooks()
    if torch.is_anomaly_enabled() != state.anomaly_mode:
        torch.autograd.set_detect_anomaly(state.anomaly_mode)
    if torch.get_float32_matmul_precision() != state.matmul_precision:
        torch.set_float32_matmul_precision(state.matmul_precision)
    if sum(map(len, _global_hooks())) > state.module_hooks == 0:
        for hooks in _global_hooks():
            hooks.clear()
    if state.working_directory:
        with contextlib.suppress(OSError):
            os.chdir(state.working_directory)


def _global_hooks() -> list[dict[int, Any]]:
    """Those that torch calls for every module."""
    found = vars(torch.nn.modules.module)
    return [hooks for name in _HOOK_NAMES if isinstance(hooks := found[name], dict)]


def _saved_tensors_hooks() -> Any:
    """Those pushed last for what autograd saves; ``None`` for none, or where this torch doesn't say."""
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return None if top is None else top(True)


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""
