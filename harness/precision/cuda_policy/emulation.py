"""CUDA autocast on CPU tensors: the GPU's dtypes on a machine without one.

    with emulate_cuda_autocast(torch.bfloat16):
        loss = subject(x, y)

Inside, a CPU tensor is treated as autocast would treat the CUDA tensor in its place: half-precision
convolutions and matrix products, float32 ``pow`` and ``sum``, and everything else in its inputs' dtype. The
emulation gives CUDA's dtypes, not CUDA's order of summation: values agree with a GPU's to within the dtype's
rounding, not to the bit.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.library import Library

from harness.precision.cuda_policy import entry_points
from harness.precision.cuda_policy.autocast_lists import read_autocast_lists
from harness.precision.cuda_policy.casting import THREAD
from harness.precision.cuda_policy.dispatcher import only_cpu_casts, refuse_unlike_dispatcher
from harness.precision.cuda_policy.kernels import Kernel, build_kernels

_ALLOWED = (torch.float16, torch.bfloat16)


class _Installation:
    """The process-wide part: overridden kernels and replaced entry points, in place while any thread is
    inside.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._users = 0
        self._kernels: dict[str, Kernel] = {}
        self._library: Library | None = None
        self._entry_points = entry_points.EntryPoints()

    def acquire(self) -> None:
        with self._lock:
            if self._users == 0:
                try:
                    self._install()
                except BaseException:
                    self._uninstall()
                    raise
            self._users += 1

    def release(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._uninstall()

    def _install(self) -> None:
        if not self._kernels:
            lists = read_autocast_lists()
            refuse_unlike_dispatcher(lists)
            self._kernels = build_kernels(lists, only_cpu_casts(lists))
        self._library = Library("aten", "IMPL")
        registry: Any = self._library.m
        with warnings.catch_warnings():
            # Torch says once a process that a kernel is overridden, which is what is wanted here.
            warnings.filterwarnings("ignore", message=r"[\s\S]*[Oo]verrid", category=UserWarning)
            for name, kernel in self._kernels.items():
                # What Library.impl does, without its bookkeeping, in which a second override is an error.
                registry.impl(f"aten::{name}", "AutocastCPU", kernel, True)
        self._entry_points.replace()

    def _uninstall(self) -> None:
        self._entry_points.restore()
        if self._library is not None:
            self._library._destroy()
            self._library = None


_INSTALLATION = _Installation()


@contextmanager
def emulate_cuda_autocast(
    dtype: torch.dtype = torch.float16, *, enabled: bool = True, cache_enabled: bool = True
) -> Iterator[None]:
    """Runs the block as under ``torch.autocast("cuda", dtype)`` on a GPU, on CPU tensors.

    The subject may itself say ``torch.autocast("cuda", ...)``, ``torch.cuda.amp.autocast()``,
    ``enabled=False`` or ``custom_fwd``; the device types "cuda" and "cpu" mean the same inside, so
    ``x.device.type`` does what it does on a GPU. To run a whole training step that opens its own autocast
    regions, backward included, use ``enabled=False``: the block then behaves as a machine with a GPU, and
    autocast is on only where the step says so.

    The state belongs to the thread: a thread that the block starts is outside, as with autocast itself.
    Other threads may use the emulation with another dtype, or stock autocast, at the same time. Blocks nest
    as autocast regions do.

    Two things cannot be seen from here. A ``torch.autocast("cuda")`` object or decorator made before the
    block, on a machine without a GPU, was switched off by torch when it was made (torch warns): import such
    a module inside a block. And a CPU tensor that would stay on the CPU on a GPU machine is cast too.
    What ``torch.compile`` makes of the block is not tested.

    Args:
        dtype: torch.float16 or torch.bfloat16; a nested ``torch.autocast("cuda")`` without a dtype uses it
            too.
        enabled: whether autocast is on in the block itself.
        cache_enabled: whether cast weights are kept for the region, as in ``torch.autocast``.

    Raises:
        ValueError: dtype is neither of the two.
        HeaderNotUnderstoodError: the installed torch's lists cannot be read.
        PolicyMismatchError: they are not what the installed torch's dispatcher holds.
        BannedUnderAutocastError: inside, an op that CUDA autocast bans was called.
    """
    if dtype not in _ALLOWED:
        raise ValueError(
            f"CUDA autocast is emulated in torch.float16 or torch.bfloat16, not in {dtype}: name one of them."
        )
    with ExitStack() as stack:
        _INSTALLATION.acquire()
        stack.callback(_INSTALLATION.release)
        _enter_thread(stack, dtype)
        if enabled:
            stack.enter_context(torch.autocast("cuda", dtype=dtype, cache_enabled=cache_enabled))
        else:
            torch.set_autocast_enabled("cuda", False)
            torch.set_autocast_dtype("cuda", dtype)
        yield


def _enter_thread(stack: ExitStack, dtype: torch.dtype) -> None:
    """Notes the thread as inside, and its autocast state as it was, to come back on exit."""
    for device in entry_points.DEVICES:
        stack.callback(entry_points.set_enabled, device, torch.is_autocast_enabled(device))
        stack.callback(entry_points.set_dtype, device, torch.get_autocast_dtype(device))
    THREAD.depth += 1
    stack.callback(_leave_thread)


def _leave_thread() -> None:
    THREAD.depth -= 1
    if THREAD.depth == 0:
        THREAD.cache.clear()
